"""The benchmarks run. What they measure in a few pairs means nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from deployment import DEADLINE

STATES = ("up", "slow", "refusing", "hanging", "no dispatcher")
ROWS = {
    *(
        f"store_event, ours, {database}, {state}"
        for database in ("SQLite", "Postgres")
        for state in STATES
    ),
    *(
        f"store_event, dagster-openlineage, {database}, {state}"
        for database in ("SQLite", "Postgres")
        for state in STATES[:1] + STATES[2:4]
    ),
    *(
        f"job, a process a step, ours, {database}, {state}"
        for database in ("SQLite", "Postgres")
        for state in STATES[:4]
    ),
    "job, a process a step, dagster-openlineage, SQLite, up",
    "the wrapper's own part of a call: a message",
    "the wrapper's own part of a call: an event that is captured",
    "importing the storage, over dagster",
    "definition facts of 100 assets",
    "definition facts of 1000 assets",
}


ONE_OF_EACH_KIND = {
    "store_event, ours, SQLite, up",
    "job, a process a step, ours, SQLite, up",
    "importing the storage, over dagster",
}


def rows_of_the_table(*only: str) -> set[str]:
    """Run these parts of the benchmark, and return the names of the rows that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead", "--quick", "--only", *only],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    names = [line.partition(" = ")[0] for line in done.stderr.splitlines() if " = " in line]
    table = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert len(table) == len(names)
    return set(names)


@pytest.mark.long
def test_the_table_of_what_the_wrapper_costs_has_a_row_of_each_kind() -> None:
    assert rows_of_the_table(*ONE_OF_EACH_KIND) == ONE_OF_EACH_KIND


@pytest.mark.long
@pytest.mark.postgres
def test_the_table_of_what_the_wrapper_costs_has_all_its_rows() -> None:
    assert rows_of_the_table() == ROWS
