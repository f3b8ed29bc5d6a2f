"""A real instance in the cell's folder: one step captures its runs, another delivers them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

import datahub_eventlog

HOME = Path("home").resolve()
FILES = Path("delivered").resolve()
JOBS: Mapping[str, Sequence[str]] = {
    "assets_job": ("--tags", '{"dagster/partition": "2026-01-02"}'),
}
"""Jobs of the demo's, with what else `dagster job execute` is told; a process a step."""


def home() -> None:
    """Make the instance; its runs are left to a worker."""
    HOME.mkdir()
    datahub = {"dispatch": "worker", "datahub_file_config": {"path": str(FILES)}}
    ours = {
        "module": "datahub_eventlog",
        "class": "DataHubEventLogStorage",
        "config": {"datahub": datahub},
    }
    text = yaml.safe_dump({"event_log_storage": ours, "telemetry": {"enabled": False}})
    (HOME / "dagster.yaml").write_text(text)


def execute(job: str) -> None:
    """Run a job as `dagster` does it."""
    # By its file: the demo around it needs the extra.
    code = Path(str(datahub_eventlog.__file__)).parent / "demo" / "jobs.py"
    command("dagster", "job", "execute", "-f", str(code), "-j", job, *JOBS[job])


def runs() -> Mapping[str, int]:
    """How many runs are in which state, as the command line says, which needs no extra for it."""
    counts: dict[str, int] = json.loads(command("datahub-eventlog", "status", "--json"))["runs"]
    return counts


def command(name: str, *arguments: str) -> str:
    """What a command of the cell's prints; fails with its output if it does."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments],
        env={**os.environ, "DAGSTER_HOME": str(HOME)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout
