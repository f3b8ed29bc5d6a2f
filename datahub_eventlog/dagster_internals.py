"""Every private name of Dagster's that this package uses: the checklist for a new Dagster.

All of them are there from 1.10 on, and Dagster itself has loaded them before it loads a storage,
so importing them here costs nothing.
"""

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
    "configurable_class_data",
    "configurable_class_schema",
    "configurable_storage_data",
    "normalize_metadata_value",
    "storage_config_schema",
]
