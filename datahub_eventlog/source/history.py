"""The runs of an instance's history that a backfill selects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import islice

import dagster
from dagster import AssetRecordsFilter, DagsterInstance, DagsterRunStatus, RunsFilter

from datahub_eventlog.values import AssetKey

RUNS_PER_PAGE = 200
"""Runs a page; of the assets that select them, events a query."""


@dataclass(frozen=True)
class Selection:
    """Which runs; what is None or empty leaves none out."""

    since: datetime | None = None
    """When the run was created, at the earliest."""
    until: datetime | None = None
    """When the run was created, before that."""
    jobs: tuple[str, ...] = ()
    assets: tuple[AssetKey, ...] = ()
    """Assets of which the run materialised or observed at least one."""
    statuses: tuple[str, ...] = ()
    """Of the runs as they are now, such as `SUCCESS`."""
    run_ids: tuple[str, ...] = ()

    @property
    def has_runless(self) -> bool:
        """Whether events without a run are selected, too."""
        return not (self.jobs or self.assets or self.statuses or self.run_ids)

    def created_before(self, moment: float) -> Selection:
        """Those of the runs that were created before that time, in UTC epoch seconds."""
        until = datetime.fromtimestamp(moment, tz=timezone.utc)
        return replace(self, until=min(until, self.until) if self.until else until)


class SelectedRuns:
    """The runs of a selection as they are when it is made."""

    def __init__(self, instance: DagsterInstance, selection: Selection) -> None:
        """Read the events of the assets, if the selection names any."""
        self._instance = instance
        self._filters = tuple(_filters(instance, selection))

    def count(self) -> int:
        """How many runs there are."""
        return sum(self._instance.get_runs_count(filters) for filters in self._filters)

    def pages(self) -> Iterator[Sequence[str]]:
        """Their ids, those of each job with the newest first."""
        for filters in self._filters:
            # Not by a cursor: a page's last run may be deleted meanwhile, or be unreadable.
            run_ids = self._instance.get_run_ids(filters)
            for start in range(0, len(run_ids), RUNS_PER_PAGE):
                yield run_ids[start : start + RUNS_PER_PAGE]


_SMALLEST_STEP = timedelta(microseconds=1)


def _filters(instance: DagsterInstance, selection: Selection) -> Iterator[RunsFilter]:
    """Dagster's filters, which together select each run once."""
    for job in dict.fromkeys(selection.jobs) or [None]:
        for run_ids in _pages_of_assets(instance, selection.assets):
            yield RunsFilter(
                run_ids=_both(run_ids, selection.run_ids),
                job_name=job,
                statuses=[DagsterRunStatus(status) for status in selection.statuses] or None,
                # Dagster's "after" leaves the moment itself out.
                created_after=selection.since - _SMALLEST_STEP if selection.since else None,
                created_before=selection.until,
            )


def _both(page: list[str] | None, run_ids: Sequence[str]) -> list[str] | None:
    """The runs that are in both, where None and nothing leave none out."""
    if not run_ids:
        return page
    return list(run_ids) if page is None else [run_id for run_id in page if run_id in run_ids]


def _pages_of_assets(
    instance: DagsterInstance, assets: Sequence[AssetKey]
) -> Iterator[list[str] | None]:
    """The ids of the assets' runs, page by page; None once if no assets are selected."""
    if not assets:
        yield None
        return
    run_ids = iter(dict.fromkeys(_runs_of(instance, assets)))
    while page := list(islice(run_ids, RUNS_PER_PAGE)):
        yield page


def _runs_of(instance: DagsterInstance, assets: Iterable[AssetKey]) -> Iterator[str]:
    """The runs that materialised or observed one of the assets; they may come repeatedly."""
    for key in assets:
        records = AssetRecordsFilter(dagster.AssetKey(list(key)))
        for fetch in (instance.fetch_materializations, instance.fetch_observations):
            cursor: str | None = None
            has_more = True
            while has_more:
                page = fetch(records, limit=RUNS_PER_PAGE, cursor=cursor)
                yield from (record.run_id for record in page.records if record.run_id)
                cursor, has_more = page.cursor, page.has_more
