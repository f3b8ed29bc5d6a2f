"""The write path: the backend stores an event first, then the ledger learns of its run.

A touch of the ledger says only that a run has something new; what it is stands in the log. The
ledger and the reading of definitions are imported by the first touch that needs them: most
processes of a run, those of its steps, end without one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dagster import DagsterEventType, EventLogEntry

from datahub_eventlog import error_text
from datahub_eventlog.config import Config
from datahub_eventlog.dagster_internals import EventLogStorage
from datahub_eventlog.errors import LedgerMissing
from datahub_eventlog.forwarding import ForwardingEventLogStorage
from datahub_eventlog.log import logger

if TYPE_CHECKING:
    from datahub_eventlog.ledger import Facts, Ledger

RUNLESS = ""
"""The run id of events that belong to no run."""
STARTS = frozenset({"RUN_START", "RUN_RESUMED"})
"""Stored by the process that executes the run."""
ENDS = frozenset({"RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED"})
RUN_EVENTS = (
    STARTS
    | ENDS
    | {"RUN_ENQUEUED", "RUN_DEQUEUED", "RUN_STARTING", "RUN_CANCELING", "RUN_SUSPENDED"}
)
CAPTURED = RUN_EVENTS | {
    *("STEP_START", "STEP_RESTARTED", "STEP_UP_FOR_RETRY"),
    *("STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED"),
    *("HANDLED_OUTPUT", "LOADED_INPUT"),
    *("ASSET_MATERIALIZATION_PLANNED", "ASSET_MATERIALIZATION", "ASSET_FAILED_TO_MATERIALIZE"),
    *("ASSET_OBSERVATION", "ASSET_WIPED"),
    *("ASSET_CHECK_EVALUATION_PLANNED", "ASSET_CHECK_EVALUATION"),
    "STEP_WORKER_STARTING",
}
"""Names of the event types that DataHub is told of, and STEP_WORKER_STARTING, where the run's
process says that it starts a step whose own process may be too short to say anything. Others are
no reason to look at a run: log messages, engine events, FRESHNESS_*, and what a newer Dagster adds
and nobody translates yet."""

REMEMBERED = 1000
"""Runs of which a process remembers what it touched."""
PATIENCE = 1.0
"""Seconds that a touch may wait for a lock."""
ALIVE = 30.0
"""Seconds for which a dispatcher's heartbeat counts."""
SHARE = 0.05
"""Of a process's time that touches which fail may cost."""
QUIET = 60.0
"""Seconds for which the same complaint is not logged again."""

# Events carry the types' values, which are not the names for RUN_START and the like.
_KINDS = {
    each.value: frozenset({name})
    for name, each in DagsterEventType.__members__.items()
    if name in CAPTURED
}


@dataclass
class _Run:
    """What this process remembers of a run."""

    since: float
    """When it was last touched, or else when its first event was stored here."""
    is_touched: bool = False
    is_started: bool = False
    facts: Facts | None = None
    """Of its definitions, until a touch has stored them."""


