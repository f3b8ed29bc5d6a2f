"""Which process delivers: the daemon in a thread, else a run's own process at its end.

The dispatcher belongs to the process, not to a storage: Dagster makes several of them. It is
imported where it is started and nowhere else, since all of DataHub's client comes with it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from dagster import DagsterInstance

from datahub_eventlog import capture, error_text, extras
from datahub_eventlog.capture import Capture
from datahub_eventlog.config import Config
from datahub_eventlog.dagster_internals import InstanceRef, instance_ref
from datahub_eventlog.fork_safe_import import importing
from datahub_eventlog.log import logger
from datahub_eventlog.process_role import role
from datahub_eventlog.reopening import completed_ref, opened, opened_with_ledger

MOST_PENDING_RUNS = 1000
"""Runs that a process delivers itself at most; older ones are left to others."""


# What a storage calls


def on_registration(storage: Capture, instance: DagsterInstance) -> None:
    """In the daemon, start the dispatcher, or note in the ledger that capture is off.

    Returns at once: an instance that registers its storages is not complete yet.
    """
    config = storage.reading.config
    if not config.enabled and role() == "daemon":
        _note_off(storage, instance)
    elif (_delivers_by_itself(config) or _watches(config)) and role() == "daemon":
        current().start_dispatcher(storage, instance)


def on_run_end(storage: Capture, run_id: str, heartbeat_age: float | None) -> None:
    """Have this process deliver a run that it executed, if no dispatcher is there for it.

    `heartbeat_age` is how many seconds ago a dispatcher was last seen, if ever.
    """
    config = storage.reading.config
    if heartbeat_age is not None:
        from datahub_eventlog.ledger.reports import HEARTBEAT_LIFETIME  # loaded by the touch

        if heartbeat_age < HEARTBEAT_LIFETIME.total_seconds():
            return
    can_deliver = _delivers_by_itself(config) and config.target is not None
    if not (can_deliver and config.exit_timeout and role() == "other"):
        return
    instance = storage.instance
    ref = None if instance is None else instance_ref(instance)
    if instance is not None and ref is not None and not storage.reading.delivery_faults:
        run = PendingRun(run_id, ref, instance.root_directory, config)
        current().deliver_at_exit(run)


def on_dispose(storage: Capture) -> None:
    """Stop the dispatcher that ends with the storage, and deliver what this process has left."""
    lifecycle = current()
    if lifecycle.ends_with(storage):
        lifecycle.stop_dispatcher()
    lifecycle.deliver_pending_runs()


def _delivers_by_itself(config: Config) -> bool:
    return config.enabled and config.dispatch == "auto"


def _watches(config: Config) -> bool:
    """Whether a daemon that does not deliver stores what code locations define."""
    return config.enabled and config.dispatch == "worker" and config.catalog.enabled


def _note_off(storage: Capture, instance: DagsterInstance) -> None:
    """Note it once in a process, when the instance is complete."""
    if capture.process().is_off_noted:
        return
    capture.process().is_off_noted = True
    awaited = weakref.ref(instance)

    def note() -> None:
        if completed_ref(awaited) is not None:
            storage.note_off()

    threading.Thread(target=note, name="datahub-eventlog-off", daemon=True).start()


# What a process delivers


@dataclass(frozen=True)
class PendingRun:
    """A run that ended here while no dispatcher was alive."""

    run_id: str
    instance_ref: InstanceRef
    directory: str
    """The instance's; of a temporary instance it can be gone by now."""
    config: Config


class Handle(Protocol):
    """A dispatcher that runs in a thread of its own."""

    def stop(self, timeout: timedelta) -> None:
        """Hand back what is not delivered, and end within that time."""


