"""The Dagster instance in the cell's folder. One step captures its runs, another delivers them."""

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
"""Jobs of the demo, with further arguments for `dagster job execute`; each step is a process."""


def make_home() -> None:
    """Make the instance. Only a worker delivers its runs."""
    HOME.mkdir()
    datahub = {"dispatch": "worker", "datahub_file_config": {"path": str(FILES)}}
    storage = {
        "module": "datahub_eventlog",
        "class": "DataHubEventLogStorage",
        "config": {"datahub": datahub},
    }
    text = yaml.safe_dump({"event_log_storage": storage, "telemetry": {"enabled": False}})
    (HOME / "dagster.yaml").write_text(text)


def execute(job: str) -> None:
    """Execute a job with the command `dagster`."""
    # By its file: the demo around it needs the extra.
    code = Path(str(datahub_eventlog.__file__)).parent / "demo" / "jobs.py"
    command("dagster", "job", "execute", "-f", str(code), "-j", job, *JOBS[job])


def runs() -> Mapping[str, int]:
    """How many runs are in which state, by the command `status`, which needs no extra."""
    counts: dict[str, int] = json.loads(command("datahub-eventlog", "status", "--json"))["runs"]
    return counts


def command(name: str, *arguments: str) -> str:
    """Run a command of the cell's environment, and return what it prints."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments],
        env={**os.environ, "DAGSTER_HOME": str(HOME)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout
