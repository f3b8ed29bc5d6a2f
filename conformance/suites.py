"""Which of Dagster's tests are run, and how their storages are wrapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Style: TypeAlias = Literal["A", "B"]
"""How dagster.yaml names the wrapper: `storage:` around all three, or `event_log_storage:`."""

Database: TypeAlias = Literal["sqlite", "postgres"]


@dataclass(frozen=True)
class Suite:
    """Tests with a common beginning of their ids: a file, or a class in it."""

    title: str
    tests: str
    style: Style = "B"
    is_captured: bool = False
    """Whether its events must be found in the ledger afterwards."""


_STORAGES = "dagster_tests/storage_tests"
_EVENT_LOG = f"{_STORAGES}/test_event_log.py"
_POSTGRES = "dagster_postgres_tests"

SUITES: dict[Database, tuple[Suite, ...]] = {
    "sqlite": (
        Suite("event log, sqlite", f"{_EVENT_LOG}::TestSqliteEventLogStorage", is_captured=True),
        Suite(
            "event log, consolidated sqlite",
            f"{_EVENT_LOG}::TestConsolidatedSqliteEventLogStorage",
            is_captured=True,
        ),
        Suite(
            "event log, in memory", f"{_EVENT_LOG}::TestInMemoryEventLogStorage", is_captured=True
        ),
        Suite("run storage, sqlite", f"{_STORAGES}/test_run_storage.py", "A"),
        Suite("schedule storage, sqlite", f"{_STORAGES}/test_schedule_storage.py", "A"),
    ),
    "postgres": (
        Suite(
            "event log, postgres",
            f"{_POSTGRES}/test_event_log.py",
            "A",
            is_captured=True,
        ),
        Suite("run storage, postgres", f"{_POSTGRES}/test_run_storage.py", "A"),
        Suite("schedule storage, postgres", f"{_POSTGRES}/test_schedule_storage.py", "A"),
    ),
}


def suite_of(test: str) -> Suite | None:
    """The suite that a test belongs to, by the longest beginning of its id."""
    suites = [each for group in SUITES.values() for each in group]
    fitting = [each for each in suites if _begins(test, each.tests)]
    return max(fitting, key=lambda each: len(each.tests), default=None)


def _begins(test: str, beginning: str) -> bool:
    return test == beginning or test.startswith((f"{beginning}::", f"{beginning}/"))
