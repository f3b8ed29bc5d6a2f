"""The ledger's own numbers, and the removal of what is old."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, exists, select, update
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.clocks import CREATED
from datahub_eventlog.ledger.dialects import Changes, Instant, insert_absent, upsert
from datahub_eventlog.ledger.reports import EXPIRED
from datahub_eventlog.ledger.tables import (
    SCHEMA,
    definitions,
    dispatchers,
    meta,
    rejections,
    runs,
    states,
)
from datahub_eventlog.ledger.touches import START, add, touch

WATERMARK = "watermark"
VERSION = "schema"
SINCE = "since"
OFF = "off"
RUNLESS = "runless_since"
BEFORE = 60.0
"""Seconds that an event may be older than the ledger that its touch has made; clocks differ."""

SWEPT = 500
"""Rows removed in one transaction, so that nobody waits long for it."""
GRACE = 24 * 3600.0
"""Seconds: younger definitions may be named by a run at any moment."""
STATES_KEPT = timedelta(days=365)
"""What was not claimed for so long is forgotten, or for `retention` if that is longer."""


def seed(connection: Connection, now: Instant) -> None:
    """Write the numbers that a new ledger has, and the version of its tables."""
    dialect = connection.dialect.name
    for name, value in ((CREATED, now), (WATERMARK, now), (EXPIRED, 0.0)):
        connection.execute(insert_absent(dialect, meta, {"name": name, "value": value}))
    version = {"name": VERSION, "value": float(SCHEMA)}
    statement = upsert(
        dialect,
        meta,
        version,
        lambda new: [("value", new["value"])],
        lambda new: meta.c.value < new["value"],
    )
    connection.execute(statement)


def number(connection: Connection, name: str) -> float | None:
    """One of the numbers, or None if nobody has written it."""
    found = connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
    return None if found is None else float(found)


def set_number(connection: Connection, name: str, value: float | Instant) -> None:
    """Write one of the numbers."""
    values = {"name": name, "value": value}
    statement = upsert(connection.dialect.name, meta, values, lambda new: [("value", new["value"])])
    connection.execute(statement)


def begin(connection: Connection, now: Instant, name: str) -> float:
    """The time that is there under the name, or now, which is there from now on."""
    values = {"name": name, "value": now}
    connection.execute(insert_absent(connection.dialect.name, meta, values))
    return number(connection, name) or 0.0


def forget(connection: Connection, name: str) -> None:
    """Remove one of the numbers."""
    connection.execute(delete(meta).where(meta.c.name == name))


def recall_runless(connection: Connection, now: Instant, since: float, *, again: bool) -> None:
    """Have the events without a run read from that time on; needs a transaction."""
    set_number(connection, RUNLESS, since)
    touch(connection, now, "", is_urgent=True, definitions=None)
    values = {"cursor": START, **({"again": 1} if again else {})}
    connection.execute(update(runs).where(runs.c.run_id == "").values(values))


def look_for_runless(connection: Connection, now: Instant) -> None:
    """Make the row of the events without a run due, unless it is or somebody has it."""
    add(connection, now, [""], backfilled=False)
    is_settled = (runs.c.state == "delivered") & runs.c.due.is_(None)
    due = update(runs).where(runs.c.run_id == "", is_settled, runs.c.token.is_(None))
    connection.execute(due.values(due=now))


def switch_on(connection: Connection, now: Instant) -> None:
    """If capture was off, begin anew from now on; needs a transaction."""
    was_off = connection.execute(delete(meta).where(meta.c.name == OFF)).rowcount
    if was_off:
        for name in (SINCE, WATERMARK):
            set_number(connection, name, now)
        # Events without a run that still wait were stored before.
        waits = (runs.c.run_id == "") & runs.c.state.in_(("pending", "leased", "parked"))
        if connection.execute(select(runs.c.run_id).where(waits)).first() is None:
            set_number(connection, RUNLESS, now)


def expire(connection: Connection, now: Instant, retention: timedelta) -> int:
    """Remove and count some runs that were settled long ago; needs a transaction."""
    is_settled = runs.c.state.in_(("delivered", "filtered", "gone")) & runs.c.due.is_(None)
    is_old = runs.c.settled < now - retention.total_seconds()
    # The row of the runless events has their cursor.
    is_run = runs.c.run_id != ""
    found = select(runs.c.run_id).where(is_run, is_settled, is_old).limit(SWEPT)
    run_ids = connection.execute(found).scalars().all()
    if not run_ids:
        return 0
    statement = delete(runs).where(runs.c.run_id.in_(run_ids), is_settled, is_old)
    removed = connection.execute(statement).rowcount
    values = {"name": EXPIRED, "value": float(removed)}
    sum_up: Changes = lambda new: [("value", meta.c.value + new["value"])]  # noqa: E731
    connection.execute(upsert(connection.dialect.name, meta, values, sum_up))
    return removed


def tidy(connection: Connection, now: Instant, retention: timedelta) -> None:
    """Remove what no run needs any more."""
    # NOT IN would go through all runs for each row, where they are too many to be kept at hand.
    has_run = exists().where(runs.c.run_id == rejections.c.run_id)
    connection.execute(delete(rejections).where(~has_run))
    used = select(runs.c.definitions).where(runs.c.definitions.is_not(None)).distinct()
    is_orphan = definitions.c.hash.not_in(used) & (definitions.c.seen < now - GRACE)
    connection.execute(delete(definitions).where(is_orphan))
    connection.execute(delete(dispatchers).where(dispatchers.c.seen < now - GRACE))
    kept = max(STATES_KEPT, retention).total_seconds()
    connection.execute(delete(states).where(states.c.claimed < now - kept))
