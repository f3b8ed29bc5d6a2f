"""The two storages that dagster.yaml names, around the ones that it would name without us."""

from __future__ import annotations

import os
import threading
import traceback
import weakref
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import Any as DagsterAny
from dagster import DagsterInstance, Field
from typing_extensions import Self

from datahub_eventlog import config, error_text
from datahub_eventlog.capture import ALIVE, PATIENCE, CapturingEventLogStorage, process
from datahub_eventlog.dagster_internals import (
    ConfigurableClass,
    ConfigurableClassData,
    ConsolidatedSqliteEventLogStorage,
    DagsterStorage,
    EventLogStorage,
    InMemoryEventLogStorage,
    InstanceRef,
    RunStorage,
    ScheduleStorage,
    SqlEventLogStorage,
    SqliteEventLogStorage,
    SqliteRunStorage,
    UserConfigSchema,
    configurable_class_data,
    configurable_class_schema,
    configurable_storage_data,
    storage_config_schema,
)
from datahub_eventlog.errors import ConfigurationError
from datahub_eventlog.forwarding import forwarding
from datahub_eventlog.lifecycle import Left, completed_ref, lifecycle, ref_of, role

if TYPE_CHECKING:
    from datahub_eventlog.ledger import Ledger

HOME = "DAGSTER_HOME"
"""The environment variable of Dagster's that names the instance's directory."""
_WRITE_BASE_DIR = (
    "datahub_eventlog: DataHubStorage has no `storage:` in its config. Name the directory"
    " of the SQLite databases, beside `datahub:`: storage: {sqlite: {base_dir: ...}}"
)
_NESTED = (
    "datahub_eventlog is configured around itself in dagster.yaml: leave one of the two out, so"
    " that there is one block `datahub:`"
)
_OF_STORAGE = (
    "storage: {custom: {module: datahub_eventlog, class: DataHubStorage,"
    " config: {storage: ..., datahub: ...}}}"
)
_OF_EVENT_LOG = (
    "event_log_storage: {module: datahub_eventlog, class: DataHubEventLogStorage,"
    " config: {backend: ..., datahub: ...}}"
)
_STORAGE_MISPLACED = (
    "datahub_eventlog: DataHubStorage stands in dagster.yaml where only an event log storage may."
    f" Write, instead of `storage:`, {_OF_STORAGE}. Or, for the event log alone, {_OF_EVENT_LOG}"
)
_EVENT_LOG_MISPLACED = (
    "datahub_eventlog: DataHubEventLogStorage stands in dagster.yaml where only a whole storage"
    f" may. Write {_OF_STORAGE}. Or, for the event log alone, without `storage:`: {_OF_EVENT_LOG}"
)
ASKING = 10
"""Frames between our answer and Dagster's question whether a class may be loaded in a place."""
# Neither checked nor resolved by Dagster: nothing that is written there may stop a process.
_DATAHUB = Field(DagsterAny, is_required=False)

# What Dagster is to check; they are abstract, which mypy takes for a mistake.
_EVENT_LOG: Any = EventLogStorage
_STORAGE: Any = DagsterStorage


class _Discreet(ConfigurableClassData):
    """What dagster.yaml says, of which Dagster shows no secret of ours to its users.

    The webserver's configuration page and `dagster instance info` print it.
    """

    def info_dict(self) -> Mapping[str, Any]:
        """The part of dagster.yaml that is shown."""
        said = super().info_dict()
        shown = said["config"]
        if "datahub" in shown:
            shown = {**shown, "datahub": config.discreet(shown["datahub"])}
        return {**said, "config": shown}


def _refuse_to_load(message: str) -> None:
    """Raise `ConfigurationError` if Dagster is about to load a class that dagster.yaml names.

    Dagster's own error names the classes, and nothing that could be done. Whoever else asks what
    is a subclass of what gets Python's answer.
    """
    loading = ConfigurableClassData.rehydrate.__code__
    callers = islice(traceback.walk_stack(None), ASKING)
    if any(frame.f_code is loading for frame, _ in callers):
        raise ConfigurationError(message)


def _discreet(inst_data: ConfigurableClassData | None) -> ConfigurableClassData | None:
    return None if inst_data is None else _Discreet(*inst_data)


