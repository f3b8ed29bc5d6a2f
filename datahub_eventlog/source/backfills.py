"""Dagster's backfills as values: its record of one, and what became of its partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from datahub_eventlog import error_text
from datahub_eventlog.log import logger
from datahub_eventlog.source.events import failure_of
from datahub_eventlog.source.readable import is_unreadable, run_records
from datahub_eventlog.source.runs import run_of
from datahub_eventlog.values import BACKFILL_TAG, Backfill

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
MOST_RANGES = 10_000
"""Runs of several partitions each that are looked at."""


def read_backfill(instance: DagsterInstance, backfill_id: str) -> Backfill | None:
    """The backfill as it is now, or as far as its runs know it; None if there are none."""
    filters = RunsFilter(tags={BACKFILL_TAG: backfill_id})
    record = _record(instance, backfill_id)
    runs = run_records(instance, filters, 1)
    run = run_of(runs[0]) if runs else None
    if record is None and run is None:
        return None
    number = instance.get_runs_count(filters)
    if record is None:
        return Backfill(backfill_id, run=run, runs=number)
    asked, succeeded, failed = _results(instance, record, filters)
    error = failure_of(record.error)
    return Backfill(
        backfill_id=backfill_id,
        status=record.status.value,
        created=record.backfill_timestamp,
        ended=record.backfill_end_timestamp,
        title=record.title,
        description=record.description,
        tags=dict(record.tags or {}),
        error=error.message if error else None,
        job_name=record.job_name,
        assets=tuple(tuple(key.path) for key in record.asset_selection or ()),
        partitions=asked,
        partitions_succeeded=succeeded,
        partitions_failed=failed,
        runs=number,
        run=run,
    )


def _record(instance: DagsterInstance, backfill_id: str) -> Any | None:
    """Dagster's PartitionBackfill, or None if it was deleted or can't be read."""
    try:
        return instance.get_backfill(backfill_id)
    except Exception as error:
        if not is_unreadable(error):
            raise
        reason = error_text.describe(error)
        logger.warning("The record of backfill %s can't be read: %s", backfill_id, reason)
        return None


def _results(
    instance: DagsterInstance, record: Any, filters: RunsFilter
) -> tuple[int | None, int | None, int | None]:
    """How many partitions were asked for, have succeeded, and have failed."""
    of_assets = record.asset_backfill_data
    if of_assets is not None:
        return (
            of_assets.target_subset.num_partitions_and_non_partitioned_assets,
            of_assets.materialized_subset.num_partitions_and_non_partitioned_assets,
            of_assets.failed_and_downstream_subset.num_partitions_and_non_partitioned_assets,
        )
    names = record.partition_names
    if names is None:  # of assets, in the form of an old Dagster that needs their definitions
        return None, None, None
    statuses = _statuses(instance, filters, names)
    counts = Counter(statuses.get(name) for name in names)
    failed = counts[DagsterRunStatus.FAILURE] + counts[DagsterRunStatus.CANCELED]
    return len(names), counts[DagsterRunStatus.SUCCESS], failed


def _statuses(
    instance: DagsterInstance, filters: RunsFilter, names: Sequence[str]
) -> Mapping[str, DagsterRunStatus]:
    """The status of the newest run of each partition."""
    newest = instance.get_run_partition_data(filters)
    if newest:
        return {data.partition: data.status for data in newest}
    places = {name: place for place, name in enumerate(names)}
    statuses: dict[str, DagsterRunStatus] = {}
    for record in run_records(instance, filters, MOST_RANGES):
        run = record.dagster_run
        start, end = (places.get(run.tags.get(tag, "")) for tag in (RANGE_START, RANGE_END))
        if start is not None and end is not None:
            statuses.update(dict.fromkeys(names[start : end + 1], run.status))
    return statuses
