"""The thin loop around `run_once`, its heartbeat and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from datahub_eventlog import error_text
from datahub_eventlog.catalog.watcher import CatalogWatcher
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.dispatcher import Dispatcher
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.errors import LedgerUnavailable
from datahub_eventlog.log import Repeated, logger

HEARTBEAT_SECONDS = 10.0
"""Between two heartbeats."""
LEDGER_RETRY = timedelta(seconds=5)
"""Until the ledger's database is tried again."""


class Heartbeat:
    """Notes in the ledger that this process can deliver, also while it waits for a slow server."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._last = 0.0
        self._lock = threading.Lock()

    @property
    def is_due(self) -> bool:
        """Whether the last one was `HEARTBEAT_SECONDS` ago."""
        return time.monotonic() - self._last >= HEARTBEAT_SECONDS

    def beat(self) -> None:
        """Beat, if it is due. A failure is only logged: the next heartbeat comes soon."""
        with self._lock:
            if not self.is_due:
                return
            try:
                self._beat()
            except LedgerUnavailable as error:
                logger.debug("No heartbeat: %s", error)
            self._last = time.monotonic()


class Loop:
    """Runs a dispatcher until `stop`."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        reconciler: Reconciler,
        beat: Heartbeat,
        catalog: CatalogWatcher | None = None,
    ) -> None:
        self._config = config
        self._dispatcher = dispatcher
        self._reconciler = reconciler
        self._beat = beat
        self._catalog = catalog
        self._watch_error = Repeated()
        self._stop = threading.Event()

    def run(self, *, is_done: Callable[[], bool] = lambda: False) -> None:
        """Deliver until `stop` is called or `is_done` holds after a round with nothing due."""
        watch = threading.Thread(
            target=self._keep_beating, name="datahub-eventlog-beat", daemon=True
        )
        watch.start()
        try:
            while not self._stop.is_set():
                if self._round(is_done):
                    return
        finally:
            self._stop.set()
            watch.join(timeout=HEARTBEAT_SECONDS)

    def stop(self) -> None:
        """Finish the run at hand, give the others back, and end."""
        self._stop.set()
        self._dispatcher.stop()

    def abandon(self) -> None:
        """Give the run at hand back, too, since its delivery does not come to an end."""
        self._dispatcher.abandon()

    def _round(self, is_done: Callable[[], bool]) -> bool:
        """Do one round, and return whether it was the last one."""
        try:
            if self._do_next():
                return False
            if is_done():
                return True
        except LedgerUnavailable as error:
            logger.error("The ledger can't be reached, trying again: %s", error)  # noqa: TRY400 - the chain says no more
            self._wait(LEDGER_RETRY)
            return False
        self._wait(self._config.poll_interval)
        return False

    def _do_next(self) -> bool:
        """Do one thing that is due, and return whether there was any."""
        if self._beat.is_due:
            self._beat.beat()
            return True
        if self._reconciler.is_due:
            self._reconcile()
            return True
        if self._catalog is not None and self._catalog.is_due and self._watch(self._catalog):
            return True
        return self._dispatcher.run_once() > 0

    def _reconcile(self) -> None:
        """Look for runs that were not touched; a failure keeps no other run from delivery."""
        try:
            self._reconciler.run_once()
        except LedgerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the next time may succeed
            reason = error_text.trace(error)
            logger.error("The instance's runs could not be compared with the ledger: %s", reason)  # noqa: TRY400 - `trace` has the traceback

    def _watch(self, catalog: CatalogWatcher) -> bool:
        """Look at the code locations; a failure keeps no run from delivery."""
        try:
            return catalog.run_once() > 0
        except Exception as error:  # noqa: BLE001 - the next time may succeed
            reason = error_text.describe(error)
            message = "The code locations can't be compared with the ledger: %s"
            self._watch_error.log(message, reason)
            return False

    def _wait(self, interval: timedelta) -> None:
        self._stop.wait(max(interval.total_seconds(), self._dispatcher.pause.remaining))

    def _keep_beating(self) -> None:
        """Beat while the loop itself is busy."""
        while not self._stop.wait(HEARTBEAT_SECONDS / 2):
            self._beat.beat()
