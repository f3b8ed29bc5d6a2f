"""Moving what an old ledger holds into the one that serves now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import Column, Table, select
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger.database import Database
from datahub_eventlog.ledger.dialects import Instant, insert_absent
from datahub_eventlog.ledger.named_values import (
    CAPTURED_SINCE,
    WATERMARK,
    read_value,
    write_value,
)
from datahub_eventlog.ledger.runs import missing_runs, recall_runless
from datahub_eventlog.ledger.tables import definitions, rejections, runs, states
from datahub_eventlog.ledger.touches import touch

MOVED = "moved"
"""In the old ledger: when what it holds was last taken over."""
OVERLAP_SECONDS = 60.0
"""What was being written at that time has come since."""
ROWS_AT_ONCE = 200

TABLES: Sequence[tuple[Table, Column[Any]]] = (
    (definitions, definitions.c.seen),
    (states, states.c.claimed),
    (rejections, rejections.c.noted),
    (runs, runs.c.last_touch),
)
"""Each with the column that says when a row was written.

The runs come last: whoever leases one finds the rest.
"""

Row: TypeAlias = dict[str, Any]


def take_over(ledger: Ledger, old: Ledger) -> None:
    """Copy what another ledger holds, which served the same event log before this one could.

    It stays there, too. The next time, only what was written there since is taken: by a process
    that had not noticed that there is another ledger now.
    """
    old.database.migrate()
    begun = old.database.read_clock()
    moved = old.database.run(lambda connection: read_value(connection, MOVED))
    last = None if moved is None else min(moved, begun)
    for table, rows in _pages(old.database, last):
        put = partial(_put, now=ledger.database.now, table=table, rows=rows)
        ledger.database.run(put, is_atomic=True)
    if last is None:
        _look_back_as_far(ledger, old)
    old.database.run(lambda connection: write_value(connection, MOVED, begun))


def _pages(old: Database, since: float | None) -> Iterator[tuple[Table, list[Row]]]:
    """All that was written since then, in pieces that fit into one transaction."""
    for table, moment in TABLES:
        key = next(iter(table.primary_key.columns))
        statement = select(table).order_by(key).limit(ROWS_AT_ONCE)
        if since is not None:
            statement = statement.where(moment >= since - OVERLAP_SECONDS)
        rows = old.run(partial(_rows, statement=statement))
        while rows:
            yield table, rows
            rows = old.run(partial(_rows, statement=statement.where(key > rows[-1][key.name])))


def _rows(connection: Connection, statement: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(statement).mappings()]


def _put(connection: Connection, now: Instant, table: Table, rows: Sequence[Row]) -> None:
    """Add the rows that are not here; needs a transaction.

    A run that is here already is touched if it was not done there.
    """
    free = [_unleased(table, row) for row in rows]
    if table is runs:
        pending = [row for row in free if row["state"] == "pending"]
        absent = {*missing_runs(connection, [row["run_id"] for row in pending])}
        for row in pending:
            if row["run_id"] not in absent:
                facts = row["definitions"]
                touch(connection, now, row["run_id"], is_urgent=True, definitions_hash=facts)
    connection.execute(insert_absent(connection.dialect.name, table, free[0]), free)


def _unleased(table: Table, row: Row) -> Row:
    """The row without the lease of a dispatcher, which knows nothing of this ledger."""
    if "token" not in table.c:
        return row
    if row.get("state") == "leased":
        row = {**row, "state": "pending", "due": row["last_touch"]}
    return {**row, "token": None}


def _look_back_as_far(ledger: Ledger, old: Ledger) -> None:
    """Look for runs and events that nobody touched from when on the old ledger did."""
    since = min(ledger.upkeep.captured_since(), old.upkeep.captured_since())
    watermark = min(ledger.upkeep.watermark(), old.upkeep.watermark())
    runless = min(ledger.upkeep.runless_since(), old.upkeep.runless_since())

    def work(connection: Connection) -> None:
        write_value(connection, CAPTURED_SINCE, since)
        write_value(connection, WATERMARK, watermark)
        recall_runless(connection, ledger.database.now, runless, again=False)

    ledger.database.run(work, is_atomic=True)
