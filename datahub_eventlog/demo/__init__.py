"""A demonstration with real Dagster runs: what the package captures, on one screen.

It creates a DAGSTER_HOME, runs each job of `jobs.py` in a process of its own, and delivers the runs
with a worker: to a folder of files, or to `DATAHUB_GMS_URL` if that is set.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dagster import DagsterInstance
from rich.console import Console
from rich.progress import Progress

from datahub_eventlog import error_text
from datahub_eventlog.demo.picture import show
from datahub_eventlog.errors import DataHubEventLogError

JOBS = "datahub_eventlog.demo.jobs"
PARTITION = "2026-01-02"
RUNS: Sequence[tuple[str, Mapping[str, str]]] = (
    ("revenue_job", {}),
    ("assets_job", {"dagster/partition": PARTITION}),
    ("failing_job", {}),
)
EXPECTED_TO_FAIL = {"failing_job"}

YAML = """\
# The block that switches datahub_eventlog on (block B1 of dagster.yaml.example).
event_log_storage:
  module: datahub_eventlog
  class: DataHubEventLogStorage
  config:
    datahub:
      dispatch: worker
{target}
telemetry: {{enabled: false}}
"""


def run(home: Path, console: Console) -> None:
    """Run the demo in that folder, which is created if it doesn't exist."""
    files = home / "metadata"
    home.mkdir(parents=True, exist_ok=True)
    server = os.environ.get("DATAHUB_GMS_URL")
    target = f"      datahub_file_config: {{path: {files}}}" if server is None else ""
    (home / "dagster.yaml").write_text(YAML.format(target=target))
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(RUNS) + 1)
        for job, tags in RUNS:
            progress.update(bar, description=f"running {job}")
            _run_job(job, tags, environment)
            progress.advance(bar)
        progress.update(bar, description="delivering")
        _deliver(environment)
        progress.advance(bar)
    with DagsterInstance.from_config(str(home)) as instance:
        show(instance, console)
    console.print(
        f"Delivered to {error_text.address(server)}" if server else f"The proposals are in {files}"
    )
    if not server:
        console.print(f"To send them to a DataHub: datahub ingest mcps {files}/<run>.json")


def _run_job(job: str, tags: Mapping[str, str], environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", JOBS, "-j", job]
    for name, value in tags.items():
        command += ["--tags", f'{{"{name}": "{value}"}}']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if (done.returncode != 0) is not (job in EXPECTED_TO_FAIL):
        raise DataHubEventLogError(f"{job} did not end as it should:\n{done.stderr[-2000:]}")


def _deliver(environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "datahub_eventlog.cli", "worker", "--until-empty"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise DataHubEventLogError(f"the worker failed:\n{done.stderr[-2000:]}")
