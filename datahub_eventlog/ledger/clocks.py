"""Times that lie ahead of the ledger's clock: it was ahead once, or has been set back since.

The two can't be told apart, and the same helps: what was stored counts as stored now.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.dialects import Instant, earlier
from datahub_eventlog.ledger.records import Ahead
from datahub_eventlog.ledger.tables import definitions, dispatchers, meta, rejections, runs

AHEAD = 30.0
"""Seconds by which a stored time may be ahead: clocks that are right differ by less."""
LONGEST_LEASE = 900.0
"""Seconds: no lease holds for so long without being extended."""
LONGEST_DELAY = 7 * 3600.0
"""Seconds: nothing else is put off for so long."""
CREATED = "created"
NO_TIMES = ("schema", "expired")
"""What is a version and a count in the table of numbers."""

c = runs.c
STORED = (c.first_touch, c.last_touch, c.looked, c.settled)


def ahead(connection: Connection, now: Instant) -> Ahead | None:
    """By how much the latest time in the ledger is ahead of its clock, if that is too much."""
    latest = (
        *(func.max(each) for each in STORED),
        func.max(dispatchers.c.seen),
        func.max(case((meta.c.name.not_in(NO_TIMES), meta.c.value))),
    )
    columns = [(each - now).label(f"ahead_{place}") for place, each in enumerate(latest)]
    of_runs, of_dispatchers, of_meta = columns[:-2], columns[-2:-1], columns[-1:]
    seconds = [
        float(each)
        for some in (of_runs, of_dispatchers, of_meta)
        for each in connection.execute(select(*some)).one()
        if each is not None
    ]
    most = max(seconds, default=0.0)
    return Ahead(most, is_local=connection.dialect.name == "sqlite") if most > AHEAD else None


def set_right(connection: Connection, now: Instant) -> None:
    """Have what was stored with a time that is ahead count as stored now, and due at once."""
    for statement in corrections(now):
        connection.execute(statement)


def corrections(now: Instant) -> list[Any]:
    """The statements that do it; each finds nothing where the clocks are right."""
    latest = now + AHEAD
    longest = case((c.token.is_not(None), LONGEST_LEASE), else_=LONGEST_DELAY)
    is_stored_ahead = or_(*(each > latest for each in STORED))
    times = {each.name: earlier(each, now) for each in (c.due, *STORED)}
    # The ledger was made by the first touch.
    first = select(func.min(c.first_touch)).scalar_subquery()
    created = case((meta.c.name == CREATED, func.coalesce(earlier(first, now), now)), else_=now)
    return [
        # Whoever has a lease and is alive finds it lost, and the run is delivered by another.
        update(runs).where(or_(is_stored_ahead, c.due > now + longest)).values(times),
        update(meta).where(_is_ahead(latest)).values(value=created),
        update(rejections).where(rejections.c.noted > latest).values(noted=now),
        update(definitions).where(definitions.c.seen > latest).values(seen=now),
        # It beats again if it is alive.
        delete(dispatchers).where(dispatchers.c.seen > latest),
    ]


def _is_ahead(latest: Instant) -> ColumnElement[bool]:
    return and_(meta.c.name.not_in(NO_TIMES), meta.c.value > latest)
