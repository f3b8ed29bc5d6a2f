"""MySQL can't be started here, so its statements are compiled, and parsed by its grammar."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.dialects import mysql
from sqlalchemy.pool import NullPool, Pool, QueuePool
from sqlglot import parse_one
from sqlglot.errors import ParseError
from sqlglot.expressions import Column

from datahub_eventlog.ledger import Ledger, ddl
from datahub_eventlog.ledger.claims import upsert_claim
from datahub_eventlog.ledger.clocks import set_right
from datahub_eventlog.ledger.dialects import Instant, impatient, insert_absent, instant, upsert
from datahub_eventlog.ledger.leases import due_runs
from datahub_eventlog.ledger.records import Facts, Lease
from datahub_eventlog.ledger.tables import Moment, dispatchers, meta, metadata, runs
from datahub_eventlog.ledger.touches import TouchKind, store_facts, touch, touch_statement

NOW = instant(None)


def compiled(statement: object) -> str:
    return str(statement.compile(dialect=mysql.dialect(paramstyle="named")))  # type: ignore[attr-defined]


STATEMENTS = {
    "touch": lambda: str(touch_statement(kind(has_definitions=False))),
    "touch with facts": lambda: str(touch_statement(kind(has_definitions=True))),
    "lease": lambda: compiled(due_runs(NOW, 10)),
    "claim": lambda: compiled(upsert_claim("mysql", NOW, ["digest", "time", "run_id", "sent"])),
    "heartbeat": lambda: compiled(
        upsert("mysql", dispatchers, {"host": "h", "pid": 1}, lambda _: [("seen", NOW)])
    ),
    "seed": lambda: compiled(insert_absent("mysql", meta, {"name": "created", "value": NOW})),
    "add": lambda: compiled(insert_absent("mysql", runs, {"run_id": "one", "due": NOW})),
}


def kind(*, has_definitions: bool) -> TouchKind:
    return TouchKind(
        "mysql",
        returns=False,
        is_urgent=False,
        has_definitions=has_definitions,
        has_clock=False,
    )


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_mysql(name: str) -> None:
    statement = STATEMENTS[name]()
    parse_one(statement, dialect="mysql")
    assert "CONFLICT" not in statement
    assert "RETURNING" not in statement


def test_the_tables_are_mysql() -> None:
    statements = [each for each in ddl("mysql").split(";") if each.strip()]
    for each in statements:
        parse_one(each, dialect="mysql")
    assert any("LONGBLOB" in each for each in statements)
    moments = [each for table in metadata.tables.values() for each in table.columns]
    bits = [int(each) for each in re.findall(r"FLOAT\((\d+)\)", ddl("mysql"))]
    assert len(bits) == sum(each.type is Moment for each in moments)
    # With less it has single precision there: a lease would be minutes off. Dagster says 32.
    assert min(bits) >= 25


def test_a_statement_of_another_database_would_be_noticed() -> None:
    with pytest.raises(ParseError):
        parse_one("INSERT INTO a VALUES (1) ON DUPLICATE KEY KEY UPDATE b = 1", dialect="mysql")


class Compiling:
    """Takes what a connection to MySQL would take, and keeps its text."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def in_transaction(self) -> bool:
        return True

    def execute(self, statement: object) -> SimpleNamespace:
        self.statements.append(compiled(statement))
        return SimpleNamespace(rowcount=1)

    def ledger(self) -> Ledger:
        """A ledger on it."""
        connection: Any = self
        return Ledger(lambda: nullcontext(connection))


LEASE = Lease("one", "token", 3, 2, None, "", *(True, False), 0.0, 0.0, 0.0, "pending", False)
MINUTE = timedelta(minutes=1)
WRITES: dict[str, Callable[[Ledger], object]] = {
    "attempt": lambda ledger: ledger.leases.attempt(LEASE, MINUTE),
    "settle": lambda ledger: ledger.leases.settle(
        LEASE, "delivered", look_again=MINUTE, cursor="1"
    ),
    "wait": lambda ledger: ledger.leases.wait(LEASE, MINUTE, "1"),
    "defer": lambda ledger: ledger.leases.defer(LEASE, MINUTE, "bad", counts=True),
    "park": lambda ledger: ledger.leases.park(LEASE, "bad"),
    "release": lambda ledger: ledger.leases.release(LEASE),
    "set right": lambda ledger: ledger.database.run(lambda to: set_right(to, NOW)),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_ends_a_delivery_is_mysql_and_reads_nothing_that_it_has_set(name: str) -> None:
    connection = Compiling()
    WRITES[name](connection.ledger())
    assert connection.statements
    for each in connection.statements:
        tree = parse_one(each, dialect="mysql")
        before: set[str] = set()
        for change in tree.args.get("expressions") or ():
            read = {column.name for column in change.expression.find_all(Column)}
            assert not read & before
            before.add(change.this.name)


class Listing:
    """Takes what a connection to MySQL would take, and lists it."""

    def __init__(self, pool: type[Pool]) -> None:
        self.dialect = mysql.dialect()
        self.dialect.insert_returning = False
        self.engine = create_engine("sqlite://", poolclass=pool)
        self.said: list[str] = []

    def execute(self, statement: object, *_: object) -> SimpleNamespace:
        self.said.append(str(statement).partition(" datahub_eventlog_")[0])
        return SimpleNamespace(scalar=lambda: None)


PATIENT = "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1"
AGAIN = "SET SESSION innodb_lock_wait_timeout = DEFAULT, lock_wait_timeout = DEFAULT"


@pytest.mark.parametrize(("pool", "after"), [(NullPool, []), (QueuePool, [AGAIN])])
def test_a_touch_says_once_how_long_it_waits(pool: type[Pool], after: list[str]) -> None:
    connection: Any = Listing(pool)
    with impatient(connection):
        store_facts(connection, NOW, Facts("hash", b"facts"))
        touch(connection, NOW, "one", is_urgent=True, definitions_hash="hash")
    first, *inserts, age = connection.said[: len(connection.said) - len(after)]
    assert first == PATIENT
    assert inserts == ["INSERT INTO", "INSERT INTO"]
    assert age.startswith("SELECT")
    assert connection.said[4:] == after


@pytest.mark.parametrize("name", ["touch", "touch with facts"])
def test_no_change_of_a_touch_reads_what_an_earlier_one_has_set(name: str) -> None:
    """MySQL works through the changes in their order, and sees the new values."""
    changes = STATEMENTS[name]().split("ON DUPLICATE KEY UPDATE")[1]
    starts = ("due = CASE", "attempts = CASE", "error = CASE", "settled = NULL", "state = CASE")
    order = [changes.index(each) for each in starts]
    assert order == sorted(order)


def test_a_claim_compares_before_it_replaces() -> None:
    changes = STATEMENTS["claim"]().split("ON DUPLICATE KEY UPDATE")[1]
    assert (
        changes.index("sent = CASE") < changes.index("run_id = CASE") < changes.index("time = CASE")
    )


def test_mysqls_clock_is_utc_and_has_fractions() -> None:
    now: Instant = NOW
    assert compiled(now) == (
        "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) / 1e6)"
    )
