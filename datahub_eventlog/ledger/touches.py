"""How a run's row becomes pending: by an event, or because somebody asks for it."""

from __future__ import annotations

from collections.abc import Sequence
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
    update,
)
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.chunks import chunks
from datahub_eventlog.ledger.clocks import AHEAD
from datahub_eventlog.ledger.dialects import (
    Instant,
    Now,
    earlier,
    insert_absent,
    instant_parameters,
    later,
    patience,
    prepared,
    returns,
    upsert,
    written,
)
from datahub_eventlog.ledger.records import Facts
from datahub_eventlog.ledger.tables import (
    Moment,
    definitions,
    dispatchers,
    rejections,
    runs,
    states,
)

LIVE_THROTTLE = 5.0
"""Seconds from one look at a live run to the next, unless something urgent happens to it."""
SEEN_PRECISION = 3600.0
"""Seconds for which `definitions.seen` may stay behind: it is not worth a write a run."""
START = ""
"""The cursor of what is to be read anew; a lease may have begun with None."""

c = runs.c
_is_leased = c.token.is_not(None)


def store(connection: Connection, now: Instant, facts: Facts) -> None:
    """Keep the facts, unless they are there."""
    values = {"hash": facts.hash, "blob": facts.blob, "seen": now}
    dialect = connection.dialect.name
    statement = upsert(
        dialect,
        definitions,
        values,
        lambda _: [("seen", now)],
        lambda _: definitions.c.seen < now - SEEN_PRECISION,
    )
    connection.execute(prepared(statement, dialect, patience(connection)))


def touch(
    connection: Connection, now: Instant, run_id: str, *, is_urgent: bool, definitions: str | None
) -> float | None:
    """Note that the run has something new; the age of the newest dispatcher's heartbeat."""
    kind = _Kind.of(connection, now, is_urgent=is_urgent, is_named=definitions is not None)
    named = {"definitions": definitions} if kind.is_named else {}
    parameters = {"run_id": run_id, **named, **instant_parameters(now)}
    result = connection.execute(_touch(kind), parameters)
    age = result.scalar_one() if kind.returns else connection.execute(_age(now)).scalar()
    return None if age is None else max(0.0, float(age))


def add(
    connection: Connection, now: Instant, run_ids: Sequence[str], *, backfilled: bool
) -> list[str]:
    """Add rows where there are none, to be delivered in the order given; which ones."""
    absent = missing(connection, run_ids)
    if not absent:
        return []
    values = {
        "run_id": bindparam("id"),
        "due": now - bindparam("head_start"),
        "backfilled": int(backfilled),
        "first_touch": now,
        "last_touch": now,
    }
    statement = insert_absent(connection.dialect.name, runs, values)
    places = range(len(absent), 0, -1)
    rows = [
        {"id": run_id, "head_start": place * 1e-6}
        for run_id, place in zip(absent, places, strict=True)
    ]
    added = written(connection, statement, c.run_id, rows)
    return absent if added is None else [each for each in absent if each in added]


