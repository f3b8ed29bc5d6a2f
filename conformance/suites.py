"""Which of Dagster's tests are run, and how their storages are wrapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Style: TypeAlias = Literal["A", "B"]
"""How dagster.yaml names the wrapper: `storage:` around all three, or `event_log_storage:`."""

Database: TypeAlias = Literal["sqlite", "postgres"]


@dataclass(frozen=True)
class Suite:
    """Tests that are reported together."""

    title: str
    tests: tuple[str, ...]
    """How their ids begin: files, or classes in them."""
    style: Style = "B"
    is_captured: bool = False
    """Whether their runs must be found in ledgers, since a fixture makes their instance.

    That instances have the wrapper at all is asked of every suite.
    """


_TESTS = "dagster_tests"
_STORAGES = f"{_TESTS}/storage_tests"
_EVENT_LOG = f"{_STORAGES}/test_event_log.py"
_INSTANCES = f"{_TESTS}/core_tests/instance_tests"
_POSTGRES = "dagster_postgres_tests"

_OTHER_SERVER = "connects to a server at a fixed port, with a fixed password"
_UNUSED = (
    "of an adapter that Dagster makes for older readers alone; the storage below must be SQLite"
)

_WITHOUT_INSTANCE = "makes the storage without an instance; ours would hand it out as it is"

LEFT_OUT = {
    f"{_STORAGES}/test_schedule_storage.py": _WITHOUT_INSTANCE,
    f"{_POSTGRES}/test_schedule_storage.py": _WITHOUT_INSTANCE,
    f"{_EVENT_LOG}::TestLegacyStorage": _UNUSED,
    f"{_STORAGES}/test_run_storage.py::TestLegacyRunStorage": _UNUSED,
    f"{_POSTGRES}/test_event_log.py::TestPostgresEventLogStorage::test_load_from_config": (
        _OTHER_SERVER
    ),
    f"{_POSTGRES}/test_run_storage.py::TestPostgresRunStorage::test_load_from_config": (
        _OTHER_SERVER
    ),
}
"""Tests that are run on neither side, with the reason that the report gives."""

SUITES: dict[Database, tuple[Suite, ...]] = {
    "sqlite": (
        Suite("event log, sqlite", (f"{_EVENT_LOG}::TestSqliteEventLogStorage",), is_captured=True),
        Suite(
            "event log, consolidated sqlite",
            (f"{_EVENT_LOG}::TestConsolidatedSqliteEventLogStorage",),
            is_captured=True,
        ),
        Suite(
            "event log, in memory",
            (f"{_EVENT_LOG}::TestInMemoryEventLogStorage",),
            is_captured=True,
        ),
        Suite(
            "event log, other tests",
            (_EVENT_LOG, f"{_STORAGES}/test_polling_event_watcher.py"),
        ),
        Suite("run storage, sqlite", (f"{_STORAGES}/test_run_storage.py",), "A"),
        Suite(
            "assets",
            (
                f"{_STORAGES}/test_asset_checks.py",
                f"{_STORAGES}/test_asset_events.py",
                f"{_STORAGES}/test_assets.py",
                f"{_TESTS}/asset_defs_tests/asset_graph_view_tests/test_partitioned_asset_check_status.py",
                f"{_TESTS}/cli_tests/test_asset_wipe_command.py",
                f"{_TESTS}/core_tests/test_data_time.py",
                f"{_TESTS}/execution_tests/versioning_tests/test_data_versions.py",
            ),
            "A",
            is_captured=True,
        ),
        Suite(
            "partitions",
            (
                f"{_STORAGES}/test_partition_status_cache.py",
                f"{_TESTS}/definitions_tests/test_dynamic_partitions.py",
            ),
            is_captured=True,
        ),
        Suite(
            "concurrency",
            (
                f"{_TESTS}/cli_tests/command_tests/test_concurrency_command.py",
                f"{_TESTS}/daemon_tests/test_concurrency_daemon.py",
                f"{_TESTS}/execution_tests/misc_execution_tests/test_instance_concurrency_context.py",
            ),
        ),
        Suite(
            "instances",
            (
                f"{_INSTANCES}/test_instance.py",
                f"{_INSTANCES}/test_instance_data_versions.py",
                f"{_INSTANCES}/test_instance_lazy_load.py",
                f"{_STORAGES}/test_local_instance.py",
                f"{_TESTS}/daemon_tests/test_monitoring_daemon.py",
            ),
            "A",
            is_captured=True,
        ),
        Suite("migrations", (f"{_TESTS}/general_tests/compat_tests/test_back_compat.py",)),
    ),
    "postgres": (
        Suite("event log, postgres", (f"{_POSTGRES}/test_event_log.py",), "A", is_captured=True),
        Suite("run storage, postgres", (f"{_POSTGRES}/test_run_storage.py",), "A"),
    ),
}


def suite_of(test: str) -> Suite | None:
    """The suite that a test belongs to, by the longest beginning of its id."""
    known = [
        (tests, suite) for group in SUITES.values() for suite in group for tests in suite.tests
    ]
    fitting = [(tests, suite) for tests, suite in known if _begins(test, tests)]
    return max(fitting, key=lambda pair: len(pair[0]), default=("", None))[1]


def selected(database: Database) -> list[str]:
    """What to run: no class of a file that is run as a whole."""
    tests = [test for suite in SUITES[database] for test in suite.tests]
    return [test for test in tests if not any(_begins(test, file) for file in {*tests} - {test})]


def files() -> list[str]:
    """The files and folders that the tests are in, and what all of them import."""
    tests = [test for group in SUITES.values() for suite in group for test in suite.tests]
    shared = [f"{_TESTS}/conftest.py", f"{_STORAGES}/utils"]
    return sorted({*shared, *(test.split("::", maxsplit=1)[0] for test in tests)})


def _begins(test: str, beginning: str) -> bool:
    return test == beginning or test.startswith((f"{beginning}::", f"{beginning}/"))
