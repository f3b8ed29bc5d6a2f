from __future__ import annotations

import gc
import inspect
import multiprocessing
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pipelines
import pytest
import yaml
from custom_storages import CustomStorage, NoSqlEventLogStorage
from dagster import DagsterInstance
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.events import DagsterEventBatchMetadata
from dagster._core.storage.event_log import (
    ConsolidatedSqliteEventLogStorage,
    SqliteEventLogStorage,
)
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs import InMemoryRunStorage
from dagster_postgres import PostgresEventLogStorage
from entries import RUN, entry, materialized
from instances import configured, write_yaml
from styles import named, style_a, style_b, touched

from datahub_eventlog import DataHubEventLogStorage, capture
from datahub_eventlog.default_storage import mixed_storages
from datahub_eventlog.errors import ConfigurationError
from datahub_eventlog.ledger_location import FILE
from datahub_eventlog.process_role import IS_DAEMON_VARIABLE, role

THREADS = 20


# Both styles, both databases


def test_a_run_is_stored_as_ever_and_touched(instance: DagsterInstance) -> None:
    result = pipelines.nested.execute_in_process(instance=instance)
    assert result.success
    assert instance.get_run_by_id(result.run_id) is not None
    assert touched(instance) == {result.run_id: 2}


def test_the_event_log_is_seen_as_what_it_wraps(instance: DagsterInstance) -> None:
    storage: Any = instance.event_log_storage
    kinds = (SqliteEventLogStorage, PostgresEventLogStorage)
    assert [isinstance(storage, kind) for kind in kinds].count(True) == 1
    assert isinstance(storage, DataHubEventLogStorage)


