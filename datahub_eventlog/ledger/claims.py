"""What was last sent of each urn and slot, so that older never overwrites newer.

A claim says: this run's state of that moment is on its way. Only an older claim gives way to it.
A row's token is the claim's lease; `sent` is set when that very lease confirms it. If a newer
claim came while a run was sending, nobody knows which of the two DataHub applied last. Then the
older run takes `sent` and token off the row and touches the newer run, which sends once more.

A vacant claim is sent only over other content. Where there was none its row is written all the
same: it keeps older content away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, or_, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.sql import Insert

from datahub_eventlog.ledger import leases
from datahub_eventlog.ledger.chunks import chunks
from datahub_eventlog.ledger.clocks import CLOCK_TOLERANCE_SECONDS
from datahub_eventlog.ledger.database import LedgerPart, in_transaction, on_connection
from datahub_eventlog.ledger.dialects import Instant, upsert, written
from datahub_eventlog.ledger.records import Claim, Lease, Standing
from datahub_eventlog.ledger.tables import runs, states
from datahub_eventlog.ledger.touches import touch

SQLITE_CLAIMS = 200
"""Claims in one transaction on SQLite, where it keeps all other writers waiting."""
LONG_AGO = 0.0
"""`sent` of a vacant claim that had nothing to replace: there is nothing to send again."""

s = states.c


class Claims(LedgerPart):
    """Which states a run may send, and which of them DataHub has taken."""

    def grant(
        self, lease: Lease, ttl: timedelta, claims: Sequence[Claim], *, resend_after: timedelta
    ) -> list[bool]:
        """Extend the lease, and return for each claim whether it is to be sent.

        It is not if a newer one was claimed, nor if DataHub has the same already, unless that
        was sent `resend_after` ago or the lease says `again`. What is to be sent is this run's
        until something newer comes. Of several claims for one slot only the newest is sent, of
        equally new ones the last. Of a repair, DataHub is known not to have it, so it is sent
        unless something else is the newest; whose claim it is stays as it was. Raises `LeaseLost`.
        """
        granted: list[bool] = []
        for portion in self._portions(claims) or [()]:
            granted += self._grant_portion(lease, ttl, portion, resend_after)
        if lease.is_unfinished:
            self.resend_newer(lease, claims)
        return granted

    def confirm(self, lease: Lease, claims: Sequence[Claim]) -> None:
        """Note that DataHub took these states; the lease may be lost.

        If a newer run claimed one of them since, that run is touched and sends it once more:
        DataHub may have applied ours last. So does a newer run that has added to one of them.
        """
        for portion in self._portions(claims):
            if not self._confirm_portion(lease, portion):
                self.resend_newer(lease, portion)
        takers = [claim for claim in claims if claim.takes_additions]
        additions = self._newer_additions(lease, takers) if takers else {}
        if additions:
            self._resend(additions)

    @on_connection
    def standings(
        self, connection: Connection, claims: Sequence[tuple[Claim, str]]
    ) -> list[Standing]:
        """What became of each claim, given with the run that made it."""
        keys = {claim.row_key for claim, _ in claims}
        keys |= {claim.base_row_key for claim, _ in claims if claim.base_row_key is not None}
        rows: dict[str, Row[Any]] = {}
        for chunk in chunks(sorted(keys)):
            rows |= {row.digest: row for row in connection.execute(_select_rows(chunk))}
        return [_standing(claim, run_id, rows) for claim, run_id in claims]

    def resend_newer(self, lease: Lease, claims: Sequence[Claim]) -> None:
        """Have newer runs send again what this one may have overwritten.

        In rounds, since still newer ones may come. Each round is a transaction, so that a crash
        between two leaves out no run.
        """
        touched: set[str] = set()
        while True:
            newer = {
                key: run_id
                for key, run_id in self._newer(lease, claims).items()
                if run_id not in touched
            }
            if not newer:
                return
            self._resend(newer)
            touched.update(newer.values())

    def _portions(self, claims: Sequence[Claim]) -> list[Sequence[Claim]]:
        """What goes into one transaction: on SQLite, all other writers wait for its end."""
        is_split = len(claims) > SQLITE_CLAIMS and self._has_one_writer
        return chunks(claims, SQLITE_CLAIMS if is_split else max(1, len(claims)))

    @cached_property
    def _has_one_writer(self) -> bool:
        return self.database.dialect() == "sqlite"

    @in_transaction
    def _grant_portion(
        self,
        connection: Connection,
        lease: Lease,
        ttl: timedelta,
        claims: Sequence[Claim],
        resend_after: timedelta,
    ) -> list[bool]:
        """Extend the lease, and claim in one transaction what is to be sent."""
        now = self.database.now
        # From here on a part of the run may have been sent.
        leases.write(connection, lease, {"due": now + ttl.total_seconds(), "unfinished": 1})
        newest = {claim.row_key: claim for claim in sorted(claims, key=lambda claim: claim.time)}
        bases = {claim.base_row_key for claim in claims if claim.base_row_key is not None}
        rows = _locked_rows(connection, now, [*newest.keys() | bases])
        if lease.is_repair:
            sends = _repaired(connection, now, lease, newest, rows)
            return [claim.row_key in sends and newest[claim.row_key] is claim for claim in claims]
        wins = {
            key: claim
            for key, claim in newest.items()
            if _is_newest(claim, lease.sender, rows.get(key))
            and _is_newest(claim, lease.sender, _base_row(claim, rows))
        }
        sends = {
            key
            for key, claim in wins.items()
            if _must_be_sent(rows.get(key), claim, lease, resend_after)
            or (not claim.is_transition and _was_replaced(rows.get(key), _base_row(claim, rows)))
        }
        sends |= {key for key, claim in wins.items() if claim.base_row_key in sends}
        unsent = wins.keys() - sends
        sends &= _write_claims(connection, now, lease, wins, {key: rows.get(key) for key in unsent})
        return [claim.row_key in sends and newest[claim.row_key] is claim for claim in claims]

    @on_connection
    def _confirm_portion(
        self, connection: Connection, lease: Lease, claims: Sequence[Claim]
    ) -> bool:
        """Note that DataHub took them, and return whether all were still this lease's."""
        now = self.database.now
        row_keys = [claim.row_key for claim in claims]
        held = 0
        for chunk in chunks(row_keys):
            mine = update(states).where(s.digest.in_(chunk), s.token == lease.token)
            held += connection.execute(mine.values(sent=now)).rowcount
        return held == len(set(row_keys))

    @on_connection
    def _newer(
        self, connection: Connection, lease: Lease, claims: Iterable[Claim]
    ) -> dict[str, str]:
        """By row key, the runs whose other and newer state our own may have overwritten."""
        ours = {claim.row_key: claim for claim in claims}
        newer: dict[str, str] = {}
        for chunk in chunks(list(ours)):
            for row in connection.execute(_select_rows(chunk)):
                claim = ours[row.digest]
                if _order(row) > (claim.time, lease.sender) and row.hash != claim.hash:
                    newer[row.digest] = row.run_id
        return newer

    @on_connection
    def _newer_additions(
        self, connection: Connection, lease: Lease, claims: Iterable[Claim]
    ) -> dict[str, str]:
        """By row key, the other runs whose newer additions to these states may be replaced now.

        What the lease's own run adds is sent after them.
        """
        ours = {claim.row_key: claim for claim in claims}
        newer: dict[str, str] = {}
        for chunk in chunks(list(ours)):
            statement = select(s.digest, s.base, s.time, s.run_id).where(s.base.in_(chunk))
            for row in connection.execute(statement):
                if row.run_id != lease.sender and not _is_newest(ours[row.base], lease.sender, row):
                    newer[row.digest] = row.run_id
        return newer

    @in_transaction
    def _resend(self, connection: Connection, newer: Mapping[str, str]) -> None:
        """Have these states, by row key, sent once more by these runs.

        The runs' rows are locked first, and in order: `grant` does it in the same order.
        """
        owners = sorted(set(newer.values()))
        history = select(runs.c.run_id).where(runs.c.run_id.in_(owners), runs.c.backfilled == 1)
        old = connection.execute(history).scalars().all()
        for run_id in owners:
            touch(connection, self.database.now, run_id, is_urgent=True, definitions_hash=None)
        # A touch is news, and this is none: history stays history.
        connection.execute(update(runs).where(runs.c.run_id.in_(old)).values(backfilled=1))
        for chunk in chunks(sorted(newer)):
            theirs = update(states).where(s.digest.in_(chunk), s.run_id.in_(owners))
            connection.execute(theirs.values(sent=None, token=None))


