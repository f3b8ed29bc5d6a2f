"""What was last sent of each urn and slot, so that older never overwrites newer.

A claim says: this run's state of that moment is on its way. Only an older claim gives way to it.
A row's token is the claim's lease; `sent` is set when that very lease confirms it. Whoever
finds that a newer claim came while it was sending cannot know which of the two DataHub applied
last: it takes `sent` and token off the row and touches the newer run, which then sends once more.

A vacant claim is sent only over other content. Where there was none its row is made all the same:
it keeps older content away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, or_, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.sql import Insert

from datahub_eventlog.ledger.chunks import chunks
from datahub_eventlog.ledger.clocks import AHEAD
from datahub_eventlog.ledger.dialects import Instant, upsert, written
from datahub_eventlog.ledger.records import Claim, Lease
from datahub_eventlog.ledger.tables import states
from datahub_eventlog.ledger.touches import touch

SINCE_EVER = 0.0

s = states.c


def claim(
    connection: Connection,
    now: Instant,
    lease: Lease,
    claims: Sequence[Claim],
    resend_after: timedelta,
) -> list[bool]:
    """Which of the claims are to be sent; needs a transaction, with the lease's row written.

    Of several for one slot the newest counts, and of equal ones the last.
    """
    newest = {each.digest: each for each in sorted(claims, key=lambda each: each.time)}
    bases = {each.base_digest for each in claims if each.base_digest is not None}
    known = _locked(connection, now, [*newest.keys() | bases])
    wins = {
        digest: each
        for digest, each in newest.items()
        if _is_newest(each, lease, known.get(digest))
        and _is_newest(each, lease, _base(each, known))
    }
    sends = {
        digest
        for digest, each in wins.items()
        if _must_be_sent(known.get(digest), each, lease, resend_after)
        or _was_replaced(known.get(digest), _base(each, known))
    }
    sends |= {digest for digest, each in wins.items() if each.base_digest in sends}
    kept = {digest: _kept(known.get(digest)) for digest in wins.keys() - sends}
    sends &= _taken(connection, now, lease, wins, kept)
    return [each.digest in sends and newest[each.digest] is each for each in claims]


def confirm(connection: Connection, now: Instant, lease: Lease, claims: Sequence[Claim]) -> bool:
    """Note that DataHub took them; whether all of them were still this lease's."""
    digests = [each.digest for each in claims]
    held = 0
    for chunk in chunks(digests):
        mine = update(states).where(s.digest.in_(chunk), s.token == lease.token)
        held += connection.execute(mine.values(sent=now)).rowcount
    return held == len(set(digests))


def additions(connection: Connection, lease: Lease, claims: Iterable[Claim]) -> dict[str, str]:
    """By digest, the other runs that added to these states what is newer, and may be replaced.

    What the lease's own run adds is sent after them.
    """
    ours = {each.digest: each for each in claims if each.takes_additions}
    found: dict[str, str] = {}
    for chunk in chunks(list(ours)):
        statement = select(s.digest, s.base, s.time, s.run_id).where(s.base.in_(chunk))
        for row in connection.execute(statement):
            if row.run_id != lease.run_id and not _is_newest(ours[row.base], lease, row):
                found[row.digest] = row.run_id
    return found


def newer(connection: Connection, lease: Lease, claims: Iterable[Claim]) -> dict[str, str]:
    """By digest, the runs whose other and newer state our own may have overwritten."""
    ours = {each.digest: each for each in claims}
    found: dict[str, str] = {}
    for chunk in chunks(list(ours)):
        for row in connection.execute(_known(chunk)):
            each = ours[row.digest]
            if _order(row) > (each.time, lease.run_id) and row.hash != each.hash:
                found[row.digest] = row.run_id
    return found


def yield_to(connection: Connection, now: Instant, found: Mapping[str, str]) -> None:
    """Have those newer runs send those states once more; needs a transaction.

    The runs' rows are locked first, and in order: `claim` does it in the same order.
    """
    owners = sorted(set(found.values()))
    for run_id in owners:
        touch(connection, now, run_id, is_urgent=True, definitions=None)
    for chunk in chunks(sorted(found)):
        theirs = update(states).where(s.digest.in_(chunk), s.run_id.in_(owners))
        connection.execute(theirs.values(sent=None, token=None))


