"""Everything of Dagster's internals that this package uses: the checklist for a new Dagster.

1. The imports. All of them are there from 1.10 on, and Dagster itself has loaded them before it
   loads a storage, so importing them here costs nothing.
2. The functions below `__all__`. Each reads one private member, or one that has had another name.
3. `forwarding.KEPT`: what a storage inherits for the registration of its instance.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Any

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRun,
    JobDefinition,
    RepositoryDefinition,
)
from dagster._config.config_schema import UserConfigSchema
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.metadata import normalize_metadata_value
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.errors import DagsterInvalidMetadata
from dagster._core.event_api import EventLogCursor
from dagster._core.execution.context.system import IPlanContext
from dagster._core.instance.config import configurable_class_schema, storage_config_schema
from dagster._core.instance.ref import (
    InstanceRef,
    configurable_class_data,
    configurable_storage_data,
)
from dagster._core.snap import ExecutionPlanSnapshot, JobSnap
from dagster._core.snap.dep_snapshot import DependencyStructureSnapshot
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.event_log import (
    ConsolidatedSqliteEventLogStorage,
    InMemoryEventLogStorage,
    SqlEventLogStorage,
    SqliteEventLogStorage,
)
from dagster._core.storage.event_log.base import EventLogConnection, EventLogStorage
from dagster._core.storage.runs import RunStorage, SqliteRunStorage
from dagster._core.storage.schedules.base import ScheduleStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

__all__ = [
    "ConfigurableClass",
    "ConfigurableClassData",
    "ConsolidatedSqliteEventLogStorage",
    "DagsterInvalidMetadata",
    "DagsterStorage",
    "DependencyStructureSnapshot",
    "EventLogConnection",
    "EventLogCursor",
    "EventLogStorage",
    "ExecutionPlanSnapshot",
    "IPlanContext",
    "InMemoryEventLogStorage",
    "InMemoryJob",
    "InstanceRef",
    "JobSnap",
    "NodeHandle",
    "ReconstructableJob",
    "RunRecord",
    "RunStorage",
    "ScheduleStorage",
    "SqlEventLogStorage",
    "SqliteEventLogStorage",
    "SqliteRunStorage",
    "UserConfigSchema",
    "cached_job",
    "cached_repository",
    "configurable_class_data",
    "configurable_class_schema",
    "configurable_storage_data",
    "daemon_workspace_context",
    "event_log_engine",
    "instance_ref",
    "is_complete",
    "is_loading_configured_class",
    "job_snapshots",
    "normalize_metadata_value",
    "output_asset_key",
    "plan_context",
    "remote_origin",
    "sqlite_file",
    "storage_config_schema",
    "stored_freshness_policy",
    "workspace_context",
    "workspace_options",
]

_CLI_TARGET = "dagster._cli.workspace.cli_target"
_CONTEXT_DEPTH = 40
"""Frames that are searched for a plan context; it stands some 13 above the storage of an event."""
_LOADING_DEPTH = 10
"""Frames between a question of Dagster's about a class that it loads and our answer."""


# Instances


def instance_ref(instance: DagsterInstance) -> InstanceRef | None:
    """What a second instance can be opened from; None for one in memory, or not yet complete."""
    # `get_ref` raises a CheckError where there is none.
    return getattr(instance, "_ref", None)


def is_complete(instance: DagsterInstance) -> bool:
    """Whether its constructor is past the registration of the storages."""
    return hasattr(instance, "_ref")


def is_loading_configured_class() -> bool:
    """Whether the calling thread is loading a class that dagster.yaml names."""
    loading = ConfigurableClassData.rehydrate.__code__
    return any(frame.f_code is loading for frame in _callers(_LOADING_DEPTH))


# Event logs


def sqlite_file(storage: EventLogStorage) -> str | None:
    """The file of an event log in SQLite, or of its index; None for any other event log."""
    if isinstance(storage, SqliteEventLogStorage):
        return storage.path_for_shard("index")
    if isinstance(storage, ConsolidatedSqliteEventLogStorage):
        path: str = storage.get_db_path()
        return path
    return None


def event_log_engine(storage: Any) -> Any:
    """The engine of an event log, usually SQLAlchemy's; `optimize_for_webserver` replaces it."""
    return getattr(storage, "_engine", None)


# Runs


def remote_origin(run: DagsterRun) -> Any:
    """Where the run's job is defined, if it was launched from a code location."""
    # It is `external_job_origin` in Dagsters before 1.10 and their records.
    return getattr(run, "remote_job_origin", None) or getattr(run, "external_job_origin", None)


# Definitions that are loaded


def plan_context(run_id: str) -> IPlanContext | None:
    """The context of the run that the calling thread executes, found in its callers' frames."""
    for frame in _callers(_CONTEXT_DEPTH):
        if frame.f_globals.get("__name__", "").startswith("dagster."):
            for value in list(frame.f_locals.values()):
                if _is_plan_context(value) and value.run_id == run_id:
                    context: IPlanContext = value
                    return context
    return None


