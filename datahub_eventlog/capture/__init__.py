"""The write path: the backend stores an event first, then the ledger learns of its run.

A touch of the ledger says only that a run has something new; what it is stands in the log. The
ledger and the reading of definitions are imported by the first touch that needs them: most
processes of a run, those of its steps, end without one.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, EventLogEntry

from datahub_eventlog import config, error_text
from datahub_eventlog.capture.policy import RUNLESS
from datahub_eventlog.capture.state import forget, process
from datahub_eventlog.dagster_internals import (
    ConfigurableClassData,
    EventLogStorage,
    SqliteEventLogStorage,
)
from datahub_eventlog.default_storage import default_event_log, mixed_storages
from datahub_eventlog.errors import DataHubEventLogError, LedgerMissing
from datahub_eventlog.event_types import CAPTURED, RUN_ENDS, RUN_EVENTS, RUN_STARTS

if TYPE_CHECKING:
    from datahub_eventlog.ledger import Facts, Ledger

__all__ = ["Capture", "Settings", "forget", "process"]

TOUCH_LOCK_SECONDS = 1.0
"""How long a touch waits for a lock, and how long touches that failed are repeated: a run waits."""
FRESHNESS = frozenset({"FRESHNESS_STATE_CHANGE"})

# Events carry the types' values, which are not the names for RUN_START and the like.
_CAPTURED_TYPES = {
    member.value: frozenset({name})
    for name, member in DagsterEventType.__members__.items()
    if name in CAPTURED
}


@dataclass(frozen=True)
class Settings:
    """What dagster.yaml says of a wrapped storage."""

    block: Any = None
    """What stands under `datahub:`, unresolved."""
    inst_data: ConfigurableClassData | None = None
    directory: str | None = None
    """The directory that the instance must have, where the event log depends on it."""


class Capture:
    """What a wrapped storage does beside storing: it touches the runs that have news.

    What goes wrong with the ledger is logged and never raised: Dagster would take it for a
    failure of the backend, and store a batch twice.
    """

    def __init__(
        self, backend: EventLogStorage | None, settings: Settings, on_run_end: OnRunEnd
    ) -> None:
        """Capture what `backend` stores; without one, that is the instance's default SQLite.

        `on_run_end` is called when a run that this process executes has ended.
        """
        self.settings = settings
        self.reading = config.read(settings.block)
        """The configuration as far as it can be read in this process."""
        self.backend_class = SqliteEventLogStorage if backend is None else backend.__class__
        self._backend = backend
        self._on_run_end = on_run_end
        self._is_enabled = self.reading.config.enabled
        self._touch_interval = self.reading.config.touch_interval.total_seconds()
        self._instance: weakref.ref[DagsterInstance] | None = None
        self._instance_of_default: DagsterInstance | None = None
        self._making_default = threading.Lock()

    # For the storage

    @property
    def backend(self) -> EventLogStorage:
        """The storage that stores. The default one is made at its first use."""
        backend = self._backend
        return self._make_default() if backend is None else backend

    @property
    def has_backend(self) -> bool:
        """Whether the backend is there already."""
        return self._backend is not None

    def register(self, instance: DagsterInstance) -> None:
        """Learn which instance it is, and log once what is wrong with the block."""
        self._instance = weakref.ref(instance)
        if self._backend is None:
            # The storage may outlive it, and must still know where the event log is.
            self._instance_of_default = instance
        for fault in self.reading.faults:
            # A variable may well be unset in this process.
            if not fault.is_unset_variable:
                process().warnings.warn_once(fault.message)

    def record(self, event: EventLogEntry) -> None:
        """Touch the run of an event that has been stored, if it is time for that."""
        types = _captured_types(event)
        if types is not None and self._is_enabled:
            self._record(event.run_id, types)

    def record_batch(self, events: Sequence[EventLogEntry]) -> None:
        """The same for several events, each run once."""
        if not self._is_enabled:
            return
        types_by_run: dict[str, frozenset[str]] = {}
        for event in events:
            types = _captured_types(event)
            if types is not None:
                types_by_run[event.run_id] = types_by_run.get(event.run_id, types) | types
        for run_id, types in types_by_run.items():
            self._record(run_id, types)

    # For whoever has the storage

    @property
    def instance(self) -> DagsterInstance | None:
        """The storage's instance, as long as it is there."""
        return None if self._instance is None else self._instance()

    def note_off(self) -> None:
        """Note in the ledger, if there is one, that capture is off; never raises.

        So that what was left out on purpose is not taken for lost when capture is on again.
        """
        from datahub_eventlog.ledger_location import existing_ledger

        try:
            instance = self.instance
            if instance is None:
                return
            directory = instance.root_directory
            ledger = existing_ledger(self.backend, directory, patience=TOUCH_LOCK_SECONDS)
            if ledger is not None:
                ledger.upkeep.switched_off()
        except Exception as error:  # noqa: BLE001  # what is switched off must not be in the way
            reason = error_text.describe(error)
            process().warnings.warn(f"The ledger can't note that capture is off: {reason}")

    def _record(self, run_id: str, types: frozenset[str]) -> None:
        policy = process().policy
        try:
            if not RUN_STARTS.isdisjoint(types):
                policy.keep_facts(run_id, _packed_definitions(run_id))
            if policy.is_due(run_id, types, self._touch_interval):
                self._touch_due(run_id, types)
                self._retry_missed_touches()
        except Exception as error:  # noqa: BLE001  # whatever it is, the event is stored
            reason = error_text.describe(error)
            process().warnings.warn(f"An event could not be captured: {reason}")

    def _touch_due(self, run_id: str, types: frozenset[str]) -> None:
        heartbeat_age = None
        try:
            skips_throttle = run_id == RUNLESS or not RUN_EVENTS.isdisjoint(types)
            heartbeat_age = self._touch(run_id, skips_throttle=skips_throttle)
        finally:
            if not RUN_ENDS.isdisjoint(types) and process().policy.was_started(run_id):
                self._on_run_end(self, run_id, heartbeat_age)

    def _retry_missed_touches(self) -> None:
        """The runs of touches that failed may have no other event in this process."""
        policy = process().policy
        end = time.monotonic() + TOUCH_LOCK_SECONDS
        while time.monotonic() < end and (run_id := policy.next_missed()) is not None:
            self._touch(run_id, skips_throttle=True)

    def _touch(self, run_id: str, *, skips_throttle: bool) -> float | None:
        """Touch the run; the age of the newest dispatcher's heartbeat, if there is any."""
        policy = process().policy
        start = time.monotonic()
        try:
            age = self._touch_ledger(run_id, policy.facts(run_id), skips_throttle=skips_throttle)
        except BaseException:
            policy.touch_failed(run_id, time.monotonic() - start, self._touch_interval)
            raise
        policy.keep_facts(run_id, None)
        return age

    def _touch_ledger(
        self, run_id: str, facts: Facts | None, *, skips_throttle: bool
    ) -> float | None:
        ledgers = process().ledgers
        try:
            if self not in ledgers:
                ledgers[self] = self._open_ledger()
            return ledgers[self].runs.touch(run_id, is_urgent=skips_throttle, definitions=facts)
        except LedgerMissing as error:
            ledgers[self] = self._local_ledger(error)
            return ledgers[self].runs.touch(run_id, is_urgent=skips_throttle, definitions=facts)

    def _open_ledger(self) -> Ledger:
        from datahub_eventlog.ledger_location import ledger_beside

        instance = self.instance
        mixture = None if instance is None else mixed_storages(instance)
        if mixture is not None:
            process().warnings.warn_once(mixture)
        return ledger_beside(self.backend, patience=TOUCH_LOCK_SECONDS)

    def _local_ledger(self, reason: LedgerMissing) -> Ledger:
        instance = self.instance
        if instance is None:
            raise reason
        from datahub_eventlog.ledger_location import local_ledger

        process().warnings.warn_once(f"{reason}. A local file serves as the ledger instead.")
        return local_ledger(instance.root_directory, patience=TOUCH_LOCK_SECONDS)

    def _make_default(self) -> EventLogStorage:
        with self._making_default:
            if self._backend is None:
                instance = self._instance_of_default
                if instance is None:
                    raise DataHubEventLogError("the event log has no instance yet")
                backend = default_event_log(instance)
                backend.register_instance(instance)
                self._backend = backend
                self._instance_of_default = None
            return self._backend


