from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pipelines
import pytest
from custom_storages import NoSqlEventLogStorage
from dagster import AssetKey, DagsterEventType, EventLogEntry, job, op
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData
from dagster._core.storage.event_log import (
    ConsolidatedSqliteEventLogStorage,
    InMemoryEventLogStorage,
    SqliteEventLogStorage,
)
from dagster._core.storage.event_log.base import EventLogStorage
from dagster_postgres import PostgresEventLogStorage
from entries import RUN, entry, materialized, message
from instances import in_memory
from postgres import over_psycopg2
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.pool import NullPool
from visitors import make_tables, visitor

from datahub_eventlog import DataHubEventLogStorage, capture, ledger_location
from datahub_eventlog.capture import Capture, Settings, process
from datahub_eventlog.capture.policy import MOST_RUNS, RUNLESS, TouchPolicy
from datahub_eventlog.capture.warning_log import MOST_TEXTS, WarningLog
from datahub_eventlog.definitions import LoadedJob, decode, read
from datahub_eventlog.ledger import Lease, Ledger
from datahub_eventlog.ledger_location import FILE, ledger_beside

INTERVAL = 5.0


# When to touch


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Clocked:
    """The policy, and a clock that a test moves."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.policy = TouchPolicy(self.clock)

    def due(self, *types: str, run: str = RUN, after: float = 0.0) -> bool:
        self.clock.now += after
        return self.policy.is_due(run, set(types), INTERVAL)

    def fails(self, *, run: str = RUN, spent: float = 0.001) -> None:
        self.policy.touch_failed(run, spent, INTERVAL)


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


def test_the_first_run_level_event_of_a_run_is_due_at_once_and_the_next_one_is_not(
    clocked: Clocked,
) -> None:
    assert clocked.due("RUN_ENQUEUED")
    assert not clocked.due("RUN_DEQUEUED")
    assert not clocked.due("RUN_STARTING", after=1)


def test_the_start_of_a_run_is_due_whatever_came_before_and_only_once(clocked: Clocked) -> None:
    assert clocked.due("RUN_STARTING")
    assert clocked.due("RUN_START")
    assert not clocked.due("RUN_START")


def test_every_terminal_event_is_due(clocked: Clocked) -> None:
    assert clocked.due("RUN_START")
    assert clocked.due("RUN_FAILURE")
    assert clocked.due("RUN_FAILURE")
    assert clocked.due("RUN_CANCELED")


def test_the_events_of_a_short_step_process_are_never_due(clocked: Clocked) -> None:
    assert not any(clocked.due("STEP_START", after=0.1) for _ in range(40))


def test_a_long_step_process_is_noticed_once_an_interval(clocked: Clocked) -> None:
    due = [clocked.due("ASSET_MATERIALIZATION", after=1) for _ in range(16)]
    assert [index for index, is_due in enumerate(due) if is_due] == [5, 10, 15]


def test_the_interval_counts_from_the_last_touch(clocked: Clocked) -> None:
    clocked.due("STEP_START")
    assert clocked.due("RUN_START", after=3)
    assert not clocked.due("STEP_SUCCESS", after=4)
    assert clocked.due("STEP_SUCCESS", after=1)


def test_runs_have_intervals_of_their_own(clocked: Clocked) -> None:
    assert clocked.due("RUN_START", run="a")
    assert clocked.due("RUN_START", run="b")


def test_every_event_without_a_run_is_due(clocked: Clocked) -> None:
    assert clocked.due("ASSET_MATERIALIZATION", run=RUNLESS)
    assert clocked.due("ASSET_OBSERVATION", run=RUNLESS)


def test_a_failed_touch_is_due_again_at_the_next_event_after_a_pause(clocked: Clocked) -> None:
    assert clocked.due("RUN_START")
    clocked.fails()
    assert not clocked.due("STEP_START")
    assert clocked.due("STEP_START", after=INTERVAL)
    assert not clocked.due("STEP_START")


def test_the_pause_grows_with_the_time_that_the_failed_touch_took(clocked: Clocked) -> None:
    assert clocked.due("RUN_START")
    clocked.fails(spent=1.0)
    assert not clocked.due("STEP_START", after=19)
    assert clocked.due("STEP_START", after=1)


def test_the_end_of_a_run_does_not_wait_for_the_pause(clocked: Clocked) -> None:
    assert clocked.due("RUN_START")
    clocked.fails(spent=1.0)
    assert clocked.due("RUN_SUCCESS")


def test_what_fell_into_the_pause_is_missed_and_taken_once(clocked: Clocked) -> None:
    assert clocked.due("RUN_START", run="a")
    clocked.fails(run="a")
    assert not clocked.due("RUN_ENQUEUED", run="b")
    assert not clocked.due("ASSET_MATERIALIZATION", run=RUNLESS)
    missed = [clocked.policy.next_missed() for _ in range(4)]
    assert missed == ["a", "b", RUNLESS, None]


def test_the_process_that_stored_the_start_is_the_one_that_executes_the_run(
    clocked: Clocked,
) -> None:
    clocked.due("RUN_START", run="a")
    clocked.due("RUN_FAILURE", run="b")
    assert clocked.policy.was_started("a")
    assert not clocked.policy.was_started("b")
    assert not clocked.policy.was_started("c")


def test_a_process_remembers_a_bounded_number_of_runs(clocked: Clocked) -> None:
    for number in range(10_000):
        clocked.due("RUN_START", run=str(number))
        clocked.fails(run=str(number), spent=0)
        clocked.due("RUN_SUCCESS", run=str(number), after=INTERVAL)
    assert len(clocked.policy) == MOST_RUNS
    assert len(clocked.policy._missed) <= MOST_RUNS


def test_of_many_threads_at_once_only_one_is_told_to_touch(clocked: Clocked) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> bool:
        barrier.wait()
        return clocked.due("RUN_START")

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


# Warning


def test_the_same_warning_is_logged_once_a_minute_and_always_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    warnings = WarningLog(clock)
    for _ in range(3):
        warnings.warn("no disk")
    warnings.warn("no network")
    clock.now += 60
    warnings.warn("no disk")
    assert caplog.messages == ["no disk", "no network", "no disk"]
    assert warnings.count == 5


def test_a_warning_of_the_whole_process_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    warnings = WarningLog(Clock())
    warnings.warn_once("so it is")
    warnings.warn_once("so it is")
    assert caplog.messages == ["so it is"]


def test_many_different_warnings_are_not_remembered_for_ever() -> None:
    warnings = WarningLog(Clock())
    for number in range(2 * MOST_TEXTS):
        warnings.warn(str(number))
    assert len(warnings._logged) == MOST_TEXTS


# Storing


def wrapped(backend: EventLogStorage, **options: Any) -> DataHubEventLogStorage:
    return DataHubEventLogStorage.around(backend, {"dispatch": "off", **options})


Backend = Callable[[], EventLogStorage]


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Makes storages on the same event log."""
    if request.param == "sqlite":
        return lambda: SqliteEventLogStorage(str(tmp_path))
    url = over_psycopg2(request.getfixturevalue("postgres_url"))
    return lambda: PostgresEventLogStorage(url)


