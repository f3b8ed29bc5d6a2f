"""Who may deliver a run, and how a delivery ends. Every write carries the lease's token."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select, union_all, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.selectable import CompoundSelect

from datahub_eventlog.errors import LeaseLost
from datahub_eventlog.ledger.database import LedgerPart, on_connection
from datahub_eventlog.ledger.dialects import Instant
from datahub_eventlog.ledger.records import START, Lease, Outcome, State
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.ledger.texts import clean
from datahub_eventlog.ledger.touches import due_after_touch

TAKE_ROUNDS = 5
"""How often `take` looks again after other dispatchers took all that it saw."""
LONGEST_ERROR = 4000
"""Characters of an error that are kept."""

c = runs.c

LEASE_COLUMNS = (
    *(c.run_id, c.touches, c.attempts, c.definitions, c.cursor, c.again, c.backfilled),
    *(c.first_touch, c.last_touch, c.looked, c.unfinished),
)
PENDING = {"state": "pending", "token": None, "settled": None}


class Leases(LedgerPart):
    """The right to deliver a run: taking it, keeping it, and ending the delivery.

    Whatever takes a `Lease` raises `LeaseLost`, and writes nothing, if another dispatcher has
    taken the run since.
    """

    @on_connection
    def take(
        self,
        connection: Connection,
        owner: str,
        limit: int,
        ttl: timedelta,
        *,
        run_ids: Sequence[str] | None = None,
    ) -> list[Lease]:
        """Take up to `limit` of the runs that are due, or of those among `run_ids`.

        Live runs come first, then backfilled ones; the longest due before the others. A lease
        ends after `ttl` unless it is extended.
        """
        now = self.database.now
        for _ in range(TAKE_ROUNDS):
            rows = connection.execute(due_runs(now, limit, run_ids)).all()
            if not rows:
                return []
            first = sorted(rows, key=lambda row: (row.backfilled, row.due))[:limit]
            token = f"{uuid.uuid4().hex} {owner}"[:255]
            _put_token(connection, now, token, ttl, [row.run_id for row in first])
            leases = _read_leases(connection, token, {row.run_id: row.state for row in rows})
            if leases:
                return leases
        return []

    @on_connection
    def extend(self, connection: Connection, lease: Lease, ttl: timedelta) -> None:
        """Keep the lease until `ttl` from now."""
        write(connection, lease, {"due": self.database.now + ttl.total_seconds()})

    @on_connection
    def attempt(self, connection: Connection, lease: Lease, ttl: timedelta) -> None:
        """Begin a delivery: keep the lease until `ttl` from now, and count an attempt.

        Every end of a delivery sets the attempts itself. So this one stays only if the process
        dies, or hangs until another takes the run.
        """
        values = {
            "due": self.database.now + ttl.total_seconds(),
            "attempts": lease.attempts + 1,
            # A delivery from the start begins here. START that is there later is a new request.
            "cursor": case((_is_touched(lease), c.cursor), else_=func.nullif(c.cursor, START)),
        }
        write(connection, lease, values)

    @on_connection
    def settle(
        self,
        connection: Connection,
        lease: Lease,
        outcome: Outcome,
        *,
        look_again: timedelta | None = None,
        cursor: str | None = None,
    ) -> bool:
        """End the delivery and return True, or make the run due again if it was touched since.

        After `look_again` the run can be leased once more, without leaving its state.
        """
        now = self.database.now
        values = {
            "state": outcome,
            "due": None if look_again is None else now + look_again.total_seconds(),
            "error": None,
            "again": 0,
            "unfinished": 0,
            **_progress(lease, cursor),
        }
        return _end(connection, now, lease, values)

    @on_connection
    def park(self, connection: Connection, lease: Lease, error: str) -> bool:
        """Set the run aside for a person to look at and return True, unless it was touched."""
        values = {
            "state": "parked",
            "due": None,
            "error": clean(error, LONGEST_ERROR),
            "attempts": lease.attempts,
        }
        return _end(connection, self.database.now, lease, values)

    @on_connection
    def wait(
        self, connection: Connection, lease: Lease, delay: timedelta, cursor: str | None = None
    ) -> None:
        """Give back a run that still executes, and whose events so far were delivered.

        It is due after the delay, or as soon as a touched run is if it was touched since.
        A redelivery that was asked for before the lease is done, a later one is not.
        """
        now = self.database.now
        is_touched = _is_touched(lease)
        values = {
            **PENDING,
            "due": case((is_touched, due_after_touch(now)), else_=now + delay.total_seconds()),
            "attempts": 0,
            "error": None,
            "unfinished": 0,
            "again": case((is_touched, c.again), else_=0),
            **_progress(lease, cursor),
        }
        write(connection, lease, values)

    @on_connection
    def defer(
        self, connection: Connection, lease: Lease, delay: timedelta, error: str, *, counts: bool
    ) -> None:
        """Have the run tried again after the delay; `counts`: as one more failed attempt.

        If a redelivery was asked for since, the run is due at once and its attempts begin anew.
        """
        now = self.database.now
        values = {
            **PENDING,
            "due": case((c.attempts < lease.attempts, now), else_=now + delay.total_seconds()),
            "attempts": _attempts_before(lease) + int(counts),
            "error": clean(error, LONGEST_ERROR),
        }
        write(connection, lease, values)

    @on_connection
    def release(self, connection: Connection, lease: Lease) -> None:
        """Give the run back as it was, due at once for any dispatcher."""
        values = {
            "due": self.database.now,
            "state": case((c.state == "leased", "pending"), else_=c.state),
            "token": None,
            "attempts": _attempts_before(lease),
        }
        write(connection, lease, values)

    @on_connection
    def is_drained(self, connection: Connection, run_ids: Sequence[str] | None = None) -> bool:
        """Whether nothing is due and nothing is leased, of all runs or of those.

        Runs that still execute, that wait for their next attempt, or for the second look after
        their delivery, don't count.
        """
        is_due = (c.state == "pending") & (c.due <= self.database.now)
        waits = is_due | (c.state == "leased")
        statement = select(c.run_id).where(c.due.is_not(None), waits).limit(1)
        if run_ids is not None:
            statement = statement.where(c.run_id.in_(run_ids))
        return connection.execute(statement).first() is None


def due_runs(now: Instant, limit: int, run_ids: Sequence[str] | None = None) -> CompoundSelect[Any]:
    """The query for what is due: at most `limit` live runs and as many backfilled ones."""

    def lane(*, backfilled: int) -> Select[Any]:
        due = select(c.run_id, c.state, c.backfilled, c.due).where(
            c.backfilled == backfilled, c.due <= now
        )
        if run_ids is not None:
            due = due.where(c.run_id.in_(run_ids))
        # SQLite takes an ORDER BY in a part of a UNION only if that is a query of its own.
        return select(due.order_by(c.due).limit(limit).subquery())

    return union_all(lane(backfilled=0), lane(backfilled=1))


def write(connection: Connection, lease: Lease, values: Mapping[str, Any]) -> None:
    """Change the row of a leased run; raises `LeaseLost` if the lease is another's by now."""
    if not _written(connection, lease, values):
        raise LeaseLost(f"Run {lease.run_id}: its lease was lost")