def missing(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """Those of the ids that have no row, in their order."""
    present: set[str] = set()
    for chunk in chunks(run_ids):
        present.update(connection.execute(select(c.run_id).where(c.run_id.in_(chunk))).scalars())
    return [each for each in dict.fromkeys(run_ids) if each not in present]


def redeliver(
    connection: Connection,
    now: Instant,
    run_ids: Sequence[str],
    settled_before: float | None,
    *,
    backfilled: bool,
) -> int:
    """Make settled runs pending, with what did not change; how many that were."""
    is_settled = c.state.in_(("delivered", "filtered", "gone", "parked"))
    is_wanted = is_settled if settled_before is None else is_settled & (c.settled < settled_before)
    values = {**_once_more(now), "backfilled": int(backfilled)}
    return sum(
        connection.execute(
            update(runs).where(c.run_id.in_(chunk), is_wanted).ordered_values(*values.items())
        ).rowcount
        for chunk in chunks(run_ids)
    )


def revive(connection: Connection, now: Instant, run_ids: Sequence[str] | None) -> int:
    """Make parked runs, and those with rejections, pending; how many that were."""
    has_rejections = c.run_id.in_(select(rejections.c.run_id))
    needs_it = or_(c.state == "parked", has_rejections)
    found = connection.execute(select(c.run_id).where(needs_it)).scalars().all()
    wanted = found if run_ids is None else sorted(set(found).intersection(run_ids))
    values = _once_more(now)
    for chunk in chunks(wanted):
        connection.execute(update(runs).where(c.run_id.in_(chunk)).ordered_values(*values.items()))
        # Where there was nothing to send, there is nothing to send again.
        was_sent = states.c.sent > 0
        unsent = update(states).where(states.c.run_id.in_(chunk), was_sent)
        connection.execute(unsent.values(sent=None, token=None))
    return len(wanted)


def soon(now: Instant) -> Instant:
    """When a run is due that was touched while it was leased."""
    return case((c.urgent == 1, now), else_=_throttled(now))


@dataclass(frozen=True)
class _Kind:
    """What distinguishes the statements of two touches."""

    dialect: str
    returns: bool
    is_urgent: bool
    is_named: bool
    """It names the facts of the run's definitions."""
    is_clocked: bool
    prefix: str = ""

    @classmethod
    def of(cls, connection: Connection, now: Instant, *, is_urgent: bool, is_named: bool) -> _Kind:
        is_clocked = not isinstance(now, Now)
        return cls(
            connection.dialect.name,
            returns(connection),
            is_urgent,
            is_named,
            is_clocked,
            patience(connection),
        )


@cache
def _touch(kind: _Kind) -> TextClause:
    now = bindparam("now", type_=Moment) if kind.is_clocked else Now()
    named: dict[str, Any] = {"definitions": bindparam("definitions")} if kind.is_named else {}
    values = {
        "run_id": bindparam("run_id"),
        "state": "pending",
        "due": now,
        "touches": 1,
        "urgent": int(kind.is_urgent),
        "first_touch": now,
        "last_touch": now,
        **named,
    }
    changes = [*_news(now, is_urgent=kind.is_urgent), *named.items()]
    statement = upsert(kind.dialect, runs, values, lambda _: changes)
    if kind.returns:
        statement = statement.returning(_age(now).scalar_subquery())
    return prepared(statement, kind.dialect, kind.prefix)


def _age(now: Instant) -> Select[tuple[float]]:
    # One that is ahead would be alive until its time has come.
    is_past = dispatchers.c.seen <= now + AHEAD
    return select(now - func.max(dispatchers.c.seen)).where(is_past)


def _throttled(now: Instant) -> Instant:
    return later(now, earlier(c.looked, now) + LIVE_THROTTLE)


def _news(now: Instant, *, is_urgent: bool) -> list[tuple[str, Any]]:
    """What becomes of a row that is touched.

    A leased run stays so: the one who has it sees the counter when it is done. One that failed
    keeps its time: an event does not make it succeed.
    """
    due = now if is_urgent else _throttled(now)
    keeps: ColumnElement[bool] = or_(
        _is_leased, and_(c.state == "pending", or_(c.attempts > 0, c.due < due))
    )
    return [
        ("due", case((keeps, c.due), else_=due)),
        ("attempts", case((c.state == "parked", 0), else_=c.attempts)),
        ("error", case((c.state == "parked", null()), else_=c.error)),
        ("settled", null()),
        ("backfilled", 0),
        ("state", case((_is_leased, "leased"), else_="pending")),
        ("touches", c.touches + 1),
        ("last_touch", now),
        *([("urgent", 1)] if is_urgent else []),
    ]


def _once_more(now: Instant) -> dict[str, Any]:
    """What becomes of a row that somebody wants delivered again, all of it."""
    return {
        "due": case((_is_leased, c.due), else_=now),
        "attempts": 0,
        "error": None,
        "settled": None,
        "cursor": START,
        "state": case((_is_leased, "leased"), else_="pending"),
        "touches": c.touches + 1,
        "urgent": 1,
        "again": 1,
    }
