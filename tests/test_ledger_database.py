"""The ledger's tables and connections: making, migrating, waiting, and failing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from dagster._core.storage.event_log import InMemoryEventLogStorage, SqliteEventLogStorage
from dagster_postgres import PostgresEventLogStorage
from ledgers import MINUTE, due, in_processes, lease_of, touch_file
from postgres import PostgresServer
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.pool import NullPool

from datahub_eventlog.errors import ConfigurationError, LedgerMissing, LedgerUnavailable
from datahub_eventlog.ledger import Claim, Facts, Ledger, ddl
from datahub_eventlog.ledger.database import Connect, file_connections
from datahub_eventlog.ledger.tables import SCHEMA, metadata, runs

NAMES = sorted(metadata.tables)


def execute(connect: Connect, *statements: str) -> None:
    with connect() as connection, connection.begin():
        for each in statements:
            connection.execute(text(each))


def columns(connect: Connect, table: str) -> set[str]:
    with connect() as connection:
        return {each["name"] for each in inspect(connection).get_columns(table)}


def whole_life(ledger: Ledger) -> None:
    """Use every verb that writes."""
    ledger.reports.heartbeat("host", 1, "1.0")
    ledger.runs.touch("one", definitions=Facts("hash", b"facts"))
    ledger.runs.add(["", "two"], backfilled=True)
    lease = lease_of(ledger, "one")
    claim = Claim("urn", "status", 1.0, "x")
    assert ledger.claims.grant(lease, MINUTE, [claim], resend_after=MINUTE) == [True]
    ledger.claims.confirm(lease, [claim])
    ledger.leases.extend(lease, MINUTE)
    ledger.reports.record_rejections("one", [("urn", "status", "bad")])
    assert ledger.leases.settle(lease, "delivered", cursor="seen")
    ledger.leases.defer(lease_of(ledger, "two"), timedelta(), "bad", counts=True)
    ledger.leases.park(lease_of(ledger, "two"), "bad")
    assert ledger.runs.revive() == 2
    ledger.leases.wait(lease_of(ledger, "two"), MINUTE)
    ledger.leases.release(lease_of(ledger, "one"))
    ledger.leases.settle(lease_of(ledger, "one"), "delivered")
    assert ledger.runs.redeliver(["one"], backfilled=True) == 1
    ledger.upkeep.set_watermark(1.5)
    ledger.upkeep.sweep(MINUTE)
    assert ledger.upkeep.watermark() == 1.5
    assert ledger.runs.facts("hash") == b"facts"
    assert ledger.runs.definitions_of("one") == "hash"
    assert ledger.runs.definitions_of("unknown") is None
    assert set(due(ledger)) == {"", "one"}
    ledger.reports.retire("host", 1)
    assert ledger.reports.status().runs["pending"] == 2


# Making the tables


def test_the_first_touch_makes_the_tables(new_ledger: Ledger, new_connect: Connect) -> None:
    new_ledger.runs.touch("one")
    with new_connect() as connection:
        assert set(NAMES) <= set(inspect(connection).get_table_names())
    assert due(new_ledger) == ["one"]


@pytest.mark.parametrize("verb", ["status", "lease", "migrate", "sweep", "watermark"])
def test_whoever_comes_first_makes_the_tables(new_ledger: Ledger, verb: str) -> None:
    calls = {
        "status": new_ledger.reports.status,
        "lease": lambda: new_ledger.leases.take("test", 1, MINUTE),
        "migrate": new_ledger.database.migrate,
        "sweep": lambda: new_ledger.upkeep.sweep(MINUTE),
        "watermark": new_ledger.upkeep.watermark,
    }
    calls[verb]()
    new_ledger.runs.touch("one")
    assert due(new_ledger) == ["one"]


def test_tables_that_were_dropped_are_made_again(new_ledger: Ledger, new_connect: Connect) -> None:
    new_ledger.runs.touch("one")
    execute(new_connect, *(f"DROP TABLE {each}" for each in NAMES))
    new_ledger.runs.touch("two")
    assert due(new_ledger) == ["two"]


def test_a_single_table_that_was_dropped_is_made_again(
    new_ledger: Ledger, new_connect: Connect
) -> None:
    new_ledger.runs.touch("one")
    execute(new_connect, "DROP TABLE datahub_eventlog_dispatchers")
    assert new_ledger.runs.touch("two") is None
    assert set(due(new_ledger)) == {"one", "two"}


def test_tables_that_another_process_makes_in_the_middle_of_a_touch_will_do(
    new_connect: Connect,
) -> None:
    connections = 0

    def interrupted() -> AbstractContextManager[Connection]:
        nonlocal connections
        connections += 1
        if connections == 2:  # the touch has failed, and nobody has looked for the tables yet
            Ledger(new_connect).runs.touch("another process's")
        return new_connect()

    Ledger(interrupted).runs.touch("one")
    assert connections > 2
    assert set(due(Ledger(new_connect))) == {"one", "another process's"}


def test_many_first_touches_at_once_make_the_tables_once(new_connect: Connect) -> None:
    with ThreadPoolExecutor(8) as pool:
        touches = [
            pool.submit(Ledger(new_connect).runs.touch, f"run {number}") for number in range(16)
        ]
        for each in touches:
            each.result()
    assert len(due(Ledger(new_connect))) == 16


def test_many_first_processes_at_once_make_the_file_once(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    in_processes(touch_file, [(path, f"run {number}") for number in range(4)])
    assert len(due(Ledger.in_file(path, patience=1))) == 4


def test_without_autocreate_the_error_says_what_to_run(new_connect: Connect) -> None:
    ledger = Ledger(new_connect, autocreate=False)
    with pytest.raises(LedgerMissing, match="datahub-eventlog ddl"):
        ledger.runs.touch("one")
    with pytest.raises(LedgerMissing, match="datahub-eventlog ddl"):
        ledger.database.migrate()
    with new_connect() as connection:
        assert inspect(connection).get_table_names() == []


def test_the_statements_of_ddl_are_all_it_takes(new_connect: Connect) -> None:
    with new_connect() as connection:
        script = ddl(connection.dialect.name)
    statements = [each for each in re.sub("--.*", "", script).split(";") if each.strip()]
    execute(new_connect, *statements)
    execute(new_connect, *statements)
    ledger = Ledger(new_connect, autocreate=False)
    assert ledger.upkeep.watermark() >= ledger.upkeep.created()
    whole_life(ledger)
    ledger.database.migrate()


def test_ddl_names_a_database_that_it_does_not_know() -> None:
    with pytest.raises(ConfigurationError, match="oracle"):
        ddl("oracle")


@pytest.fixture
def humble_url(postgres_url: str) -> Iterator[str]:
    """The database for a user who may not make tables in it."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    url = make_url(postgres_url)
    user = f"humble_{url.database}"
    execute(
        admin.connect,
        f"CREATE ROLE {user} LOGIN PASSWORD 'hunter2'",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    yield url.set(username=user, password="hunter2").render_as_string(hide_password=False)
    execute(admin.connect, f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_without_the_right_to_make_tables_the_error_says_what_to_run(humble_url: str) -> None:
    ledger = Ledger(create_engine(humble_url, poolclass=NullPool).connect)
    with pytest.raises(LedgerMissing, match=r"permission denied.*datahub-eventlog ddl"):
        ledger.runs.touch("one")


def test_who_may_only_read_and_write_rows_can_do_everything(
    humble_url: str, postgres_url: str
) -> None:
    Ledger(create_engine(postgres_url, poolclass=NullPool).connect).database.migrate()
    user = make_url(humble_url).username
    execute(
        create_engine(postgres_url, poolclass=NullPool).connect,
        *(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {each} TO {user}" for each in NAMES),
    )
    ledger = Ledger(create_engine(humble_url, poolclass=NullPool).connect)
    ledger.database.migrate()
    whole_life(ledger)


def test_a_ledger_lives_in_the_schema_that_the_search_path_names(postgres_url: str) -> None:
    admin = create_engine(postgres_url, poolclass=NullPool).connect
    Ledger(admin).runs.touch("in public")
    execute(admin, "CREATE SCHEMA elsewhere")
    options = {"options": "-c search_path=elsewhere"}
    connect = create_engine(postgres_url, poolclass=NullPool, connect_args=options).connect
    ledger = Ledger(connect)
    ledger.database.migrate()
    whole_life(ledger)
    assert Ledger(admin).runs.states(["in public", "one"]) == {"in public": "pending"}
    execute(connect, "ALTER TABLE datahub_eventlog_runs DROP COLUMN unfinished")
    ledger.database.migrate()
    assert "unfinished" in columns(connect, "datahub_eventlog_runs")


# Migrating


def test_an_older_package_works_on_newer_tables(new_ledger: Ledger, new_connect: Connect) -> None:
    new_ledger.runs.touch("zero")
    additions = ["DEFAULT 'x' NOT NULL", "INTEGER DEFAULT 7 NOT NULL"]
    execute(
        new_connect,
        *(f"ALTER TABLE {each} ADD COLUMN newer VARCHAR(9) {additions[0]}" for each in NAMES),
        *(f"ALTER TABLE {each} ADD COLUMN newest {additions[1]}" for each in NAMES),
        f"UPDATE datahub_eventlog_meta SET value = {SCHEMA + 1} WHERE name = 'schema'",
    )
    new_ledger.database.migrate()
    new_ledger.leases.settle(lease_of(new_ledger, "zero"), "delivered")
    whole_life(new_ledger)
    with new_connect() as connection:
        version = connection.execute(
            text("SELECT value FROM datahub_eventlog_meta WHERE name = 'schema'")
        )
        assert version.scalar() == SCHEMA + 1


def make_older(connect: Connect) -> None:
    """Take something from the tables that a later version could have added."""
    execute(
        connect,
        "DROP INDEX datahub_eventlog_runs_due",
        "ALTER TABLE datahub_eventlog_runs DROP COLUMN unfinished",
        "ALTER TABLE datahub_eventlog_runs DROP COLUMN error",
        "DROP TABLE datahub_eventlog_rejections",
        "UPDATE datahub_eventlog_meta SET value = 0 WHERE name = 'schema'",
    )


def test_a_dispatcher_brings_older_tables_up_to_date(
    new_ledger: Ledger, new_connect: Connect
) -> None:
    new_ledger.runs.touch("zero")
    make_older(new_connect)
    new_ledger.database.migrate()
    assert columns(new_connect, "datahub_eventlog_runs") == set(runs.c.keys())
    with new_connect() as connection:
        indexes = inspect(connection).get_indexes("datahub_eventlog_runs")
        assert "datahub_eventlog_runs_due" in {each["name"] for each in indexes}
    lease = lease_of(new_ledger, "zero")
    assert not lease.is_unfinished
    new_ledger.leases.settle(lease, "delivered")
    whole_life(new_ledger)


def test_many_dispatchers_migrate_at_once(new_ledger: Ledger, new_connect: Connect) -> None:
    new_ledger.runs.touch("zero")
    make_older(new_connect)
    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(Ledger(new_connect).database.migrate) for _ in range(6)]:
            each.result()
    assert columns(new_connect, "datahub_eventlog_runs") == set(runs.c.keys())


def test_without_autocreate_migrating_says_what_to_run(
    new_ledger: Ledger, new_connect: Connect
) -> None:
    new_ledger.runs.touch("zero")
    execute(new_connect, "ALTER TABLE datahub_eventlog_runs DROP COLUMN unfinished")
    statement = r"ALTER TABLE datahub_eventlog_runs ADD COLUMN unfinished SMALLINT DEFAULT '0'"
    with pytest.raises(LedgerMissing, match=statement):
        Ledger(new_connect, autocreate=False).database.migrate()


# Dagster's own connections


def test_everything_works_over_dagsters_sqlite(tmp_path: Path) -> None:
    whole_life(Ledger(SqliteEventLogStorage(str(tmp_path)).index_connection))


def test_everything_works_over_dagsters_memory() -> None:
    whole_life(Ledger(InMemoryEventLogStorage().index_connection))


def test_everything_works_over_dagsters_postgres(postgres_url: str) -> None:
    storage = PostgresEventLogStorage(postgres_url, should_autocreate_tables=False)
    whole_life(Ledger(storage.index_connection))


def test_everything_works_in_a_file(tmp_path: Path) -> None:
    whole_life(Ledger.in_file(str(tmp_path / "ledger.db"), patience=1))


def test_a_touch_is_one_statement_and_two_with_facts(postgres_url: str) -> None:
    storage = PostgresEventLogStorage(postgres_url, should_autocreate_tables=False)
    ledger = Ledger(storage.index_connection)
    ledger.runs.touch("one")
    statements: list[str] = []
    event.listen(storage._engine, "before_cursor_execute", lambda *each: statements.append(each[2]))
    ledger.runs.touch("one", is_urgent=False)
    assert len(statements) == 1
    ledger.runs.touch("two", definitions=Facts("hash", b"facts"))
    assert len(statements) == 3


def test_the_ledger_knows_its_kind_of_database(new_ledger: Ledger, new_connect: Connect) -> None:
    with new_connect() as connection:
        assert new_ledger.database.dialect() == connection.dialect.name


# Waiting and failing


@contextmanager
def locked(connect: Connect, statement: str) -> Iterator[Connection]:
    """Hold the locks of that statement."""
    with connect() as connection, connection.begin() as transaction:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.execute(text(statement))
        yield connection
        transaction.rollback()


def impatient(connect: Connect, folder: Path) -> Ledger:
    """A ledger as capture has it; on Postgres, waiting for the server itself ends at last too."""
    with connect() as connection:
        url = connection.engine.url
    if url.get_backend_name() == "sqlite":
        return Ledger.in_file(str(folder / "ledger.db"), patience=0.2)
    options = {"options": "-c statement_timeout=30000"}
    return Ledger(create_engine(url, poolclass=NullPool, connect_args=options).connect)


def test_a_touch_gives_up_on_a_locked_row(new_connect: Connect, tmp_path: Path) -> None:
    ledger = impatient(new_connect, tmp_path)
    ledger.runs.touch("one")
    with (
        locked(new_connect, "UPDATE datahub_eventlog_runs SET touches = 9"),
        pytest.raises(LedgerUnavailable, match="lock"),
    ):
        ledger.runs.touch("one")
    ledger.runs.touch("one")
    assert lease_of(ledger, "one").touches == 2


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_a_timeout_of_the_databases_own_is_no_error_of_the_run(
    postgres_url: str, setting: str
) -> None:
    """Whatever ends a statement: the run is leased still, and goes on when nothing does."""
    admin = create_engine(postgres_url, poolclass=NullPool)
    Ledger(admin.connect).runs.touch("one")
    execute(admin.connect, f"ALTER DATABASE {admin.url.database} SET {setting} = '500ms'")
    ledger = Ledger(create_engine(postgres_url, poolclass=NullPool).connect)
    lease = lease_of(ledger, "one")
    claims = [Claim("urn", "status", 1.0, "x")]
    work: list[Callable[[], object]] = [
        lambda: ledger.runs.touch("one"),
        lambda: ledger.leases.extend(lease, MINUTE),
        lambda: ledger.claims.grant(lease, MINUTE, claims, resend_after=MINUTE),
        lambda: ledger.leases.settle(lease, "delivered"),
    ]
    for each in work:
        with (
            locked(admin.connect, "UPDATE datahub_eventlog_runs SET looked = looked"),
            pytest.raises(LedgerUnavailable, match="timeout"),
        ):
            each()
    ledger.leases.settle(lease, "delivered")
    whole_life(ledger)


def test_a_touch_gives_up_on_locked_facts(new_connect: Connect, tmp_path: Path) -> None:
    ledger = impatient(new_connect, tmp_path)
    facts = Facts("hash", b"facts")
    ledger.runs.touch("one", definitions=facts)
    with (
        locked(new_connect, "UPDATE datahub_eventlog_definitions SET seen = 0"),
        pytest.raises(LedgerUnavailable, match="lock"),
    ):
        ledger.runs.touch("two", definitions=facts)


@pytest.fixture(params=["psycopg2", "psycopg"])
def driver(request: pytest.FixtureRequest) -> str:
    """A driver that takes several statements at once, and one that doesn't."""
    pytest.importorskip(request.param)
    name: str = request.param
    return name


def test_a_touch_gives_up_on_a_table_that_is_locked_as_a_whole(
    postgres_url: str, driver: str
) -> None:
    url = make_url(postgres_url).set(drivername=f"postgresql+{driver}")
    options = {"options": "-c statement_timeout=30000"}
    engine = create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=NullPool, connect_args=options
    )
    ledger = Ledger(engine.connect)
    facts = Facts("hash", b"facts")
    ledger.runs.touch("one", definitions=facts)
    connect = create_engine(postgres_url, poolclass=NullPool).connect
    for table, brought in (("runs", None), ("definitions", facts)):
        lock = f"LOCK TABLE datahub_eventlog_{table} IN ACCESS EXCLUSIVE MODE"
        with locked(connect, lock), pytest.raises(LedgerUnavailable, match="lock timeout"):
            ledger.runs.touch("one", definitions=brought)
    ledger.runs.touch("one")
    assert lease_of(ledger, "one").touches == 2


def test_a_touch_leaves_no_impatience_on_a_pooled_connection(
    postgres_url: str, driver: str
) -> None:
    url = make_url(postgres_url).set(drivername=f"postgresql+{driver}")
    engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)
    ledger = Ledger(engine.connect)
    ledger.runs.touch("one", definitions=Facts("hash", b"facts"))
    with engine.connect() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "0"
    engine.dispose()