def _repaired(
    connection: Connection,
    now: Instant,
    lease: Lease,
    newest: Mapping[str, Claim],
    rows: Mapping[str, Row[Any]],
) -> set[str]:
    """The keys of the claims that a repair sends.

    What has the newest content already is not claimed anew. If something newer comes before it
    is confirmed, that is sent once more.
    """
    standings = {key: _standing(claim, lease.sender, rows) for key, claim in newest.items()}
    same = {
        key
        for key, standing in standings.items()
        if standing.is_same and (standing.sent is not None or not newest[key].is_vacant)
    }
    others = {
        key: newest[key]
        for key, standing in standings.items()
        if standing.is_newest and not standing.is_same and not newest[key].is_vacant
    }
    return same | _write_claims(connection, now, lease, others, {})


def _locked_rows(
    connection: Connection, now: Instant, row_keys: Sequence[str]
) -> dict[str, Row[Any]]:
    """The rows that exist, by row key, locked until the transaction ends.

    SQLite locks no rows, and needs no such lock: we are its only writer by now.
    """
    rows: dict[str, Row[Any]] = {}
    for chunk in chunks(sorted(row_keys)):
        statement = _select_rows(chunk).add_columns(now.label("now")).order_by(s.digest)
        rows |= {row.digest: row for row in connection.execute(statement.with_for_update())}
    return rows


