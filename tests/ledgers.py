"""Ledgers for the tests, on every kind of database that a test can have."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres import new_database
from sqlalchemy import create_engine, delete, event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from datahub_eventlog.ledger import Facts, Lease, Ledger
from datahub_eventlog.ledger.database import Connect, file_connections
from datahub_eventlog.ledger.tables import metadata

KINDS = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))
MINUTE = timedelta(minutes=1)


@dataclass
class Clock:
    """A clock that only the test moves."""

    time: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture(scope="session")
def emptied_url(postgres_server_url: str) -> Iterator[str]:
    """A database on the shared server that the ledger tests share too."""
    with new_database(postgres_server_url) as url:
        Ledger(create_engine(url, poolclass=NullPool).connect).database.migrate()
        yield url


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine over an empty ledger on every kind of database; it is fast, not durable."""
    if request.param == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path}/ledger.db", connect_args={"timeout": 10})
        event.listen(engine, "connect", lambda one, _: one.execute("PRAGMA synchronous = OFF"))
    else:
        engine = create_engine(request.getfixturevalue("emptied_url"))
        with engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(delete(table))
    yield engine
    engine.dispose()


@pytest.fixture
def connect(engine: Engine) -> Connect:
    """Connections to an empty ledger on every kind of database."""
    return engine.connect


@pytest.fixture(params=KINDS)
def new_connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Connections to a new database of every kind, without any table."""
    if request.param == "sqlite":
        return file_connections(str(tmp_path / "ledger.db"), patience=10)
    return create_engine(request.getfixturevalue("postgres_url"), poolclass=NullPool).connect


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(connect: Connect, clock: Clock) -> Ledger:
    """A ledger that goes by `clock`."""
    return Ledger(connect, clock=clock)


@pytest.fixture
def new_ledger(new_connect: Connect, clock: Clock) -> Ledger:
    """A ledger that goes by `clock`, without any table yet."""
    return Ledger(new_connect, clock=clock)


def lease_of(ledger: Ledger, run_id: str) -> Lease:
    """The lease of that run, which must be due."""
    (lease,) = ledger.leases.take("test", 1, MINUTE, run_ids=[run_id])
    return lease


def facts_of(ledger: Ledger, run_id: str) -> Facts | None:
    """The facts of the definitions that were captured with a run."""
    name = ledger.runs.definitions_of(run_id)
    stored = None if name is None else ledger.runs.facts(name)
    return None if name is None or stored is None else Facts(name, stored)


def counts_of(ledger: Ledger) -> dict[str, int]:
    """How many runs are in each state; without the states that no run is in."""
    counts = ledger.reports.status().runs
    return {state: number for state, number in counts.items() if number}


def due(ledger: Ledger) -> list[str]:
    """The runs that are due, in the order in which they are leased; leaves them as they are."""
    leases = ledger.leases.take("test", 100, MINUTE)
    for lease in leases:
        ledger.leases.release(lease)
    return [each.run_id for each in leases]


def in_processes(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Do the work in as many processes at once, none of which may fail."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=argument) for argument in arguments]
    for process in processes:
        process.start()
    for each in processes:
        each.join(120)
    assert [each.exitcode for each in processes] == [0] * len(arguments)


def touch_file(path: str, run_id: str) -> None:
    Ledger.in_file(path, patience=30).runs.touch(run_id)


def lease_all(url: str, owner: str, found: str) -> None:
    """Lease and settle whatever is due, and write down which runs that were."""
    ledger = Ledger(create_engine(url, poolclass=NullPool).connect)
    mine = []
    while not ledger.leases.is_drained():
        for lease in ledger.leases.take(owner, 7, MINUTE):
            mine.append(lease.run_id)
            ledger.leases.settle(lease, "delivered")
    Path(found).write_text("\n".join(mine))
