"""Storages of a user's own, for dagster.yaml to name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagster import EventLogEntry
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log import InMemoryEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._core.storage.runs import InMemoryRunStorage, RunStorage
from dagster._core.storage.schedules import ScheduleStorage, SqliteScheduleStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from typing_extensions import Self

from datahub_eventlog.forwarding import ForwardingEventLogStorage


@dataclass(frozen=True)
class Target:
    """A backend that is there, seen as any class."""

    backend: EventLogStorage
    backend_class: type
    has_backend: bool = True


class NoSqlEventLogStorage(ForwardingEventLogStorage, ConfigurableClass):
    """An event log that is in no database anybody could know of."""

    def __init__(self, base_dir: str | None = None) -> None:
        hidden = SqliteEventLogStorage(base_dir) if base_dir else InMemoryEventLogStorage()
        super().__init__(Target(hidden, type(self)))

    def __getattr__(self, name: str) -> Any:
        if name == "index_connection":
            raise AttributeError(name)
        return super().__getattr__(name)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return None

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {"base_dir": str}

    @classmethod
    def from_config_value(
        cls, _inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(**config_value)


class CustomStorage(DagsterStorage, ConfigurableClass):
    """A storage whose parts are of different kinds."""

    def __init__(self, base_dir: str) -> None:
        super().__init__()
        data: Mapping[str, Any] = {"base_dir": base_dir}
        self._event_log_storage = NoSqlEventLogStorage.from_config_value(None, data)
        self._run_storage = InMemoryRunStorage()
        self._schedule_storage = SqliteScheduleStorage.from_local(base_dir)

    @property
    def event_log_storage(self) -> EventLogStorage:
        return self._event_log_storage

    @property
    def run_storage(self) -> RunStorage:
        return self._run_storage

    @property
    def schedule_storage(self) -> ScheduleStorage:
        return self._schedule_storage

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return None

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {"base_dir": str}

    @classmethod
    def from_config_value(
        cls, _inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(**config_value)


class ForgetfulEventLogStorage(InMemoryEventLogStorage):
    """Stores no events; its database has room for the ledger."""

    def store_event(self, event: EventLogEntry) -> None:
        pass