OnRunEnd: TypeAlias = Callable[[Capture, str, "float | None"], None]
"""Takes the run's id, and how many seconds ago a dispatcher was last seen, if ever."""


def _captured_types(entry: EventLogEntry) -> frozenset[str] | None:
    """The name of the event's type, on its own, if it is captured."""
    event = entry.dagster_event
    if event is None:
        return None
    types = _CAPTURED_TYPES.get(event.event_type_value)
    return None if types == FRESHNESS and _has_no_policy(event) else types


def _has_no_policy(event: DagsterEvent) -> bool:
    """Whether it only says that an asset has no freshness policy, as the first one of each does."""
    state = getattr(event.event_specific_data, "new_state", None)
    return getattr(state, "value", None) == "NOT_APPLICABLE"


def _packed_definitions(run_id: str) -> Facts | None:
    """The definitions of a run that is being started here; None if they aren't found."""
    try:
        # A newer Dagster may have moved what they are read from.
        from datahub_eventlog import definitions
        from datahub_eventlog.ledger import Facts

        job = definitions.loaded_job(run_id)
        return None if job is None else Facts(*definitions.pack(job))
    except Exception as error:  # noqa: BLE001  # the run is captured without them
        reason = error_text.describe(error)
        process().warnings.warn(f"A run's definitions could not be read: {reason}")
        return None