class Lifecycle:
    """What one process delivers itself; a forked child starts no dispatcher beside its parent's."""

    def __init__(self, *, is_forked: bool = False) -> None:
        self._lock = threading.Lock()
        self._is_forked = is_forked
        self._owner: weakref.ref[Capture] | None = None
        self._timeout = timedelta()
        self._handle: Handle | None = None
        self._is_stopped = False
        self._pending: deque[PendingRun] = deque(maxlen=MOST_PENDING_RUNS)
        self._is_registered = False

    def start_dispatcher(self, owner: Capture, instance: DagsterInstance) -> None:
        """Start the dispatcher of a daemon, unless this process has one; it ends with `owner`.

        Where workers deliver, it is the watch over code locations alone. Returns at once, and
        starts it when the instance is complete.
        """
        with self._lock:
            if self._is_forked or self._owner is not None:
                return
            self._owner = weakref.ref(owner)
            self._timeout = owner.reading.config.exit_timeout
            self._end_with_process()
        threading.Thread(
            target=self._start,
            args=(weakref.ref(instance), owner.settings.block, owner.reading.config),
            name="datahub-eventlog-start",
            daemon=True,
        ).start()

    def ends_with(self, storage: Capture) -> bool:
        """Whether the dispatcher ends with that storage."""
        return self._owner is not None and self._owner() is storage

    def stop_dispatcher(self) -> None:
        """Stop the dispatcher, if there is one; returns within its `exit_timeout`."""
        with self._lock:
            self._is_stopped = True
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.stop(self._timeout)

    def deliver_at_exit(self, run: PendingRun) -> None:
        """Remember a run that this process is to deliver before it ends."""
        with self._lock:
            self._pending.append(run)
            self._end_with_process()

    def deliver_pending_runs(self) -> None:
        """Deliver the runs that are remembered; what takes too long stays in the ledger."""
        with self._lock:
            pending = list(self._pending)
            self._pending.clear()
        by_instance: dict[int, list[PendingRun]] = {}
        for run in pending:
            by_instance.setdefault(id(run.instance_ref), []).append(run)
        for runs in by_instance.values():
            _deliver(runs)

    def _start(self, instance: weakref.ref[DagsterInstance], block: object, config: Config) -> None:
        ref = completed_ref(instance)
        if ref is None:
            return
        if not _delivers_by_itself(config):
            from datahub_eventlog.catalog.watch_thread import watch_in_daemon

            with self._lock:
                if not self._is_stopped:
                    self._handle = watch_in_daemon(config.catalog, lambda: opened_with_ledger(ref))
            return
        try:
            with importing():
                from datahub_eventlog.dispatcher import start_in_daemon
        except ImportError as error:
            logger.error(  # noqa: TRY400  # the message says it all
                "Nothing is delivered to DataHub from this process, since %s can't be imported: %s",
                error.name,
                extras.command(),
            )
            return
        except Exception as error:  # noqa: BLE001  # the process goes on without
            logger.error(  # noqa: TRY400  # the text has the traceback
                "Nothing is delivered to DataHub from this process, since what delivers can't be "
                "imported: %s",
                error_text.trace(error),
            )
            return
        with self._lock:
            if not self._is_stopped:
                self._handle = start_in_daemon(block, lambda: opened(ref))

    def _end_with_process(self) -> None:
        """Have everything ended before the interpreter is, whether or not Dagster disposes."""
        if self._is_registered:
            return
        self._is_registered = True
        _before_threads_end(self._end)
        atexit.register(self._end)

    def _end(self) -> None:
        self.stop_dispatcher()
        self.deliver_pending_runs()


_current = Lifecycle()


def current() -> Lifecycle:
    """The lifecycle of this process."""
    return _current


def forget(*, is_forked: bool = False) -> None:
    """Start anew; what is pending belongs to the process that remembered it."""
    global _current  # noqa: PLW0603  # the documented process state
    _current = Lifecycle(is_forked=is_forked)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: forget(is_forked=True))


def _deliver(runs: Sequence[PendingRun]) -> None:
    """Deliver the runs of one instance within its `exit_timeout`."""
    start = time.monotonic()
    first = runs[0]
    try:
        if extras.missing() or not Path(first.directory).is_dir():
            return
        from datahub_eventlog.dispatcher import deliver_runs

        rest = first.config.exit_timeout - timedelta(seconds=time.monotonic() - start)
        run_ids = [run.run_id for run in runs]
        deliver_runs(first.config, lambda: opened(first.instance_ref), run_ids, rest)
    except Exception as error:  # noqa: BLE001  # the run has ended well, and is in the ledger
        logger.warning("Left for the next dispatcher: %s", error)


def _before_threads_end(function: Callable[[], None]) -> None:
    """Call it when the main thread ends: also in forked children, where `atexit` doesn't."""
    register = getattr(threading, "_register_atexit", None)
    try:
        if register is not None:
            register(function)
    except RuntimeError:
        logger.debug("The interpreter is ending already.")
