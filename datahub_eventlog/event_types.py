"""Dagster's event types that are captured or read, and what follows from each.

The first event of a run whose subject is RUN, and each that ends a run, makes the run due at once;
other captured events do so every `touch_interval` (`capture.policy`). What an event becomes in
DataHub is decided in `translate/`, by its type's name.

A type that is not listed is no reason to look at a run: log messages, engine events,
ASSET_HEALTH_CHANGED, which Dagster itself never stores, and what a newer Dagster adds and nobody
translates yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class EventSubject(Enum):
    """What an event is about."""

    RUN = "run"
    STEP = "step"
    ASSET = "asset"
    CHECK = "check"


class EventPhase(Enum):
    """Where in the course of its subject an event stands, if that matters."""

    PLANNED = "planned"
    """Nothing has begun, so there is nothing to show yet."""
    START = "start"
    END = "end"


@dataclass(frozen=True)
class EventType:
    """A type, by the name of its member of `DagsterEventType`."""

    name: str
    subject: EventSubject
    phase: EventPhase | None = None
    is_captured: bool = True
    """An event of this type makes its run due for delivery."""
    is_read: bool = True
    """Delivery reads events of this type from the log."""
    is_in_every_dagster: bool = True
    """False for types that came after Dagster 1.10.0."""


EVENT_TYPES = (
    EventType("RUN_ENQUEUED", EventSubject.RUN, EventPhase.PLANNED),
    EventType("RUN_DEQUEUED", EventSubject.RUN, EventPhase.PLANNED),
    EventType("RUN_STARTING", EventSubject.RUN, EventPhase.PLANNED),
    EventType("RUN_START", EventSubject.RUN, EventPhase.START),
    EventType("RUN_RESUMED", EventSubject.RUN, EventPhase.START, is_in_every_dagster=False),
    EventType("RUN_SUSPENDED", EventSubject.RUN, is_in_every_dagster=False),
    EventType("RUN_CANCELING", EventSubject.RUN),
    EventType("RUN_SUCCESS", EventSubject.RUN, EventPhase.END),
    EventType("RUN_FAILURE", EventSubject.RUN, EventPhase.END),
    EventType("RUN_CANCELED", EventSubject.RUN, EventPhase.END),
    # The run's process stores it for a step whose own process may be too short to be captured.
    EventType("STEP_WORKER_STARTING", EventSubject.STEP, is_read=False),
    EventType("STEP_START", EventSubject.STEP, EventPhase.START),
    EventType("STEP_RESTARTED", EventSubject.STEP, EventPhase.START),
    EventType("STEP_UP_FOR_RETRY", EventSubject.STEP),
    EventType("STEP_SUCCESS", EventSubject.STEP, EventPhase.END),
    EventType("STEP_FAILURE", EventSubject.STEP, EventPhase.END),
    EventType("STEP_SKIPPED", EventSubject.STEP, EventPhase.END),
    # It is only counted, and its step's other events are captured.
    EventType("STEP_EXPECTATION_RESULT", EventSubject.STEP, is_captured=False),
    EventType("HANDLED_OUTPUT", EventSubject.STEP),
    EventType("LOADED_INPUT", EventSubject.STEP),
    EventType("ASSET_MATERIALIZATION_PLANNED", EventSubject.ASSET, EventPhase.PLANNED),
    EventType("ASSET_MATERIALIZATION", EventSubject.ASSET),
    EventType("ASSET_FAILED_TO_MATERIALIZE", EventSubject.ASSET, is_in_every_dagster=False),
    EventType("ASSET_OBSERVATION", EventSubject.ASSET),
    EventType("ASSET_WIPED", EventSubject.ASSET, is_in_every_dagster=False),
    # Without a run, by the daemon. FRESHNESS_STATE_EVALUATION has no writer in Dagster.
    EventType("FRESHNESS_STATE_CHANGE", EventSubject.ASSET, is_in_every_dagster=False),
    EventType("ASSET_CHECK_EVALUATION_PLANNED", EventSubject.CHECK, EventPhase.PLANNED),
    EventType("ASSET_CHECK_EVALUATION", EventSubject.CHECK),
)


def _names(subject: EventSubject | None = None, phase: EventPhase | None = None) -> frozenset[str]:
    return frozenset(
        event_type.name
        for event_type in EVENT_TYPES
        if subject in {None, event_type.subject} and phase in {None, event_type.phase}
    )


CAPTURED = frozenset(event_type.name for event_type in EVENT_TYPES if event_type.is_captured)
READ = frozenset(event_type.name for event_type in EVENT_TYPES if event_type.is_read)
PLANNED = _names(phase=EventPhase.PLANNED)
"""The events of a run that has not begun."""
RUN_EVENTS = _names(EventSubject.RUN)
RUN_STARTS = _names(EventSubject.RUN, EventPhase.START)
"""Stored by the process that executes the run."""
RUN_ENDS = _names(EventSubject.RUN, EventPhase.END)
"""The event ends a run, not its record: Dagster updates that afterwards."""
STEP_ENDS = _names(EventSubject.STEP, EventPhase.END)
