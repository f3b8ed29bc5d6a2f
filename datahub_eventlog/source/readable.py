"""Reading around records that the installed Dagster can't read, so that the others are delivered.

A newer Dagster may have written them, or they are no records at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from dagster import DagsterEventType, DagsterInstance, EventLogRecord, RunRecord, RunsFilter
from sqlalchemy.exc import SQLAlchemyError

from datahub_eventlog import error_text
from datahub_eventlog.dagster_internals import EventLogConnection, EventLogCursor
from datahub_eventlog.log import logger
from datahub_eventlog.source.events import event_of
from datahub_eventlog.values import Event

BEYOND_ALL_IDS = 2**53
"""No storage id is as large."""

_READING_PACKAGES = frozenset({"dagster", "dagster_shared"})
"""Where the exceptions come from that deserialisation raises."""


def is_unreadable(error: Exception) -> bool:
    """Whether there is a record that Dagster does not understand, or that is no JSON."""
    package = type(error).__module__.split(".")[0]
    is_of_reading = package in _READING_PACKAGES or isinstance(error, ValueError)
    return is_of_reading and not isinstance(error.__cause__, SQLAlchemyError)


def run_records(instance: DagsterInstance, filters: RunsFilter, limit: int) -> list[RunRecord]:
    """The first runs by the time of their last update, oldest first."""
    try:
        records = instance.get_run_records(
            filters, limit=limit, order_by="update_timestamp", ascending=True
        )
    except Exception as error:
        if not is_unreadable(error):
            raise
        readable = _readable_records(instance, filters)
        records = sorted(readable, key=lambda record: record.update_timestamp)
    return list(records[:limit])


def _readable_records(instance: DagsterInstance, filters: RunsFilter) -> Iterator[RunRecord]:
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
                cursor = _cursor_past_next(instance, cursor, types, error)
                logger.warning("An event without a run can't be read, and is left out: %s", error)
            size = max(1, size // 2)


def _cursor_past_next(
    instance: DagsterInstance, cursor: str | None, types: set[DagsterEventType], error: Exception
) -> str:
    """The cursor past the next record, which can't be read, not even its id: it is searched for.

    Raises `error` if no cursor is past it, since then the record is not the reason.
    """

    def is_past(storage_id: int) -> bool:
        try:
            instance.get_records_for_run("", _cursor(storage_id), types, 1)
        except Exception as reason:
            if not is_unreadable(reason):
                raise
            return False
        return True

    before = EventLogCursor.parse(cursor).storage_id() if cursor else 0
    step = 1
    while not is_past(before + step):
        if before + step > BEYOND_ALL_IDS:
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
    """The event as a value, or None if it can't be read or is a message of the user's log."""
    try:
        return event_of(record)
    except Exception as error:  # noqa: BLE001 - there is no run to park, and others wait behind it
        logger.warning("The event %d without a run is left out: %s", record.storage_id, error)
        return None
