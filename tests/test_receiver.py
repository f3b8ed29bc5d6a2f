"""The receiver judges all other tests, so it is judged itself."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from datahub.emitter.serialization_helper import pre_json_transform
from datahub.metadata.schema_classes import OwnerClass, UpstreamClass
from datahub.specific.dataset import DatasetPatchBuilder
from proposals import body, dataset_urn, instance_urn, properties, run_event, tag
from receiver import Receiver, Remote

from datahub_eventlog.config import RestTarget
from datahub_eventlog.sinks import connect
from datahub_eventlog.values import Proposal

URN = dataset_urn("a")


def raw(urn: str, aspect: str, value: Any, **changes: Any) -> dict[str, Any]:
    return {
        "entityType": urn.split(":")[2],
        "entityUrn": urn,
        "changeType": "UPSERT",
        "aspectName": aspect,
        "aspect": {"value": json.dumps(value), "contentType": "application/json"},
        **changes,
    }


def post(receiver: Receiver, *batch: dict[str, Any]) -> tuple[int, str]:
    content = json.dumps({"proposals": batch, "async": "false"}).encode()
    answer = receiver.answer("POST", "/aspects?action=ingestProposalBatch", {}, content)
    return answer.status, answer.body.decode()


def emit(receiver: Receiver, *batch: Proposal) -> list[str]:
    sink = connect(RestTarget(receiver.url))
    rejected = sink.emit(batch)
    sink.close()
    return [each.reason for each in rejected]


@pytest.mark.parametrize(
    ("proposal", "why"),
    [
        (raw(URN, "datasetProperties", {"name": 1}), "/name :: 1 is not a string"),
        (raw(URN, "datasetProperties", {"nome": "a"}), "/nome :: unrecognized field"),
        (raw(URN, "ownership", {}), "/owners :: field is required"),
        (raw(URN, "dataFlowInfo", {"name": "a"}), "Unknown aspect dataFlowInfo for entity dataset"),
        (raw(URN, "status", {"removed": "yes"}), "is not a boolean"),
        (raw(URN, "status", {}, entityType="tag"), "the urn is of a dataset"),
        (raw(URN, "status", {}, changeType="DELETE"), "DELETE is not supported"),
        (raw(URN, "status", {}, changeType="CREATE"), "the aspect already exists"),
        (raw(URN, "status", {}, surplus=1), "/surplus :: unrecognized field"),
        (raw("urn:li:dataset:a", "status", {}), "/entityUrn"),
        (raw("urn:li:dataset:(urn:li:dataPlatform:x,a,MARS)", "status", {}), "MARS is no origin"),
        (raw(f"urn:li:tag:{'x' * 600}", "status", {}), "longer than 512 bytes"),
        (
            raw(URN, "globalTags", {"tags": [{"tag": "urn:li:corpuser:me"}]}),
            "corpuser may not stand here, only tag",
        ),
        (
            raw(
                instance_urn("r"),
                "dataProcessInstanceRunEvent",
                {"timestampMillis": 1, "status": "?"},
            ),
            "/status",
        ),
        (
            raw(URN, "schemaMetadata", {"platformSchema": {"rawSchema": ""}}),
            "is not a union",
        ),
    ],
)
def test_what_datahub_refuses_is_refused(
    receiver: Receiver, proposal: dict[str, Any], why: str
) -> None:
    status, text = post(receiver, raw(URN, "status", {"removed": False}), proposal)
    assert status in {400, 422}
    assert why in text
    assert receiver.state() == {}


def test_a_batch_is_applied_in_its_order(receiver: Receiver) -> None:
    assert emit(receiver, properties("a", "1"), tag("a", "x"), properties("a", "2")) == []
    assert receiver.aspects(URN) == {
        "datasetProperties": {"name": "a", "description": "2"},
        "globalTags": {"tags": [{"tag": "urn:li:tag:x"}]},
    }


def test_a_patch_adds_to_what_is_there_and_can_be_sent_again(receiver: Receiver) -> None:
    post(receiver, raw(URN, "globalTags", {"tags": [{"tag": "urn:li:tag:mine"}]}))
    for _ in range(2):
        assert emit(receiver, tag("a", "x")) == []
    assert receiver.aspect(URN, "globalTags") == {
        "tags": [{"tag": "urn:li:tag:mine"}, {"tag": "urn:li:tag:x"}]
    }


def test_the_clients_own_patches_are_understood(receiver: Receiver) -> None:
    patches = (
        DatasetPatchBuilder(URN)
        .add_owner(OwnerClass("urn:li:corpuser:a", "DATAOWNER"))
        .add_owner(OwnerClass("urn:li:corpuser:b", "DATAOWNER"))
        .remove_owner("urn:li:corpuser:b")
        .add_custom_property("one", "1")
        .add_upstream_lineage(UpstreamClass(dataset_urn("b"), "TRANSFORMED"))
        .build()
    )
    status, text = post(receiver, *(pre_json_transform(each.to_obj()) for each in patches))
    assert status == 200, text
    state = receiver.aspects(URN)
    assert state["datasetProperties"] == {"customProperties": {"one": "1"}}
    assert [each["owner"] for each in state["ownership"]["owners"]] == ["urn:li:corpuser:a"]
    assert [each["dataset"] for each in state["upstreamLineage"]["upstreams"]] == [dataset_urn("b")]
    assert post(receiver, *(pre_json_transform(each.to_obj()) for each in patches))[0] == 200
    assert receiver.aspects(URN) == state


def test_column_lineage_is_patched_by_its_own_keys(receiver: Receiver) -> None:
    fields = [f"urn:li:schemaField:({dataset_urn(name)},f)" for name in "abc"]
    for upstream in fields[1:]:
        path = f"/fineGrainedLineages/NONE/{fields[0]}/NONE/{upstream}"
        patch = [{"op": "add", "path": path, "value": {"confidenceScore": 1.0}}]
        assert post(receiver, raw(URN, "upstreamLineage", patch, changeType="PATCH"))[0] == 200
    value = receiver.aspect(URN, "upstreamLineage")
    assert value is not None
    (lineage,) = value["fineGrainedLineages"]
    assert (lineage["downstreams"], lineage["upstreams"]) == (fields[:1], fields[1:])


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "explode", "path": "/tags/x"}],
        [{"op": "add", "path": "/tags/x", "value": {}}],
        [{"op": "replace", "path": "/customProperties/x", "value": "y"}],
        [{"op": "add", "path": "", "value": {}}],
        {"tags": []},
        "nonsense",
    ],
)
def test_a_patch_that_can_not_be_applied_is_refused(receiver: Receiver, patch: Any) -> None:
    status, _ = post(receiver, raw(URN, "globalTags", patch, changeType="PATCH"))
    assert status in {400, 422}
    assert receiver.state() == {}


def test_timeseries_are_told_apart_as_the_server_does(receiver: Receiver) -> None:
    emit(receiver, run_event("r", "STARTED"), run_event("r", "COMPLETE"), run_event("r", "STARTED"))
    events = receiver.timeseries(instance_urn("r"), "dataProcessInstanceRunEvent")
    assert sorted(event["status"] for event in events) == ["COMPLETE", "STARTED"]
    assert receiver.store.overwritten == []
    value = {"timestampMillis": 1_700_000_000_000, "messageId": "r:STARTED", "status": "COMPLETE"}
    post(receiver, raw(instance_urn("r"), "dataProcessInstanceRunEvent", value))
    assert len(receiver.store.overwritten) == 1


def test_a_request_is_over_when_its_bytes_are(receiver: Receiver) -> None:
    large = properties("a", "x" * 17_000_000)
    assert emit(receiver, large, properties("b"))[0].startswith("413")
    assert receiver.entities() == [dataset_urn("b")]


def test_refusing_ends_open_connections_and_keeps_the_port(receiver: Receiver) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    connection.request("GET", "/config")
    assert connection.getresponse().read()
    receiver.refuse()
    assert connection.sock.recv(1) == b""
    connection.close()
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"{receiver.url}/config", timeout=10)
    receiver.accept()
    with urllib.request.urlopen(f"{receiver.url}/config", timeout=10) as answer:
        assert json.load(answer)["noCode"] == "true"


def test_waiting_ends_when_something_has_arrived(receiver: Receiver) -> None:
    emit(receiver, properties("a"))
    receiver.wait_for(lambda: receiver.aspect(URN, "datasetProperties"))
    with pytest.raises(AssertionError, match="not within 0"):
        receiver.wait_for(lambda: receiver.aspect(URN, "status"), timeout=0)


def test_an_unknown_fault_is_an_error(receiver: Receiver) -> None:
    with pytest.raises(ValueError, match="there is no fault earthquake"):
        receiver.fault("earthquake")


def test_in_a_process_of_its_own_it_is_controlled_from_here() -> None:
    command = [sys.executable, str(Path(__file__).with_name("receiver.py")), "--token", "t"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        remote = Remote(started["control"])
        sink = connect(RestTarget(started["url"], token="t"))
        remote.fault("reject", urn=r",b,PROD\)", message="not b")
        (rejected,) = sink.emit([properties("a"), properties("b")])
        sink.close()
        assert "not b" in rejected.reason
        assert remote.entities("dataset") == [URN]
        assert remote.state()[URN]["datasetProperties"]["name"] == "a"
        assert (URN, "datasetProperties") in remote.writes[0].proposals
        remote.clear()
        remote.refuse()
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"{started['url']}/config", timeout=10)
        remote.accept()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_the_proposals_of_these_tests_are_as_translation_makes_them() -> None:
    assert body({"b": 1, "a": [1, None]}) == '{"a":[1,null],"b":1}'