def ledger_of(storage: EventLogStorage) -> Ledger:
    return ledger_beside(storage, patience=1)


def leases(storage: EventLogStorage) -> list[Lease]:
    return ledger_of(storage).leases.take("test", 100, timedelta(minutes=1))


def touched(storage: EventLogStorage) -> dict[str, int]:
    """How often each run was touched."""
    return {lease.run_id: lease.touches for lease in leases(storage)}


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements that are executed on whatever connection, and the connections made."""
    seen: list[str] = []

    def execute(*args: Any) -> None:
        seen.append(args[2])

    def connect(*_: Any) -> None:
        seen.append("CONNECT")

    event.listen(Engine, "before_cursor_execute", execute)
    event.listen(Engine, "engine_connect", connect)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", execute)
        event.remove(Engine, "engine_connect", connect)


def test_an_event_is_stored_and_its_run_touched(backend: Backend) -> None:
    storage = wrapped(backend())
    storage.store_event(entry("RUN_START"))
    assert [each.run_id for each in storage.get_logs_for_run(RUN)] == [RUN]
    assert touched(storage) == {RUN: 1}


class Batching(InMemoryEventLogStorage):
    """Remembers the batches that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Sequence[EventLogEntry]] = []

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        self.batches.append(events)
        super().store_event_batch(events)