def test_a_claim_sees_what_the_one_that_it_waited_for_has_written(postgres_url: str) -> None:
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    ledger = Ledger(engine.connect)
    ledger.runs.touch("one")
    ledger.runs.touch("three")
    one, three = lease_of(ledger, "one"), lease_of(ledger, "three")
    first, last = Claim("urn", "status", 1.0, "same"), Claim("urn", "status", 3.0, "same")
    ledger.claims.grant(one, MINUTE, [first], resend_after=MINUTE)
    ledger.claims.confirm(one, [first])
    two = "UPDATE datahub_eventlog_states SET run_id = 'two', time = 2, hash = 'x', sent = NULL"
    writer = create_engine(postgres_url, poolclass=NullPool)
    with ThreadPoolExecutor(1) as pool, writer.connect() as connection:
        connection.execute(text(two))
        granted = pool.submit(ledger.claims.grant, three, MINUTE, [last], resend_after=MINUTE)
        wait_for_a_waiter(engine)
        connection.commit()
        assert granted.result() == [True]


def wait_for_a_waiter(engine: Engine) -> None:
    """Return when somebody waits for a lock on the database."""
    waiters = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + 60
    with engine.connect() as connection:
        while not connection.execute(waiters).scalar():
            assert time.monotonic() < deadline


