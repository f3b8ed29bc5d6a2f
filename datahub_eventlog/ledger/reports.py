"""What people see of the ledger: rejections, dispatchers, and the status of everything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice
from typing import Any, get_args

from sqlalchemy import ColumnElement, bindparam, case, delete, func, select
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.clocks import CLOCK_TOLERANCE_SECONDS, times_ahead
from datahub_eventlog.ledger.database import LedgerPart, on_connection
from datahub_eventlog.ledger.dialects import Instant, upsert, written
from datahub_eventlog.ledger.named_values import EXPIRED, read_value
from datahub_eventlog.ledger.records import (
    Dispatcher,
    HeldBack,
    Parked,
    Rejection,
    Removed,
    State,
    Status,
)
from datahub_eventlog.ledger.tables import catalogs, dispatchers, entities, is_run, rejections, runs
from datahub_eventlog.ledger.texts import clean

HEARTBEAT_LIFETIME = timedelta(seconds=30)
"""How long a heartbeat counts."""
KEPT_REJECTIONS = 1000
SHOWN_PARKED = 100
SHOWN_REMOVED = 1000
LONGEST_REASON = 2000
"""Characters of a rejection's reason that are kept."""


class Reports(LedgerPart):
    """What dispatchers note for people to read, and the reading of it."""

    @on_connection
    def status(self, connection: Connection) -> Status:
        """Everything at once; rows that are no runs are in no count."""
        now = self.database.now
        waits = (runs.c.state == "pending") & (runs.c.due <= now)
        oldest = connection.execute(
            select(now - func.min(_due_since())).where(is_run(), waits)
        ).scalar()
        lately = (runs.c.state == "delivered") & runs.c.settled.between(
            now - 60, now + CLOCK_TOLERANCE_SECONDS
        )
        delivered = select(func.count()).select_from(runs).where(is_run(), lately)
        return Status(
            runs=_counts(connection),
            oldest_pending_seconds=None if oldest is None else float(oldest),
            delivered_last_minute=connection.execute(delivered).scalar_one(),
            rejected=_rejections(connection),
            parked=_parked(connection),
            dispatchers=tuple(_dispatchers(connection, now)),
            ahead=times_ahead(connection, now),
            removed=_removed(connection),
            held_back=_held_back(connection),
        )

    def record_rejections(
        self, run_id: str, rejected: Iterable[tuple[str, str, str]], *, is_whole: bool = True
    ) -> None:
        """Note urn, aspect and reason of what of a run was refused or could not be translated.

        They replace what was noted of it before, unless this delivery was not a whole one. The
        newest thousand of all runs are kept.
        """
        noted = list(rejected)

        def work(connection: Connection) -> None:
            if is_whole:
                is_old = rejections.c.run_id == run_id
                connection.execute(delete(rejections).where(is_old))
            if noted:
                _note_rejections(connection, self.database.now, run_id, noted)

        self.database.run(work, is_atomic=bool(noted))

    @on_connection
    def heartbeat(self, connection: Connection, host: str, pid: int, version: str) -> None:
        """Note that this process can deliver; it counts for `HEARTBEAT_LIFETIME`."""
        now = self.database.now
        statement = upsert(
            connection.dialect.name,
            dispatchers,
            {"host": host, "pid": pid, "version": version, "seen": now},
            lambda _: [("version", version), ("seen", now)],
        )
        connection.execute(statement)

    @on_connection
    def retire(self, connection: Connection, host: str, pid: int) -> None:
        """Note that this process does not deliver any more."""
        is_it = (dispatchers.c.host == host) & (dispatchers.c.pid == pid)
        connection.execute(delete(dispatchers).where(is_it))

    @on_connection
    def dispatchers(self, connection: Connection) -> list[Dispatcher]:
        """The processes that can deliver, the one last seen first."""
        return _dispatchers(connection, self.database.now)


