"""Captures a run with the base package, which needs dagster and nothing else."""

from __future__ import annotations

import sys
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log.base import EventLogStorage

import datahub_eventlog
from datahub_eventlog import DataHubEventLogStorage, DataHubStorage
from matrix.instance import JOBS, execute, make_home, runs

EXTRAS = ("datahub", "regex", "tenacity", "sqlglot")

needed = [name for name in requires("datahub-eventlog") or () if "extra ==" not in name]
assert [name[: len("dagster")] for name in needed] == ["dagster"], needed
present = [package for package in EXTRAS if find_spec(package)]
assert not present, f"{present} must not be there yet"
where = Path(str(datahub_eventlog.__file__))
assert where.is_relative_to(sys.prefix), f"{where} is not what was installed"
assert issubclass(DataHubEventLogStorage, EventLogStorage)
assert issubclass(DataHubStorage, DagsterStorage)

make_home()
for job in JOBS:
    execute(job)
counts = runs()
assert counts["pending"] == len(JOBS), counts
print("captured:", counts)
