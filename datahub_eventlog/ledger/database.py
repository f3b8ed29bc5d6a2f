"""The ledger's connections: their transactions, their errors, and the tables they need."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from sqlalchemy import URL, Table, create_engine, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateColumn, CreateIndex

from datahub_eventlog.errors import LedgerMissing, LedgerRefused, LedgerUnavailable
from datahub_eventlog.ledger.dialects import Clock, Instant, instant
from datahub_eventlog.ledger.named_values import seed
from datahub_eventlog.ledger.tables import metadata

Connect: TypeAlias = Callable[[], AbstractContextManager[Connection]]
T = TypeVar("T")
P = ParamSpec("P")
Part = TypeVar("Part", bound="LedgerPart")
Work: TypeAlias = Callable[[Connection], T]

DDL_LOCK_MILLISECONDS = 1000
"""How long a change of a table waits for its lock: all others queue behind it meanwhile."""


class Database:
    """Runs pieces of work, each on a connection of its own, and makes the tables they need."""

    def __init__(self, connect: Connect, clock: Clock | None, *, autocreate: bool) -> None:
        self.clock = clock
        """A test's own clock, or None for the database's."""
        self._connect = connect
        self._autocreate = autocreate

    @property
    def now(self) -> Instant:
        """The current time by the ledger's clock, as an expression for statements."""
        return instant(self.clock)

    def read_clock(self) -> float:
        """The current time by the ledger's clock."""
        return float(self.run(lambda connection: connection.execute(select(self.now)).scalar_one()))

    def dialect(self) -> str:
        """SQLAlchemy's name for the kind of database: sqlite, postgresql or mysql."""
        return self.run(lambda connection: connection.dialect.name)

    def run(self, work: Work[T], *, is_atomic: bool = False) -> T:
        """Do the work, after making the tables if they turn out to be missing.

        Each statement is committed by itself unless `is_atomic`, or unless the connection came
        inside a transaction. Raises `LedgerUnavailable`.
        """
        try:
            with _translated():
                return self._once(work, is_atomic=is_atomic)
        except LedgerUnavailable as error:
            if not _may_lack_tables(error.__cause__):
                raise
            # Where none is missing any more, another process has made them since.
            if self._missing():
                self._make(error)
        with _translated():
            return self._once(work, is_atomic=is_atomic)

    def exists(self) -> bool:
        """Whether all the tables are there; asking makes none."""
        return not self._missing()

    def migrate(self) -> None:
        """Make missing tables, columns and indexes; a dispatcher does it when it starts.

        Raises `LedgerMissing` with the statements if this process may not.
        """
        if self._missing():
            self._make(None)
        with _translated():
            statements = self._once(_additions)
            if statements and not self._autocreate:
                needed = "; ".join(statements)
                raise LedgerMissing(f"The ledger's tables are old. Have somebody run: {needed}")
            for statement in statements:
                self._add(statement)
        self.run(lambda connection: seed(connection, self.now))

    def _once(self, work: Work[T], *, is_atomic: bool = False) -> T:
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._connect())
            except Exception as error:
                # Dagster's connections have errors of their own, which we don't know here.
                raise _unavailable(error) from error
            stack.enter_context(_begun(connection, is_atomic=is_atomic))
            return work(connection)

    def _missing(self) -> list[str]:
        with _translated():
            return self._once(_missing_tables)

    def _make(self, cause: LedgerUnavailable | None) -> None:
        """Make all tables, while other processes may be making them too."""
        if not self._autocreate:
            raise LedgerMissing(
                "The ledger's tables don't exist, and should_autocreate_tables is false: "
                "have what `datahub-eventlog ddl` prints run once, and restart Dagster"
            ) from cause
        missing = self._missing()
        while missing:
            try:
                self._once(_create, is_atomic=True)
                missing = []
            except SQLAlchemyError as error:
                before, missing = missing, self._missing()
                if missing == before:
                    raise _not_made(error) from error
        self.run(lambda connection: seed(connection, self.now))

    def _add(self, statement: str) -> None:
        """Add a column or index, which another dispatcher may be adding as well."""
        try:
            self._once(lambda connection: _alter(connection, statement), is_atomic=True)
        except DBAPIError:
            if statement in self._once(_additions):
                raise


