"""Which process delivers: the daemon in a thread, else a run's own process at its end.

The dispatcher belongs to the process, not to a storage: Dagster makes several of them. It is
imported where it is started and nowhere else, since all of DataHub's client comes with it.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dagster import DagsterInstance

from datahub_eventlog import error_text, extras
from datahub_eventlog.config import PREFIX, Block, Config
from datahub_eventlog.dagster_internals import InstanceRef
from datahub_eventlog.fork_safe_import import importing
from datahub_eventlog.log import logger

if TYPE_CHECKING:
    from datahub_eventlog.dispatcher import Opened

VARIABLE = f"{PREFIX}IS_DAEMON"
"""An environment variable that says whether this process is the daemon, where it isn't seen."""
PATIENCE = 5.0
"""Seconds that a dispatcher waits for a lock of the ledger's."""
WEBSERVERS = {"dagster-webserver", "dagster_webserver"}
PROGRAMS = WEBSERVERS | {"dagster", "dagster-daemon", "dagster._daemon"}
"""Dagster's, as they stand in a command line; an argument can have the same name."""
SERVERS = {("api", "grpc"), ("code-server", "start")}
DAEMONS = {("dagster-daemon", "run"), ("dagster._daemon", "run")}
"""Its other commands, such as the liveness check, end at once and deliver nothing."""
REMEMBERED = 1000
"""Runs that a process delivers itself at most; older ones are left to others."""
CONSTRUCTION = timedelta(seconds=60)
"""In which an instance that has registered its storages is complete."""

Role = Literal["daemon", "server", "other"]


