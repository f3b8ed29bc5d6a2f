"""The rows of the runs: how a run becomes pending, and what is known of it.

The row whose run id is empty stands for the events without a run, `backfill:<id>` for the runs of a
backfill together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, case, func, or_, select, update
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.chunks import chunks
from datahub_eventlog.ledger.database import LedgerPart, in_transaction, on_connection
from datahub_eventlog.ledger.dialects import Instant, impatient, insert_absent, written
from datahub_eventlog.ledger.named_values import RUNLESS_SINCE, write_value
from datahub_eventlog.ledger.records import (
    BACKFILL,
    REPAIR,
    START,
    TRANSITION,
    Facts,
    RunRow,
    State,
)
from datahub_eventlog.ledger.tables import definitions as definitions_table
from datahub_eventlog.ledger.tables import is_run, rejections, runs, states
from datahub_eventlog.ledger.touches import is_leased, store_facts, touch

LONGEST_ROW_ID = 255 - len(REPAIR)
"""Of a backfill, whose repair has a row as well. Dagster's own ids are shorter, but anybody can tag
a run."""

c = runs.c


class Runs(LedgerPart):
    """Asking for the delivery of runs, and looking up their rows."""

    @on_connection
    def touch(
        self,
        connection: Connection,
        run_id: str,
        *,
        is_urgent: bool = True,
        definitions: Facts | None = None,
    ) -> float | None:
        """Mark a run as having news, and return the newest heartbeat's age in seconds.

        None if no dispatcher was ever seen. What is not urgent waits until the run's last look
        is some seconds old. One statement, or two with the facts of the run's definitions, each
        of which waits at most a second for locks; MySQL needs one more to set that, and one to
        read the heartbeat.
        """
        now = self.database.now
        hash_ = None if definitions is None else definitions.hash
        with impatient(connection):
            if definitions is not None:
                store_facts(connection, now, definitions)
            return touch(connection, now, run_id, is_urgent=is_urgent, definitions_hash=hash_)

    @on_connection
    def touch_backfill(self, connection: Connection, backfill_id: str) -> None:
        """Mark a backfill as having news, which are not urgent; a text too long for an id is none.

        It waits for locks as any other delivery's write does.
        """
        row_id = backfill_row(backfill_id)
        if len(row_id) <= LONGEST_ROW_ID:
            touch(connection, self.database.now, row_id, is_urgent=False, definitions_hash=None)

    @in_transaction
    def add(self, connection: Connection, run_ids: Sequence[str], *, backfilled: bool) -> list[str]:
        """Make runs that have no row pending, in their order, and return them."""
        return _add(connection, self.database.now, run_ids, backfilled=backfilled)

    @on_connection
    def missing(self, connection: Connection, run_ids: Sequence[str]) -> list[str]:
        """Those of the runs that have no row, in their order."""
        return missing_runs(connection, run_ids)

    @on_connection
    def redeliver(
        self,
        connection: Connection,
        run_ids: Sequence[str],
        *,
        backfilled: bool,
        settled_before: float | None = None,
    ) -> int:
        """Make settled runs pending, unchanged state included, and return how many.

        With a time: only those that were settled before it.
        """
        is_settled = c.state.in_(("delivered", "filtered", "gone", "parked"))
        is_wanted = (
            is_settled if settled_before is None else is_settled & (c.settled < settled_before)
        )
        values = {**_redelivery(self.database.now), "backfilled": int(backfilled)}
        return sum(
            connection.execute(
                update(runs).where(c.run_id.in_(chunk), is_wanted).ordered_values(*values.items())
            ).rowcount
            for chunk in chunks(run_ids)
        )

    @on_connection
    def revive(self, connection: Connection, run_ids: Sequence[str] | None = None) -> int:
        """Make parked runs and those with rejections pending, and return how many.

        All of them, or those among `run_ids`. They are delivered whole, unchanged state
        included; their rejections stay until then.
        """
        has_rejections = c.run_id.in_(select(rejections.c.run_id))
        needs_it = or_(c.state == "parked", has_rejections)
        needing = connection.execute(select(c.run_id).where(needs_it)).scalars().all()
        revived = needing if run_ids is None else sorted(set(needing).intersection(run_ids))
        values = [*_redelivery(self.database.now).items()]
        for chunk in chunks(revived):
            connection.execute(update(runs).where(c.run_id.in_(chunk)).ordered_values(*values))
            # Where there was nothing to send, there is nothing to send again; and what is sent
            # when a state changes, people may have changed since.
            was_sent = (states.c.sent > 0) & states.c.hash.not_like(f"{TRANSITION}%")
            unsent = update(states).where(states.c.run_id.in_(chunk), was_sent)
            connection.execute(unsent.values(sent=None, token=None))
        return len(revived)

    @in_transaction
    def recall_runless(self, connection: Connection, since: float, *, again: bool) -> None:
        """Have the events without a run delivered from that time on.

        `again`: those too whose state DataHub has already.
        """
        recall_runless(connection, self.database.now, since, again=again)

    @on_connection
    def look_for_runless(self, connection: Connection) -> None:
        """Make the row of the events without a run due, unless it is due or leased already.

        So a dispatcher looks whether there are any that no process has touched.
        """
        now = self.database.now
        _add(connection, now, [""], backfilled=False)
        is_settled = (c.state == "delivered") & c.due.is_(None)
        due = update(runs).where(c.run_id == "", is_settled, c.token.is_(None))
        connection.execute(due.values(due=now))

    def state(self, run_id: str) -> State | None:
        """The state of a run, None if it has no row."""
        return self.states([run_id]).get(run_id)

    @on_connection
    def states(self, connection: Connection, run_ids: Sequence[str]) -> dict[str, State]:
        """The states of those of the runs that have a row."""
        known: dict[str, State] = {}
        for chunk in chunks(run_ids):
            rows = connection.execute(select(c.run_id, c.state).where(c.run_id.in_(chunk)))
            known.update((row.run_id, row.state) for row in rows)
        return known

    @on_connection
    def rows(self, connection: Connection, run_ids: Sequence[str]) -> dict[str, RunRow]:
        """The rows of those of the runs that have one."""
        found: dict[str, RunRow] = {}
        columns = (c.run_id, c.state, c.definitions, c.settled)
        for chunk in chunks(run_ids):
            for row in connection.execute(select(*columns).where(c.run_id.in_(chunk))):
                found[row.run_id] = RunRow(row.state, row.definitions, row.settled)
        return found

    @on_connection
    def sample(self, connection: Connection, number: int) -> list[str]:
        """So many delivered runs, chosen by chance."""
        is_delivered = (c.state == "delivered") & c.due.is_(None)
        chosen = select(c.run_id).where(is_run(), is_delivered).order_by(func.random())
        return list(connection.execute(chosen.limit(number)).scalars())

    @on_connection
    def backfills(self, connection: Connection, *, are_due: bool = False) -> list[str]:
        """The ids of the backfills that have a row, or of those whose row is due."""
        rows = select(c.run_id).where(c.run_id.like(f"{BACKFILL}%")).order_by(c.run_id)
        if are_due:
            rows = rows.where(c.due <= self.database.now)
        return [row.removeprefix(BACKFILL) for row in connection.execute(rows).scalars()]

    @on_connection
    def settled_since(
        self, connection: Connection, run_ids: Sequence[str], moment: float
    ) -> set[str]:
        """Those of the runs that were settled then or later."""
        settled: set[str] = set()
        for chunk in chunks(run_ids):
            later = select(c.run_id).where(c.run_id.in_(chunk), c.settled >= moment)
            settled.update(connection.execute(later).scalars())
        return settled

    @on_connection
    def definitions_of(self, connection: Connection, run_id: str) -> str | None:
        """The hash of the facts that were stored for a run, None if it has none."""
        return connection.execute(select(c.definitions).where(c.run_id == run_id)).scalar()

    @on_connection
    def facts(self, connection: Connection, hash: str) -> bytes | None:  # noqa: A002 - it is one
        """The facts that a touch brought under this hash."""
        columns = definitions_table.c
        blob = connection.execute(select(columns.blob).where(columns.hash == hash)).scalar()
        return None if blob is None else bytes(blob)


def backfill_row(backfill_id: str) -> str:
    """The id of the row of `runs` that stands for the runs of a backfill together."""
    return f"{BACKFILL}{backfill_id}"


def backfill_of(row_id: str) -> str | None:
    """The id of the backfill that a row of `runs` stands for; None for a run."""
    return row_id.removeprefix(BACKFILL) if row_id.startswith(BACKFILL) else None


def missing_runs(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """Those of the runs that have no row, in their order."""
    present: set[str] = set()
    for chunk in chunks(run_ids):
        present.update(connection.execute(select(c.run_id).where(c.run_id.in_(chunk))).scalars())
    return [run_id for run_id in dict.fromkeys(run_ids) if run_id not in present]


def recall_runless(connection: Connection, now: Instant, since: float, *, again: bool) -> None:
    """Have the events without a run read from that time on; needs a transaction."""
    write_value(connection, RUNLESS_SINCE, since)
    touch(connection, now, "", is_urgent=True, definitions_hash=None)
    values = {"cursor": START, **({"again": 1} if again else {})}
    connection.execute(update(runs).where(c.run_id == "").values(values))


def _add(
    connection: Connection, now: Instant, run_ids: Sequence[str], *, backfilled: bool
) -> list[str]:
    absent = missing_runs(connection, run_ids)
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
    # Microseconds by which the first is due before the last, so that they are taken in order.
    places = range(len(absent), 0, -1)
    rows = [
        {"id": run_id, "head_start": place * 1e-6}
        for run_id, place in zip(absent, places, strict=True)
    ]
    added = written(connection, statement, c.run_id, rows)
    return absent if added is None else [run_id for run_id in absent if run_id in added]


def _redelivery(now: Instant) -> dict[str, Any]:
    """What becomes of a row whose run is to be delivered again, all of it."""
    return {
        "due": case((is_leased, c.due), else_=now),
        "attempts": 0,
        "error": None,
        "settled": None,
        "cursor": START,
        "state": case((is_leased, "leased"), else_="pending"),
        "touches": c.touches + 1,
        "urgent": 1,
        "again": 1,
    }