def test_a_batch_reaches_the_backend_as_a_batch() -> None:
    backend = Batching()
    events = [materialized("a"), materialized("b")]
    wrapped(backend).store_event_batch(events)
    assert backend.batches == [events]
    assert len(backend.get_logs_for_run(RUN)) == 2
    backend.dispose()


def test_a_batch_reaches_the_log_and_touches_each_of_its_runs_once(backend: Backend) -> None:
    storage = wrapped(backend(), touch_interval=0)
    storage.store_event_batch([materialized("a"), materialized("b"), materialized("a", "other")])
    assert len(storage.get_logs_for_run(RUN)) == 2
    assert touched(storage) == {RUN: 1, "other": 1}


def test_noise_does_not_touch_anything(backend: Backend) -> None:
    storage = wrapped(backend(), touch_interval=0)
    storage.store_event(message("hello"))
    storage.store_event(entry("ENGINE_EVENT", data=EngineEventData()))
    assert touched(storage) == {}


@pytest.mark.skipif(
    "FRESHNESS_STATE_CHANGE" not in DagsterEventType.__members__, reason="newer than this Dagster"
)
def test_that_an_asset_has_no_freshness_policy_is_noise(backend: Backend) -> None:
    """The daemon stores it once of every asset."""
    from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

    storage = wrapped(backend())
    for state, expected in (("NOT_APPLICABLE", {}), ("PASS", {RUNLESS: 1})):
        change = FreshnessStateChange(
            key=AssetKey("a"),
            new_state=FreshnessState(state),
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=0.0,
        )
        storage.store_event(entry("FRESHNESS_STATE_CHANGE", run_id=RUNLESS, data=change))
        assert touched(storage) == expected


def test_nothing_is_noted_of_an_event_that_the_backend_refuses(backend: Backend) -> None:
    storage = wrapped(backend())
    with pytest.raises(Exception, match="event"):
        storage.store_event("no event")  # type: ignore[arg-type]
    assert touched(storage) == {}
    assert process().warnings.count == 0


def test_storages_of_one_process_share_what_was_touched(backend: Backend) -> None:
    wrapped(backend()).store_event(entry("RUN_START"))
    transient = wrapped(backend())
    transient.store_event(entry("STEP_START"))
    assert touched(transient) == {RUN: 1}


def test_a_switched_off_capture_only_stores(backend: Backend) -> None:
    storage = wrapped(backend(), enabled=False)
    storage.store_event(entry("RUN_START"))
    assert len(storage.get_logs_for_run(RUN)) == 1
    assert touched(storage) == {}


