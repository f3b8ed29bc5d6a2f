"""A touch marks a run as having news: its row becomes pending, or stays leased and counts it.

This is what every Dagster process writes for every event, so a touch is one statement, compiled
once. It is here and not in `Runs` since claims and a recall touch runs in their own transactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    TextClause,
    and_,
    bindparam,
    case,
    func,
    null,
    or_,
    select,
)
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.clocks import CLOCK_TOLERANCE_SECONDS
from datahub_eventlog.ledger.dialects import (
    Instant,
    Now,
    earlier,
    instant_parameters,
    later,
    lock_timeout_prefix,
    prepared,
    returns,
    upsert,
)
from datahub_eventlog.ledger.records import Facts
from datahub_eventlog.ledger.tables import Moment, definitions, dispatchers, runs

LIVE_THROTTLE_SECONDS = 5.0
"""From one look at a live run to the next, unless something urgent happens to it."""
SEEN_PRECISION_SECONDS = 3600.0
"""How far `definitions.seen` may stay behind: it is not worth a write a run."""

c = runs.c
is_leased = c.token.is_not(None)


def touch(
    connection: Connection,
    now: Instant,
    run_id: str,
    *,
    is_urgent: bool,
    definitions_hash: str | None,
) -> float | None:
    """Mark the run as having news; returns the age of the newest dispatcher's heartbeat.

    `definitions_hash` is the hash of the run's facts. None is returned if there is no heartbeat.
    """
    kind = TouchKind(
        connection.dialect.name,
        returns(connection),
        is_urgent,
        has_definitions=definitions_hash is not None,
        has_clock=not isinstance(now, Now),
        prefix=lock_timeout_prefix(connection),
    )
    hashes = {"definitions": definitions_hash} if kind.has_definitions else {}
    parameters = {"run_id": run_id, **hashes, **instant_parameters(now)}
    result = connection.execute(touch_statement(kind), parameters)
    age = result.scalar_one() if kind.returns else connection.execute(_heartbeat_age(now)).scalar()
    return None if age is None else max(0.0, float(age))


@dataclass(frozen=True)
class TouchKind:
    """What distinguishes the statements of two touches."""

    dialect: str
    returns: bool
    is_urgent: bool
    has_definitions: bool
    has_clock: bool
    """The time is a parameter, from a test's clock."""
    prefix: str = ""


@cache
def touch_statement(kind: TouchKind) -> TextClause:
    """The one statement of a touch."""
    now = bindparam("now", type_=Moment) if kind.has_clock else Now()
    hashes: dict[str, Any] = (
        {"definitions": bindparam("definitions")} if kind.has_definitions else {}
    )
    values = {
        "run_id": bindparam("run_id"),
        "state": "pending",
        "due": now,
        "touches": 1,
        "urgent": int(kind.is_urgent),
        "first_touch": now,
        "last_touch": now,
        **hashes,
    }
    changes = [*_changes(now, is_urgent=kind.is_urgent), *hashes.items()]
    statement = upsert(kind.dialect, runs, values, lambda _: changes)
    if kind.returns:
        statement = statement.returning(_heartbeat_age(now).scalar_subquery())
    return prepared(statement, kind.dialect, kind.prefix)


def _changes(now: Instant, *, is_urgent: bool) -> list[tuple[str, Any]]:
    """What becomes of a row that is touched.

    A leased run stays so: its dispatcher sees the counter when it is done. A run that failed
    keeps its time: an event does not make it succeed.
    """
    due = now if is_urgent else _throttled(now)
    keeps: ColumnElement[bool] = or_(
        is_leased, and_(c.state == "pending", or_(c.attempts > 0, c.due < due))
    )
    return [
        ("due", case((keeps, c.due), else_=due)),
        ("attempts", case((c.state == "parked", 0), else_=c.attempts)),
        ("error", case((c.state == "parked", null()), else_=c.error)),
        ("settled", null()),
        ("backfilled", 0),
        ("state", case((is_leased, "leased"), else_="pending")),
        ("touches", c.touches + 1),
        ("last_touch", now),
        *([("urgent", 1)] if is_urgent else []),
    ]


def due_after_touch(now: Instant) -> Instant:
    """When a run is due that was touched while it was leased."""
    return case((c.urgent == 1, now), else_=_throttled(now))


def store_facts(connection: Connection, now: Instant, facts: Facts) -> None:
    """Keep the facts that a touch brings, unless they are there."""
    values = {"hash": facts.hash, "blob": facts.blob, "seen": now}
    dialect = connection.dialect.name
    statement = upsert(
        dialect,
        definitions,
        values,
        lambda _: [("seen", now)],
        lambda _: definitions.c.seen < now - SEEN_PRECISION_SECONDS,
    )
    connection.execute(prepared(statement, dialect, lock_timeout_prefix(connection)))


def _heartbeat_age(now: Instant) -> Select[tuple[float]]:
    # One that is ahead would be alive until its time has come.
    is_past = dispatchers.c.seen <= now + CLOCK_TOLERANCE_SECONDS
    return select(now - func.max(dispatchers.c.seen)).where(is_past)


def _throttled(now: Instant) -> Instant:
    return later(now, earlier(c.looked, now) + LIVE_THROTTLE_SECONDS)
