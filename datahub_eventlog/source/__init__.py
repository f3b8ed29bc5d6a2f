"""A run's events and snapshots from the Dagster instance, as frozen values.

The only reader of the instance. A cursor alone would lose events: on Postgres and MySQL ids are
given at INSERT but commits land out of order. So a run is always read as a whole, in pages; the
runless events, which never end, with an overlap of `RUNLESS_OVERLAP`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from dagster import (
    AssetKey as DagsterAssetKey,
)
from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    EventLogRecord,
    RunsFilter,
    RunStatusSensorContext,
    build_run_status_sensor_context,
)

from datahub_eventlog import event_types
from datahub_eventlog.dagster_internals import (
    EventLogConnection,
    EventLogCursor,
    ExecutionPlanSnapshot,
    JobSnap,
)
from datahub_eventlog.errors import DataHubEventLogError
from datahub_eventlog.source.backfills import read_backfill
from datahub_eventlog.source.events import event_of
from datahub_eventlog.source.history import SelectedRuns, Selection
from datahub_eventlog.source.outages import reporting_outages
from datahub_eventlog.source.readable import run_records, runless_event, runless_page
from datahub_eventlog.source.runs import job_of, run_of, seconds, steps_of
from datahub_eventlog.values import (
    AssetKey,
    Backfill,
    Definitions,
    Event,
    Job,
    Run,
    RunLog,
    Step,
)

RUNLESS_OVERLAP = timedelta(seconds=60)
EVENTS_PER_PAGE = 1000

_TYPES_READ = {
    member for name, member in DagsterEventType.__members__.items() if name in event_types.READ
}


@dataclass(frozen=True)
class UpdatedRun:
    """A run, when its record was last updated, and when the run ended, if it has."""

    run_id: str
    time: float
    ended: float | None


@dataclass(frozen=True)
class RunlessEvents:
    """Events without a run, and where to go on the next time."""

    events: tuple[Event, ...]
    cursor: str | None


class Source:
    """Reads one instance. Not for sharing between threads on SQLite: give each its own.

    What a dispatcher reads raises `LedgerUnavailable` while the database is away.
    """

    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance
        self._job = lru_cache(maxsize=64)(self._read_job)
        self._steps = lru_cache(maxsize=64)(self._read_steps)

    @reporting_outages()
    def run(self, run_id: str) -> Run | None:
        """The run as its record says now, or None if it was deleted."""
        record = self._instance.get_run_record_by_id(run_id)
        return None if record is None else run_of(record)

    @reporting_outages()
    def log(
        self,
        run: Run,
        definitions: Definitions | None = None,
        on_page: Callable[[], None] = lambda: None,
    ) -> RunLog:
        """Everything that is known of the run now, all its events included.

        `on_page` is called after each page of events; what it raises passes through.
        """

        def page(cursor: str | None) -> EventLogConnection:
            return self._instance.get_records_for_run(
                run.run_id, cursor, _TYPES_READ, EVENTS_PER_PAGE
            )

        return RunLog(
            run=run,
            job=self._job(run.job_snapshot_id) if run.job_snapshot_id else None,
            steps=self._steps(run.plan_snapshot_id) if run.plan_snapshot_id else (),
            events=tuple(filter(None, map(event_of, self._records(page, None, on_page)))),
            definitions=definitions,
        )

    @reporting_outages()
    def backfill(self, backfill_id: str) -> Backfill | None:
        """The backfill as it is now; see `read_backfill`."""
        return read_backfill(self._instance, backfill_id)

    @reporting_outages()
    def runless(
        self,
        cursor: str | None,
        since: float,
        now: float,
        on_page: Callable[[], None] = lambda: None,
        *,
        noted: float | None = None,
    ) -> RunlessEvents:
        """The events that belong to no run, after the cursor (or since that time, without one).

        The cursor stays `RUNLESS_OVERLAP` behind `now`: later events are read again the next
        time, with those that become visible late. `noted` is when the last event was stored, by
        the clock of `now`. It replaces the time of an event that is ahead of `now`.
        """
        overlap = RUNLESS_OVERLAP.total_seconds()

        def is_passed(event: Event) -> bool:
            is_ahead = noted is not None and event.time > now + overlap
            return (noted if noted is not None and is_ahead else event.time) < now - overlap

        def page(cursor: str | None) -> EventLogConnection:
            return runless_page(self._instance, cursor, _TYPES_READ, EVENTS_PER_PAGE)

        readable = filter(None, map(runless_event, self._records(page, cursor, on_page)))
        events = tuple(event for event in readable if event.time >= since)
        passed = [event.storage_id for event in events if is_passed(event)]
        if not passed:
            return RunlessEvents(events, cursor)
        return RunlessEvents(events, EventLogCursor.from_storage_id(max(passed)).to_string())

    def newest(self, key: AssetKey) -> tuple[str, Event] | None:
        """An asset's newest materialisation and the id of its run, which may be empty."""
        records = self._instance.fetch_materializations(DagsterAssetKey(key), limit=1).records
        for record in records:
            event = event_of(record)
            if event is not None:
                return record.run_id, event
        return None

    def asset_keys(self) -> list[AssetKey]:
        """The assets that the event log knows."""
        return sorted(tuple(key.path) for key in self._instance.all_asset_keys())

    @reporting_outages()
    def updated(self, since: float, limit: int) -> list[UpdatedRun]:
        """The runs whose records were updated since then, oldest update first."""
        moment = datetime.fromtimestamp(since, tz=timezone.utc)
        records = run_records(self._instance, RunsFilter(updated_after=moment), limit)
        return [
            UpdatedRun(record.dagster_run.run_id, seconds(record.update_timestamp), record.end_time)
            for record in records
        ]

    def history(self, selection: Selection) -> SelectedRuns:
        """The runs of a selection."""
        return SelectedRuns(self._instance, selection)

    def sensor_context(self, run_id: str) -> RunStatusSensorContext:
        """The context that a run status sensor would get for the run's end."""
        ends = {DagsterEventType[name] for name in event_types.RUN_ENDS}
        records = self._instance.get_records_for_run(run_id, of_type=ends).records
        run = self._instance.get_run_by_id(run_id)
        if run is None or not records:
            raise DataHubEventLogError(f"run {run_id} has no terminal event")
        event = records[-1].event_log_entry.get_dagster_event()
        return build_run_status_sensor_context("datahub_eventlog", event, self._instance, run)

    def scratch(self) -> tuple[str, ...]:
        """The directories in which Dagster keeps what passes between steps."""
        return (self._instance.storage_directory(),)

    @staticmethod
    def _records(
        page_after: Callable[[str | None], EventLogConnection],
        cursor: str | None,
        on_page: Callable[[], None],
    ) -> Iterator[EventLogRecord]:
        more = True
        while more:
            page = page_after(cursor)
            on_page()
            yield from page.records
            cursor, more = page.cursor, page.has_more

    # To ask first whether a snapshot is there would read it twice.

    def _read_job(self, snapshot_id: str) -> Job | None:
        snapshot: JobSnap | None = self._instance.get_job_snapshot(snapshot_id)
        return None if snapshot is None else job_of(snapshot)

    def _read_steps(self, snapshot_id: str) -> tuple[Step, ...]:
        plan: ExecutionPlanSnapshot | None = self._instance.get_execution_plan_snapshot(snapshot_id)
        return () if plan is None else steps_of(plan)


def statuses() -> tuple[str, ...]:
    """The names of all run statuses of the installed Dagster."""
    return tuple(status.value for status in DagsterRunStatus)
