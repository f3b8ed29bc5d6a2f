"""Where SQLite, Postgres and MySQL differ: the clock, the upsert, and waiting for locks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Table,
    TextClause,
    bindparam,
    case,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import Insert
from sqlalchemy.sql.functions import FunctionElement

from datahub_eventlog.ledger.tables import Moment, dialect_of

Clock: TypeAlias = Callable[[], float]
Instant: TypeAlias = ColumnElement[float]
Values: TypeAlias = Mapping[str, Any]
Changes: TypeAlias = Callable[[Any], Sequence[tuple[str, Any]]]
"""From the values that could not be inserted to what the row that is there becomes instead.

In an order in which no change reads a column that an earlier one sets: MySQL sees the new value.
"""
Condition: TypeAlias = Callable[[Any], ColumnElement[bool]]

TOUCH_PATIENCE = 1.0
"""Seconds that a touch waits for a lock, so that no run waits longer for our sake."""
_MILLISECONDS = int(TOUCH_PATIENCE * 1000)
_MYSQL = {"innodb_lock_wait_timeout": int(TOUCH_PATIENCE), "lock_wait_timeout": 1}
"""For rows, and for whole tables."""
_SETTINGS = {"postgresql": {"lock_timeout": _MILLISECONDS}, "mysql": _MYSQL, "mariadb": _MYSQL}


class Now(FunctionElement[float]):
    """The database's clock, in epoch seconds with fractions; one value in a whole statement."""

    inherit_cache = True
    type = Moment


@compiles(Now)
def _now_of_sqlite(_element: Now, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _now_of_postgres(_element: Now, _compiler: Any, **_options: Any) -> str:
    # Unlike clock_timestamp() it is stable, so that an index can be searched for it.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)"


@compiles(Now, "mysql", "mariadb")
def _now_of_mysql(_element: Now, _compiler: Any, **_options: Any) -> str:
    # UNIX_TIMESTAMP() would read the session's time zone, with its two o'clocks in autumn.
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) / 1e6)"


def instant(clock: Clock | None) -> Instant:
    """The current time as an expression: the database's, or that of a test's own clock."""
    return Now() if clock is None else bindparam("now", clock(), Moment)


def instant_parameters(now: Instant) -> dict[str, Any]:
    """What a statement that was built with another `now` needs as parameters for this one."""
    return {"now": now.value} if isinstance(now, BindParameter) else {}


def prepared(statement: Insert, dialect: str, prefix: str = "") -> TextClause:
    """The statement as text, whose parameters are given when it is executed.

    SQLAlchemy would compile an upsert anew each time, at the price of a millisecond. `prefix` is
    what `lock_timeout_prefix` says.
    """
    compiled = statement.compile(dialect=dialect_of(dialect, paramstyle="named"))
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return text(f"{prefix}{compiled}").bindparams(**constants)


def later(one: Instant, other: Instant) -> Instant:
    """The later of two moments; `one` if the other is NULL."""
    return case((other > one, other), else_=one)


def earlier(one: Instant, other: Instant) -> Instant:
    """The earlier of two moments; `one` if either is NULL."""
    return case((other < one, other), else_=one)


def upsert(
    dialect: str,
    table: Table,
    values: Values,
    changes: Changes,
    only_if: Condition | None = None,
) -> Insert:
    """Insert a row, or change the one with its primary key, if `only_if` holds for that one."""
    if is_mysql(dialect):
        return _mysql_upsert(table, values, changes, only_if)
    insert = _insert(dialect, table)
    upserting: Insert = insert.values(values).on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_=dict(changes(insert.excluded)),
        where=None if only_if is None else only_if(insert.excluded),
    )
    return upserting


def insert_absent(dialect: str, table: Table, values: Values) -> Insert:
    """Insert a row unless there is one with its primary key."""
    if is_mysql(dialect):
        key = next(iter(table.primary_key.columns)).name
        return _mysql_upsert(table, values, lambda _: [(key, table.c[key])], None)
    inserting: Insert = _insert(dialect, table).values(values).on_conflict_do_nothing()
    return inserting


def lock_timeout_prefix(connection: Connection) -> str:
    """What to write before a statement that is not to wait longer for locks than a touch may.

    Postgres waits for the lock of a whole table before it begins with a statement, so nothing
    within the statement could end that. Both are one request, and one transaction, which takes
    its setting with it. Empty where the driver or the database can't do that: see `impatient`.
    """
    if connection.dialect.driver != "psycopg2":
        return ""
    return f"SET LOCAL lock_timeout = {_MILLISECONDS}; "


@contextmanager
def impatient(connection: Connection) -> Iterator[None]:
    """Let statements wait for locks as long as a touch may, where `lock_timeout_prefix` is empty.

    One more statement, and one at the end where the connection comes from a pool that others use.
    """
    settings = {} if lock_timeout_prefix(connection) else _SETTINGS.get(connection.dialect.name, {})
    _set(connection, settings)
    try:
        yield
    finally:
        if not isinstance(connection.engine.pool, NullPool):
            _set(connection, dict.fromkeys(settings, "DEFAULT"))


def _set(connection: Connection, settings: Mapping[str, object]) -> None:
    if settings:
        changes = ", ".join(f"{name} = {value}" for name, value in settings.items())
        connection.execute(text(f"SET SESSION {changes}"))


def returns(connection: Connection) -> bool:
    """Whether an insert can say what it wrote; SQLite learned it with 3.35."""
    dialect = connection.dialect
    return dialect.insert_returning and not is_mysql(dialect.name)


def written(
    connection: Connection, insert: Insert, key: Column[str], rows: Sequence[Values]
) -> set[str] | None:
    """Execute an insert for many rows, and return the keys of those that were written.

    None if the database can't say; where it can, SQLAlchemy sends many rows in one statement.
    """
    if returns(connection):
        return set(connection.execute(insert.returning(key), rows).scalars())
    connection.execute(insert, rows)
    return None


def is_mysql(dialect: str) -> bool:
    """Whether it is MySQL or MariaDB."""
    return dialect in {"mysql", "mariadb"}


def _insert(dialect: str, table: Table) -> Any:
    """An insert that knows ON CONFLICT; only the dialect at hand is loaded."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_of_postgres

        return insert_of_postgres(table)
    from sqlalchemy.dialects.sqlite import insert as insert_of_sqlite

    return insert_of_sqlite(table)


def _mysql_upsert(
    table: Table, values: Values, changes: Changes, only_if: Condition | None
) -> Insert:
    from sqlalchemy.dialects import mysql

    insert = mysql.insert(table).values(values)
    updates = list(changes(insert.inserted))
    if only_if is not None:
        holds = only_if(insert.inserted)
        updates = [(name, case((holds, value), else_=table.c[name])) for name, value in updates]
    return insert.on_duplicate_key_update(updates)