def test_of_a_pool_with_one_slot_the_second_claim_waits(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    assert storage.supports_global_concurrency_limits
    storage.set_concurrency_slots("pool", 1)
    assert storage.claim_concurrency_slot("pool", "run 1", "step").is_claimed
    assert not storage.claim_concurrency_slot("pool", "run 2", "step").is_claimed
    storage.free_concurrency_slots_for_run("run 1")
    assert storage.claim_concurrency_slot("pool", "run 2", "step").is_claimed


def test_a_batch_of_dagsters_is_written_when_it_is_complete(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "10")
    for key, is_end in (("a", False), ("b", True)):
        metadata = DagsterEventBatchMetadata("batch", is_end=is_end)
        instance.handle_new_event(materialized(key), batch_metadata=metadata)
        assert len(instance.all_logs(RUN)) == (2 if is_end else 0)


def test_the_instance_can_be_inspected_migrated_and_reindexed(instance: DagsterInstance) -> None:
    pipelines.nested.execute_in_process(instance=instance)
    assert "event_log_storage" in instance.info_str()
    assert "event_log_storage" in instance.schema_str()
    instance.upgrade()
    instance.reindex()
    assert instance.event_log_storage.get_maximum_record_id() is not None


def test_the_webserver_can_have_its_pooled_connections(instance: DagsterInstance) -> None:
    wanted = {"statement_timeout": 5000, "pool_recycle": 3600, "max_overflow": 2}
    known = inspect.signature(instance.optimize_for_webserver).parameters
    instance.optimize_for_webserver(**{each: wanted[each] for each in wanted if each in known})
    instance.report_engine_event("hello", run_id=RUN, job_name="job")
    instance.event_log_storage.store_event(entry("RUN_ENQUEUED"))
    assert touched(instance) == {RUN: 1}


def test_an_instance_opened_again_has_the_same_ledger(instance: DagsterInstance) -> None:
    result = pipelines.nested.execute_in_process(instance=instance)
    with DagsterInstance.from_ref(instance.get_ref()) as again:
        assert touched(again) == {result.run_id: 2}
        assert [run.run_id for run in again.get_runs()] == [result.run_id]


# Where the SQLite databases are


def test_style_b_without_a_backend_keeps_the_event_log_in_the_instances_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with configured(tmp_path, **style_b()) as instance:
        storage: Any = instance.event_log_storage
        assert isinstance(storage, SqliteEventLogStorage)
        pipelines.nested.execute_in_process(instance=instance)
    assert tmp_path.joinpath("history", "runs", "index.db").exists()


def test_threads_that_use_the_default_backend_for_the_first_time_make_one_only(
    tmp_path: Path,
) -> None:
    with configured(tmp_path, **style_b()) as instance:
        storage: Any = instance.event_log_storage
        together = threading.Barrier(THREADS)

        def backend() -> object:
            together.wait()
            return storage.datahub.backend

        with ThreadPoolExecutor(THREADS) as threads:
            found = [threads.submit(backend) for _ in range(THREADS)]
        assert {each.result() for each in found} == {storage.datahub.backend}


def test_style_b_without_a_backend_finds_the_log_also_where_artifacts_are_kept_apart(
    tmp_path: Path,
) -> None:
    artifacts = named(LocalArtifactStorage, base_dir=str(tmp_path / "apart"))
    with configured(tmp_path, local_artifact_storage=artifacts) as plain:
        run_id = pipelines.nested.execute_in_process(instance=plain).run_id
        events = len(plain.all_logs(run_id))
    with configured(tmp_path, local_artifact_storage=artifacts, **style_b()) as instance:
        assert len(instance.all_logs(run_id)) == events


def test_a_storage_outlives_its_instance(tmp_path: Path) -> None:
    with configured(tmp_path, **style_b()) as first:
        run_id = pipelines.nested.execute_in_process(instance=first).run_id
    storage = DagsterInstance.from_config(str(tmp_path)).event_log_storage
    gc.collect()
    assert storage.get_logs_for_run(run_id)
    storage.dispose()


def test_a_storage_that_outlived_its_instance_captures(tmp_path: Path) -> None:
    backend = named(SqliteEventLogStorage, base_dir=str(tmp_path / "history" / "runs"))
    with configured(tmp_path, **style_b(backend)):
        pass
    storage = DagsterInstance.from_config(str(tmp_path)).event_log_storage
    gc.collect()
    storage.store_event(entry("RUN_START"))
    storage.dispose()
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert touched(instance) == {RUN: 1}


def test_style_a_without_a_storage_is_sqlite_in_dagster_home_also_where_artifacts_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = named(LocalArtifactStorage, base_dir=str(tmp_path / "apart"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    write_yaml(tmp_path, local_artifact_storage=artifacts, **style_a(None))
    with DagsterInstance.get() as instance:
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert touched(instance) == {run_id: 2}
    assert tmp_path.joinpath("history", "runs", "index.db").exists()


def test_style_a_without_a_storage_is_sqlite_in_dagster_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    write_yaml(tmp_path, **style_a(None))
    with DagsterInstance.get() as instance:
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert touched(instance) == {run_id: 2}
    assert tmp_path.joinpath("history", "runs", "index.db").exists()


def test_style_a_without_a_storage_says_what_to_write_where_dagster_home_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(ConfigurationError, match=r"storage: \{sqlite: \{base_dir: \.\.\.\}\}"):
        configured(tmp_path, **style_a(None))


def test_style_a_without_a_storage_says_what_to_write_where_dagster_home_is_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with pytest.raises(ConfigurationError, match="base_dir") as raised:
        configured(other, **style_a(None))
    assert str(home) in str(raised.value)
    assert str(other) in str(raised.value)


MISPLACED: dict[str, dict[str, Any]] = {
    "DataHubStorage stands in dagster.yaml where only an event log storage may": {
        "event_log_storage": {"module": "datahub_eventlog", "class": "DataHubStorage"}
    },
    "DataHubEventLogStorage stands in dagster.yaml where only a whole storage may": {
        "storage": {"custom": {"module": "datahub_eventlog", "class": "DataHubEventLogStorage"}}
    },
}


ADVICE = re.compile(r"(?:storage|event_log_storage): \{.*?\}\}+")


@pytest.mark.parametrize("message", MISPLACED)
def test_a_class_of_ours_in_the_place_of_the_other_says_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        configured(tmp_path, **MISPLACED[message])
    advice = ADVICE.findall(str(raised.value))
    assert len(advice) == 2
    for number, block in enumerate(advice):
        (directory := tmp_path / str(number)).mkdir()
        monkeypatch.setenv("DAGSTER_HOME", str(directory))
        written = re.sub(r"(storage|backend): \.\.\., ", "", block).replace("...", "{}")
        with configured(directory, **yaml.safe_load(written)) as instance:
            assert issubclass(type(instance.event_log_storage), DataHubEventLogStorage)


SUBCLASSES = """
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.base import EventLogStorage
from datahub_eventlog import DataHubEventLogStorage, DataHubStorage
print(issubclass(DataHubStorage, EventLogStorage))
print(issubclass(DataHubEventLogStorage, DagsterStorage))
"""


def test_whoever_else_asks_hears_that_neither_class_is_the_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUBCLASSES], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


# Backends of every kind


def test_style_a_wraps_a_storage_of_the_users_own(tmp_path: Path) -> None:
    storage = {"custom": named(CustomStorage, base_dir=str(tmp_path))}
    with configured(tmp_path, **style_a(storage)) as instance:
        events: Any = instance.event_log_storage
        assert isinstance(events, NoSqlEventLogStorage)
        assert isinstance(instance.run_storage, InMemoryRunStorage)
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert touched(instance) == {run_id: 2}
        assert tmp_path.joinpath(FILE).exists()


@pytest.mark.parametrize("kind", [ConsolidatedSqliteEventLogStorage, NoSqlEventLogStorage])
def test_style_b_wraps_any_event_log_storage(tmp_path: Path, kind: type) -> None:
    backend = named(kind, base_dir=str(tmp_path))
    with configured(tmp_path, **style_b(backend)) as instance:
        storage: Any = instance.event_log_storage
        assert isinstance(storage, kind)
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert touched(instance) == {run_id: 2}


def test_dagsters_storage_that_older_versions_read_works_with_style_a(tmp_path: Path) -> None:
    with configured(tmp_path, **style_a({"sqlite": {"base_dir": str(tmp_path)}})) as instance:
        legacy = instance.get_ref().event_storage
        assert legacy is not None
        legacy.register_instance(instance)
        legacy.store_event(entry("RUN_START"))
        assert touched(instance) == {RUN: 1}
        legacy.dispose()


def test_the_backends_part_is_checked_by_dagster(tmp_path: Path) -> None:
    with pytest.raises(DagsterInvalidConfigError, match="postgers"):
        configured(tmp_path, **style_a({"postgers": {}}))
    wrong = style_b()
    wrong["event_log_storage"]["config"]["datahbu"] = {}
    with pytest.raises(DagsterInvalidConfigError, match="datahbu"):
        configured(tmp_path, **wrong)


def test_an_event_log_on_postgres_beside_runs_on_sqlite_is_told_once(
    tmp_path: Path, pg_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = named(PostgresEventLogStorage, postgres_url=pg_url)
    with configured(tmp_path, **style_b(backend)) as instance:
        pipelines.nested.execute_in_process(instance=instance)
        pipelines.nested.execute_in_process(instance=instance)
        warnings = [
            message for message in caplog.messages if "run_storage and schedule_storage" in message
        ]
        assert warnings == [mixed_storages(instance)]


def test_no_mixture_is_told_where_there_is_none(instance: DagsterInstance) -> None:
    assert mixed_storages(instance) is None


# Our block never stops a process

TYPO = "datahub: evn: there is no such option. Did you mean env?"
NO_SERVER = "datahub: datahub_client_config: server: name it here or in DATAHUB_GMS_URL"
NO_HOME = "datahub: datahub_file_config: path: there is no home directory"
WRONG_BLOCKS = {
    "unknown option": ({"evn": "PROD"}, [TYPO]),
    "no block": ([1, 2], ["datahub: expected a block of options"]),
    "text": ("http://localhost:8080", ["datahub: expected a block of options"]),
    "wrong type": ({"max_attempts": "many"}, ["datahub: max_attempts: expected a whole number"]),
    "unset variable": ({"datahub_client_config": {"server": {"env": "NO_SUCH_VARIABLE"}}}, []),
    "unimportable extractor": ({"asset_lineage_extractor": "no_such_module:function"}, []),
    "empty": (None, []),
    "no server": ({"datahub_client_config": {"server": None}}, [NO_SERVER]),
    "endless": ({"poll_interval": float("inf")}, ["datahub: poll_interval: expected seconds"]),
    "nobody's home": ({"datahub_file_config": {"path": "~no-such-user/x"}}, [NO_HOME]),
}


@pytest.mark.parametrize(("block", "warnings"), WRONG_BLOCKS.values(), ids=WRONG_BLOCKS)
def test_whatever_stands_in_our_block_runs_go_on_and_are_captured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, block: Any, warnings: list[str]
) -> None:
    with configured(tmp_path, **style_b(datahub=block)) as instance:
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert touched(instance) == {run_id: 2}
    with DagsterInstance.from_ref(instance.get_ref()):
        pass
    ours = [
        record.message for record in caplog.records if record.name == "dagster.datahub_eventlog"
    ]
    assert len(ours) == len(warnings)
    assert all(each.startswith(start) for each, start in zip(ours, warnings, strict=True))


@pytest.mark.parametrize("style", ["A", "B"])
def test_a_storage_that_is_configured_around_itself_works_and_says_what_to_leave_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, style: str
) -> None:
    inner = {
        "A": style_a({"sqlite": {"base_dir": str(tmp_path)}}).get("storage"),
        "B": style_b().get("event_log_storage"),
    }[style]
    twice = style_a(inner) if style == "A" else style_b(inner)
    with configured(tmp_path, **twice) as instance:
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert set(touched(instance)) == {run_id}
    (warning,) = caplog.messages
    assert "around itself in dagster.yaml: leave one of the two out" in warning


def test_capture_can_be_switched_off_in_dagster_yaml(tmp_path: Path) -> None:
    with configured(tmp_path, **style_b(datahub={"enabled": False})) as instance:
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert instance.all_logs(run_id)
        assert touched(instance) == {}


def test_one_environment_variable_switches_off_what_dagster_yaml_switches_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAHUB_EVENTLOG_ENABLED", "false")
    with configured(tmp_path, **style_b(datahub={"enabled": True})) as instance:
        pipelines.nested.execute_in_process(instance=instance)
        assert touched(instance) == {}


def test_dispatch_off_still_captures(tmp_path: Path) -> None:
    with configured(tmp_path, **style_b(datahub={"dispatch": "off"})) as instance:
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert touched(instance) == {run_id: 2}


def test_a_run_whose_definitions_no_code_of_ours_can_read_is_captured_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if a newer Dagster had moved what that module imports.
    monkeypatch.setitem(sys.modules, "datahub_eventlog.definitions", None)
    with configured(tmp_path, **style_b(datahub={"dispatch": "off"})) as instance:
        run_id = pipelines.nested.execute_in_process(instance=instance).run_id
        assert touched(instance) == {run_id: 2}
    assert capture.process().policy.was_started(run_id)


# Which process is which


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["python", "/venv/bin/dagster-daemon", "run", "-w", "workspace.yaml"], "daemon"),
        (["python", "-m", "dagster._daemon", "run", "--instance-ref", "{}"], "daemon"),
        (["python.exe", "C:/venv/Scripts/dagster-daemon.exe", "run"], "daemon"),
        (["python", "/venv/bin/dagster-daemon", "liveness-check"], "other"),
        (["python", "/venv/bin/dagster-webserver", "-p", "3000"], "server"),
        (["python", "-m", "dagster_webserver"], "server"),
        (["python", "-m", "dagster", "api", "grpc", "--socket", "/x"], "server"),
        (["dagster", "code-server", "start"], "server"),
        (["python", "-m", "dagster", "api", "execute_run", "{}"], "other"),
        (["python", "-m", "dagster", "dev"], "other"),
        (["python", "/venv/bin/dagster", "job", "execute"], "other"),
        (["python", "script.py"], "other"),
        (["./shop.pex", "api", "grpc", "--port", "4000"], "server"),
        (["dagster-daemon", "run", "-d", "/srv/grpc", "-m", "shop"], "daemon"),
        (["dagster-daemon", "run", "-w", "code-server"], "daemon"),
        (["dagster-daemon", "run", "-d", "/srv/dagster_webserver"], "daemon"),
        (["dagster", "job", "execute", "-d", "/app/code-server", "-m", "shop"], "other"),
        (["python", "-m", "dagster", "job", "execute", "-d", "dagster-webserver"], "other"),
        (["pytest", "tests/grpc"], "other"),
    ],
)
def test_a_process_is_known_by_its_command_line(argv: list[str], expected: str) -> None:
    assert role(argv, {}) == expected


