"""Dagster's event types, and what this package does with each of them: the only list.

A type that is not listed is no reason to look at a run: log messages, engine events, FRESHNESS_*,
and what a newer Dagster adds and nobody translates yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Subject(Enum):
    """What an event is about."""

    RUN = "run"
    STEP = "step"
    ASSET = "asset"
    CHECK = "check"


class Phase(Enum):
    """Where in the course of its subject an event stands, if that matters."""

    PLANNED = "planned"
    """Nothing has begun, so there is nothing to show yet."""
    START = "start"
    END = "end"


@dataclass(frozen=True)
class EventType:
    """A type, by the name of its member of `DagsterEventType`."""

    name: str
    subject: Subject
    phase: Phase | None = None
    is_captured: bool = True
    """An event of this type makes its run due for delivery."""
    is_read: bool = True
    """Delivery reads events of this type from the log."""
    is_in_every_dagster: bool = True
    """False for types that came after Dagster 1.10.0."""


EVENT_TYPES = (
    EventType("RUN_ENQUEUED", Subject.RUN, Phase.PLANNED),
    EventType("RUN_DEQUEUED", Subject.RUN, Phase.PLANNED),
    EventType("RUN_STARTING", Subject.RUN, Phase.PLANNED),
    EventType("RUN_START", Subject.RUN, Phase.START),
    EventType("RUN_RESUMED", Subject.RUN, Phase.START, is_in_every_dagster=False),
    EventType("RUN_SUSPENDED", Subject.RUN, is_in_every_dagster=False),
    EventType("RUN_CANCELING", Subject.RUN),
    EventType("RUN_SUCCESS", Subject.RUN, Phase.END),
    EventType("RUN_FAILURE", Subject.RUN, Phase.END),
    EventType("RUN_CANCELED", Subject.RUN, Phase.END),
    # The run's process stores it for a step whose own process may be too short to be captured.
    EventType("STEP_WORKER_STARTING", Subject.STEP, is_read=False),
    EventType("STEP_START", Subject.STEP, Phase.START),
    EventType("STEP_RESTARTED", Subject.STEP, Phase.START),
    EventType("STEP_UP_FOR_RETRY", Subject.STEP),
    EventType("STEP_SUCCESS", Subject.STEP, Phase.END),
    EventType("STEP_FAILURE", Subject.STEP, Phase.END),
    EventType("STEP_SKIPPED", Subject.STEP, Phase.END),
    # It is only counted, and its step's other events are captured.
    EventType("STEP_EXPECTATION_RESULT", Subject.STEP, is_captured=False),
    EventType("HANDLED_OUTPUT", Subject.STEP),
    EventType("LOADED_INPUT", Subject.STEP),
    EventType("ASSET_MATERIALIZATION_PLANNED", Subject.ASSET, Phase.PLANNED),
    EventType("ASSET_MATERIALIZATION", Subject.ASSET),
    EventType("ASSET_FAILED_TO_MATERIALIZE", Subject.ASSET, is_in_every_dagster=False),
    EventType("ASSET_OBSERVATION", Subject.ASSET),
    EventType("ASSET_WIPED", Subject.ASSET, is_in_every_dagster=False),
    EventType("ASSET_CHECK_EVALUATION_PLANNED", Subject.CHECK, Phase.PLANNED),
    EventType("ASSET_CHECK_EVALUATION", Subject.CHECK),
)


def _names(subject: Subject | None = None, phase: Phase | None = None) -> frozenset[str]:
    return frozenset(
        event_type.name
        for event_type in EVENT_TYPES
        if subject in {None, event_type.subject} and phase in {None, event_type.phase}
    )


CAPTURED = frozenset(event_type.name for event_type in EVENT_TYPES if event_type.is_captured)
READ = frozenset(event_type.name for event_type in EVENT_TYPES if event_type.is_read)
PLANNED = _names(phase=Phase.PLANNED)
"""The events of a run that has not begun."""
RUN_EVENTS = _names(Subject.RUN)
RUN_STARTS = _names(Subject.RUN, Phase.START)
"""Stored by the process that executes the run."""
RUN_ENDS = _names(Subject.RUN, Phase.END)
"""The event ends a run, not its record: Dagster updates that afterwards."""
STEP_ENDS = _names(Subject.STEP, Phase.END)
