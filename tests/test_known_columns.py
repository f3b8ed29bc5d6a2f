"""What DataHub knows of tables helps to read SQL, and nothing waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from ledgers import Clock
from proposals import body
from receiver import Receiver

from datahub_eventlog.config import RestTarget
from datahub_eventlog.dispatcher.known_columns import ANSWER_LIFETIME, ASKING_PAUSE, KnownColumns
from datahub_eventlog.sinks import connect
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.queries import Query, QueryLineage, query_lineage
from datahub_eventlog.values import Proposal

TARGET = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.target,PROD)"
SOURCE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.source,PROD)"
STAR = Query("INSERT INTO db.s.target SELECT * FROM db.s.source", "snowflake", TARGET)


def _has_columns(receiver: Receiver, urn: str, *names: str) -> None:
    """Let DataHub know a table."""
    kind: dict[str, Any] = {"type": {"com.linkedin.schema.NumberType": {}}}
    fields = [{"fieldPath": name, "type": kind, "nativeDataType": "int"} for name in names]
    schema: dict[str, Any] = {
        "schemaName": "t",
        "platform": "urn:li:dataPlatform:snowflake",
        "version": 0,
        "hash": "",
        "platformSchema": {"com.linkedin.schema.MySqlDDL": {"tableSchema": ""}},
        "fields": fields,
    }
    sink = connect(RestTarget(receiver.url), "SYNC_PRIMARY")
    assert not sink.emit([Proposal(urn, "dataset", "schemaMetadata", body(schema))])
    sink.close()


def _read(tables: KnownColumns) -> QueryLineage:
    found = query_lineage(STAR, Context(resolver=tables.resolver))
    assert found.upstreams == {SOURCE}
    return found


def _asked(receiver: Receiver) -> int:
    return sum(each.method == "GET" for each in receiver.requests)


def test_a_star_is_what_datahub_knows_of_the_table(receiver: Receiver) -> None:
    _has_columns(receiver, SOURCE, "id", "name")
    tables = KnownColumns(RestTarget(receiver.url))

    assert _read(tables).columns == {
        "id": frozenset({(SOURCE, "id")}),
        "name": frozenset({(SOURCE, "name")}),
    }
    asked = _asked(receiver)
    _read(tables)
    assert _asked(receiver) == asked


def test_what_datahub_does_not_know_is_read_without(receiver: Receiver) -> None:
    assert _read(KnownColumns(RestTarget(receiver.url))).columns == {}


def test_columns_are_asked_for_again_after_a_while(receiver: Receiver) -> None:
    clock = Clock()
    tables = KnownColumns(RestTarget(receiver.url), clock)
    assert _read(tables).columns == {}

    _has_columns(receiver, SOURCE, "id")
    clock.advance(ANSWER_LIFETIME.total_seconds())
    assert set(_read(tables).columns) == {"id"}


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 503}, {"kind": "status", "status": 403}, {"kind": "cut"}]
)
def test_a_datahub_that_refuses_is_let_be_for_a_while(
    receiver: Receiver, fault: dict[str, Any]
) -> None:
    _has_columns(receiver, SOURCE, "id")
    clock = Clock()
    tables = KnownColumns(RestTarget(receiver.url), clock)
    receiver.fault(fault.pop("kind"), path="/aspects/", **fault)

    assert _read(tables).columns == {}
    receiver.clear()
    asked = _asked(receiver)
    assert _read(tables).columns == {}
    assert _asked(receiver) == asked
    clock.advance(ASKING_PAUSE.total_seconds())
    assert set(_read(tables).columns) == {"id"}


def test_a_datahub_that_is_slow_is_let_be(receiver: Receiver) -> None:
    """Each look at the clock is as if a request had taken long."""
    clock = Clock()

    def slow() -> float:
        clock.advance(10)
        return clock.time

    tables = KnownColumns(RestTarget(receiver.url, timeout_sec=8), slow)
    assert tables.columns(SOURCE) is None
    asked = _asked(receiver)
    assert tables.columns(TARGET) is None
    assert (asked, _asked(receiver)) == (1, 1)


def test_nothing_is_asked_before_there_is_sql(receiver: Receiver) -> None:
    KnownColumns(RestTarget(receiver.url))
    assert receiver.requests == []