class DataHubEventLogStorage(CapturingEventLogStorage, ConfigurableClass):
    """The event log storage whose runs go to DataHub; `backend` is the one that stores.

    Without a `backend`, it is the SQLite event log of the instance's own directory.
    """

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
        self._datahub_block = block
        self._datahub_reading = config.read(block)
        known = SqliteEventLogStorage if backend is None else backend
        super().__init__(known, self._datahub_reading.config)
        self._datahub_inst_data = _discreet(inst_data)
        self._datahub_directory = directory
        self._datahub_building = threading.Lock()
        self._datahub_waiting: DagsterInstance | None = None

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

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Our own configuration, or the backend's if it was made by `DataHubStorage`."""
        if self._datahub_inst_data is not None:
            return self._datahub_inst_data
        return getattr(self._datahub_backend, "inst_data", None)

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

    def register_instance(self, instance: DagsterInstance) -> None:
        """Register the instance; in the daemon, this starts the dispatcher.

        Raises `ConfigurationError` if the storage would not be in the instance's directory.
        """
        expected = self._datahub_directory
        if expected is not None and not _is_home_of(expected, instance):
            raise ConfigurationError(
                f"{_WRITE_BASE_DIR}. ${HOME} is {expected}, but this instance's directory is"
                f" {instance.root_directory}."
            )
        super().register_instance(instance)
        if not self._datahub_is_built:
            # The storage may outlive it, and must still know where the event log is.
            self._datahub_waiting = instance
        self._datahub_warn()
        if not self._datahub_config.enabled and role() == "daemon":
            self._datahub_begin_noting_off(instance)
        if self._datahub_is_auto and role() == "daemon":
            lifecycle().start(self, instance, self._datahub_block, self._datahub_config)

    def dispose(self) -> None:
        """Deliver what this process left undelivered, or stop the dispatcher; then dispose."""
        try:
            if lifecycle().owns(self):
                lifecycle().stop()
            lifecycle().deliver()
        finally:
            if self._datahub_is_built:
                self._datahub_backend.dispose()

    def _datahub_begin_noting_off(self, instance: DagsterInstance) -> None:
        """Note it once in a process, when the instance is complete."""
        if process().is_off_noted:
            return
        process().is_off_noted = True
        known = weakref.ref(instance)

        def note() -> None:
            if completed_ref(known) is not None:
                self._datahub_note_off()

        threading.Thread(target=note, name="datahub-eventlog-off", daemon=True).start()

    def _datahub_note_off(self) -> None:
        """Tell the ledger, if there is one, that capture is off; never raises.

        So that what was left out on purpose is not taken for lost when capture is on again.
        """
        from datahub_eventlog.ledger_location import existing_ledger

        try:
            directory = self._instance.root_directory
            ledger = existing_ledger(self._datahub_backend, directory, patience=PATIENCE)
            if ledger is not None:
                ledger.upkeep.switched_off()
        except Exception as error:  # noqa: BLE001  # what is switched off must not be in the way
            reason = error_text.describe(error)
            process().complaints.complain(f"The ledger was not told that capture is off: {reason}")

    @property
    def _datahub_is_auto(self) -> bool:
        return self._datahub_config.enabled and self._datahub_config.dispatch == "auto"

    @property
    def _datahub_is_built(self) -> bool:
        return "_datahub_backend" in vars(self)

    def _datahub_build(self) -> EventLogStorage:
        with self._datahub_building:
            if not self._datahub_is_built:
                instance = self._datahub_waiting or self._instance
                backend = _default_backend(instance)
                backend.register_instance(instance)
                self._datahub_backend = backend
                self._datahub_waiting = None
        return self._datahub_backend

    def _datahub_warn(self) -> None:
        """Say once what is wrong with the block; a variable may well be unset in this process."""
        for fault in self._datahub_reading.faults:
            if not fault.is_unset_variable:
                process().complaints.once(fault.message)
        if self._datahub_is_built and isinstance(self._datahub_backend, DataHubEventLogStorage):
            process().complaints.once(_NESTED)

    def _datahub_open_ledger(self) -> Ledger:
        instance = self._instance_weakref() if self._instance_weakref else None
        mixture = None if instance is None else mixture_of(instance)
        if mixture:
            process().complaints.once(mixture)
        return super()._datahub_open_ledger()

    def _datahub_ended(self, run_id: str, age: float | None) -> None:
        """Deliver the run from this process, if nobody else is there who could."""
        config = self._datahub_config
        is_attended = age is not None and age < ALIVE
        is_ours = self._datahub_is_auto and config.exit_timeout and config.target is not None
        if is_attended or not is_ours or role() != "other":
            return
        instance_ref = ref_of(self._instance)
        if instance_ref is not None and not self._datahub_reading.faults:
            directory = self._instance.root_directory
            lifecycle().leave(Left(run_id, instance_ref, directory, config))


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
        self._inst_data = _discreet(inst_data)

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
        directory = None if raw.get("storage") else _home()
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


def mixture_of(instance: DagsterInstance) -> str | None:
    """What is wrong where only the event log was moved to a database, or None if nothing is.

    Dagster then keeps runs, schedules and sensors in SQLite without a word.
    """
    events = instance.event_log_storage
    if isinstance(events, _FILES) or not isinstance(events, SqlEventLogStorage):
        return None
    if not isinstance(instance.run_storage, SqliteRunStorage):
        return None
    return (
        f"The event log is in {events.__class__.__name__}, but Dagster keeps runs in SQLite:"
        " configure run_storage and schedule_storage beside event_log_storage"
    )


_FILES = (SqliteEventLogStorage, ConsolidatedSqliteEventLogStorage, InMemoryEventLogStorage)


def _home() -> str:
    home = os.environ.get(HOME)
    if not home:
        raise ConfigurationError(f"{_WRITE_BASE_DIR}. ${HOME}, its default, is not set here.")
    return str(Path(home).expanduser())


def _is_home_of(directory: str, instance: DagsterInstance) -> bool:
    """Whether the instance is configured there, wherever its local artifacts are."""
    root = Path(instance.root_directory).resolve()
    if Path(directory).resolve() == root:
        return True
    artifacts = InstanceRef.from_dir(directory).local_artifact_storage.base_dir
    return Path(artifacts).resolve() == root


def _default_backend(instance: DagsterInstance) -> EventLogStorage:
    """The SQLite event log where Dagster would have it by default."""
    directory = _base_directory(instance)
    data = InstanceRef.config_defaults(directory)["event_log_storage"]
    assert data is not None  # noqa: S101  # it is one of Dagster's defaults
    backend: EventLogStorage = data.rehydrate(as_type=_EVENT_LOG)
    return backend


def _base_directory(instance: DagsterInstance) -> str:
    """The directory of the instance's databases.

    It is the one of the local artifacts too, unless that was configured apart: the database of
    the runs, where it has its default place, tells.
    """
    instance_ref = getattr(instance, "_ref", None)
    runs = None if instance_ref is None else instance_ref.run_storage_data
    if runs is not None and runs.class_name == SqliteRunStorage.__name__:
        folder = Path(str(runs.config_dict.get("base_dir")))
        if folder.name == "history":
            return str(folder.parent)
    return instance.root_directory
