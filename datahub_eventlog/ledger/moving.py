"""What an old ledger holds, on its way into this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import Column, Table, select
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.database import Database
from datahub_eventlog.ledger.dialects import Instant, insert_absent
from datahub_eventlog.ledger.tables import definitions, rejections, runs, states
from datahub_eventlog.ledger.touches import missing, touch

MOVED = "moved"
"""In the old ledger: when what it holds was last taken."""
OVERLAP = 60.0
"""Seconds: what was being written then has come since."""
PAGE = 200

TABLES: Sequence[tuple[Table, Column[Any]]] = (
    (definitions, definitions.c.seen),
    (states, states.c.claimed),
    (rejections, rejections.c.noted),
    (runs, runs.c.last_touch),
)
"""With what says when a row was written. The runs come last: whoever takes one finds the rest."""

Row: TypeAlias = dict[str, Any]


def pages(old: Database, since: float | None) -> Iterator[tuple[Table, list[Row]]]:
    """All that was written since then, in pieces that fit into one transaction."""
    for table, moment in TABLES:
        key = next(iter(table.primary_key.columns))
        statement = select(table).order_by(key).limit(PAGE)
        if since is not None:
            statement = statement.where(moment >= since - OVERLAP)
        rows = old.run(partial(_rows, statement=statement))
        while rows:
            yield table, rows
            rows = old.run(partial(_rows, statement=statement.where(key > rows[-1][key.name])))


def put(connection: Connection, now: Instant, table: Table, rows: Sequence[Row]) -> None:
    """Add the rows that are not here; needs a transaction.

    A run that is here already is touched if it was not done there.
    """
    free = [_unleased(table, each) for each in rows]
    if table is runs:
        _touch_those_here(connection, now, [each for each in free if each["state"] == "pending"])
    connection.execute(insert_absent(connection.dialect.name, table, free[0]), free)


def _touch_those_here(connection: Connection, now: Instant, rows: Sequence[Row]) -> None:
    absent = {*missing(connection, [each["run_id"] for each in rows])}
    for each in rows:
        if each["run_id"] not in absent:
            facts = each["definitions"]
            touch(connection, now, each["run_id"], is_urgent=True, definitions=facts)


def _rows(connection: Connection, statement: Any) -> list[Row]:
    return [dict(each) for each in connection.execute(statement).mappings()]


def _unleased(table: Table, row: Row) -> Row:
    """The row without the lease of a dispatcher, which knows nothing of this ledger."""
    if "token" not in table.c:
        return row
    if row.get("state") == "leased":
        row = {**row, "state": "pending", "due": row["last_touch"]}
    return {**row, "token": None}
