"""Records around those that the installed Dagster can't read: they must not hold up the others.

A newer Dagster may have written them, or somebody else something that is no record at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from dagster import DagsterEventType, DagsterInstance, EventLogRecord, RunRecord, RunsFilter

from datahub_eventlog import error_text
from datahub_eventlog.dagster_internals import EventLogConnection, EventLogCursor
from datahub_eventlog.log import logger
from datahub_eventlog.source.events import event_of
from datahub_eventlog.source.reaching import is_unreadable
from datahub_eventlog.values import Event

FARTHEST = 2**53
"""No storage id is as large."""


def run_records(instance: DagsterInstance, filters: RunsFilter, limit: int) -> list[RunRecord]:
    """The first runs by the time of their last update, oldest first."""
    try:
        found = instance.get_run_records(
            filters, limit=limit, order_by="update_timestamp", ascending=True
        )
    except Exception as error:
        if not is_unreadable(error):
            raise
        found = sorted(_one_by_one(instance, filters), key=lambda each: each.update_timestamp)
    return list(found[:limit])


def _one_by_one(instance: DagsterInstance, filters: RunsFilter) -> Iterator[RunRecord]:
    for run_id in instance.get_run_ids(filters):
        try:
            record = instance.get_run_record_by_id(run_id)
        except Exception as error:
            if not is_unreadable(error):
                raise
            logger.debug(
                "The record of run %s can't be read: %s", run_id, error_text.describe(error)
            )
        else:
            if record is not None:
                yield record


def runless_page(
    instance: DagsterInstance, cursor: str | None, types: set[DagsterEventType], limit: int
) -> EventLogConnection:
    """A page of the events that belong to no run, after the cursor."""
    size = limit
    while True:
        try:
            return instance.get_records_for_run("", cursor, types, size)
        except Exception as error:
            if not is_unreadable(error):
                raise
            if size == 1:
                cursor = _past(instance, cursor, types, error)
                logger.warning("An event without a run can't be read, and is left out: %s", error)
            size = max(1, size // 2)


def _past(
    instance: DagsterInstance, cursor: str | None, types: set[DagsterEventType], error: Exception
) -> str:
    """The cursor past the record that comes next, whose id nobody can read.

    Raises that error where it is not the record's.
    """

    def is_past(storage_id: int) -> bool:
        try:
            instance.get_records_for_run("", _cursor(storage_id), types, 1)
        except Exception as found:
            if not is_unreadable(found):
                raise
            return False
        return True

    before = EventLogCursor.parse(cursor).storage_id() if cursor else 0
    step = 1
    while not is_past(before + step):
        if before + step > FARTHEST:
            raise error
        before, step = before + step, 2 * step
    after = before + step
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if is_past(middle) else (middle, after)
    return _cursor(after)


def _cursor(storage_id: int) -> str:
    return EventLogCursor.from_storage_id(storage_id).to_string()


def runless_event(record: EventLogRecord) -> Event | None:
    """The event as a value, or None if it says nothing that DataHub is told."""
    try:
        return event_of(record)
    except Exception as error:  # noqa: BLE001 - there is no run to blame, and others wait behind it
        logger.warning("The event %d without a run is left out: %s", record.storage_id, error)
        return None