@pytest.mark.parametrize(
    ("argv", "value", "expected"),
    [
        (["python", "own_daemon.py"], "true", "daemon"),
        (["python", "own_daemon.py"], "1", "daemon"),
        (["python", "/venv/bin/dagster-daemon", "run"], "false", "other"),
        (["python", "-m", "dagster", "api", "grpc"], "true", "server"),
    ],
)
def test_an_environment_variable_says_so_where_it_is_not_seen(
    argv: list[str], value: str, expected: str
) -> None:
    assert role(argv, {IS_DAEMON_VARIABLE: value}) == expected


def test_the_children_of_a_daemon_are_no_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IS_DAEMON_VARIABLE, "true")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(role) == "other"
        pool.close()  # to end it by a signal takes for ever where those are ignored
        pool.join()


# Importing


def test_importing_the_storages_loads_nothing_that_they_do_not_need() -> None:
    code = (
        "import sys, dagster._core.storage.sqlite_storage, dagster._core.storage.legacy_storage;"
        "before = set(sys.modules); import datahub_eventlog;"
        "datahub_eventlog.DataHubStorage, datahub_eventlog.DataHubEventLogStorage;"
        "print(*{each.split('.')[0] for each in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"datahub_eventlog"}


def test_the_package_exports_what_users_name() -> None:
    code = "import datahub_eventlog as d; print(*(getattr(d, each) is None for each in d.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"False"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    import datahub_eventlog

    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = datahub_eventlog.NoSuchThing
    assert "DataHubStorage" in dir(datahub_eventlog)
