from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from kafka_mock import TOPIC, Brokers, Registry, registry
from proposals import RUN_ID, dataset_urn, many, mixture, properties

from datahub_eventlog.config import KafkaTarget
from datahub_eventlog.errors import ConfigurationError, LeaseLost, Misconfigured, Unavailable
from datahub_eventlog.sinks import kafka
from datahub_eventlog.sinks.kafka import PORTION, KafkaSink

SOON = {"message.timeout.ms": 500}


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    brokers = Brokers(TOPIC)
    yield brokers
    brokers.end()


@pytest.fixture
def schemas() -> Iterator[Registry]:
    with registry() as server:
        yield server


def target(brokers: Brokers, schemas: Registry, **options: Any) -> KafkaTarget:
    return KafkaTarget(brokers.bootstrap, schemas.url, options)


def test_proposals_of_all_kinds_arrive_in_their_order(brokers: Brokers, schemas: Registry) -> None:
    sink = KafkaSink(target(brokers, schemas))
    assert sink.emit(mixture()) == []
    sink.close()
    arrived = brokers.proposals(len(mixture()))
    found = [(each["entityUrn"], each["changeType"], each["aspect"]["value"]) for each in arrived]
    expected = [(each.urn, each.change.value, each.body.encode()) for each in mixture()]
    for urn in {each.urn for each in mixture()}:
        assert [each for each in found if each[0] == urn] == [
            each for each in expected if each[0] == urn
        ]
    assert {each["systemMetadata"]["runId"] for each in arrived} == {RUN_ID, "no-run-id-provided"}
    assert {each["aspect"]["contentType"] for each in arrived} == {
        "application/json",
        "application/json-patch+json",
    }


def test_another_topic_and_the_registrys_credentials_are_honoured(schemas: Registry) -> None:
    brokers = Brokers("mine")
    options = {"basic.auth.user.info": "me:pass-word"}
    named = KafkaTarget(
        brokers.bootstrap, schemas.url, schema_registry_config=options, topic="mine"
    )
    sink = KafkaSink(named)
    assert sink.emit(many(2)) == []
    sink.close()
    assert len(brokers.proposals(2, "mine")) == 2
    found = kafka.probe(named)
    brokers.end()
    assert [each.is_ok for each in found] == [True, True]
    assert schemas.authorizations == {f"Basic {base64.b64encode(b'me:pass-word').decode()}"}


def test_an_option_that_the_registrys_client_does_not_know_is_named(
    brokers: Brokers, schemas: Registry
) -> None:
    options = {"no.such.option": "pass-word"}
    with pytest.raises(ConfigurationError, match=r"no\.such\.option") as raised:
        KafkaSink(KafkaTarget(brokers.bootstrap, schemas.url, schema_registry_config=options))
    assert "pass-word" not in str(raised.value)


def test_a_large_batch_arrives_whole(brokers: Brokers, schemas: Registry) -> None:
    calls: list[None] = []
    sink = KafkaSink(target(brokers, schemas))
    sink.emit(many(2 * PORTION + 1), lambda: calls.append(None))
    sink.close()
    arrived = brokers.proposals(2 * PORTION + 1)
    assert {each["entityUrn"] for each in arrived} == {each.urn for each in many(2 * PORTION + 1)}
    assert len(calls) == 4


def test_a_lost_lease_stops_the_next_portion(brokers: Brokers, schemas: Registry) -> None:
    calls: list[None] = []

    def proceed() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise LeaseLost

    sink = KafkaSink(target(brokers, schemas))
    with pytest.raises(LeaseLost):
        sink.emit(many(PORTION + 1), proceed)
    sink.close()
    assert len(brokers.proposals(PORTION)) == PORTION


def test_a_message_that_is_too_large_is_rejected_and_the_rest_is_delivered(
    brokers: Brokers, schemas: Registry
) -> None:
    sink = KafkaSink(target(brokers, schemas, **{"message.max.bytes": 10_000}))
    (rejected,) = sink.emit([properties("a"), properties("b", "x" * 20_000), properties("c")])
    sink.close()
    assert rejected.urn == dataset_urn("b")
    assert "too large" in rejected.reason
    assert len(brokers.proposals(2)) == 2