@pytest.mark.parametrize(
    ("kinds", "touches"),
    [
        (["RUN_START"], 1),
        (["STEP_START"], 0),
        (["RUN_STARTING", "RUN_ENQUEUED"], 1),
        (["RUN_START", "STEP_START", "STEP_SKIPPED", "STEP_RESTARTED"], 1),
        (["RUN_START", "STEP_START", "RUN_SUCCESS"], 2),
        (["RUN_FAILURE", "RUN_FAILURE"], 2),
    ],
)
def test_a_touch_is_one_statement_and_everything_else_costs_none(
    backend: Backend, kinds: list[str], touches: int
) -> None:
    plain, storage = backend(), wrapped(backend())
    storage.store_event(entry("RUN_START", run_id="before"))
    with statements() as without:
        for kind in kinds:
            plain.store_event(entry(kind, run_id="a"))
    with statements() as counted:
        for kind in kinds:
            storage.store_event(entry(kind, run_id="b"))
    ours = [each for each in counted if "datahub_eventlog" in each]
    assert len(ours) == touches
    assert counted.count("CONNECT") - without.count("CONNECT") == touches
    others = [each for each in counted if each != "CONNECT" and each not in ours]
    assert len(others) == len([each for each in without if each != "CONNECT"])


def test_an_event_without_a_run_touches_the_row_of_the_runless_events(backend: Backend) -> None:
    storage = wrapped(backend())
    storage.store_event(materialized("a", run_id=RUNLESS))
    storage.store_event(materialized("a", run_id=RUNLESS))
    assert touched(storage) == {RUNLESS: 2}