def test_many_touches_of_one_run_are_all_counted(connect: Connect) -> None:
    ledger = Ledger(connect)
    ledger.database.migrate()
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(ledger.runs.touch, "one") for _ in range(40)]:
            each.result()
    assert lease_of(ledger, "one").touches == 40


def test_a_server_that_is_gone_is_reported_and_used_again_when_it_is_back(
    own_postgres: PostgresServer,
) -> None:
    with own_postgres.database() as url:
        ledger = Ledger(create_engine(url, pool_size=1, pool_pre_ping=True).connect)
        ledger.runs.touch("one")
        own_postgres.kill()
        with pytest.raises(LedgerUnavailable) as caught:
            ledger.runs.touch("one")
        assert caught.value.__cause__ is not None
        own_postgres.start()
        ledger.runs.touch("one")
        assert lease_of(ledger, "one").touches == 2


def test_a_connection_that_cannot_be_had_is_reported_whatever_its_error() -> None:
    def connect() -> AbstractContextManager[Connection]:
        raise OSError("no more sockets")

    with pytest.raises(LedgerUnavailable, match="no more sockets"):
        Ledger(connect).runs.touch("one")


def test_an_error_tells_no_password(humble_url: str) -> None:
    url = make_url(humble_url).set(database="absent")
    ledger = Ledger(create_engine(url, poolclass=NullPool).connect)
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.runs.touch("one")
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("not a database, but long enough to be looked at as if it were one" * 20)
    with pytest.raises(LedgerUnavailable, match="not a database"):
        Ledger.in_file(str(path), patience=1).runs.touch("one")


def test_a_file_that_can_only_be_read_is_reported_and_shows_its_status(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.in_file(str(path), patience=1).runs.touch("one")
    url = f"sqlite:///file:{path}?mode=ro&uri=true"
    ledger = Ledger(create_engine(url, poolclass=NullPool).connect)
    for write in (
        ledger.database.migrate,
        lambda: ledger.runs.touch("one"),
        lambda: lease_of(ledger, "one"),
    ):
        with pytest.raises(LedgerUnavailable, match="readonly"):
            write()
    assert ledger.reports.status().runs["pending"] == 1


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="unable to open"):
        Ledger.in_file(str(tmp_path / "absent" / "ledger.db"), patience=1).runs.touch("one")


def test_a_file_lets_readers_and_writers_not_wait_for_each_other(tmp_path: Path) -> None:
    connect = file_connections(str(tmp_path / "ledger.db"), patience=1)
    Ledger(connect).runs.touch("one")
    with connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