def _is_newest(claim: Claim, lease: Lease, row: Row[Any] | None) -> bool:
    return row is None or _order(row) <= (claim.time, lease.run_id)


def _base(claim: Claim, known: Mapping[str, Row[Any]]) -> Row[Any] | None:
    return None if claim.base_digest is None else known.get(claim.base_digest)


def _was_replaced(row: Row[Any] | None, base: Row[Any] | None) -> bool:
    """Whether what was added was sent before what it adds to, or that is on its way."""
    if row is None or base is None or row.sent is None:
        return False
    return bool(base.sent is None or base.sent >= row.sent)


def _must_be_sent(
    row: Row[Any] | None, claim: Claim, lease: Lease, resend_after: timedelta
) -> bool:
    """Whether DataHub lacks it, or may have lost it; of nothing there is nothing to lose."""
    if row is None:
        return not claim.is_vacant
    if row.sent is None or row.hash != claim.hash:
        return True
    age = row.now - row.sent
    # By a clock that was ahead: when it was sent is not known.
    is_old = age >= resend_after.total_seconds() or age < -AHEAD
    return not claim.is_vacant and bool(lease.again or is_old)


def _kept(row: Row[Any] | None) -> tuple[float | None, str | None]:
    """When what is not to be sent was sent, and by whom; nothing is there since ever."""
    return (SINCE_EVER, None) if row is None else (row.sent, row.token)


def _locked(connection: Connection, now: Instant, digests: Sequence[str]) -> dict[str, Row[Any]]:
    """The rows that there are, by digest, and nobody else's until the transaction ends.

    SQLite knows no locked rows, and needs none: we are its only writer by now.
    """
    rows: dict[str, Row[Any]] = {}
    for chunk in chunks(sorted(digests)):
        statement = _known(chunk).add_columns(now.label("now")).order_by(s.digest)
        rows |= {each.digest: each for each in connection.execute(statement.with_for_update())}
    return rows


def _known(digests: Sequence[str]) -> Select[Any]:
    columns = (s.digest, s.time, s.run_id, s.hash, s.sent, s.token)
    return select(*columns).where(s.digest.in_(digests))


def _taken(
    connection: Connection,
    now: Instant,
    lease: Lease,
    wins: Mapping[str, Claim],
    kept: Mapping[str, tuple[float | None, str | None]],
) -> set[str]:
    """Put the claims into their rows; those that got in.

    The others had no row when they were looked up, and a newer claim made one first. What
    DataHub has already stays sent.
    """
    rows = [
        {
            "digest": digest,
            "urn": each.urn,
            "slot": each.slot,
            "time": each.time,
            "hash": each.hash,
            "run_id": lease.run_id,
            "sent": sent,
            "token": token,
            "base": each.base_digest,
        }
        for digest, each in sorted(wins.items())
        for sent, token in [kept.get(digest, (None, lease.token))]
    ]
    if not rows:
        return set()
    statement = _statement(connection.dialect.name, now, rows[0])
    taken = written(connection, statement, s.digest, rows)
    return _held(connection, lease, wins) if taken is None else taken


def _statement(dialect: str, now: Instant, names: Iterable[str]) -> Insert:
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    return upsert(dialect, states, {**values, "claimed": now}, _replacement, _gives_way)


def _replacement(new: Any) -> list[tuple[str, Any]]:
    # `_gives_way` reads the last two.
    return [(name, new[name]) for name in ("hash", "sent", "token", "claimed", "run_id", "time")]


def _gives_way(new: Any) -> ColumnElement[bool]:
    return or_(s.time < new["time"], and_(s.time == new["time"], s.run_id <= new["run_id"]))


def _held(connection: Connection, lease: Lease, digests: Iterable[str]) -> set[str]:
    """Those that are this lease's."""
    held: set[str] = set()
    for chunk in chunks(sorted(digests)):
        mine = select(s.digest).where(s.digest.in_(chunk), s.token == lease.token)
        held.update(connection.execute(mine).scalars())
    return held


def _order(row: Row[Any]) -> tuple[float, str]:
    return float(row.time), row.run_id
