"""The database of the event log and the ledger restarts, is locked, full, or loses tables."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster_postgres import PostgresEventLogStorage
from deployment import Deployment, eventually, sqlite_yaml
from entries import entry
from instances import configured, write_yaml
from postgres import PostgresServer
from receiver import Receiver
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from visitors import visitor

from datahub_eventlog import DataHubEventLogStorage, capture
from datahub_eventlog.dispatcher import Dispatcher, pool, start_in_daemon
from datahub_eventlog.errors import LedgerUnavailable
from datahub_eventlog.ledger.tables import metadata
from datahub_eventlog.ledger_location import ledger_beside
from datahub_eventlog.reopening import opened
from datahub_eventlog.source import Source
from faults.scene import TOKEN, Scene, deliver_all, make, postgres_storage, take, two_ops


def _interrupted_by(trouble: Callable[[], None]) -> dg.JobDefinition:
    """A job in whose middle something happens to the database."""

    @dg.op
    def interrupt(x: int) -> int:
        trouble()
        return x

    @dg.job
    def interrupted() -> None:
        take(interrupt(make()))

    return interrupted


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_database_that_restarts_under_a_run_costs_neither_the_run_nor_its_delivery(
    tmp_path: Path, receiver: Receiver, own_postgres: PostgresServer, how: str
) -> None:
    def trouble() -> None:
        if how == "kill":
            own_postgres.kill()
            own_postgres.start()
        else:
            own_postgres.restart()

    with (
        own_postgres.database() as url,
        configured(tmp_path, **postgres_storage(url)) as instance,
    ):
        scene = Scene(instance, receiver)
        with scene.worker(scene.config(max_attempts=1)):
            before = scene.run(two_ops)
            result = _interrupted_by(trouble).execute_in_process(instance=instance)
            assert result.success
            after = scene.run(two_ops)
            run_ids = (before, result.run_id, after)
            eventually(lambda: scene.is_delivered(*run_ids), "all is delivered")
        scene.assert_true()


def test_a_worker_outlives_a_database_that_is_away_when_it_looks_for_lost_runs(
    tmp_path: Path, receiver: Receiver, own_postgres: PostgresServer
) -> None:
    with own_postgres.database() as url, configured(tmp_path, **postgres_storage(url)) as instance:
        scene = Scene(instance, receiver)
        pool(instance)
        source = Source(instance)
        source.updated(0.0, 10)
        own_postgres.kill()
        with pytest.raises(LedgerUnavailable, match="event log"):
            source.updated(0.0, 10)
        with pytest.raises(LedgerUnavailable, match="event log"):
            source.run("one")
        own_postgres.start()
        assert source.updated(0.0, 10) == []
        assert scene.counts() == {}


def test_a_database_that_goes_away_in_a_delivery_costs_neither_an_attempt_nor_a_lease(
    tmp_path: Path, receiver: Receiver, own_postgres: PostgresServer
) -> None:
    with (
        own_postgres.database() as url,
        configured(tmp_path, **postgres_storage(url)) as instance,
    ):
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        hang = receiver.fault("hang", when="after", path="action=ingest", count=1)
        with scene.dispatcher(scene.config(max_attempts=1)) as dispatcher:
            thread = threading.Thread(target=_tolerantly, args=(dispatcher,))
            thread.start()
            eventually(lambda: hang.happened, "a request hangs")
            own_postgres.stop()
            receiver.clear()
            thread.join(60)
            own_postgres.start()
            assert scene.counts() == {"leased": 1}
            deliver_all(dispatcher, scene)
        assert scene.is_delivered(run_id)
        scene.assert_true()


def _tolerantly(dispatcher: Dispatcher) -> None:
    """One round, as the loop does it."""
    with pytest.raises(LedgerUnavailable):
        dispatcher.run_once()


def test_a_daemons_dispatcher_starts_when_its_database_does(
    tmp_path: Path,
    receiver: Receiver,
    own_postgres: PostgresServer,
    logged: Callable[[int], list[str]],
) -> None:
    with (
        own_postgres.database() as url,
        configured(tmp_path, **postgres_storage(url)) as instance,
    ):
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        reference = instance.get_ref()
        own_postgres.stop()
        client = {"server": receiver.url, "token": TOKEN}
        daemon = start_in_daemon({"datahub_client_config": client}, lambda: opened(reference))
        eventually(lambda: logged(logging.ERROR), "it can't start yet")
        own_postgres.start()
        eventually(lambda: scene.is_delivered(run_id), "the run is delivered")
        daemon.stop(timedelta(seconds=60))
        assert scene.ledger.reports.dispatchers() == []
        scene.assert_true()


def test_a_daemon_says_what_to_run_while_the_ledgers_tables_are_old(
    tmp_path: Path, receiver: Receiver, postgres_url: str, logged: Callable[[int], list[str]]
) -> None:
    config = postgres_storage(postgres_url)
    with configured(tmp_path, **config) as instance:
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        engine = create_engine(postgres_url)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE datahub_eventlog_runs DROP COLUMN unfinished"))
        storage = config["storage"]["custom"]["config"]["storage"]
        storage["postgres"]["should_autocreate_tables"] = False
        write_yaml(tmp_path, **config)
        with dg.DagsterInstance.from_config(str(tmp_path)) as forbidden:
            reference = forbidden.get_ref()
        client = {"server": receiver.url, "token": TOKEN}
        daemon = start_in_daemon({"datahub_client_config": client}, lambda: opened(reference))
        eventually(lambda: logged(logging.ERROR), "it says what is to be done")
        (line,) = logged(logging.ERROR)
        assert line.startswith("The DataHub dispatcher waits for its ledger.")
        (statement,) = re.findall("ALTER TABLE .*", line)
        with engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()
        eventually(lambda: scene.is_delivered(run_id), "the run is delivered")
        daemon.stop(timedelta(seconds=60))
        assert logged(logging.ERROR) == [line]
        scene.assert_true()


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the lock of a SQLite file."""
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        assert process.poll() is None
        process.communicate()


