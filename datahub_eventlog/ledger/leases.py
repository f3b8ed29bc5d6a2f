"""Who may deliver a run, and how that ends. Every write carries the lease's token."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select, union_all, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.sql.selectable import CompoundSelect

from datahub_eventlog.errors import LeaseLost
from datahub_eventlog.ledger.dialects import Instant
from datahub_eventlog.ledger.records import Lease, Outcome, State
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.ledger.texts import clean
from datahub_eventlog.ledger.touches import START, soon

ROUNDS = 5
"""How often one looks again after others took all that was seen."""
LONGEST_ERROR = 4000

c = runs.c

LEASED = (
    *(c.run_id, c.touches, c.attempts, c.definitions, c.cursor, c.again, c.backfilled),
    *(c.first_touch, c.last_touch, c.looked, c.unfinished),
)


def lease(
    connection: Connection,
    now: Instant,
    owner: str,
    limit: int,
    ttl: timedelta,
    run_ids: Sequence[str] | None = None,
) -> list[Lease]:
    """Take what is due: live runs first, then the longest due."""
    for _ in range(ROUNDS):
        found = connection.execute(candidates(now, limit, run_ids)).all()
        if not found:
            return []
        token = f"{uuid.uuid4().hex} {owner}"[:255]
        _take(connection, now, token, ttl, [each.run_id for each in _first(found, limit)])
        taken = _taken(connection, token, {each.run_id: each.state for each in found})
        if taken:
            return taken
    return []


def candidates(
    now: Instant, limit: int, run_ids: Sequence[str] | None = None
) -> CompoundSelect[Any]:
    """What is due, at most `limit` live runs and as many backfilled ones."""
    return union_all(*(_lane(now, limit, run_ids, backfilled=each) for each in (0, 1)))


def extend(connection: Connection, now: Instant, lease: Lease, ttl: timedelta) -> None:
    """Keep the lease for so long from now on."""
    _write(connection, lease, {"due": now + ttl.total_seconds()})


def attempt(connection: Connection, now: Instant, lease: Lease, ttl: timedelta) -> None:
    """Extend the lease, and count an attempt: whatever ends the delivery takes it off again.

    What is read anew from now on needs no mark: one that is there later was set meanwhile.
    """
    values = {
        "due": now + ttl.total_seconds(),
        "attempts": lease.attempts + 1,
        "cursor": case((_is_touched(lease), c.cursor), else_=func.nullif(c.cursor, START)),
    }
    _write(connection, lease, values)


def begin(connection: Connection, now: Instant, lease: Lease, ttl: timedelta) -> None:
    """Extend the lease, and note that from now on a part of the run may have been sent."""
    _write(connection, lease, {"due": now + ttl.total_seconds(), "unfinished": 1})


def settle(
    connection: Connection,
    now: Instant,
    lease: Lease,
    outcome: Outcome,
    look_again: timedelta | None,
    cursor: str | None,
) -> bool:
    """End the delivery unless the run was touched meanwhile; whether it was settled."""
    due = None if look_again is None else now + look_again.total_seconds()
    values = {"state": outcome, "due": due, "error": None, "again": 0, "unfinished": 0}
    return _end(connection, now, lease, {**values, **_progress(lease, cursor)})


def park(connection: Connection, now: Instant, lease: Lease, error: str) -> bool:
    """Lay the run aside unless it was touched meanwhile; whether it was parked."""
    values = {
        "state": "parked",
        "due": None,
        "error": clean(error, LONGEST_ERROR),
        "attempts": lease.attempts,
    }
    return _end(connection, now, lease, values)


def wait(
    connection: Connection, now: Instant, lease: Lease, delay: timedelta, cursor: str | None
) -> None:
    """Give back a run that goes on, shown as far as it goes.

    A redelivery that was asked for before is done with that, and one that was asked for since
    is not.
    """
    is_touched = _is_touched(lease)
    values = {
        "due": case((is_touched, soon(now)), else_=now + delay.total_seconds()),
        "attempts": 0,
        "error": None,
        "unfinished": 0,
        "again": case((is_touched, c.again), else_=0),
    }
    _write(connection, lease, {**_pending(), **values, **_progress(lease, cursor)})


def defer(
    connection: Connection,
    now: Instant,
    lease: Lease,
    delay: timedelta,
    error: str,
    *,
    counts: bool,
) -> None:
    """Try again later, as attempt number so and so if it counts.

    At once if somebody asked for it meanwhile, so that the attempts begin anew.
    """
    values = {
        "due": case((c.attempts < lease.attempts, now), else_=now + delay.total_seconds()),
        "attempts": _attempts(lease) + int(counts),
        "error": clean(error, LONGEST_ERROR),
    }
    _write(connection, lease, {**_pending(), **values})


def release(connection: Connection, now: Instant, lease: Lease) -> None:
    """Give the run back as it was, for anybody to take at once."""
    state = case((c.state == "leased", "pending"), else_=c.state)
    values = {"due": now, "state": state, "token": None, "attempts": _attempts(lease)}
    _write(connection, lease, values)


def is_drained(connection: Connection, now: Instant, run_ids: Sequence[str] | None) -> bool:
    """Whether no pending run is due, and none is leased but for one more look."""
    waits = ((c.state == "pending") & (c.due <= now)) | (c.state == "leased")
    statement = select(c.run_id).where(c.due.is_not(None), waits).limit(1)
    if run_ids is not None:
        statement = statement.where(c.run_id.in_(run_ids))
    return connection.execute(statement).first() is None


def _lane(
    now: Instant, limit: int, run_ids: Sequence[str] | None, *, backfilled: int
) -> Select[Any]:
    due = select(c.run_id, c.state, c.backfilled, c.due).where(
        c.backfilled == backfilled, c.due <= now
    )
    if run_ids is not None:
        due = due.where(c.run_id.in_(run_ids))
    # SQLite takes an ORDER BY in a part of a UNION only if that is a query of its own.
    return select(due.order_by(c.due).limit(limit).subquery())


def _first(found: Sequence[Row[Any]], limit: int) -> list[Row[Any]]:
    return sorted(found, key=lambda each: (each.backfilled, each.due))[:limit]


def _take(
    connection: Connection, now: Instant, token: str, ttl: timedelta, run_ids: Sequence[str]
) -> None:
    """Put the token on those that are still due: of two at once, the second finds none."""
    values = {
        "due": now + ttl.total_seconds(),
        "state": case((c.state == "delivered", "delivered"), else_="leased"),
        "token": token,
        "looked": now,
        "urgent": 0,
    }
    statement = update(runs).where(c.run_id.in_(run_ids), c.due <= now)
    connection.execute(statement.ordered_values(*values.items()))


def _taken(connection: Connection, token: str, before: Mapping[str, State]) -> list[Lease]:
    """The leases with that token, read after they were taken, so that nothing is older."""
    statement = select(*LEASED).where(c.run_id.in_(list(before)), c.token == token)
    rows = connection.execute(statement.order_by(c.backfilled, c.run_id)).all()
    order = {run_id: place for place, run_id in enumerate(before)}
    leases = [_lease_of(row, token, before[row.run_id]) for row in rows]
    return sorted(leases, key=lambda each: (each.backfilled, order[each.run_id]))


def _lease_of(row: Row[Any], token: str, was: State) -> Lease:
    return Lease(
        run_id=row.run_id,
        token=token,
        touches=row.touches,
        attempts=row.attempts,
        definitions=row.definitions,
        cursor=row.cursor,
        again=bool(row.again),
        backfilled=bool(row.backfilled),
        first_touch=float(row.first_touch),
        last_touch=float(row.last_touch),
        begun=float(row.looked),
        was=was,
        is_unfinished=bool(row.unfinished),
    )


def _end(connection: Connection, now: Instant, lease: Lease, values: Mapping[str, Any]) -> bool:
    """End the lease with these values, or as pending if the run was touched meanwhile."""
    ended = {"token": None, "attempts": 0, "settled": func.coalesce(c.settled, now), **values}
    if _written(connection, lease, ended, c.touches == lease.touches):
        return True
    again = {"due": soon(now), "attempts": 0, "error": None, "settled": None}
    _write(connection, lease, {**_pending(), **again, **_kept(values)})
    return False


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    """What holds of an ended delivery even if another must follow."""
    return {name: values[name] for name in ("unfinished", "cursor") if name in values}


def _attempts(lease: Lease) -> ColumnElement[int]:
    """Those before this lease; fewer if somebody has asked for a delivery since."""
    return case((c.attempts < lease.attempts, c.attempts), else_=lease.attempts)


def _is_touched(lease: Lease) -> ColumnElement[bool]:
    return c.touches != lease.touches


def _pending() -> dict[str, Any]:
    return {"state": "pending", "token": None, "settled": None}


def _progress(lease: Lease, cursor: str | None) -> dict[str, Any]:
    """The cursor, unless somebody has set it back meanwhile to have all delivered again."""
    if cursor is None:
        return {}
    is_set_back = _is_touched(lease) & (c.cursor == START)
    return {"cursor": case((is_set_back, START), else_=cursor)}


def _write(connection: Connection, lease: Lease, values: Mapping[str, Any]) -> None:
    if not _written(connection, lease, values):
        raise LeaseLost(f"Run {lease.run_id}: its lease was lost")


def _written(
    connection: Connection,
    lease: Lease,
    values: Mapping[str, Any],
    *conditions: ColumnElement[bool],
) -> bool:
    fence = (c.run_id == lease.run_id, c.token == lease.token, *conditions)
    result = connection.execute(update(runs).where(*fence).values(dict(values)))
    return result.rowcount == 1
