"""Captures a run with the base package: it needs dagster, and nothing else."""

from __future__ import annotations

import sys
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

from cell_runs import JOBS, execute, home, runs
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.base import EventLogStorage

import datahub_eventlog
from datahub_eventlog import DataHubEventLogStorage, DataHubStorage

EXTRAS = ("datahub", "regex", "tenacity", "sqlglot")

needed = [each for each in requires("datahub-eventlog") or () if "extra ==" not in each]
assert [each[: len("dagster")] for each in needed] == ["dagster"], needed
present = [each for each in EXTRAS if find_spec(each)]
assert not present, f"{present} must not be there yet"
where = Path(str(datahub_eventlog.__file__))
assert where.is_relative_to(sys.prefix), f"{where} is not what was installed"
assert issubclass(DataHubEventLogStorage, EventLogStorage)
assert issubclass(DataHubStorage, DagsterStorage)

home()
for job in JOBS:
    execute(job)
found = runs()
assert found["pending"] == len(JOBS), found
print("captured:", found)