def _note_rejections(
    connection: Connection, now: Instant, run_id: str, noted: Iterable[tuple[str, str, str]]
) -> None:
    """Write them, and remove the oldest ones of all runs that are too many by now."""
    by_digest = {
        _digest(run_id, urn, aspect): {
            "run_id": run_id,
            "urn": clean(urn, LONGEST_REASON),
            "aspect": clean(aspect, 255),
            "reason": clean(reason, LONGEST_REASON),
        }
        for urn, aspect, reason in islice(noted, KEPT_REJECTIONS)
    }
    rows = [{"digest": digest, **row} for digest, row in by_digest.items()]
    values: dict[str, Any] = {name: bindparam(name) for name in rows[0]}
    statement = upsert(
        connection.dialect.name,
        rejections,
        {**values, "noted": now},
        lambda new: [("reason", new["reason"]), ("noted", new["noted"])],
    )
    written(connection, statement, rejections.c.digest, rows)
    newest = select(rejections.c.noted).order_by(rejections.c.noted.desc())
    last = connection.execute(newest.offset(KEPT_REJECTIONS - 1).limit(1)).scalar()
    if last is not None:
        connection.execute(delete(rejections).where(rejections.c.noted < last))


def _digest(run_id: str, urn: str, aspect: str) -> str:
    text = f"{run_id}\n{urn}\n{aspect}"
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=20).hexdigest()


def _due_since() -> ColumnElement[float]:
    """When a pending run became due.

    What a delivery gave back, since DataHub was away, is due anew each time: the others' turn comes
    first. It has waited since its last touch, unless it was touched later or sent again on request.
    """
    r = runs.c
    is_given_back = (
        (r.unfinished == 1) & (r.again == 0) & r.error.is_(None) & (r.last_touch <= r.looked)
    )
    return case((is_given_back, r.last_touch), else_=r.due)


def _counts(connection: Connection) -> dict[str, int]:
    statement = select(runs.c.state, func.count().label("number"))
    rows = connection.execute(statement.where(is_run()).group_by(runs.c.state))
    numbers = {row.state: row.number for row in rows}
    expired = read_value(connection, EXPIRED)
    return {
        **{state: numbers.get(state, 0) for state in get_args(State)},
        EXPIRED: int(expired or 0),
    }


def _rejections(connection: Connection) -> tuple[Rejection, ...]:
    r = rejections.c
    rows = connection.execute(select(r.run_id, r.urn, r.aspect, r.reason).order_by(r.noted.desc()))
    return tuple(Rejection(*row) for row in rows)


def _parked(connection: Connection) -> tuple[Parked, ...]:
    statement = select(runs.c.run_id, runs.c.error).where(runs.c.state == "parked")
    rows = connection.execute(statement.order_by(runs.c.settled.desc()).limit(SHOWN_PARKED))
    return tuple(Parked(row.run_id, row.error or "") for row in rows)


def _dispatchers(connection: Connection, now: Instant) -> list[Dispatcher]:
    d = dispatchers.c
    statement = select(d.host, d.pid, d.version, (now - d.seen).label("age"))
    is_recent = d.seen.between(
        now - HEARTBEAT_LIFETIME.total_seconds(), now + CLOCK_TOLERANCE_SECONDS
    )
    rows = connection.execute(statement.where(is_recent).order_by(d.seen.desc()))
    return [Dispatcher(row.host, row.pid, row.version, max(0.0, float(row.age))) for row in rows]


def _removed(connection: Connection) -> tuple[Removed, ...]:
    c = entities.c
    newest = select(c.location, c.urn, c.removed).where(c.removed.is_not(None))
    rows = connection.execute(newest.order_by(c.removed.desc(), c.urn).limit(SHOWN_REMOVED))
    return tuple(Removed(row.location, row.urn, float(row.removed)) for row in rows)


def _held_back(connection: Connection) -> tuple[HeldBack, ...]:
    c = catalogs.c
    rows = connection.execute(select(c.location, c.held).where(c.held > 0).order_by(c.location))
    return tuple(HeldBack(row.location, row.held) for row in rows)
