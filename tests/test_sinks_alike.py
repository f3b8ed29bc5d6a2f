"""The same proposals arrive, whichever way they are sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kafka_mock import TOPIC, Brokers, registry
from proposals import RUN_ID, mixture
from receiver import Receiver

from datahub_eventlog.config import FileTarget, KafkaTarget, RestTarget
from datahub_eventlog.sinks import connect

WRITE = "/aspects?action=ingestProposalBatch"


def over_http() -> Receiver:
    with Receiver() as receiver:
        sink = connect(RestTarget(receiver.url))
        assert sink.emit(mixture()) == []
        sink.close()
    return receiver


def over_kafka() -> Receiver:
    brokers = Brokers(TOPIC)
    with registry() as schemas:
        sink = connect(KafkaTarget(brokers.bootstrap, schemas.url))
        assert sink.emit(mixture()) == []
        sink.close()
    arrived = brokers.proposals(len(mixture()))
    brokers.end()
    for each in arrived:
        each["aspect"]["value"] = each["aspect"]["value"].decode()
    return ingested(arrived)


def over_files(folder: Path) -> Receiver:
    sink = connect(FileTarget(str(folder)))
    assert sink.emit(mixture()) == []
    sink.close()
    lines = [
        each
        for name in (RUN_ID, "runless")
        for each in json.loads((folder / f"{name}.json").read_text())
    ]
    for each in lines:
        if "json" in each["aspect"]:
            value = json.dumps(each["aspect"]["json"])
            each["aspect"] = {"value": value, "contentType": "application/json"}
    return ingested(lines)


def ingested(batch: list[dict[str, Any]]) -> Receiver:
    with Receiver() as receiver:
        answer = receiver.answer("POST", WRITE, {}, json.dumps({"proposals": batch}).encode())
        assert answer.status == 200, answer.body
    return receiver


def test_all_sinks_bring_about_the_same_state(tmp_path: Path) -> None:
    http = over_http()
    assert len(http.entities()) == 3
    assert over_files(tmp_path).state() == http.state()
    assert over_kafka().state() == http.state()