def cached_job(job: Any) -> JobDefinition | None:
    """The definition of a context's job, if this process has it; loads no code."""
    if isinstance(job, InMemoryJob):
        return job.get_definition()
    if not isinstance(job, ReconstructableJob):
        return None
    try:
        return ReconstructableJob.get_definition(_CachedJob.like(job))
    except _NotCached:
        return None


def cached_repository(job: Any) -> RepositoryDefinition | None:
    """The repository of a context's job, if the job has one and this process has loaded it."""
    if not isinstance(job, ReconstructableJob):
        return None
    try:
        return ReconstructableJob.get_repository_definition(_CachedJob.like(job))
    except _NotCached:
        return None


def output_asset_key(asset_layer: Any, handle: NodeHandle, output: str) -> AssetKey | None:
    """The asset that an op's output is."""
    # The first is its name since Dagster 1.11.
    find = getattr(asset_layer, "get_asset_key_for_node_output", None)
    key: AssetKey | None = (find or asset_layer.asset_key_for_output)(handle, output)
    return key


# Workspaces. A process that has one has loaded what these functions import.


def daemon_workspace_context() -> Any | None:
    """The daemon's process context of its workspace, or None while it has none.

    Nothing else refers to it: the daemon hands it to each of its threads as an argument. A thread
    keeps its arguments until it ends.
    """
    module = sys.modules.get("dagster._core.workspace.context")
    context = getattr(module, "IWorkspaceProcessContext", None)
    if context is None:
        return None
    for thread in threading.enumerate():
        for argument in getattr(thread, "_args", ()):
            if isinstance(argument, context):
                return argument
    return None


def workspace_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command of click's the options by which Dagster's own find a workspace."""
    try:
        options = import_module("dagster_shared.cli").workspace_options
    except (ImportError, AttributeError):  # Dagster 1.10
        options = import_module(_CLI_TARGET).workspace_options
    decorated: Callable[..., Any] = options(command)
    return decorated


def workspace_context(instance: DagsterInstance, options: Mapping[str, Any]) -> Any:
    """A process context, to be entered, of the workspace that the values of such options name.

    Raises click's UsageError if they name none, or contradict each other.
    """
    from dagster._core.workspace.context import WorkspaceProcessContext

    module = import_module(_CLI_TARGET)
    if hasattr(module, "WorkspaceOpts"):
        values = module.WorkspaceOpts.extract_from_cli_options(dict(options))
        target = module.workspace_opts_to_load_target(values)
    else:  # Dagster 1.10
        target = module.get_workspace_load_target(options)
    return WorkspaceProcessContext(instance, target, code_server_log_level="WARNING")


def job_snapshots(repository: Any) -> Iterator[tuple[str, Callable[[], JobSnap]]]:
    """The jobs of a `RemoteRepository` by name: each snapshot is read when it is called for.

    Its `get_full_job` would remember them all.
    """
    snapshot = repository.repository_snap
    for data in snapshot.job_datas or ():
        yield data.name, partial(getattr, data, "job")
    for reference in snapshot.job_refs or ():
        yield reference.name, partial(_referenced_job, repository, reference)


def stored_freshness_policy(metadata: Mapping[str, Any]) -> Any | None:
    """The freshness policy that Dagster 1.10 keeps in an asset's metadata, if it has one."""
    try:
        module = import_module("dagster._core.definitions.freshness")
    except ImportError:  # it is older still
        return None
    policies = getattr(module, "InternalFreshnessPolicy", None) or module.FreshnessPolicy
    return policies.from_asset_spec_metadata(metadata)


def _referenced_job(repository: Any, reference: Any) -> JobSnap:
    job: JobSnap = repository._ref_to_data_fn(reference).job
    return job


class _NotCached(Exception):
    pass


def _not_cached(_: object) -> Any:
    raise _NotCached


class _CachedJob(ReconstructableJob):
    """Equal to a job, but raises where the job would load code.

    Dagster keeps the definitions it has loaded in `lru_cache`s, whose keys are such jobs. To ask
    one of them with this stand-in gives what it holds, and changes nothing if it holds nothing.
    """

    @classmethod
    def like(cls, job: ReconstructableJob) -> _CachedJob:
        stand_in = cls(*job)
        stand_in._hash = hash(job)  # the hash of equal selections can differ
        return stand_in

    def __hash__(self) -> int:
        return self._hash

    get_repository_definition: Any = _not_cached
    repository: Any = property(_not_cached)


def _is_plan_context(value: Any) -> bool:
    cls = type(value)
    return cls.__module__ == IPlanContext.__module__ and issubclass(cls, IPlanContext)


def _callers(most: int) -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    for _ in range(most):
        if frame is None:
            return
        yield frame
        frame = frame.f_back
