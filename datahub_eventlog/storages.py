"""The two storages that dagster.yaml names, around the ones that it would name without us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster import Any as DagsterAny
from dagster import DagsterInstance, EventLogEntry, Field
from typing_extensions import Self

from datahub_eventlog import capture, config, lifecycle
from datahub_eventlog.capture import Capture, Settings
from datahub_eventlog.dagster_internals import (
    ConfigurableClass,
    ConfigurableClassData,
    DagsterStorage,
    EventLogStorage,
    InstanceRef,
    RunStorage,
    ScheduleStorage,
    UserConfigSchema,
    configurable_class_data,
    configurable_class_schema,
    configurable_storage_data,
    is_loading_configured_class,
    storage_config_schema,
)
from datahub_eventlog.default_storage import check_home, dagster_home
from datahub_eventlog.errors import ConfigurationError
from datahub_eventlog.forwarding import ForwardingEventLogStorage, forwarding

_NESTED = (
    "datahub_eventlog is configured around itself in dagster.yaml: leave one of the two out, so"
    " that there is one block `datahub:`"
)
_STORAGE_EXAMPLE = (
    "storage: {custom: {module: datahub_eventlog, class: DataHubStorage,"
    " config: {storage: ..., datahub: ...}}}"
)
_EVENT_LOG_EXAMPLE = (
    "event_log_storage: {module: datahub_eventlog, class: DataHubEventLogStorage,"
    " config: {backend: ..., datahub: ...}}"
)
_STORAGE_MISPLACED = (
    "datahub_eventlog: DataHubStorage stands in dagster.yaml where only an event log storage may."
    f" Write, instead of `storage:`, {_STORAGE_EXAMPLE}."
    f" Or, for the event log alone, {_EVENT_LOG_EXAMPLE}"
)
_EVENT_LOG_MISPLACED = (
    "datahub_eventlog: DataHubEventLogStorage stands in dagster.yaml where only a whole storage"
    f" may. Write {_STORAGE_EXAMPLE}."
    f" Or, for the event log alone, without `storage:`: {_EVENT_LOG_EXAMPLE}"
)

# Neither checked nor resolved by Dagster: nothing that is written there may stop a process.
_DATAHUB = Field(DagsterAny, is_required=False)

# What Dagster is to check; they are abstract, which mypy takes for a mistake.
_EVENT_LOG: Any = EventLogStorage
_STORAGE: Any = DagsterStorage


class DataHubEventLogStorage(ForwardingEventLogStorage, ConfigurableClass):
    """The event log storage whose runs go to DataHub; `backend` is the one that stores.

    Without a `backend`, it is the SQLite event log of the instance's own directory.
    """

    datahub: Capture
    """All that is not the backend's."""

    def __init__(
        self,
        backend: EventLogStorage | None,
        block: Any = None,
        inst_data: ConfigurableClassData | None = None,
        *,
        directory: str | None = None,
    ) -> None:
        """Wrap `backend`; `block` is what stands under `datahub:`, unresolved.

        `directory` must be the instance's own, if given.
        """
        settings = Settings(block, _without_secrets(inst_data), directory)
        super().__init__(Capture(backend, settings, lifecycle.on_run_end))

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        """Say where `DataHubStorage` belongs, when Dagster asks whether it is an event log."""
        if other is DataHubStorage:
            _refuse_to_load(_STORAGE_MISPLACED)
        return NotImplemented

    @classmethod
    def around(
        cls, backend: EventLogStorage, block: Any = None, *, directory: str | None = None
    ) -> Self:
        """Wrap a backend that somebody else has made."""
        return cls(backend, block, directory=directory)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Dagster's own schema for the backend, and anything for `datahub`."""
        backend = Field(configurable_class_schema(), is_required=False)
        return {"backend": backend, "datahub": _DATAHUB}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Let Dagster load the backend, from what stands in dagster.yaml."""
        raw = config_value if inst_data is None else inst_data.config_dict
        backend = None
        if raw.get("backend") is not None:
            data = configurable_class_data(raw["backend"])
            backend = data.rehydrate(as_type=_EVENT_LOG)
        return cls(backend, raw.get("datahub"), inst_data)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Our own configuration, or the backend's if it was made by `DataHubStorage`."""
        own = self.datahub.settings.inst_data
        return getattr(self.datahub.backend, "inst_data", None) if own is None else own

    def register_instance(self, instance: DagsterInstance) -> None:
        """Register the instance; in the daemon, this starts the dispatcher.

        Raises `ConfigurationError` if the storage would not be in the instance's directory.
        """
        directory = self.datahub.settings.directory
        if directory is not None:
            check_home(directory, instance)
        super().register_instance(instance)
        self.datahub.register(instance)
        if self.datahub.has_backend and isinstance(self.datahub.backend, DataHubEventLogStorage):
            capture.process().warnings.warn_once(_NESTED)
        lifecycle.on_registration(self.datahub, instance)

    def store_event(self, event: EventLogEntry, *args: Any, **kwargs: Any) -> None:
        """Store an event; further arguments of a newer Dagster are the backend's."""
        self.datahub.backend.store_event(event, *args, **kwargs)
        self.datahub.record(event)

    def store_event_batch(self, events: Sequence[EventLogEntry], *args: Any, **kwargs: Any) -> None:
        """Store several events at once."""
        self.datahub.backend.store_event_batch(events, *args, **kwargs)
        self.datahub.record_batch(events)

    def dispose(self) -> None:
        """Deliver what this process left undelivered, or stop the dispatcher; then dispose."""
        try:
            lifecycle.on_dispose(self.datahub)
        finally:
            if self.datahub.has_backend:
                self.datahub.backend.dispose()


@forwarding(DagsterStorage, "_storage")
class DataHubStorage(DagsterStorage, ConfigurableClass):
    """Any storage of Dagster's, with an event log whose runs go to DataHub.

    Without a `storage`, it is SQLite in $DAGSTER_HOME.
    """

    def __init__(
        self,
        storage: DagsterStorage,
        block: Any = None,
        inst_data: ConfigurableClassData | None = None,
        *,
        directory: str | None = None,
    ) -> None:
        """Wrap the event log of `storage`; see `DataHubEventLogStorage` for the others."""
        super().__init__()
        self._storage = storage
        self._event_log_storage = DataHubEventLogStorage.around(
            storage.event_log_storage, block, directory=directory
        )
        self._inst_data = _without_secrets(inst_data)

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        """Say where `DataHubEventLogStorage` belongs, when it is to be all of `storage:`."""
        if other is DataHubEventLogStorage:
            _refuse_to_load(_EVENT_LOG_MISPLACED)
        return NotImplemented

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What dagster.yaml says."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Dagster's own schema of `storage:`, and anything for `datahub`."""
        return {"storage": storage_config_schema(), "datahub": _DATAHUB}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Let Dagster load the storage, from what stands in dagster.yaml.

        Raises `ConfigurationError` if no storage is configured and $DAGSTER_HOME is not set.
        """
        raw = config_value if inst_data is None else inst_data.config_dict
        directory = None if raw.get("storage") else dagster_home()
        defaults = {} if directory is None else InstanceRef.config_defaults(directory)
        data = configurable_storage_data(raw.get("storage", {}), defaults)[0]
        assert data is not None  # noqa: S101  # as the schema makes sure
        storage = data.rehydrate(as_type=_STORAGE)
        return cls(storage, raw.get("datahub"), inst_data, directory=directory)

    @property
    def event_log_storage(self) -> EventLogStorage:
        """The wrapped event log."""
        return self._event_log_storage

    @property
    def run_storage(self) -> RunStorage:
        """The storage's own."""
        return self._storage.run_storage

    @property
    def schedule_storage(self) -> ScheduleStorage:
        """The storage's own."""
        return self._storage.schedule_storage

    def register_instance(self, instance: DagsterInstance) -> None:
        """Register the instance with everything; Dagster does so for its legacy storages."""
        super().register_instance(instance)
        if not self._storage.has_instance:
            self._storage.register_instance(instance)
        if not self._event_log_storage.has_instance:
            self._event_log_storage.register_instance(instance)

    def __getattr__(self, name: str) -> Any:
        if name == "_storage":
            raise AttributeError(name)
        return getattr(self._storage, name)

    def dispose(self) -> None:
        """Dispose of the three storages."""
        self._event_log_storage.dispose()
        self.run_storage.dispose()
        self.schedule_storage.dispose()


class _RedactedClassData(ConfigurableClassData):
    """What dagster.yaml says, of which Dagster shows no secret of ours to its users.

    The webserver's configuration page and `dagster instance info` print it.
    """

    def info_dict(self) -> Mapping[str, Any]:
        """The part of dagster.yaml that is shown."""
        info = super().info_dict()
        shown = info["config"]
        if "datahub" in shown:
            shown = {**shown, "datahub": config.masked(shown["datahub"])}
        return {**info, "config": shown}


def _without_secrets(inst_data: ConfigurableClassData | None) -> ConfigurableClassData | None:
    return None if inst_data is None else _RedactedClassData(*inst_data)


def _refuse_to_load(message: str) -> None:
    """Raise `ConfigurationError` if Dagster is about to load a class that dagster.yaml names.

    Dagster's own error names the classes, and nothing that could be done. Whoever else asks what
    is a subclass of what gets Python's answer.
    """
    if is_loading_configured_class():
        raise ConfigurationError(message)
