"""Reading back what DataHub holds, whatever it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import receiver_reads
from proposals import dataset_urn, instance_urn, properties, run_event
from receiver import Receiver
from receivers import Sleeps

from datahub_eventlog.config import RestTarget
from datahub_eventlog.errors import DeliveryError, Misconfigured, Unavailable
from datahub_eventlog.sinks import connect
from datahub_eventlog.sinks.reading import (
    ENTITIES,
    MOST_REFUSED,
    Held,
    NotReadable,
    RestReader,
    unreadable,
)

TABLES = [f"table_{number:03}" for number in range(40)]
URNS = [dataset_urn(table) for table in TABLES]
NAME = "datasetProperties"
EVENT = "dataProcessInstanceRunEvent"
SPAN = (0, 2 * 10**12)


@pytest.fixture
def reader(receiver: Receiver) -> Iterator[RestReader]:
    reader = RestReader(RestTarget(receiver.url, timeout_sec=5), sleep=Sleeps())
    yield reader
    reader.close()


@pytest.fixture
def filled(receiver: Receiver) -> Receiver:
    """A receiver with forty tables."""
    sink = connect(RestTarget(receiver.url))
    assert not sink.emit([properties(table) for table in TABLES])
    sink.close()
    return receiver


def _read(reader: RestReader) -> Held:
    return reader.aspects("dataset", dict.fromkeys(URNS, (NAME,)))


def test_what_was_written_is_read_with_its_run_and_time(
    filled: Receiver, reader: RestReader
) -> None:
    held = _read(reader)
    assert set(held.aspects) == {(urn, NAME) for urn in URNS}
    one = held.aspects[URNS[0], NAME]
    assert one.value["name"] == filled.value(URNS[0], NAME)["name"]
    assert one.observed
    assert len(filled.reads) == 1


def test_what_is_not_there_is_left_out(filled: Receiver, reader: RestReader) -> None:
    del filled.store.versioned[URNS[3], NAME]
    assert (URNS[3], NAME) not in _read(reader).aspects


def _altering(monkeypatch: pytest.MonkeyPatch, alter: Callable[[Any], Any]) -> None:
    real = receiver_reads.read

    def read(*arguments: Any) -> Any:
        answer = real(*arguments)
        return answer and receiver_reads.Read(answer.status, alter(answer.content))

    monkeypatch.setattr(receiver_reads, "read", read)


def _with(**changes: Any) -> Callable[[Any], Any]:
    return lambda content: [
        {"urn": entity["urn"], NAME: {**entity[NAME], **changes}} for entity in content
    ]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("answer", [None, {}, {"entities": []}, "text", 7, True])
def test_an_answer_that_is_no_list_is_not_taken_for_nothing(
    reader: RestReader, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    _altering(monkeypatch, lambda _: answer)
    with pytest.raises(Misconfigured, match="no list"):
        _read(reader)
    with pytest.raises(Misconfigured, match="no list"):
        reader.documents("dataset", "operation", URNS, SPAN)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "metadata", [None, [], "text", 5, {"lastObserved": "x"}, {"lastObserved": 10**400}]
)
def test_strange_metadata_costs_only_itself(
    reader: RestReader, monkeypatch: pytest.MonkeyPatch, metadata: Any
) -> None:
    _altering(monkeypatch, _with(systemMetadata=metadata))
    held = _read(reader).aspects[URNS[0], NAME]
    assert (held.observed, held.run_id) == (None, "")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("entity", [None, 5, [], {}, {"urn": 5}, {"urn": {}}, {"urn": "a", "b": 1}])
def test_strange_entities_are_left_out(
    reader: RestReader, monkeypatch: pytest.MonkeyPatch, entity: Any
) -> None:
    _altering(monkeypatch, lambda content: [entity, *content])
    assert len(_read(reader).aspects) == len(URNS)


@pytest.mark.parametrize("status", [408, 504, 413, 400])
def test_what_is_too_much_at_once_is_asked_for_in_halves(
    filled: Receiver, reader: RestReader, status: int
) -> None:
    filled.fault("status", status=status, path="batchGet", count=2)
    assert len(_read(reader).aspects) == len(URNS)


def test_requests_grow_again(filled: Receiver, reader: RestReader) -> None:
    filled.fault("status", status=504, path="batchGet", count=5)
    for _ in range(10):
        before = len(filled.reads)
        _read(reader)
    assert len(filled.reads) == before + 1
    assert len(URNS) < ENTITIES


def test_an_answer_that_is_too_long_is_asked_for_in_halves(
    filled: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datahub_eventlog.sinks.reading.GRAPH_BYTES", 2000)
    reader = RestReader(RestTarget(filled.url), sleep=Sleeps())
    assert len(_read(reader).aspects) == len(URNS)
    reader.close()


def test_one_entity_that_may_not_be_read_does_not_hide_the_others(
    filled: Receiver, reader: RestReader
) -> None:
    filled.fault("deny", urn="table_007", aspect="^$")
    held = _read(reader)
    assert len(held.aspects) == len(URNS) - 1
    assert list(held.refused) == [URNS[7]]


def test_a_type_that_may_not_be_read_is_found_out_with_few_requests(
    filled: Receiver, reader: RestReader
) -> None:
    filled.fault("deny", aspect="^$")
    with pytest.raises(NotReadable, match="View Entity Page"):
        _read(reader)
    assert len(filled.reads) < 4 * MOST_REFUSED


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_that_is_not_well_is_unavailable(
    filled: Receiver, reader: RestReader, status: int
) -> None:
    filled.fault("status", status=status, path="batchGet|timeseries")
    with pytest.raises(Unavailable):
        _read(reader)
    with pytest.raises(Unavailable):
        reader.documents("dataset", "operation", URNS, SPAN)


@pytest.mark.usefixtures("filled")
def test_a_conflict_in_the_database_is_unavailable(
    reader: RestReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    conflict = receiver_reads.Read(503, {"message": "DATABASE_TRANSACTION_CONFLICT"})
    monkeypatch.setattr(receiver_reads, "read", lambda *_: conflict)
    with pytest.raises(Unavailable):
        _read(reader)


NAMES = [f"run{number:03}" for number in range(12)]
RUNS = [instance_urn(name) for name in NAMES]


@pytest.fixture
def with_events(receiver: Receiver) -> Receiver:
    """A receiver with the events of twelve runs, of the first one five."""
    sink = connect(RestTarget(receiver.url))
    begun = 1_700_000_000_000
    events = [run_event(name, time=begun + number) for number, name in enumerate(NAMES)]
    events += [run_event(NAMES[0], time=begun + 1000 * number) for number in range(1, 5)]
    assert not sink.emit(events)
    sink.close()
    return receiver


@pytest.mark.parametrize("has_scroll", [True, False])
def test_documents_are_read_of_all_entities_or_of_one_after_the_other(
    with_events: Receiver, reader: RestReader, monkeypatch: pytest.MonkeyPatch, *, has_scroll: bool
) -> None:
    monkeypatch.setattr("datahub_eventlog.sinks.reading.DOCUMENTS", 3)
    if not has_scroll:
        with_events.fault("status", status=404, path="/openapi/v2/")
    held = reader.documents("dataProcessInstance", EVENT, RUNS, SPAN)
    counts = {urn: len({str(each) for each in held.documents[urn]}) for urn in RUNS}
    assert counts == {urn: 5 if urn == RUNS[0] else 1 for urn in RUNS}


@pytest.mark.usefixtures("with_events")
def test_too_many_documents_of_others_are_not_read(
    reader: RestReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datahub_eventlog.sinks.reading.DOCUMENTS", 1)
    held = reader.documents("dataProcessInstance", EVENT, RUNS[:3], SPAN)
    assert set(held.documents) == set(RUNS[:3])


@pytest.mark.usefixtures("with_events")
@pytest.mark.parametrize(
    "value", [{}, {"aspect": None}, {"aspect": {"value": None}}, {"aspect": {"value": "<"}}, 5]
)
def test_strange_documents_are_left_out(
    reader: RestReader, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    _altering(monkeypatch, lambda _: {"value": {"values": [value]}})
    held = reader.documents("dataProcessInstance", EVENT, RUNS[:1], SPAN)
    assert held.documents == {RUNS[0]: []}


@pytest.mark.parametrize("status", [400, 408, 422, 504, 403])
def test_an_error_of_a_timeseries_raises_nothing_else(
    with_events: Receiver, reader: RestReader, status: int
) -> None:
    with_events.fault("status", status=status, path="timeseries|getTimeseries", count=3)
    try:
        held = reader.documents("dataProcessInstance", EVENT, RUNS, SPAN)
    except DeliveryError:
        return
    assert len(held.documents) + len(held.refused) == len(RUNS)


def test_what_the_token_may_not_read_is_named(receiver: Receiver) -> None:
    target = RestTarget(receiver.url)
    assert unreadable(target) == []
    receiver.fault("deny", aspect="operation")
    (reason,) = unreadable(target)
    assert "Get Timeseries Aspect API and View Dataset Operations" in reason