class Touches:
    """When to touch a run: what this process has touched, for at most `REMEMBERED` runs.

    Safe for threads. `clock` gives seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._owed: OrderedDict[str, None] = OrderedDict()
        self._paused_until = float("-inf")
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._runs)

    def is_due(self, run_id: str, kinds: Collection[str], interval: float) -> bool:
        """Whether events of these kinds call for a touch now; if so, the caller touches.

        Another thread that asks meanwhile is told that it is done.
        """
        now = self._clock()
        with self._lock:
            run = self._run(run_id, now)
            is_urgent = _is_urgent(run, run_id, kinds)
            run.is_started = run.is_started or not STARTS.isdisjoint(kinds)
            if not (is_urgent or run_id in self._owed or now - run.since >= interval):
                return False
            if now < self._paused_until and ENDS.isdisjoint(kinds):
                self._owe(run_id)
                return False
            self._owed.pop(run_id, None)
            run.since = now
            run.is_touched = True
            return True

    def was_started(self, run_id: str) -> bool:
        """Whether this process executes the run."""
        run = self._runs.get(run_id)
        return run is not None and run.is_started

    def keep(self, run_id: str, facts: Facts | None) -> None:
        """Remember facts until a touch has stored them."""
        with self._lock:
            self._run(run_id, self._clock()).facts = facts

    def facts(self, run_id: str) -> Facts | None:
        """The facts that no touch has stored yet."""
        run = self._runs.get(run_id)
        return None if run is None else run.facts

    def failed(self, run_id: str, spent: float, interval: float) -> None:
        """A touch failed after that many seconds: pause, so that a run doesn't wait for it."""
        with self._lock:
            self._owe(run_id)
            self._paused_until = self._clock() + max(interval, spent / SHARE)

    def next_owed(self) -> str | None:
        """A run whose touch has to be repeated, if there is one; the caller touches it."""
        with self._lock:
            return self._owed.popitem(last=False)[0] if self._owed else None

    def _owe(self, run_id: str) -> None:
        self._owed[run_id] = None
        if len(self._owed) > REMEMBERED:
            self._owed.popitem(last=False)

    def _run(self, run_id: str, now: float) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _Run(since=now)
            if len(self._runs) > REMEMBERED:
                self._runs.popitem(last=False)
        else:
            self._runs.move_to_end(run_id)
        return run


def _hurries(run_id: str, kinds: Collection[str]) -> bool:
    """Whether the dispatcher should look at once, even if it has just looked."""
    return run_id == RUNLESS or not RUN_EVENTS.isdisjoint(kinds)


def _is_urgent(run: _Run, run_id: str, kinds: Collection[str]) -> bool:
    """Whether the events don't wait for the interval."""
    if run_id == RUNLESS or not ENDS.isdisjoint(kinds):
        return True
    if not run.is_started and not STARTS.isdisjoint(kinds):
        return True
    return not run.is_touched and not RUN_EVENTS.isdisjoint(kinds)