def _put_token(
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


def _read_leases(connection: Connection, token: str, before: Mapping[str, State]) -> list[Lease]:
    """The leases with that token, read after they were taken, so that nothing is older.

    `before` has the state of each candidate when it was found due, in that order.
    """
    statement = select(*LEASE_COLUMNS).where(c.run_id.in_(list(before)), c.token == token)
    rows = connection.execute(statement.order_by(c.backfilled, c.run_id)).all()
    leases = [
        Lease(
            run_id=row.run_id,
            token=token,
            touches=row.touches,
            attempts=row.attempts,
            definitions_hash=row.definitions,
            cursor=row.cursor,
            again=bool(row.again),
            backfilled=bool(row.backfilled),
            first_touch=float(row.first_touch),
            last_touch=float(row.last_touch),
            begun=float(row.looked),
            was=before[row.run_id],
            is_unfinished=bool(row.unfinished),
        )
        for row in rows
    ]
    order = {run_id: place for place, run_id in enumerate(before)}
    return sorted(leases, key=lambda lease: (lease.backfilled, order[lease.run_id]))


def _end(connection: Connection, now: Instant, lease: Lease, values: Mapping[str, Any]) -> bool:
    """End the lease with these values, or as pending if the run was touched since."""
    ended = {"token": None, "attempts": 0, "settled": func.coalesce(c.settled, now), **values}
    if _written(connection, lease, ended, c.touches == lease.touches):
        return True
    # These hold for the ended delivery even if another must follow.
    kept = {name: values[name] for name in ("unfinished", "cursor") if name in values}
    again = {"due": due_after_touch(now), "attempts": 0, "error": None}
    write(connection, lease, {**PENDING, **again, **kept})
    return False


def _written(
    connection: Connection,
    lease: Lease,
    values: Mapping[str, Any],
    *conditions: ColumnElement[bool],
) -> bool:
    fence = (c.run_id == lease.run_id, c.token == lease.token, *conditions)
    result = connection.execute(update(runs).where(*fence).values(dict(values)))
    return result.rowcount == 1


def _attempts_before(lease: Lease) -> ColumnElement[int]:
    """The attempts before this lease; fewer if a delivery was asked for since."""
    return case((c.attempts < lease.attempts, c.attempts), else_=lease.attempts)


def _is_touched(lease: Lease) -> ColumnElement[bool]:
    return c.touches != lease.touches


def _progress(lease: Lease, cursor: str | None) -> dict[str, Any]:
    """The cursor, unless it was set back since to have everything delivered again."""
    if cursor is None:
        return {}
    is_set_back = _is_touched(lease) & (c.cursor == START)
    return {"cursor": case((is_set_back, START), else_=cursor)}
