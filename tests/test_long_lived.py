"""A process that executes runs without end does not grow without end."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from custom_storages import ForgetfulEventLogStorage
from dagster import DagsterInstance
from entries import entry
from instances import configured
from styles import named, style_b

from datahub_eventlog import capture, lifecycle
from datahub_eventlog.capture import policy

SETTLED = 2_000
"""Runs after which a process stops growing."""
NOISE = 1_000
"""The objects of any program vary by so many. The 2,000 runs of the short test would leak twice as
many, one object each; the 8,000 of the long one find a leak of one in eight."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    block = {"datahub_file_config": {"path": str(tmp_path / "files")}}
    with configured(tmp_path, **style_b(named(ForgetfulEventLogStorage), block)) as instance:
        yield instance
        # What it left is not delivered: that is another test's business.
        lifecycle.forget()
    assert not tmp_path.joinpath("files").exists()


@pytest.mark.parametrize("runs", [4_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_runs_in_one_process_leave_no_more_behind_than_two_thousand(
    instance: DagsterInstance, runs: int
) -> None:
    storage = instance.event_log_storage
    objects = {}
    for number in range(1, runs + 1):
        for kind in ("RUN_START", "STEP_START", "RUN_SUCCESS"):
            storage.store_event(entry(kind, run_id=f"run-{number}"))
        if number in {SETTLED, runs}:
            gc.collect()
            objects[number] = len(gc.get_objects())
    assert capture.process().warnings.count == 0
    assert len(capture.process().policy) == policy.MOST_RUNS
    assert len(lifecycle.current()._pending) == lifecycle.MOST_PENDING_RUNS
    assert objects[runs] < objects[SETTLED] + NOISE
