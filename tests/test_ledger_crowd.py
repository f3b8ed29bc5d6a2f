"""Many dispatchers on one ledger, and a hundred thousand runs in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from deployment import eventually
from ledgers import MINUTE, in_processes, lease_all
from sqlalchemy import create_engine, insert, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine

from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger.dialects import instant
from datahub_eventlog.ledger.leases import due_runs
from datahub_eventlog.ledger.tables import runs

ROWS = 100_000
TOUCHES = 2000


def rows() -> Iterator[dict[str, Any]]:
    """What a ledger holds after some weeks: nearly all is settled, some is due."""
    for number in range(ROWS):
        is_due = number % 1000 == 0
        yield {
            "run_id": f"run {number}",
            "state": "pending" if is_due else "delivered",
            "due": float(number) if is_due else None,
            "backfilled": number % 2,
            "first_touch": 0.0,
            "last_touch": 0.0,
        }


def filled(engine: Engine) -> Ledger:
    ledger = Ledger(engine.connect)
    ledger.database.migrate()
    left = rows()
    with engine.begin() as connection:
        while some := list(islice(left, 10_000)):
            connection.execute(insert(runs), some)
    return ledger


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


class Updated(NamedTuple):
    """What Postgres says of the table of runs: bytes with its indexes, and updates."""

    size: int
    updates: int
    in_page: int


def updated(engine: Engine) -> Updated:
    asked = """
        SELECT pg_relation_size(relid) + pg_indexes_size(relid), n_tup_upd, n_tup_hot_upd
        FROM pg_stat_user_tables WHERE relname = 'datahub_eventlog_runs'
    """
    with engine.connect() as connection:
        return Updated(*connection.execute(text(asked)).one())


def plan(engine: Engine, explain: str) -> str:
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[engine.dialect.name].dialect()
    query = due_runs(instant(None), 10).compile(
        dialect=dialect, compile_kwargs={"literal_binds": True}
    )
    with engine.connect() as connection:
        lines = connection.execute(text(f"{explain} {query}"))
        return "\n".join(str(line[-1]) for line in lines)


def test_the_lease_query_searches_its_index_on_sqlite(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/ledger.db")
    ledger = filled(engine)
    found = plan(engine, "EXPLAIN QUERY PLAN")
    searches = "USING INDEX datahub_eventlog_runs_due (backfilled=? AND due<?)"
    assert found.count(searches) == 2
    assert "B-TREE" not in found
    assert len(ledger.leases.take("test", 200, MINUTE)) == 100
    engine.dispose()


def test_the_lease_query_searches_its_index_on_postgres(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    ledger = filled(engine)
    execute(engine, "ANALYZE datahub_eventlog_runs")
    found = plan(engine, "EXPLAIN")
    assert found.count("datahub_eventlog_runs_due") == 2
    assert found.count("Index Cond: ((backfilled = ") == 2
    assert found.count("(due <= ") >= 2
    assert "Seq Scan" not in found
    assert len(ledger.leases.take("test", 200, MINUTE)) == 100
    # A backlog is read from its oldest end, not sorted at every poll.
    execute(engine, "UPDATE datahub_eventlog_runs SET due = first_touch")
    execute(engine, "ANALYZE datahub_eventlog_runs")
    found = plan(engine, "EXPLAIN")
    assert found.count("Index Scan using datahub_eventlog_runs_due") == 2
    assert "Sort" not in found
    engine.dispose()


def test_a_row_that_is_touched_all_the_time_does_not_swell_its_table_or_indexes(
    postgres_url: str,
) -> None:
    """Postgres writes a new version each time, into the page of the old one if no index changes."""
    engine = create_engine(postgres_url)
    ledger = Ledger(engine.connect)
    ledger.runs.touch("run")
    size = updated(engine).size
    for _ in range(TOUCHES):
        ledger.runs.touch("run")
    engine.dispose()  # Postgres counts what a connection did when that ends
    eventually(lambda: updated(engine).updates == TOUCHES, "Postgres has counted the updates")
    found = updated(engine)
    assert found.in_page == TOUCHES
    assert found.size == size
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_several_processes_lease_no_run_twice(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = f"sqlite:///{tmp_path}/ledger.db?timeout=30"
    url = database if kind == "sqlite" else request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    run_ids = [f"run {number}" for number in range(300)]
    Ledger(engine.connect).runs.add(run_ids, backfilled=False)
    found = [tmp_path / f"found {number}" for number in range(3)]
    in_processes(lease_all, [(url, each.name, str(each)) for each in found])
    leased = Counter(line for each in found for line in each.read_text().splitlines())
    assert leased == Counter(run_ids)
    engine.dispose()


def test_the_lease_query_is_compiled_once() -> None:
    """A dispatcher asks every second: SQLAlchemy must know the query again."""
    one, other = (due_runs(instant(None), 10)._generate_cache_key() for _ in range(2))
    assert one is not None
    assert one == other
