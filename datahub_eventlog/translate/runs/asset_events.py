"""The course of each asset in a run, read from the events in one pass.

`assets.emitter` takes from it what to send of an asset, `lineage.asset_ports` what a step read and
wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from datahub_eventlog.event_types import STEP_ENDS
from datahub_eventlog.values import (
    AssetKey,
    Event,
    Materialization,
    MaterializationFailure,
    Planned,
    RunLog,
    Wiped,
)

OBSERVED = "ASSET_OBSERVATION"
ROW_COUNT = "dagster/row_count"
PARTITION_ROW_COUNT = "dagster/partition_row_count"


class AssetEvent(NamedTuple):
    """A materialisation or an observation."""

    event: Event
    asset: Materialization
    """The event's data."""


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
    newest: AssetEvent
    """By its time: the clocks of a run's processes differ."""
    events: list[AssetEvent] = field(default_factory=list)
    partitions: dict[str, None] = field(default_factory=dict)
    """Those of the events, in the order of their first appearance."""
    steps: set[str | None] = field(default_factory=set)
    rows: dict[str | None, Rows] = field(default_factory=dict)
    """By partition; under None of the whole table."""

    def add(self, event: Event, asset: Materialization) -> None:
        """Take an event."""
        self.events.append(AssetEvent(event, asset))
        if event.time >= self.last:
            self.last, self.newest = event.time, self.events[-1]
        self.steps.add(event.step_key)
        if asset.partition is not None:
            self.partitions.setdefault(asset.partition)
            self._count(event.time, asset, PARTITION_ROW_COUNT, asset.partition)
        self._count(event.time, asset, ROW_COUNT, None)

    def _count(self, time: float, asset: Materialization, name: str, partition: str | None) -> None:
        metadatum = asset.metadata.get(name)
        if metadatum is None or metadatum.kind not in ("int", "float") or metadatum.value < 0:
            return
        rows = self.rows.setdefault(partition, Rows(time, time, 0))
        if time >= rows.last:
            rows.last, rows.count = time, int(metadatum.value)


@dataclass
class AssetHistory:
    """All assets of a run, or of the events that belong to none."""

    materialized: dict[AssetKey, AssetCourse] = field(default_factory=dict)
    observed: dict[AssetKey, AssetCourse] = field(default_factory=dict)
    by_step: dict[str, list[AssetEvent]] = field(default_factory=dict)
    """The materialisations and observations of each step, by its key, in their order."""
    failed: dict[AssetKey, float] = field(default_factory=dict)
    """When Dagster reported that a planned materialisation did not happen."""
    wiped: dict[AssetKey, float] = field(default_factory=dict)
    """The last time that all its events were removed."""
    planned: dict[AssetKey, dict[str, None]] = field(default_factory=dict)
    """The partitions that were to be materialised."""
    failed_steps: dict[str, float] = field(default_factory=dict)
    """When a step failed for good."""
    ended_steps: set[str] = field(default_factory=set)
    is_over: bool = False
    """An event has ended the run."""
    began: float = 0.0
    """When the run's code was loaded: its start, or failing that its first event."""


def asset_history(events: Sequence[Event]) -> AssetHistory:
    """Read the events once."""
    start = next((event for event in events if event.type == "RUN_START"), None)
    start = start or next(iter(events), None)
    history = AssetHistory(began=start.time if start else 0.0)
    for event in events:
        match event.data:
            case MaterializationFailure(asset_key=key):
                history.failed[key] = event.time
            case Materialization() as asset:
                _add_asset(history, event, asset)
            case Planned(check_name=None) as planned:
                partitions = history.planned.setdefault(planned.asset_key, {})
                if planned.partition is not None:
                    partitions.setdefault(planned.partition)
            case Wiped(partitions=None) as wiped:
                history.wiped[wiped.asset_key] = event.time
            case _:
                _add_end(history, event)
    return history


def course_of(event: Event, asset: Materialization) -> AssetCourse:
    """The course of an asset with this event alone."""
    course = AssetCourse(event.time, event.time, AssetEvent(event, asset))
    course.add(event, asset)
    return course


def unmade(history: AssetHistory, log: RunLog, *, is_over: bool) -> Mapping[AssetKey, float]:
    """The assets that the run planned and did not materialise, with the time since which.

    Dagster's own storages don't keep its event for that. So all that a failed step was to make
    counts, and once the run `is_over` whatever else was planned.
    """
    since = dict(history.failed)
    for step in log.steps:
        if step.key in history.failed_steps:
            for output in step.outputs:
                if output.asset_key is not None and output.asset_key in history.planned:
                    since.setdefault(output.asset_key, history.failed_steps[step.key])
    if is_over:
        since = {**dict.fromkeys(history.planned, history.began), **since}
    return {key: since[key] for key in sorted(since.keys() - history.materialized.keys())}


def _add_asset(history: AssetHistory, event: Event, asset: Materialization) -> None:
    courses = history.observed if event.type == OBSERVED else history.materialized
    course = courses.get(asset.asset_key)
    if course is None:
        courses[asset.asset_key] = course_of(event, asset)
    else:
        course.add(event, asset)
    if event.step_key is not None:
        history.by_step.setdefault(event.step_key, []).append(AssetEvent(event, asset))


def _add_end(history: AssetHistory, event: Event) -> None:
    if event.ends_run:
        history.is_over = True
    elif event.step_key is not None and event.type in STEP_ENDS:
        history.ended_steps.add(event.step_key)
        if event.type == "STEP_FAILURE":
            history.failed_steps[event.step_key] = event.time