def role(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Role:
    """What this process is: Dagster's daemon, another server of Dagster's, or neither.

    A server's children are neither, although they have its environment and, if they were
    forked, its command line.
    """
    if multiprocessing.parent_process() is not None:
        return "other"
    names = [Path(each).name.removesuffix(".exe") for each in argv or sys.orig_argv]
    commands = set(pairwise(names))
    if commands & SERVERS or next((each for each in names if each in PROGRAMS), "") in WEBSERVERS:
        return "server"
    said = environ.get(VARIABLE, "").lower()
    if said in {"true", "1"} or (said not in {"false", "0"} and commands & DAEMONS):
        return "daemon"
    return "other"


@contextmanager
def opened(instance_ref: InstanceRef) -> Iterator[Opened]:
    """An instance and its ledger for a dispatcher, which shares no storage with anybody."""
    from datahub_eventlog.dispatcher import Opened
    from datahub_eventlog.ledger_location import ledger_of

    with DagsterInstance.from_ref(instance_ref) as instance:
        yield Opened(instance, ledger_of(instance, patience=PATIENCE))


class Handle(Protocol):
    """A dispatcher that runs in a thread of its own."""

    def stop(self, timeout: timedelta) -> None:
        """Hand back what is not delivered, and end within that time."""


@dataclass(frozen=True)
class Left:
    """A run that ended here while no dispatcher was alive."""

    run_id: str
    instance_ref: InstanceRef
    directory: str
    """The instance's; of a temporary instance it can be gone by now."""
    config: Config


class Lifecycle:
    """What one process delivers itself; a forked child starts no dispatcher beside its parent's."""

    def __init__(self, *, is_forked: bool = False) -> None:
        self._lock = threading.Lock()
        self._is_forked = is_forked
        self._owner: weakref.ref[Any] | None = None
        self._timeout = timedelta()
        self._handle: Handle | None = None
        self._is_stopped = False
        self._left: deque[Left] = deque(maxlen=REMEMBERED)
        self._is_registered = False

    def start(
        self, owner: object, instance: DagsterInstance, block: Block | None, config: Config
    ) -> None:
        """Start the dispatcher of a daemon, unless this process has one; it ends with `owner`.

        Returns at once: an instance that registers its storages is not complete yet.
        """
        with self._lock:
            if self._is_forked or self._owner is not None:
                return
            self._owner = weakref.ref(owner)
            self._timeout = config.exit_timeout
            self._at_exit()
        starter = threading.Thread(
            target=self._start,
            args=(weakref.ref(instance), block),
            name="datahub-eventlog-start",
            daemon=True,
        )
        starter.start()

    def owns(self, storage: object) -> bool:
        """Whether the dispatcher ends with that storage."""
        return self._owner is not None and self._owner() is storage

    def stop(self) -> None:
        """Stop the dispatcher, if there is one; returns within its `exit_timeout`."""
        with self._lock:
            self._is_stopped = True
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.stop(self._timeout)

    def leave(self, left: Left) -> None:
        """Remember a run that this process is to deliver before it ends."""
        with self._lock:
            self._left.append(left)
            self._at_exit()

    def deliver(self) -> None:
        """Deliver the runs that were left; what takes too long stays in the ledger."""
        with self._lock:
            left = list(self._left)
            self._left.clear()
        while left:
            first = left[0]
            same = [each for each in left if each.instance_ref is first.instance_ref]
            left = [each for each in left if each.instance_ref is not first.instance_ref]
            _deliver(first, [each.run_id for each in same])

    def _start(self, instance: weakref.ref[DagsterInstance], block: Block | None) -> None:
        instance_ref = completed_ref(instance)
        if instance_ref is None:
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
            logger.error(  # noqa: TRY400  # `traced` has the traceback
                "Nothing is delivered to DataHub from this process, since what delivers can't be "
                "imported: %s",
                error_text.trace(error),
            )
            return
        with self._lock:
            if not self._is_stopped:
                known = {} if block is None else block
                self._handle = start_in_daemon(known, lambda: opened(instance_ref))

    def _at_exit(self) -> None:
        """Have everything ended before the interpreter is, whether or not Dagster disposes."""
        if self._is_registered:
            return
        self._is_registered = True
        _before_threads_end(self._exit)
        atexit.register(self._exit)

    def _exit(self) -> None:
        self.stop()
        self.deliver()


def _before_threads_end(function: Callable[[], None]) -> None:
    """Call it when the main thread ends: also in forked children, where `atexit` doesn't."""
    register = getattr(threading, "_register_atexit", None)
    try:
        if register is not None:
            register(function)
    except RuntimeError:
        logger.debug("The interpreter is ending already.")


def completed_ref(instance: weakref.ref[DagsterInstance]) -> InstanceRef | None:
    """Wait until the instance is complete; None if it can't be opened a second time."""
    end = time.monotonic() + CONSTRUCTION.total_seconds()
    while time.monotonic() < end:
        built = instance()
        if built is None:
            return None
        if hasattr(built, "_ref"):
            return ref_of(built)
        del built
        time.sleep(0.01)
    return None


def ref_of(instance: DagsterInstance) -> InstanceRef | None:
    """What another instance like it can be opened from; None if it lives in memory only."""
    return instance._ref  # noqa: SLF001  # `get_ref` raises a CheckError instead


def _deliver(first: Left, run_ids: Sequence[str]) -> None:
    start = time.monotonic()
    try:
        if extras.missing() or not Path(first.directory).is_dir():
            return
        from datahub_eventlog.dispatcher import deliver_runs

        rest = first.config.exit_timeout - timedelta(seconds=time.monotonic() - start)
        deliver_runs(first.config, lambda: opened(first.instance_ref), run_ids, rest)
    except Exception as error:  # noqa: BLE001  # the run has ended well, and is in the ledger
        logger.warning("Left for the next dispatcher: %s", error)


_lifecycle = Lifecycle()


def lifecycle() -> Lifecycle:
    """The state of this process; after a fork, the child has its own."""
    return _lifecycle


def _forget() -> None:
    global _lifecycle  # noqa: PLW0603  # the documented process state
    _lifecycle = Lifecycle(is_forked=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
