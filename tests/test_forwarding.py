from __future__ import annotations

import inspect
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from custom_storages import Target
from dagster import DagsterInstance
from dagster._check import CheckError
from dagster._core.storage.event_log import (
    InMemoryEventLogStorage,
    SqlEventLogStorage,
    SqliteEventLogStorage,
)
from dagster._core.storage.event_log.base import EventLogStorage

from datahub_eventlog.forwarding import ForwardingEventLogStorage

KEPT = {"register_instance", "has_instance"}
MEMBERS = {
    name: member
    for name, member in inspect.getmembers(EventLogStorage)
    if not name.startswith("_") and name not in KEPT
}
METHODS = [name for name, member in MEMBERS.items() if inspect.isfunction(member)]
PROPERTIES = [name for name, member in MEMBERS.items() if isinstance(member, property)]


class Wrapper(ForwardingEventLogStorage):
    @classmethod
    def around(cls, backend: EventLogStorage) -> Wrapper:
        return cls(Target(backend, backend.__class__))


def recorder() -> EventLogStorage:
    """A storage that answers each call with what was called, of whatever Dagster is installed."""

    def method(name: str) -> Any:
        return lambda _self, *args, **kwargs: (name, args, kwargs)

    members: dict[str, Any] = {name: method(name) for name in METHODS}
    members |= {name: f"the backend's {name}" for name in PROPERTIES}
    recording: EventLogStorage = type("Recorder", (EventLogStorage,), members)()
    return recording


@pytest.fixture
def backend() -> Iterator[InMemoryEventLogStorage]:
    storage = InMemoryEventLogStorage()
    yield storage
    storage.dispose()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_installed_dagster_reaches_the_backend(name: str) -> None:
    called = getattr(Wrapper.around(recorder()), name)(1, 2, option=3)
    assert called == (name, (1, 2), {"option": 3})


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_property_is_the_backends_also_where_the_base_has_a_default(name: str) -> None:
    assert getattr(Wrapper.around(recorder()), name) == f"the backend's {name}"


def test_the_lists_of_members_are_not_empty() -> None:
    assert "store_event_batch" in METHODS
    assert "supports_global_concurrency_limits" in PROPERTIES


def test_private_members_of_the_base_class_are_the_backends_too() -> None:
    class Paging(InMemoryEventLogStorage):
        def _page_records_for_run(self, *_: object) -> Any:
            return "the backend's pages"

    backend = Paging()
    wrapper: Any = Wrapper.around(backend)
    assert wrapper._page_records_for_run("run", None) == "the backend's pages"
    backend.dispose()


def test_a_method_shows_the_signature_and_docstring_of_dagsters() -> None:
    forwarded = Wrapper.get_records_for_run
    assert inspect.signature(forwarded) == inspect.signature(EventLogStorage.get_records_for_run)
    assert forwarded.__doc__ == EventLogStorage.get_records_for_run.__doc__


def test_isinstance_answers_as_the_backend_would(backend: InMemoryEventLogStorage) -> None:
    wrapper: Any = Wrapper.around(backend)
    seen_as = (InMemoryEventLogStorage, SqlEventLogStorage, EventLogStorage, Wrapper)
    assert [each for each in seen_as if isinstance(wrapper, each)] == list(seen_as)
    assert not isinstance(wrapper, SqliteEventLogStorage)
    assert wrapper.__class__ is InMemoryEventLogStorage
    assert type(wrapper).__name__ == "Wrapper"


def test_a_wrapped_wrapper_is_still_seen_as_the_backend(backend: InMemoryEventLogStorage) -> None:
    wrapper: object = Wrapper.around(Wrapper.around(backend))
    assert isinstance(wrapper, InMemoryEventLogStorage)


def test_other_attributes_are_read_from_the_backend(backend: InMemoryEventLogStorage) -> None:
    wrapper: Any = Wrapper.around(backend)
    assert wrapper.has_table("event_logs")
    assert wrapper._held_conn is backend._held_conn
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = wrapper.no_such_thing


