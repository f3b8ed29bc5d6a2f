"""The benchmark of the delivery runs, and meets the goals that are counts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deployment import DEADLINE

ROWS = (
    "a run of 12 assets: requests",
    "a run of 12 assets: exact repeats, %",
    "a run of 12 assets: proposals of the first and the second run",
    "a run of 12 assets: seconds at 0 ms (of the processor)",
    "a run of 12 assets: seconds at 10 ms (of the processor)",
    "a run of 12 assets: hiding secrets, the delivery without it being 1",
    "a run of 12 assets: speed of the whole delivery, the client's own batches being 1",
    "from a run's end to complete in DataHub, dispatcher idle, seconds",
    "a backlog of 10 runs of 10 steps: runs a minute, one worker",
    "a backlog of 10 runs of 10 steps: the last fifth's rate over the first's",
    "a backlog of 10 runs of 10 steps: MB that the worker grows by after the first hundred",
    "bytes of ledger a run, indexes included",
    "a backlog of 10 runs at 20 ms: a second worker's factor",
    "a run of 100 and of 200 asset events: seconds",
    "a run of 200 asset events: MB above the idle worker",
    "an idle poll: statements, new connections",
    "5 live runs: statements a second, seconds behind",
    "a ledger of 5000 rows, 5 dispatchers: an idle poll, an empty ledger's being 1",
    "a ledger of 5000 rows: the lease query by its index, pages that it reads",
    "5 dispatchers: of 50 runs delivered, delivered twice",
    "one row touched 400 times",
    "10 live runs touched 400 times and looked at 20 times",
)
OF_DAEMON = (
    "lag of 20 schedules' ticks, the daemon's dispatcher busy, seconds",
    "the same daemon: requests to DataHub a minute meanwhile",
)
COUNTED = (
    "a run of 12 assets: requests",
    "a run of 12 assets: exact repeats, %",
    "a run of 12 assets: proposals of the first and the second run",
    "an idle poll: statements, new connections",
    "a ledger of 5000 rows: the lease query by its index, pages that it reads",
    "5 dispatchers: of 50 runs delivered, delivered twice",
    "one row touched 400 times",
)


def measured(written: Path, *only: str) -> dict[str, Any]:
    """Run these parts of the benchmark, and return the rows by their names."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.delivery",
            "--quick",
            "--json",
            str(written),
            "--only",
            *only,
        ],
        check=True,
        timeout=2 * DEADLINE,
    )
    return {row["what"]: row for row in json.loads(written.read_text())}


@pytest.mark.long
@pytest.mark.postgres
def test_the_counted_goals_are_met(tmp_path: Path) -> None:
    rows = measured(tmp_path / "rows.json", "run", "polling", "crowd")
    assert set(rows) < set(ROWS)
    assert [name for name in COUNTED if not rows[name]["is_met"]] == []
    requests = rows["a run of 12 assets: requests"]
    assert int(requests["ours"]) * 10 < int(requests["plugin"])


@pytest.mark.long
@pytest.mark.postgres
def test_all_rows_are_there(tmp_path: Path) -> None:
    parts = ("run", "ended", "backlog", "large", "polling", "crowd")
    assert tuple(measured(tmp_path / "rows.json", *parts)) == ROWS


@pytest.mark.clock
@pytest.mark.postgres
def test_the_lag_of_a_daemons_ticks_is_seen_while_its_dispatcher_works(tmp_path: Path) -> None:
    rows = measured(tmp_path / "rows.json", "daemon")
    assert tuple(rows) == OF_DAEMON
    assert rows[OF_DAEMON[1]]["is_met"]
