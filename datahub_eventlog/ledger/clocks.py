"""Times that lie ahead of the ledger's clock: it was ahead once, or has been set back since.

The two can't be told apart, and the same helps: what was stored counts as stored now.
"""

from __future__ import annotations

from sqlalchemy import and_, case, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.dialects import Instant, earlier
from datahub_eventlog.ledger.named_values import CREATED, NO_TIMES
from datahub_eventlog.ledger.records import Ahead
from datahub_eventlog.ledger.tables import (
    catalogs,
    definitions,
    dispatchers,
    meta,
    rejections,
    runs,
)

CLOCK_TOLERANCE_SECONDS = 30.0
"""By which a stored time may be ahead: clocks that are right differ by less."""
LONGEST_LEASE_SECONDS = 900.0
"""No lease holds for so long without being extended."""
LONGEST_DELAY_SECONDS = 7 * 3600.0
"""Nothing else is put off for so long."""

c = runs.c
STORED = (c.first_touch, c.last_touch, c.looked, c.settled)


def times_ahead(connection: Connection, now: Instant) -> Ahead | None:
    """By how much the latest time in the ledger is ahead of its clock, if that is too much."""
    latest = (
        [func.max(column) for column in STORED],
        [func.max(dispatchers.c.seen)],
        [func.max(case((meta.c.name.not_in(NO_TIMES), meta.c.value)))],
    )
    seconds: list[float] = []
    for columns in latest:
        row = connection.execute(select(*(column - now for column in columns))).one()
        seconds += [float(value) for value in row if value is not None]
    most = max(seconds, default=0.0)
    return (
        Ahead(most, is_local=connection.dialect.name == "sqlite")
        if most > CLOCK_TOLERANCE_SECONDS
        else None
    )


def set_right(connection: Connection, now: Instant) -> None:
    """Have what was stored with a time that is ahead count as stored now, and due at once.

    Each statement finds nothing where the clocks are right.
    """
    latest = now + CLOCK_TOLERANCE_SECONDS
    longest = case((c.token.is_not(None), LONGEST_LEASE_SECONDS), else_=LONGEST_DELAY_SECONDS)
    is_stored_ahead = or_(*(column > latest for column in STORED))
    times = {column.name: earlier(column, now) for column in (c.due, *STORED)}
    # The ledger was made by the first touch.
    first = select(func.min(c.first_touch)).scalar_subquery()
    created = case((meta.c.name == CREATED, func.coalesce(earlier(first, now), now)), else_=now)
    is_value_ahead = and_(meta.c.name.not_in(NO_TIMES), meta.c.value > latest)
    for statement in (
        # Whoever has a lease and is alive finds it lost, and the run is delivered by another.
        update(runs).where(or_(is_stored_ahead, c.due > now + longest)).values(times),
        update(meta).where(is_value_ahead).values(value=created),
        update(rejections).where(rejections.c.noted > latest).values(noted=now),
        update(definitions).where(definitions.c.seen > latest).values(seen=now),
        update(catalogs).where(catalogs.c.latest > latest).values(loaded=now, latest=now),
        update(catalogs).where(catalogs.c.seen > latest).values(seen=now),
        # A dispatcher that is alive sends another heartbeat.
        delete(dispatchers).where(dispatchers.c.seen > latest),
    ):
        connection.execute(statement)
