"""What a run's events say of each asset, folded once into little.

Of twenty thousand events only the numbers and the partitions are kept; what the newest one says
is read again when its turn comes to be translated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datahub_eventlog.values import (
    AssetKey,
    Event,
    Materialization,
    Planned,
    RunLog,
    Wiped,
)

MATERIALIZED = "ASSET_MATERIALIZATION"
OBSERVED = "ASSET_OBSERVATION"
FAILED = "ASSET_FAILED_TO_MATERIALIZE"
WIPED = "ASSET_WIPED"
ROW_COUNT = "dagster/row_count"
PARTITION_ROW_COUNT = "dagster/partition_row_count"

_STEP_ENDS = frozenset({"STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED"})


@dataclass
class Rows:
    """A number of rows, as the newest event counts them."""

    first: float
    """The time of the first event that counts them: it never changes as the run goes on."""
    last: float
    count: int


@dataclass
class AssetCourse:
    """How an asset was materialised, or observed, in a run; grows while events are read."""

    first: float
    last: float
    newest: int
    """The storage id of the newest event."""
    events: int = 0
    partitions: dict[str, None] = field(default_factory=dict)
    """Those of the events, in the order of their first appearance."""
    steps: set[str | None] = field(default_factory=set)
    rows: dict[str | None, Rows] = field(default_factory=dict)
    """By partition; under None of the whole table."""

    def add(self, event: Event, asset: Materialization) -> None:
        """Take an event; the clocks of a run's processes differ, and the newest is by the time."""
        self.events += 1
        if event.time >= self.last:
            self.last, self.newest = event.time, event.storage_id
        self.steps.add(event.step_key)
        if asset.partition is not None:
            self.partitions.setdefault(asset.partition)
            self._count(event.time, asset, PARTITION_ROW_COUNT, asset.partition)
        self._count(event.time, asset, ROW_COUNT, None)

    def _count(self, time: float, asset: Materialization, name: str, of: str | None) -> None:
        found = asset.metadata.get(name)
        if found is None or found.kind not in ("int", "float") or found.value < 0:
            return
        rows = self.rows.setdefault(of, Rows(time, time, 0))
        if time >= rows.last:
            rows.last, rows.count = time, int(found.value)


@dataclass
class AssetHistory:
    """All assets of a run, or of the events that belong to none."""

    materialized: dict[AssetKey, AssetCourse] = field(default_factory=dict)
    observed: dict[AssetKey, AssetCourse] = field(default_factory=dict)
    failed: dict[AssetKey, float] = field(default_factory=dict)
    """When Dagster said that an asset was not materialised although it was to be."""
    wiped: dict[AssetKey, float] = field(default_factory=dict)
    """The last time that all its events were removed."""
    planned: dict[AssetKey, dict[str, None]] = field(default_factory=dict)
    """The partitions that were to be materialised."""
    failed_steps: dict[str, float] = field(default_factory=dict)
    """When a step failed for good."""
    over: set[str] = field(default_factory=set)
    """The steps that have ended."""
    is_over: bool = False
    began: float = 0.0
    """When the run's code was loaded, as far as its events say."""


def asset_history(events: Sequence[Event]) -> AssetHistory:
    """Fold the events."""
    start = next((each for each in events if each.type == "RUN_START"), None)
    start = start or next(iter(events), None)
    history = AssetHistory(began=start.time if start else 0.0)
    for event in events:
        _add(history, event)
    return history


def course_of(event: Event, asset: Materialization) -> AssetCourse:
    """The course of an asset of which there is this event alone."""
    course = AssetCourse(event.time, event.time, event.storage_id)
    course.add(event, asset)
    return course


def unmade(history: AssetHistory, log: RunLog, *, is_over: bool) -> Mapping[AssetKey, float]:
    """Assets that the run was to make and did not, with the time since which that is so.

    Dagster's own storages don't keep its event for that, so all that a failed step was to make
    counts; and when the run `is_over`, whatever else it was to make.
    """
    found = dict(history.failed)
    for step in log.steps:
        if step.key in history.failed_steps:
            for output in step.outputs:
                if output.asset_key is not None and output.asset_key in history.planned:
                    found.setdefault(output.asset_key, history.failed_steps[step.key])
    if is_over:
        found = {**dict.fromkeys(history.planned, history.began), **found}
    return {key: found[key] for key in sorted(found.keys() - history.materialized.keys())}


def _add(history: AssetHistory, event: Event) -> None:
    match event.data:
        case Materialization() as asset:
            _add_asset(history, event, asset)
        case Planned(check_name=None) as planned:
            partitions = history.planned.setdefault(planned.asset_key, {})
            if planned.partition is not None:
                partitions.setdefault(planned.partition)
        case Wiped(partitions=None) as wiped:
            history.wiped[wiped.asset_key] = event.time
        case _:
            _add_progress(history, event)


def _add_asset(history: AssetHistory, event: Event, asset: Materialization) -> None:
    if event.type == FAILED:
        history.failed[asset.asset_key] = event.time
        return
    courses = history.observed if event.type == OBSERVED else history.materialized
    course = courses.get(asset.asset_key)
    if course is None:
        courses[asset.asset_key] = course_of(event, asset)
    else:
        course.add(event, asset)


def _add_progress(history: AssetHistory, event: Event) -> None:
    if event.ends_run:
        history.is_over = True
    elif event.step_key is not None and event.type in _STEP_ENDS:
        history.over.add(event.step_key)
        if event.type == "STEP_FAILURE":
            history.failed_steps[event.step_key] = event.time
