"""What people get to see: rejections, dispatchers, and the status of it all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, get_args

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Insert

from datahub_eventlog.ledger.chunks import chunks
from datahub_eventlog.ledger.clocks import AHEAD, ahead
from datahub_eventlog.ledger.dialects import Instant, upsert, written
from datahub_eventlog.ledger.records import Dispatcher, Parked, Rejection, State, Status
from datahub_eventlog.ledger.tables import dispatchers, meta, rejections, runs
from datahub_eventlog.ledger.texts import clean

ALIVE = timedelta(seconds=30)
"""How long a heartbeat counts."""
KEPT_REJECTIONS = 1000
SHOWN_PARKED = 100
LONGEST_REASON = 2000
EXPIRED = "expired"


def reject(
    connection: Connection,
    now: Instant,
    run_id: str,
    rejected: Iterable[tuple[str, str, str]],
    *,
    is_whole: bool,
) -> None:
    """Note urn, aspect and reason of what was refused; the oldest ones of all go.

    `is_whole`: they are all that the run has, and what was noted of it before is no more.
    """
    if is_whole:
        connection.execute(delete(rejections).where(rejections.c.run_id == run_id))
    noted = {
        _digest(run_id, urn, aspect): {
            "run_id": run_id,
            "urn": clean(urn, LONGEST_REASON),
            "aspect": clean(aspect, 255),
            "reason": clean(reason, LONGEST_REASON),
        }
        for urn, aspect, reason in islice(rejected, KEPT_REJECTIONS)
    }
    if noted:
        rows = [{"digest": digest, **each} for digest, each in noted.items()]
        written(connection, _note(connection, now, rows[0]), rejections.c.digest, rows)
        _forget_oldest(connection)


def beat(connection: Connection, now: Instant, host: str, pid: int, version: str) -> None:
    """Note that this process can deliver."""
    values = {"host": host, "pid": pid, "version": version, "seen": now}
    statement = upsert(
        connection.dialect.name,
        dispatchers,
        values,
        lambda _: [("version", version), ("seen", now)],
    )
    connection.execute(statement)


def retire(connection: Connection, host: str, pid: int) -> None:
    """Note that this process does not deliver any more."""
    is_it = (dispatchers.c.host == host) & (dispatchers.c.pid == pid)
    connection.execute(delete(dispatchers).where(is_it))


def alive(connection: Connection, now: Instant) -> list[Dispatcher]:
    """The dispatchers whose heartbeat still counts, the latest first."""
    d = dispatchers.c
    statement = select(d.host, d.pid, d.version, (now - d.seen).label("age"))
    is_recent = d.seen.between(now - ALIVE.total_seconds(), now + AHEAD)
    rows = connection.execute(statement.where(is_recent).order_by(d.seen.desc()))
    return [
        Dispatcher(each.host, each.pid, each.version, max(0.0, float(each.age))) for each in rows
    ]


def states(connection: Connection, run_ids: Sequence[str]) -> dict[str, State]:
    """The states of the runs that have a row."""
    found: dict[str, State] = {}
    for chunk in chunks(run_ids):
        chosen = select(runs.c.run_id, runs.c.state).where(runs.c.run_id.in_(chunk))
        rows = connection.execute(chosen)
        found.update((each.run_id, each.state) for each in rows)
    return found


def settled_since(connection: Connection, run_ids: Sequence[str], moment: float) -> set[str]:
    """Those of the runs that were settled then or later."""
    found: set[str] = set()
    is_late = runs.c.settled >= moment
    for chunk in chunks(run_ids):
        late = select(runs.c.run_id).where(runs.c.run_id.in_(chunk), is_late)
        found.update(connection.execute(late).scalars())
    return found


def status(connection: Connection, now: Instant) -> Status:
    """Everything at once; the row of the runless events is in no count."""
    is_run = runs.c.run_id != ""
    waits = (runs.c.state == "pending") & (runs.c.due <= now)
    oldest = connection.execute(select(now - func.min(runs.c.due)).where(is_run, waits)).scalar()
    lately = (runs.c.state == "delivered") & runs.c.settled.between(now - 60, now + AHEAD)
    delivered = select(func.count()).select_from(runs).where(is_run, lately)
    return Status(
        runs=_counts(connection),
        oldest_pending_seconds=None if oldest is None else float(oldest),
        delivered_last_minute=connection.execute(delivered).scalar_one(),
        rejected=_rejections(connection),
        parked=_parked(connection),
        dispatchers=tuple(alive(connection, now)),
        ahead=ahead(connection, now),
    )


def _note(connection: Connection, now: Instant, names: Iterable[str]) -> Insert:
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    return upsert(
        connection.dialect.name,
        rejections,
        {**values, "noted": now},
        lambda new: [("reason", new["reason"]), ("noted", new["noted"])],
    )


def _digest(run_id: str, urn: str, aspect: str) -> str:
    text = f"{run_id}\n{urn}\n{aspect}"
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=20).hexdigest()


def _forget_oldest(connection: Connection) -> None:
    newest = select(rejections.c.noted).order_by(rejections.c.noted.desc())
    last = connection.execute(newest.offset(KEPT_REJECTIONS - 1).limit(1)).scalar()
    if last is not None:
        connection.execute(delete(rejections).where(rejections.c.noted < last))


def _counts(connection: Connection) -> dict[str, int]:
    statement = select(runs.c.state, func.count().label("number"))
    rows = connection.execute(statement.where(runs.c.run_id != "").group_by(runs.c.state))
    found = {each.state: each.number for each in rows}
    expired = connection.execute(select(meta.c.value).where(meta.c.name == EXPIRED)).scalar()
    return {**{each: found.get(each, 0) for each in get_args(State)}, EXPIRED: int(expired or 0)}


def _rejections(connection: Connection) -> tuple[Rejection, ...]:
    r = rejections.c
    rows = connection.execute(select(r.run_id, r.urn, r.aspect, r.reason).order_by(r.noted.desc()))
    return tuple(Rejection(*each) for each in rows)


def _parked(connection: Connection) -> tuple[Parked, ...]:
    statement = select(runs.c.run_id, runs.c.error).where(runs.c.state == "parked")
    rows = connection.execute(statement.order_by(runs.c.settled.desc()).limit(SHOWN_PARKED))
    return tuple(Parked(each.run_id, each.error or "") for each in rows)
