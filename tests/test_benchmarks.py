"""The benchmarks still run; what they measure in a few pairs says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from deployment import DEADLINE

OVERHEAD = Path(__file__).parent.parent / "benchmarks" / "overhead.py"
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


@pytest.mark.postgres
def test_the_table_of_what_the_wrapper_costs_has_all_its_rows() -> None:
    done = subprocess.run(
        [sys.executable, str(OVERHEAD), "--quick"],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    told = {each.partition(" = ")[0] for each in done.stderr.splitlines() if " = " in each}
    assert told == ROWS
    table = [each for each in done.stdout.splitlines() if each.startswith("│")]
    assert len(table) == len(ROWS)