def test_many_threads_store_their_events_and_every_run_is_touched(backend: Backend) -> None:
    storage = wrapped(backend())
    runs = [f"run-{number}" for number in range(6)]

    def execute(run_id: str) -> None:
        for kind in ("RUN_START", "STEP_START", "RUN_SUCCESS"):
            storage.store_event(entry(kind, run_id=run_id))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(execute, runs))
    assert touched(storage) == dict.fromkeys(runs, 2)
    assert all(len(storage.get_logs_for_run(run)) == 3 for run in runs)
    assert process().warnings.count == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_touches_for_itself(backend: Backend) -> None:
    storage = wrapped(backend())
    storage.store_event(entry("RUN_START"))
    child = os.fork()
    if child == 0:
        storage.store_event(entry("RUN_START"))
        os._exit(process().warnings.count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert touched(storage) == {RUN: 2}


# What goes wrong


class Faulty(InMemoryEventLogStorage):
    """An event log whose connections can be made to fail, but not for storing events."""

    error: BaseException | None = None

    def index_connection(self) -> Any:
        if self.error is not None:
            raise self.error
        return super().index_connection()


@pytest.fixture
def faulty() -> Iterator[tuple[DataHubEventLogStorage, Faulty]]:
    backend = Faulty()
    yield wrapped(backend, touch_interval=0), backend
    backend.dispose()


def test_an_error_of_the_ledger_is_logged_and_counted_and_not_raised(
    faulty: tuple[DataHubEventLogStorage, Faulty], caplog: pytest.LogCaptureFixture
) -> None:
    storage, backend = faulty
    backend.error = OSError("no route to host")
    for _ in range(3):
        storage.store_event(entry("RUN_SUCCESS"))
    assert len(storage.get_logs_for_run(RUN)) == 3
    assert len(caplog.messages) == 1
    assert "no route to host" in caplog.messages[0]
    assert process().warnings.count == 3


@pytest.mark.parametrize("repaired", [True, False])
def test_the_end_of_a_run_is_known_whatever_became_of_other_touches(*, repaired: bool) -> None:
    ended: list[tuple[Capture, str]] = []
    backend = Faulty()
    recording = Capture(
        backend,
        Settings({"touch_interval": 0}),
        on_run_end=lambda of, run_id, _: ended.append((of, run_id)),
    )
    recording.record(entry("RUN_START"))
    backend.error = OSError("down")
    recording.record(entry("RUN_START", run_id="other"))
    backend.error = None if repaired else backend.error
    recording.record(entry("RUN_SUCCESS"))
    assert ended == [(recording, RUN)]
    backend.dispose()


def test_an_interrupt_during_the_touch_passes(
    faulty: tuple[DataHubEventLogStorage, Faulty],
) -> None:
    storage, backend = faulty
    backend.error = DagsterExecutionInterruptedError()
    with pytest.raises(DagsterExecutionInterruptedError):
        storage.store_event(entry("RUN_START"))
    assert len(storage.get_logs_for_run(RUN)) == 1


def test_what_could_not_be_touched_is_touched_with_the_next_event_of_any_run(
    faulty: tuple[DataHubEventLogStorage, Faulty],
) -> None:
    storage, backend = faulty
    backend.error = OSError("down")
    storage.store_event(entry("RUN_START", run_id="a"))
    storage.store_event(entry("STEP_START", run_id=RUNLESS))
    backend.error = None
    storage.store_event(entry("RUN_SUCCESS", run_id="b"))
    assert set(touched(storage)) == {"a", "b", RUNLESS}


def test_a_locked_ledger_holds_up_one_event_and_not_those_after_it(tmp_path: Path) -> None:
    storage = wrapped(SqliteEventLogStorage(str(tmp_path)), touch_interval=0)
    storage.store_event(entry("RUN_START"))
    with locked(tmp_path / "index.db"):
        for _ in range(20):
            storage.store_event(entry("STEP_START"))
        assert process().warnings.count == 1
    assert len(storage.get_logs_for_run(RUN)) == 21
    storage.store_event(entry("RUN_SUCCESS"))
    assert touched(storage) == {RUN: 2}


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the write lock of a SQLite file."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


def test_a_locked_row_holds_up_one_event_and_not_those_after_it(postgres_url: str) -> None:
    url = over_psycopg2(postgres_url)
    storage = wrapped(PostgresEventLogStorage(url), touch_interval=0)
    storage.store_event(entry("RUN_START"))
    with create_engine(url, poolclass=NullPool).begin() as other:
        other.execute(text("SELECT * FROM datahub_eventlog_runs FOR UPDATE"))
        for _ in range(20):
            storage.store_event(entry("STEP_START"))
        assert process().warnings.count == 1
    storage.store_event(entry("RUN_SUCCESS"))
    assert touched(storage) == {RUN: 2}


def test_the_ledgers_tables_are_made_anew_if_somebody_drops_them(backend: Backend) -> None:
    storage = wrapped(backend())
    storage.store_event(entry("RUN_START", run_id="a"))
    with storage.index_connection() as connection:
        connection.execute(text("DROP TABLE datahub_eventlog_runs"))
    storage.store_event(entry("RUN_START", run_id="b"))
    assert touched(storage) == {"b": 1}


# Where the ledger lives


@pytest.mark.parametrize("kind", [ConsolidatedSqliteEventLogStorage, SqliteEventLogStorage])
def test_on_sqlite_the_ledger_is_in_the_file_of_the_event_log(
    tmp_path: Path, kind: Callable[[str], EventLogStorage]
) -> None:
    storage = wrapped(kind(str(tmp_path)))
    storage.store_event(entry("RUN_START"))
    assert touched(storage) == {RUN: 1}
    assert not list(tmp_path.rglob(FILE))


def test_in_memory_the_ledger_is_there_as_well(tmp_path: Path) -> None:
    storage = wrapped(InMemoryEventLogStorage())
    with in_memory(storage, tmp_path):
        storage.store_event(entry("RUN_START"))
        assert touched(storage) == {RUN: 1}
        assert not list(tmp_path.rglob(FILE))


def test_beside_an_event_log_that_is_not_sql_the_ledger_is_a_local_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = wrapped(NoSqlEventLogStorage.from_config_value(None, {}))
    with in_memory(storage, tmp_path) as instance:
        storage.store_event(entry("RUN_START"))
        storage.store_event(entry("RUN_SUCCESS"))
        found = ledger_location.ledger_of(instance, patience=1).leases.take(
            "test", 9, timedelta(minutes=1)
        )
    assert [(each.run_id, each.touches) for each in found] == [(RUN, 2)]
    assert tmp_path.joinpath(FILE).exists()
    (warning,) = caplog.messages
    assert "NoSqlEventLogStorage has no database for the ledger." in warning


@pytest.mark.parametrize("is_allowed", [True, False])
def test_where_tables_may_not_be_made_the_ledger_is_a_local_file_and_one_warning_says_so(
    postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_allowed: bool
) -> None:
    with visitor(postgres_url) as url:
        backend = PostgresEventLogStorage(url, should_autocreate_tables=is_allowed)
        storage = wrapped(backend)
        with in_memory(storage, tmp_path) as instance:
            storage.store_event(entry("RUN_START"))
            storage.store_event(entry("RUN_SUCCESS"))
            assert len(storage.get_logs_for_run(RUN)) == 2
            (warning,) = caplog.messages
            ledger = ledger_location.ledger_of(instance, patience=1)
            assert [
                each.touches for each in ledger.leases.take("test", 9, timedelta(minutes=1))
            ] == [2]
    assert "datahub-eventlog ddl" in warning
    assert tmp_path.joinpath(FILE).exists()


def test_when_an_administrator_has_made_the_tables_new_processes_find_the_ledger_there(
    postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with visitor(postgres_url) as url:
        with in_memory(wrapped(PostgresEventLogStorage(url)), tmp_path) as instance:
            instance.event_log_storage.store_event(entry("RUN_START", run_id="before"))
        (warning,) = caplog.messages
        assert "restart Dagster" in warning
        make_tables(make_url(url))
        capture.forget()

        with in_memory(wrapped(PostgresEventLogStorage(url)), tmp_path) as instance:
            instance.event_log_storage.store_event(entry("RUN_START", run_id="after"))
            instance.event_log_storage.store_event(entry("RUN_SUCCESS", run_id="after"))
            assert touched(instance.event_log_storage) == {"after": 2}
            assert ledger_location.ledger_of(instance, patience=1).runs.state("after") == "leased"
    assert caplog.messages == [warning]


def test_without_an_instance_there_is_no_directory_for_a_local_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = wrapped(NoSqlEventLogStorage.from_config_value(None, {}))
    storage.store_event(entry("RUN_START"))
    assert len(storage.get_logs_for_run(RUN)) == 1
    assert "NoSqlEventLogStorage has no database for the ledger" in caplog.text


# What only definitions say


def test_the_definitions_of_a_run_are_stored_with_its_start(
    backend: Backend, tmp_path: Path
) -> None:
    storage = wrapped(backend())
    with in_memory(storage, tmp_path) as instance:
        pipelines.nested.execute_in_process(instance=instance)
        pipelines.nested.execute_in_process(instance=instance)
        first, second = leases(storage)
    assert first.definitions_hash is not None
    assert first.definitions_hash == second.definitions_hash
    packed = ledger_of(storage).runs.facts(first.definitions_hash)
    assert packed is not None
    assert decode(packed) == read(LoadedJob(pipelines.nested))


def test_definitions_that_could_not_be_stored_are_stored_by_the_next_touch(
    faulty: tuple[DataHubEventLogStorage, Faulty], tmp_path: Path
) -> None:
    storage, backend = faulty
    with in_memory(storage, tmp_path) as instance:
        backend.error = OSError("down")

        @op
        def repair() -> None:
            backend.error = None

        @job
        def repairing() -> None:
            repair()

        repairing.execute_in_process(instance=instance)
        (lease,) = leases(storage)
    assert lease.definitions_hash is not None


def test_the_first_touch_with_definitions_is_two_statements_and_one_connection(
    backend: Backend, tmp_path: Path
) -> None:
    storage = wrapped(backend())
    storage.store_event(entry("RUN_START", run_id="before"))
    with in_memory(storage, tmp_path) as instance, statements() as counted:
        pipelines.nested.execute_in_process(instance=instance)
    ours = [each for each in counted if "datahub_eventlog" in each]
    assert len(ours) == 3
    assert sum("INTO datahub_eventlog_definitions" in each for each in ours) == 1
