"""Dagster instances for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance
from dagster._core.instance import InstanceType
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher
from dagster._core.run_coordinator import DefaultRunCoordinator
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs import InMemoryRunStorage, SqlRunStorage
from dagster._core.storage.runs.schema import RunsTable


def in_memory(event_storage: EventLogStorage, directory: Path) -> DagsterInstance:
    """An instance that keeps its runs in memory, and its events in that storage."""
    return DagsterInstance(
        instance_type=InstanceType.EPHEMERAL,
        local_artifact_storage=LocalArtifactStorage(str(directory)),
        run_storage=InMemoryRunStorage(),
        event_storage=event_storage,
        compute_log_manager=NoOpComputeLogManager(),
        run_coordinator=DefaultRunCoordinator(),
        run_launcher=SyncInMemoryRunLauncher(),
    )


def configured(directory: Path, **config: Any) -> DagsterInstance:
    """The instance of a directory, after writing its dagster.yaml."""
    write_yaml(directory, **config)
    return DagsterInstance.from_config(str(directory))


def write_yaml(directory: Path, **config: Any) -> None:
    """Write the dagster.yaml of a directory; telemetry stays off."""
    text = yaml.safe_dump({"telemetry": {"enabled": False}, **config})
    directory.joinpath("dagster.yaml").write_text(text)


def make_unreadable(instance: DagsterInstance, run_id: str) -> None:
    """Have the run's record say what only a newer Dagster could read."""
    storage = instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    of_tomorrow = RunsTable.update().where(RunsTable.c.run_id == run_id)
    with storage.connect() as connection:
        connection.execute(of_tomorrow.values(run_body='{"__class__": "RunOfTomorrow"}'))