def test_text_that_is_no_utf8_is_rejected(brokers: Brokers, schemas: Registry) -> None:
    wrong = dataclasses.replace(properties("a"), body='{"description":"\ud800"}')
    sink = KafkaSink(target(brokers, schemas))
    (rejected,) = sink.emit([wrong, properties("b")])
    sink.close()
    assert rejected.urn == dataset_urn("a")
    assert [proposal["entityUrn"] for proposal in brokers.proposals(1)] == [dataset_urn("b")]


def test_what_is_no_proposal_at_all_is_rejected(brokers: Brokers, schemas: Registry) -> None:
    wrong = dataclasses.replace(properties("a"), entity_type=cast("str", 5))
    sink = KafkaSink(target(brokers, schemas))
    (rejected,) = sink.emit([wrong, properties("b")])
    sink.close()
    assert "Avro" in rejected.reason
    assert [proposal["entityUrn"] for proposal in brokers.proposals(1)] == [dataset_urn("b")]


def test_what_no_broker_acknowledges_is_not_delivered(brokers: Brokers, schemas: Registry) -> None:
    sink = KafkaSink(target(brokers, schemas, **SOON))
    assert sink.emit(many(1)) == []
    brokers.end()
    with pytest.raises(Unavailable, match=f"Connection error: Kafka at {brokers.bootstrap}"):
        sink.emit(many(3))
    sink.close()


def test_brokers_that_are_not_there_are_unavailable(schemas: Registry) -> None:
    sink = KafkaSink(KafkaTarget("127.0.0.1:1", schemas.url, SOON))
    with pytest.raises(Unavailable, match=r"Kafka at 127\.0\.0\.1:1 did not take"):
        sink.emit(many(3))
    sink.close()


def test_a_schema_registry_that_is_not_there_is_unavailable(brokers: Brokers) -> None:
    sink = KafkaSink(KafkaTarget(brokers.bootstrap, "http://user:pass-word@127.0.0.1:1"))
    with pytest.raises(Unavailable, match=r"schema registry is not up at http://127") as raised:
        sink.emit(many(1))
    sink.close()
    assert not isinstance(raised.value, Misconfigured)
    assert "pass-word" not in str(raised.value)


def test_a_schema_registry_that_refuses_us_is_a_wrong_configuration(
    brokers: Brokers, schemas: Registry
) -> None:
    schemas.status = 401
    sink = KafkaSink(target(brokers, schemas))
    with pytest.raises(Misconfigured, match=r"answers 401.*schema_registry_url"):
        sink.emit(many(1))
    sink.close()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"no.such.option": "pass-word"}, "no.such.option"),
        ({"sasl.mechanisms": "pass-word", "security.protocol": "SASL_PLAINTEXT"}, "SASL"),
        ({"acks": "pass-word"}, "acks"),
    ],
)
def test_an_option_that_kafka_does_not_know_is_named(
    brokers: Brokers, schemas: Registry, options: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as raised:
        KafkaSink(target(brokers, schemas, **options))
    assert "datahub_kafka_config" in str(raised.value)
    assert "pass-word" not in str(raised.value)


def test_an_address_without_a_port_is_explained(schemas: Registry) -> None:
    with pytest.raises(ConfigurationError, match="bootstrap"):
        KafkaSink(KafkaTarget("kafka:no-port", schemas.url))


# ------------------------------------------------------------------------------------- the probe


def test_a_probe_finds_brokers_topic_and_registry(brokers: Brokers, schemas: Registry) -> None:
    found = kafka.probe(target(brokers, schemas))
    assert [(each.is_ok, each.what) for each in found] == [
        (True, "Kafka"),
        (True, "schema registry"),
    ]


def test_a_probe_misses_the_topic_of_another_kafka(schemas: Registry) -> None:
    other = Brokers("another")
    found = kafka.probe(target(other, schemas))
    other.end()
    assert not found[0].is_ok
    assert TOPIC in found[0].text


@pytest.mark.parametrize(
    ("status", "is_ok"), [(200, True), (501, True), (404, False), (503, False)]
)
def test_a_probe_judges_the_registrys_answer(
    brokers: Brokers, schemas: Registry, status: int, *, is_ok: bool
) -> None:
    schemas.status = status
    assert kafka.probe(target(brokers, schemas))[1].is_ok == is_ok


def test_a_probe_says_what_is_not_up() -> None:
    found = kafka.probe(KafkaTarget("127.0.0.1:1", "http://127.0.0.1:1", SOON))
    assert [each.is_ok for each in found] == [False, False]
    assert all("Connection error" in each.text for each in found)
    assert json.dumps([each.text for each in found]).count("127.0.0.1:1") >= 2
