"""Where Dagster keeps its SQLite databases by default, and whether all storages are there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dagster import DagsterInstance

from datahub_eventlog.dagster_internals import (
    ConsolidatedSqliteEventLogStorage,
    EventLogStorage,
    InMemoryEventLogStorage,
    InstanceRef,
    SqlEventLogStorage,
    SqliteEventLogStorage,
    SqliteRunStorage,
    instance_ref,
)
from datahub_eventlog.errors import ConfigurationError

_HOME = "DAGSTER_HOME"
_WRITE_BASE_DIR = (
    "datahub_eventlog: DataHubStorage has no `storage:` in its config. Name the directory"
    " of the SQLite databases, beside `datahub:`: storage: {sqlite: {base_dir: ...}}"
)

# It is abstract, which mypy takes for a mistake.
_EVENT_LOG: Any = EventLogStorage


def dagster_home() -> str:
    """The directory that $DAGSTER_HOME names; raises `ConfigurationError` if it is not set."""
    home = os.environ.get(_HOME)
    if not home:
        raise ConfigurationError(f"{_WRITE_BASE_DIR}. ${_HOME}, its default, is not set here.")
    return str(Path(home).expanduser())


def check_home(directory: str, instance: DagsterInstance) -> None:
    """Raise `ConfigurationError` if the instance is not configured in that directory."""
    root = Path(instance.root_directory).resolve()
    if Path(directory).resolve() == root:
        return
    # Its local artifacts, and with them its root, may be kept elsewhere.
    artifacts = InstanceRef.from_dir(directory).local_artifact_storage.base_dir
    if Path(artifacts).resolve() != root:
        raise ConfigurationError(
            f"{_WRITE_BASE_DIR}. ${_HOME} is {directory}, but this instance's directory is"
            f" {instance.root_directory}."
        )


def default_event_log(instance: DagsterInstance) -> EventLogStorage:
    """Make the SQLite event log where Dagster would have it by default."""
    data = InstanceRef.config_defaults(_base_directory(instance))["event_log_storage"]
    assert data is not None  # noqa: S101  # it is one of Dagster's defaults
    event_log: EventLogStorage = data.rehydrate(as_type=_EVENT_LOG)
    return event_log


def mixed_storages(instance: DagsterInstance) -> str | None:
    """What is wrong where only the event log was moved to a database, or None if nothing is.

    Dagster then keeps runs, schedules and sensors in SQLite without a word.
    """
    events = instance.event_log_storage
    files = (SqliteEventLogStorage, ConsolidatedSqliteEventLogStorage, InMemoryEventLogStorage)
    if isinstance(events, files) or not isinstance(events, SqlEventLogStorage):
        return None
    if not isinstance(instance.run_storage, SqliteRunStorage):
        return None
    return (
        f"The event log is in {events.__class__.__name__}, but Dagster keeps runs in SQLite:"
        " configure run_storage and schedule_storage beside event_log_storage"
    )


def _base_directory(instance: DagsterInstance) -> str:
    """The directory of the instance's databases.

    It is the one of the local artifacts too, unless that was configured apart. Then the database
    of the runs shows where it is, if that has its default place.
    """
    ref = instance_ref(instance)
    runs = None if ref is None else ref.run_storage_data
    if runs is not None and runs.class_name == SqliteRunStorage.__name__:
        folder = Path(str(runs.config_dict.get("base_dir")))
        if folder.name == "history":
            return str(folder.parent)
    return instance.root_directory