def test_attributes_are_written_to_the_backend(backend: InMemoryEventLogStorage) -> None:
    wrapper: Any = Wrapper.around(backend)
    wrapper.answer = 42
    assert vars(backend)["answer"] == 42
    del wrapper.answer
    assert "answer" not in vars(backend)
    assert set(vars(wrapper)) == {"datahub", "_instance_weakref"}


def test_a_method_that_is_replaced_on_the_wrapper_is_replaced_for_the_backend_too(
    backend: InMemoryEventLogStorage,
) -> None:
    wrapper: Any = Wrapper.around(backend)
    wrapper.get_records_for_run = lambda run_id: f"records of {run_id}"
    assert wrapper.get_records_for_run("a") == "records of a"
    assert vars(backend)["get_records_for_run"]("a") == "records of a"


def test_the_instance_is_registered_with_both(backend: InMemoryEventLogStorage) -> None:
    wrapper: Any = Wrapper.around(backend)
    assert not wrapper.has_instance
    with tempfile.TemporaryDirectory() as folder, DagsterInstance.ephemeral(folder) as instance:
        wrapper.register_instance(instance)
        assert wrapper.has_instance
        assert backend.has_instance
        assert backend._instance is instance


def test_a_backend_that_has_its_instance_keeps_it(backend: InMemoryEventLogStorage) -> None:
    with tempfile.TemporaryDirectory() as folder, DagsterInstance.ephemeral(folder) as instance:
        backend.register_instance(instance)
        wrapper = Wrapper.around(backend)
        wrapper.register_instance(instance)
        assert wrapper._instance is instance


def test_a_second_registration_is_refused_as_dagster_does(
    backend: InMemoryEventLogStorage,
) -> None:
    wrapper = Wrapper.around(backend)
    with tempfile.TemporaryDirectory() as folder, DagsterInstance.ephemeral(folder) as instance:
        wrapper.register_instance(instance)
        with pytest.raises(CheckError, match="once"):
            wrapper.register_instance(instance)


NEWER = """
import abc
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.event_log import InMemoryEventLogStorage
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

EventLogStorage.static = staticmethod(abc.abstractmethod(lambda: "base"))
EventLogStorage.of_class = classmethod(abc.abstractmethod(lambda cls: "base"))
InMemoryEventLogStorage.static = staticmethod(lambda: "static of the backend")
InMemoryEventLogStorage.of_class = classmethod(lambda cls: cls.__name__)
DagsterStorage.another = property(abc.abstractmethod(lambda self: "base"))
DagsterStorage.asked = abc.abstractmethod(lambda self, what: "base")
DagsterSqliteStorage.another = property(lambda self: "another storage")
DagsterSqliteStorage.asked = lambda self, what: what
for each in (EventLogStorage, DagsterStorage, InMemoryEventLogStorage, DagsterSqliteStorage):
    abc.update_abstractmethods(each)

from datahub_eventlog import DataHubEventLogStorage, DataHubStorage

events = DataHubEventLogStorage(InMemoryEventLogStorage())
storage = DataHubStorage(DagsterSqliteStorage("."))
print(events.static(), events.of_class(), storage.another, storage.asked("whom?"), sep=", ")
print(storage.run_storage is storage._storage.run_storage, storage.no_such_thing)
"""


def test_what_a_newer_dagster_demands_of_its_storages_is_the_backends_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NEWER]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    answers = "static of the backend, InMemoryEventLogStorage, another storage, whom?\n"
    assert done.stdout == answers
    assert "'DagsterSqliteStorage' object has no attribute 'no_such_thing'" in done.stderr


def test_an_error_of_the_backends_comes_through_unchanged() -> None:
    failure = OSError("disk full")

    class Failing(InMemoryEventLogStorage):
        def wipe(self) -> None:
            raise failure

    backend = Failing()
    with pytest.raises(OSError, match="disk full") as raised:
        Wrapper.around(backend).wipe()
    assert raised.value is failure
    backend.dispose()