def _select_rows(row_keys: Sequence[str]) -> Select[Any]:
    columns = (s.digest, s.time, s.run_id, s.hash, s.sent, s.token)
    return select(*columns).where(s.digest.in_(row_keys))


def _base_row(claim: Claim, rows: Mapping[str, Row[Any]]) -> Row[Any] | None:
    return None if claim.base_row_key is None else rows.get(claim.base_row_key)


def _standing(claim: Claim, run_id: str, rows: Mapping[str, Row[Any]]) -> Standing:
    row, base = rows.get(claim.row_key), _base_row(claim, rows)
    is_newest = _is_newest(claim, run_id, row) and _is_newest(claim, run_id, base)
    if row is None:
        return Standing(is_newest=is_newest, is_same=False, run_id=None, sent=None)
    newest = max(_order(row), (claim.time, run_id))
    is_replaced = base is not None and _order(base) > newest
    was_sent = row.sent is not None and row.sent > LONG_AGO
    return Standing(
        is_newest=is_newest,
        is_same=row.hash == claim.hash and not is_replaced,
        run_id=row.run_id,
        sent=float(row.sent) if was_sent else None,
    )


def _is_newest(claim: Claim, run_id: str, row: Row[Any] | None) -> bool:
    return row is None or _order(row) <= (claim.time, run_id)


def _order(row: Row[Any]) -> tuple[float, str]:
    return float(row.time), row.run_id


def _must_be_sent(
    row: Row[Any] | None, claim: Claim, lease: Lease, resend_after: timedelta
) -> bool:
    """Whether DataHub lacks it, or may have lost it; a vacant state can't be lost."""
    if row is None:
        return not claim.is_vacant
    if row.sent is None or row.hash != claim.hash:
        return True
    if claim.is_transition:
        return False
    age = row.now - row.sent
    # `sent` in the future comes from a clock that was ahead: when it was sent is not known.
    is_old = age >= resend_after.total_seconds() or age < -CLOCK_TOLERANCE_SECONDS
    return not claim.is_vacant and bool(lease.again or is_old)


def _was_replaced(row: Row[Any] | None, base: Row[Any] | None) -> bool:
    """Whether an addition was sent before its base was, or while that is on its way."""
    if row is None or base is None or row.sent is None:
        return False
    return bool(base.sent is None or base.sent >= row.sent)


def _write_claims(
    connection: Connection,
    now: Instant,
    lease: Lease,
    wins: Mapping[str, Claim],
    unsent: Mapping[str, Row[Any] | None],
) -> set[str]:
    """Write the claims into their rows, and return the keys of those that got in.

    The others had no row when they were looked up, and a newer claim made one first. `unsent`
    has the rows of those that are not to be sent: they stay sent as they were.
    """
    rows: list[dict[str, Any]] = []
    for key, claim in sorted(wins.items()):
        sent: float | None = None
        token: str | None = lease.token
        if key in unsent:
            row = unsent[key]
            sent, token = (LONG_AGO, None) if row is None else (row.sent, row.token)
        rows.append(
            {
                "digest": key,
                "urn": claim.urn,
                "slot": claim.slot,
                "time": claim.time,
                "hash": claim.hash,
                "run_id": lease.sender,
                "sent": sent,
                "token": token,
                "base": claim.base_row_key,
            }
        )
    if not rows:
        return set()
    statement = upsert_claim(connection.dialect.name, now, rows[0])
    row_keys = written(connection, statement, s.digest, rows)
    return _held(connection, lease, wins) if row_keys is None else row_keys


def upsert_claim(dialect: str, now: Instant, columns: Iterable[str]) -> Insert:
    """The statement that writes a claim, unless the row has a newer one."""
    values: dict[str, Any] = {name: bindparam(name) for name in columns}

    def changes(new: Any) -> list[tuple[str, Any]]:
        # `gives_way` reads the last two.
        names = ("hash", "sent", "token", "claimed", "run_id", "time")
        return [(name, new[name]) for name in names]

    def gives_way(new: Any) -> ColumnElement[bool]:
        return or_(s.time < new["time"], and_(s.time == new["time"], s.run_id <= new["run_id"]))

    return upsert(dialect, states, {**values, "claimed": now}, changes, gives_way)


def _held(connection: Connection, lease: Lease, row_keys: Iterable[str]) -> set[str]:
    """Those that are this lease's, for a database that can't say what it has written."""
    held: set[str] = set()
    for chunk in chunks(sorted(row_keys)):
        mine = select(s.digest).where(s.digest.in_(chunk), s.token == lease.token)
        held.update(connection.execute(mine).scalars())
    return held