def test_a_run_goes_on_while_another_process_has_the_ledger_locked(
    tmp_path: Path, receiver: Receiver
) -> None:
    block = {"dispatch": "off", "touch_interval": 0.01}
    with configured(tmp_path, **sqlite_yaml(block)) as instance:
        scene = Scene(instance, receiver)
        lock = locked(tmp_path / "history" / "runs" / "index.db")

        @dg.op
        def begin() -> int:
            lock.__enter__()
            return 1

        @dg.op
        def end(x: int) -> int:
            lock.__exit__(None, None, None)
            return x

        @dg.op
        def middle(x: int) -> int:
            return x

        @dg.job
        def under_lock() -> None:
            end(middle(begin()))

        result = under_lock.execute_in_process(instance=instance)
        assert result.success
        with scene.dispatcher() as dispatcher:
            deliver_all(dispatcher, scene)
        assert scene.is_delivered(result.run_id)
        scene.assert_true()


@pytest.mark.parametrize("kind", ["scene", "on_postgres"])
def test_a_ledger_that_is_dropped_under_a_run_is_made_again(
    request: pytest.FixtureRequest, kind: str
) -> None:
    scene: Scene = request.getfixturevalue(kind)
    with scene.worker():
        before = scene.run(two_ops)
        eventually(lambda: scene.is_delivered(before), "the ledger works")
        job = _interrupted_by(partial(_drop, scene))
        result = job.execute_in_process(instance=scene.instance)
        assert result.success
        eventually(lambda: scene.is_delivered(result.run_id), "delivery goes on")
    assert ("COMPLETE", "SUCCESS") in scene.of_run(result.run_id)


def _drop(scene: Scene) -> None:
    with scene.ledger.database._connect() as connection:
        for table in reversed(metadata.sorted_tables):
            table.drop(connection)
        connection.commit()


class Crowded(PostgresEventLogStorage):
    """Its server has no connection left as soon as an event is stored."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.crowd: list[Connection] = []
        self.is_crowded = False

    def store_event(self, event: dg.EventLogEntry) -> None:
        super().store_event(event)
        other = create_engine(self.postgres_url, poolclass=NullPool)
        while self.is_crowded:
            try:
                self.crowd.append(other.connect())
            except OperationalError:
                return

    def leave(self) -> None:
        self.is_crowded = False
        for each in self.crowd:
            each.close()


@pytest.fixture
def few_connections(postgres_url: str) -> Iterator[str]:
    """A database whose user has no more than four connections."""
    url = make_url(postgres_url).set(drivername="postgresql+psycopg2")
    user = f"few_{url.database}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {user} LOGIN CONNECTION LIMIT 4"))
        connection.execute(text(f"GRANT ALL ON SCHEMA public TO {user}"))
    yield url.set(username=user).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP OWNED BY {user}"))
        connection.execute(text(f"DROP ROLE {user}"))


def test_an_event_is_stored_at_once_where_no_connection_is_left_for_the_ledger(
    few_connections: str, logged: Callable[[int], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    capture.forget()
    backend = Crowded(few_connections)
    storage = DataHubEventLogStorage.around(backend)
    storage.store_event(entry("RUN_START", run_id="before"))
    backend.is_crowded = True
    storage.store_event(entry("RUN_START", run_id="one"))
    (complaint,) = logged(logging.WARNING)
    assert "too many connections" in complaint
    # Dagster's own way to a connection tries again and again, for seconds.
    assert "Retrying failed database connection" not in caplog.text

    backend.leave()
    storage.store_event(entry("RUN_SUCCESS", run_id="before"))
    ledger = ledger_beside(backend, patience=5)
    assert set(ledger.runs.states(["before", "one"])) == {"before", "one"}
    assert len(storage.get_logs_for_run("one")) == 1
    capture.forget()


ON_A_FULL_DISK = """
import resource, sys
import dagster as dg
from faults.scene import two_ops

with dg.DagsterInstance.get() as instance:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # What is written beyond that fails, as on a full disk; pipes and servers are no files.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    full = two_ops.execute_in_process(instance=instance)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = two_ops.execute_in_process(instance=instance)
assert full.success and after.success
"""


def test_a_full_disk_where_the_ledger_is_costs_no_run_and_delivery_goes_on(
    tmp_path: Path, receiver: Receiver, humble_url: str
) -> None:
    home = Deployment(
        tmp_path, postgres_storage(humble_url), {"PYTHONPATH": str(Path(__file__).parents[1])}
    )
    done = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK],
        env=home.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "A local file serves as the ledger instead" in done.stderr
    assert "could not be captured" in done.stderr
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        with scene.dispatcher() as dispatcher:
            deliver_all(dispatcher, scene)
        assert len(scene.run_ids()) == 2
        assert scene.is_delivered(*scene.run_ids())
        scene.assert_true()


@pytest.fixture
def humble_url(postgres_url: str) -> Iterator[str]:
    """A database with all of Dagster's tables, for a user who may make no others."""
    with visitor(postgres_url) as url:
        yield url
