"""The watch over code locations in a daemon that leaves delivery to workers.

The daemon has the workspace, and needs no more than the base package for this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TypeAlias

from dagster import DagsterInstance

from datahub_eventlog import error_text
from datahub_eventlog.catalog.watcher import CHECK_EVERY, CatalogWatcher
from datahub_eventlog.catalog.workspace import daemon_workspace
from datahub_eventlog.config import CatalogOptions
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.log import Repeated

RESTART_DELAY = timedelta(seconds=60)
"""Until a watch that broke, such as by a lost database, begins anew."""

Open: TypeAlias = Callable[[], AbstractContextManager[tuple[DagsterInstance, Ledger]]]


def watch_in_daemon(options: CatalogOptions, open_instance: Open) -> WatchThread:
    """Watch from a thread of this process; errors are logged, never raised."""
    thread = WatchThread(options, open_instance)
    thread.start()
    return thread


class WatchThread:
    """Stores what code locations define; the daemon goes on whatever happens here."""

    def __init__(self, options: CatalogOptions, open_instance: Open) -> None:
        self._options = options
        self._open = open_instance
        self._is_stopped = threading.Event()
        self._error = Repeated()
        self._thread = threading.Thread(
            target=self._run, name="datahub-eventlog-catalog", daemon=True
        )

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, timeout: timedelta) -> None:
        """Ask it to end, and wait for that."""
        self._is_stopped.set()
        self._thread.join(timeout.total_seconds())

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                self._watch()
            except Exception as error:  # noqa: BLE001 - the daemon goes on
                reason = error_text.describe(error)
                self._error.log("Code locations can't be watched, trying again: %s", reason)
                self._is_stopped.wait(RESTART_DELAY.total_seconds())

    def _watch(self) -> None:
        with self._open() as (instance, ledger):
            watcher = CatalogWatcher(ledger, instance, daemon_workspace, self._options)
            while not self._is_stopped.wait(CHECK_EVERY.total_seconds()):
                if watcher.is_due:
                    watcher.run_once()
