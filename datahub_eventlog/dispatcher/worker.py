"""A dispatcher with its loop, as `datahub-eventlog worker` and the daemon run it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from datahub_eventlog import sinks
from datahub_eventlog._version import __version__
from datahub_eventlog.catalog.watcher import CatalogWatcher
from datahub_eventlog.catalog.workspace import Workspace
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.assembling import Open, assemble, pool, require_delivery
from datahub_eventlog.dispatcher.dispatcher import Dispatcher
from datahub_eventlog.dispatcher.loop import Heartbeat, Loop
from datahub_eventlog.dispatcher.observer import Observer
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.errors import LedgerUnavailable
from datahub_eventlog.fork_safe_import import importing
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import LEDGER_LOCK_SECONDS, take_over_local
from datahub_eventlog.log import logger


class Worker:
    """A dispatcher with its loop, in the calling thread; `stop` may come from another."""

    def __init__(
        self,
        config: Config,
        open_instance: Open,
        *,
        metrics_port: int | None = None,
        find_workspace: Callable[[], Workspace | None] = lambda: None,
    ) -> None:
        """Take what finds the workspace whose code locations are delivered, if there is one."""
        self._find_workspace = find_workspace
        self._metrics_port = metrics_port
        self._config = config
        self._open = open_instance
        self._loop: Loop | None = None
        self._ledger: Ledger | None = None
        self._is_stopped = False
        self._over = threading.Event()

    def serve(self, *, until_empty: bool = False) -> None:
        """As `run`, but within `exit_timeout` after `stop` it returns, even if DataHub hangs."""
        errors: list[BaseException] = []
        thread = threading.Thread(
            target=self._serve, args=(until_empty, errors), name="datahub-eventlog", daemon=True
        )
        thread.start()
        self._over.wait()
        thread.join(self._config.exit_timeout.total_seconds())
        if thread.is_alive():
            self.abandon()
        for error in errors:
            raise error

    def run(self, *, until_empty: bool = False) -> None:
        """Deliver until `stop`, or with `until_empty` until nothing is due.

        Raises `ConfigurationError` at once if nothing can be delivered from here.
        """
        require_delivery(self._config)
        with (
            self._open() as opened,
            self._observed(opened.ledger) as observer,
            assemble(opened, self._config, observer) as parts,
        ):
            opened.ledger.database.migrate()
            take_over_local(
                opened.ledger, opened.instance.root_directory, patience=LEDGER_LOCK_SECONDS
            )
            opened.ledger.upkeep.switched_on()
            self._ledger = opened.ledger
            pool(opened.instance)
            heartbeat = Heartbeat(lambda: self._beat(opened.ledger))
            dispatcher = Dispatcher(self._config, parts, observer=observer)
            reconciler = Reconciler(opened.ledger, parts.source, self._config.retention)
            catalog = CatalogWatcher(
                opened.ledger, opened.instance, self._find_workspace, self._config.catalog
            )
            self._loop = Loop(self._config, dispatcher, reconciler, heartbeat, catalog)
            if self._is_stopped:
                return
            logger.info("Delivering to DataHub: %s", sinks.where(self._config.target))
            try:
                with self._sampling(observer):
                    self._loop.run(
                        is_done=opened.ledger.leases.is_drained if until_empty else lambda: False
                    )
            finally:
                self._retire(opened.ledger)

    def stop(self) -> None:
        """Finish the run at hand, give the others back, and let `run` return."""
        self._is_stopped = True
        if self._loop is not None:
            self._loop.stop()
        self._over.set()

    def abandon(self) -> None:
        """Give the run at hand back, too: its delivery hangs, and the process is about to end."""
        if self._loop is None or self._ledger is None:
            return
        try:
            self._loop.abandon()
            self._retire(self._ledger)
        except LedgerUnavailable as error:
            logger.warning("The run at hand is kept until its lease ends: %s", error)

    def _serve(self, until_empty: bool, errors: list[BaseException]) -> None:  # noqa: FBT001
        try:
            self.run(until_empty=until_empty)
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            errors.append(error)
        finally:
            self._over.set()

    def _observed(self, ledger: Ledger) -> AbstractContextManager[Observer]:
        if self._metrics_port is None:
            return nullcontext(Observer())
        from datahub_eventlog.dispatcher.metrics import serve_metrics

        return serve_metrics(self._metrics_port, ledger)

    def _sampling(self, observer: Observer) -> AbstractContextManager[None]:
        if not self._config.verify.sample:
            return nullcontext()
        with importing():  # what reads is loaded only where something is verified
            from datahub_eventlog.dispatcher.sampling import sampling
        return sampling(self._config, self._open, observer)

    @staticmethod
    def _retire(ledger: Ledger) -> None:
        with suppress(LedgerUnavailable):  # its heartbeat grows old by itself
            ledger.reports.retire(socket.gethostname(), os.getpid())

    @staticmethod
    def _beat(ledger: Ledger) -> None:
        ledger.reports.heartbeat(socket.gethostname(), os.getpid(), __version__)