class LedgerPart:
    """Some of the ledger's methods, with the database that they run on."""

    def __init__(self, database: Database) -> None:
        self.database = database


def on_connection(
    method: Callable[Concatenate[Part, Connection, P], T],
) -> Callable[Concatenate[Part, P], T]:
    """Lend the method its `connection`, which callers do not pass; see `Database.run`."""

    @wraps(method)
    def call(part: Part, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return part.database.run(lambda connection: method(part, connection, *args, **kwargs))

    return call


def in_transaction(
    method: Callable[Concatenate[Part, Connection, P], T],
) -> Callable[Concatenate[Part, P], T]:
    """As `on_connection`, with all that the method does in one transaction."""

    @wraps(method)
    def call(part: Part, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return part.database.run(
            lambda connection: method(part, connection, *args, **kwargs), is_atomic=True
        )

    return call


def file_connections(path: str, patience: float) -> Connect:
    """Connections to a SQLite file, made if absent, that wait so many seconds for a lock."""
    url = URL.create("sqlite", database=str(Path(path).absolute()))
    # Nothing is kept open: a connection must not be carried over a fork.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": patience})
    return engine.connect


@contextmanager
def _begun(connection: Connection, *, is_atomic: bool) -> Iterator[None]:
    """Begin a transaction unless the connection came with one.

    Dagster's connections commit each statement on Postgres and MySQL, and come inside a
    transaction on SQLite.
    """
    if connection.in_transaction():
        yield
        return
    if is_atomic and connection.dialect.name != "sqlite":
        connection.execution_options(isolation_level="READ COMMITTED")
    with connection.begin():
        yield


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise LedgerRefused(f"The ledger's database: {_first_line(error)}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> LedgerUnavailable:
    return LedgerUnavailable(f"The ledger's database: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    """What the database says, without the statement and its values."""
    words = str(getattr(error, "orig", None) or error).strip()
    return words.splitlines()[0] if words else type(error).__name__


def _may_lack_tables(cause: BaseException | None) -> bool:
    """Whether it is worth looking for the tables; SQLite has no error class of its own for it."""
    return isinstance(cause, ProgrammingError) or "no such table" in str(cause)


def _not_made(error: SQLAlchemyError) -> LedgerUnavailable:
    if not isinstance(error, ProgrammingError):
        return _unavailable(error)
    return LedgerMissing(
        f"The ledger's tables can't be made ({_first_line(error)}): "
        "have what `datahub-eventlog ddl` prints run once, and restart Dagster"
    )


def _missing_tables(connection: Connection) -> list[str]:
    inspector = inspect(connection)
    return [name for name in metadata.tables if not inspector.has_table(name)]


def _create(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        _prefer_wal(connection)
        # The driver would commit each CREATE by itself.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    metadata.create_all(connection)


def _prefer_wal(connection: Connection) -> None:
    """Let readers and the writer not wait for each other; the file remembers it."""
    try:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    except OperationalError:
        return  # somebody else is using the file, and has seen to it


def _additions(connection: Connection) -> list[str]:
    """The statements that bring tables of an older version up to this one."""
    return [
        statement
        for table in metadata.sorted_tables
        for statement in _additions_to(connection, table)
    ]


def _additions_to(connection: Connection, table: Table) -> list[str]:
    inspector = inspect(connection)
    columns = {column["name"] for column in inspector.get_columns(table.name)}
    indexes = {index["name"] for index in inspector.get_indexes(table.name)}
    return [
        *(
            f"ALTER TABLE {table.name} ADD COLUMN {_compiled(connection, CreateColumn(column))}"
            for column in table.columns
            if column.name not in columns
        ),
        *(
            _compiled(connection, CreateIndex(index))
            for index in table.indexes
            if index.name not in indexes
        ),
    ]


def _compiled(connection: Connection, element: CreateColumn | CreateIndex) -> str:
    return str(element.compile(dialect=connection.dialect)).strip()


def _alter(connection: Connection, statement: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = {DDL_LOCK_MILLISECONDS}"))
    connection.execute(text(statement))
