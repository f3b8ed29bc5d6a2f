"""The worker that runs in a thread of Dagster's daemon."""

from __future__ import annotations

import threading
from datetime import timedelta

from datahub_eventlog import error_text
from datahub_eventlog.catalog.workspace import daemon_workspace
from datahub_eventlog.config import Block, Config, read
from datahub_eventlog.dispatcher.assembling import Open
from datahub_eventlog.dispatcher.worker import Worker
from datahub_eventlog.errors import ConfigurationError, LedgerUnavailable
from datahub_eventlog.log import Repeated, logger

RESTART_DELAY = timedelta(seconds=10)
"""Until a worker that broke is started again."""


def start_in_daemon(block: Block, open_instance: Open) -> DaemonThread:
    """Deliver from a thread of this process; errors are logged, never raised."""
    thread = DaemonThread(block, open_instance)
    thread.start()
    return thread


class DaemonThread:
    """The worker of a daemon: whatever is wrong, the daemon goes on."""

    def __init__(self, block: Block, open_instance: Open) -> None:
        self._block = block
        self._open = open_instance
        self._worker: Worker | None = None
        self._ledger_error = Repeated()
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="datahub-eventlog", daemon=True)

    def start(self) -> None:
        """Begin to deliver, or log why not."""
        self._thread.start()

    def stop(self, timeout: timedelta) -> None:
        """Ask it to end, and wait for that."""
        with self._lock:
            self._is_stopped.set()
            if self._worker is not None:
                self._worker.stop()
        self._thread.join(timeout.total_seconds())
        if self._worker is not None and self._thread.is_alive():
            self._worker.abandon()

    def _run(self) -> None:
        """Deliver until the end; what broke it may have passed when it is tried again."""
        try:
            config = read(self._block).strict()
            while not self._is_stopped.is_set():
                self._work(config)
                self._is_stopped.wait(RESTART_DELAY.total_seconds())
        except ConfigurationError as error:
            logger.error("Nothing is delivered to DataHub from this process. %s", error)  # noqa: TRY400 - the message says it all

    def _work(self, config: Config) -> None:
        with self._lock:
            # Whoever stops us from now on finds the worker.
            if self._is_stopped.is_set():
                return
            worker = self._worker = Worker(config, self._open, find_workspace=daemon_workspace)
        try:
            worker.run()
        except ConfigurationError:
            raise
        except LedgerUnavailable as error:
            self._ledger_error.log("The DataHub dispatcher waits for its ledger. %s", str(error))
        except Exception as error:  # noqa: BLE001 - the daemon goes on
            logger.error(  # noqa: TRY400 - `trace` has the traceback
                "The DataHub dispatcher broke; runs wait in the ledger until it is back: %s",
                error_text.trace(error),
            )
