"""Putting a dispatcher together: in a daemon, in a worker, or at the end of a run's own process."""

from __future__ import annotations

import inspect
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from dagster import DagsterInstance

from datahub_eventlog import error_text, extractor, extras, sinks
from datahub_eventlog._version import __version__
from datahub_eventlog.config import (
    Block,
    Config,
    RestTarget,
    obstacle_in,
    read,
)
from datahub_eventlog.dispatcher.core import Dispatcher, Parts
from datahub_eventlog.dispatcher.loop import Heartbeat, Loop
from datahub_eventlog.dispatcher.outgoing import redactor_of
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.dispatcher.tables import Tables
from datahub_eventlog.dispatcher.translation import ForExtractor
from datahub_eventlog.dispatcher.watch import Watch
from datahub_eventlog.errors import (
    ConfigurationError,
    DataHubEventLogError,
    LedgerUnavailable,
    Unavailable,
)
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.fork_safe_import import importing
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import take_over_local
from datahub_eventlog.log import logger, redact_with
from datahub_eventlog.redact import DEFAULT
from datahub_eventlog.source import Source

if TYPE_CHECKING:
    from datahub.ingestion.graph.client import DataHubGraph

STATEMENT_TIMEOUT = timedelta(seconds=60)
LOCAL_PATIENCE = 5.0
"""Seconds that a dispatcher waits for a lock of a local file."""
RESTART = timedelta(seconds=10)
"""Until a dispatcher that broke is started again."""


@dataclass(frozen=True)
class Opened:
    """An instance of the dispatcher's own, and the ledger beside its event log."""

    instance: DagsterInstance
    ledger: Ledger


Open: TypeAlias = Callable[[], AbstractContextManager[Opened]]


def require_delivery(config: Config) -> None:
    """Raise `ConfigurationError` if nothing can be delivered from this process, and say why."""
    if obstacle := obstacle_in(config):
        raise ConfigurationError(obstacle)
    if missing := extras.missing():
        raise ConfigurationError(
            f"{' and '.join(missing)} can't be imported in this process, so it delivers nothing:"
            f" {extras.command()}"
        )


@contextmanager
def assemble(
    opened: Opened,
    config: Config,
    watch: Watch | None = None,
    *,
    deadline: timedelta = extractor.DEADLINE,
) -> Iterator[Parts]:
    """What a dispatcher works with, closed at the end; the watch is told of its requests.

    `deadline` is how long the user's functions may take.
    Raises `ConfigurationError` if the target or the user's functions can't be used.
    """
    require_delivery(config)
    assert config.target is not None  # noqa: S101 - require_delivery has seen to it
    # It logs the text of SQL that it doesn't understand, where there may be secrets.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    redact_with(redactor_of(config.redact) or DEFAULT)
    calls = Extractor(config, ForExtractor(config), deadline)
    watch = watch or Watch()
    with importing():
        sink = sinks.connect(config.target, config.emit_mode, on_answer=watch.requested)
    try:
        yield Parts(
            ledger=opened.ledger,
            source=Source(opened.instance),
            sink=sink,
            extractor=calls,
            graph=_graph(config) if calls.has_extractor else None,
            owner=f"{socket.gethostname()}:{os.getpid()}",
            tables=_tables(config),
        )
    finally:
        sink.close()


def pool(instance: DagsterInstance) -> None:
    """Keep one connection open, as the webserver does, instead of one for each query."""
    wanted = {
        "statement_timeout": int(STATEMENT_TIMEOUT.total_seconds() * 1000),
        "pool_recycle": 3600,
        "max_overflow": 2,
    }
    # Dagster 1.10 has no `max_overflow`.
    known = inspect.signature(instance.optimize_for_webserver).parameters
    instance.optimize_for_webserver(**{key: wanted[key] for key in known})


def _tables(config: Config) -> Tables | None:
    if not isinstance(config.target, RestTarget):
        return None
    if not config.enable_asset_query_metadata_parsing:
        return None
    return Tables(config.target)


def _graph(config: Config) -> DataHubGraph | None:
    if not isinstance(config.target, RestTarget):
        return None
    from datahub_eventlog.sinks.rest import graph

    return graph(config.target)