class Complaints:
    """Logs what goes wrong, the same line at most once in `QUIET` seconds, and counts it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: OrderedDict[str, float] = OrderedDict()
        self.count = 0

    def complain(self, text: str) -> None:
        """Count it, and log it unless that has just been done."""
        self.count += 1
        now = self._clock()
        if now - self._logged.get(text, float("-inf")) < QUIET:
            return
        self._logged[text] = now
        while len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)
        logger.warning("%s", text)

    def once(self, text: str) -> None:
        """Log it if this process never did."""
        if text not in self._logged:
            self._logged[text] = float("inf")
            logger.warning("%s", text)


class Process:
    """What capture remembers: it belongs to the process, for Dagster makes several storages."""

    def __init__(self) -> None:
        self.touches = Touches()
        self.complaints = Complaints()
        self.ledgers: WeakKeyDictionary[EventLogStorage, Ledger] = WeakKeyDictionary()
        self.is_off_noted = False


_process = Process()


def process() -> Process:
    """The state of this process; after a fork, the child has its own."""
    return _process


def _forget() -> None:
    global _process  # noqa: PLW0603  # the documented process state
    _process = Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class CapturingEventLogStorage(ForwardingEventLogStorage):
    """Stores events in the backend, and then touches their runs in the ledger.

    What goes wrong with the ledger is logged and never raised: Dagster would take it for a
    failure of the backend, and store a batch twice.
    """

    def __init__(self, backend: EventLogStorage | type[EventLogStorage], config: Config) -> None:
        super().__init__(backend)
        self._datahub_config = config
        self._datahub_interval = config.touch_interval.total_seconds()

    def store_event(self, event: EventLogEntry, *args: Any, **kwargs: Any) -> None:
        """Store an event; what a newer Dagster says beside it is the backend's."""
        self._datahub_backend.store_event(event, *args, **kwargs)
        kinds = _kinds(event)
        if kinds is not None and self._datahub_config.enabled:
            self._datahub_capture(event.run_id, kinds)

    def store_event_batch(self, events: Sequence[EventLogEntry], *args: Any, **kwargs: Any) -> None:
        """Store several events at once; the same holds for what is said beside them."""
        self._datahub_backend.store_event_batch(events, *args, **kwargs)
        if self._datahub_config.enabled:
            for run_id, kinds in _captured(events).items():
                self._datahub_capture(run_id, kinds)

    def _datahub_capture(self, run_id: str, kinds: Collection[str]) -> None:
        try:
            self._datahub_touch_if_due(run_id, kinds)
        except Exception as error:  # noqa: BLE001  # whatever it is, the event is stored
            process().complaints.complain(
                f"An event could not be captured: {error_text.describe(error)}"
            )

    def _datahub_touch_if_due(self, run_id: str, kinds: Collection[str]) -> None:
        touches = process().touches
        if not STARTS.isdisjoint(kinds):
            touches.keep(run_id, _facts(run_id))
        if touches.is_due(run_id, kinds, self._datahub_interval):
            age = None
            try:
                age = self._datahub_touch(run_id, is_urgent=_hurries(run_id, kinds))
            finally:
                if not ENDS.isdisjoint(kinds) and touches.was_started(run_id):
                    self._datahub_ended(run_id, age)
            self._datahub_pay()

    def _datahub_pay(self) -> None:
        """Repeat what failed before: the run itself may have no other event in this process.

        For a moment only, since a run waits; what is left is for the next event.
        """
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and (run_id := process().touches.next_owed()) is not None:
            self._datahub_touch(run_id, is_urgent=True)

    def _datahub_touch(self, run_id: str, *, is_urgent: bool) -> float | None:
        """Touch the run; the age of the newest dispatcher's heartbeat, if there is any."""
        touches = process().touches
        start = time.monotonic()
        try:
            age = self._datahub_touch_ledger(run_id, touches.facts(run_id), is_urgent=is_urgent)
        except BaseException:
            touches.failed(run_id, time.monotonic() - start, self._datahub_interval)
            raise
        touches.keep(run_id, None)
        return age

    def _datahub_touch_ledger(
        self, run_id: str, facts: Facts | None, *, is_urgent: bool
    ) -> float | None:
        ledgers = process().ledgers
        try:
            if self not in ledgers:
                ledgers[self] = self._datahub_open_ledger()
            return ledgers[self].runs.touch(run_id, is_urgent=is_urgent, definitions=facts)
        except LedgerMissing as error:
            ledgers[self] = self._datahub_local_ledger(error)
            return ledgers[self].runs.touch(run_id, is_urgent=is_urgent, definitions=facts)

    def _datahub_open_ledger(self) -> Ledger:
        from datahub_eventlog.ledger_location import ledger_beside

        return ledger_beside(self._datahub_backend, patience=PATIENCE)

    def _datahub_local_ledger(self, reason: LedgerMissing) -> Ledger:
        if not self.has_instance:
            raise reason
        from datahub_eventlog.ledger_location import local_ledger

        process().complaints.once(f"{reason}. A local file serves as the ledger instead.")
        return local_ledger(self._instance.root_directory, patience=PATIENCE)

    def _datahub_ended(self, run_id: str, age: float | None) -> None:
        """Called when a run that this process executed has ended.

        `age` is how many seconds ago a dispatcher was last seen, if ever.
        """


def _kinds(entry: EventLogEntry) -> frozenset[str] | None:
    """The name of the event's type, on its own, if it is captured."""
    event = entry.dagster_event
    return None if event is None else _KINDS.get(event.event_type_value)


def _captured(events: Iterable[EventLogEntry]) -> Mapping[str, Collection[str]]:
    """The names of the captured events' types, by their runs."""
    found: dict[str, frozenset[str]] = {}
    for each in events:
        kinds = _kinds(each)
        if kinds is not None:
            found[each.run_id] = found.get(each.run_id, kinds) | kinds
    return found


def _facts(run_id: str) -> Facts | None:
    """The definitions of a run that is being started here, packed; None if they aren't found."""
    try:
        # A newer Dagster may have moved what they are read from.
        from datahub_eventlog import definitions
        from datahub_eventlog.ledger import Facts

        loaded = definitions.loaded(run_id)
        return None if loaded is None else Facts(*definitions.pack(loaded))
    except Exception as error:  # noqa: BLE001  # the run is captured without them
        reason = error_text.describe(error)
        process().complaints.complain(f"A run's definitions could not be read: {reason}")
        return None