class Worker:
    """A dispatcher with its loop, in the calling thread; `stop` may come from another."""

    def __init__(
        self, config: Config, open_instance: Open, *, metrics_port: int | None = None
    ) -> None:
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
            self._watched(opened.ledger) as watch,
            assemble(opened, self._config, watch) as parts,
        ):
            opened.ledger.database.migrate()
            take_over_local(opened.ledger, opened.instance.root_directory, patience=LOCAL_PATIENCE)
            opened.ledger.upkeep.switched_on()
            self._ledger = opened.ledger
            pool(opened.instance)
            heartbeat = Heartbeat(lambda: self._beat(opened.ledger))
            dispatcher = Dispatcher(self._config, parts, watch=watch)
            reconciler = Reconciler(opened.ledger, parts.source, self._config.retention)
            self._loop = Loop(self._config, dispatcher, reconciler, heartbeat)
            if self._is_stopped:
                return
            logger.info("Delivering to DataHub: %s", sinks.where(self._config.target))
            try:
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

    def _watched(self, ledger: Ledger) -> AbstractContextManager[Watch]:
        if self._metrics_port is None:
            return nullcontext(Watch())
        from datahub_eventlog.dispatcher.metrics import served

        return served(self._metrics_port, ledger)

    @staticmethod
    def _retire(ledger: Ledger) -> None:
        with suppress(LedgerUnavailable):  # its heartbeat grows old by itself
            ledger.reports.retire(socket.gethostname(), os.getpid())

    @staticmethod
    def _beat(ledger: Ledger) -> None:
        ledger.reports.heartbeat(socket.gethostname(), os.getpid(), __version__)


class DaemonThread:
    """The worker of a daemon: whatever is wrong, the daemon goes on."""

    def __init__(self, block: Block, open_instance: Open) -> None:
        self._block = block
        self._open = open_instance
        self._worker: Worker | None = None
        self._complaint = ""
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
                self._deliver(config)
                self._is_stopped.wait(RESTART.total_seconds())
        except ConfigurationError as error:
            logger.error("Nothing is delivered to DataHub from this process. %s", error)  # noqa: TRY400 - the message says it all

    def _complain(self, text: str) -> None:
        """Log it, unless it is what was said before."""
        if text != self._complaint:
            logger.error("%s", text)
        self._complaint = text

    def _deliver(self, config: Config) -> None:
        with self._lock:
            # Whoever stops us from now on finds the worker.
            if self._is_stopped.is_set():
                return
            worker = self._worker = Worker(config, self._open)
        try:
            worker.run()
        except ConfigurationError:
            raise
        except LedgerUnavailable as error:
            self._complain(f"The DataHub dispatcher waits for its ledger. {error}")
        except Exception as error:  # noqa: BLE001 - the daemon goes on
            logger.error(  # noqa: TRY400 - `traced` has the traceback
                "The DataHub dispatcher broke; runs wait in the ledger until it is back: %s",
                error_text.trace(error),
            )


def start_in_daemon(block: Block, open_instance: Open) -> DaemonThread:
    """Deliver from a thread of this process; errors are logged, never raised."""
    thread = DaemonThread(block, open_instance)
    thread.start()
    return thread


def deliver_runs(
    config: Config, open_instance: Open, run_ids: Sequence[str], timeout: timedelta
) -> None:
    """Deliver these runs from the process that executed them, for at most that long.

    What isn't delivered by then stays in the ledger for the next dispatcher. Raises
    `ConfigurationError` if nothing can be delivered from here.
    """
    end = time.monotonic() + timeout.total_seconds()
    hurried = _hurry(config, timeout)
    require_delivery(hurried)
    deadline = min(timeout, extractor.DEADLINE)
    with open_instance() as opened, assemble(opened, hurried, deadline=deadline) as parts:
        dispatcher = Dispatcher(hurried, parts, on_request=lambda: _check_time(end))
        try:
            dispatcher.deliver(run_ids)
        except DataHubEventLogError as error:
            logger.warning("Left for the next dispatcher: %s", error)


def _hurry(config: Config, timeout: timedelta) -> Config:
    """The configuration with a client that doesn't wait longer than we may."""
    if not isinstance(config.target, RestTarget):
        return config
    seconds = max(1.0, min(config.target.timeout_sec, timeout.total_seconds()))
    return replace(config, target=replace(config.target, timeout_sec=seconds))


def _check_time(end: float) -> None:
    if time.monotonic() >= end:
        raise Unavailable("exit_timeout is over, and DataHub has not taken everything.")
