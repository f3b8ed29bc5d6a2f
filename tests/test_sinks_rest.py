from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proposals import (
    RUN_ID,
    dataset_urn,
    instance_urn,
    many,
    mixture,
    properties,
    proposal,
    run_event,
    tag,
)
from receiver import Receiver
from receivers import Sleeps

from datahub_eventlog.config import RestTarget
from datahub_eventlog.errors import LeaseLost, Misconfigured, Unavailable
from datahub_eventlog.sinks.rest import PORTION, TRIES, RestSink, graph

TOKEN = "a-very-secret-token"


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def connected(receiver: Receiver, sleeps: Sleeps) -> Iterator[Callable[..., RestSink]]:
    sinks: list[RestSink] = []

    def connect(emit_mode: str = "SYNC_PRIMARY", **options: Any) -> RestSink:
        target = RestTarget(**{"server": receiver.url, "token": TOKEN, **options})
        sinks.append(RestSink(target, emit_mode, sleep=sleeps))
        return sinks[-1]

    yield connect
    for each in sinks:
        each.close()


@pytest.fixture
def sink(connected: Callable[..., RestSink]) -> RestSink:
    return connected()


def misconfiguration(sink: RestSink) -> str:
    """What is told; the exception itself, with all that it holds, is gone by then."""
    try:
        sink.emit(many(1))
    except Misconfigured as error:
        return str(error)
    return ""


def sizes(receiver: Receiver) -> list[int]:
    return [len(write.proposals) for write in receiver.writes]


# --------------------------------------------------------------------------------- when all is well


def test_proposals_of_all_kinds_arrive_in_their_order(receiver: Receiver, sink: RestSink) -> None:
    assert sink.emit(mixture()) == []
    (request,) = receiver.writes
    assert request.proposals == tuple((each.urn, each.aspect) for each in mixture())
    assert receiver.aspect(dataset_urn("a"), "datasetProperties") == {
        "name": "a",
        "description": "new: Grüße, “λ” and \U0001f600\n",
    }
    assert receiver.aspect(dataset_urn("a"), "globalTags") == {
        "tags": [{"tag": "urn:li:tag:first"}, {"tag": "urn:li:tag:second"}]
    }
    assert receiver.aspect(dataset_urn("b"), "datasetProperties") == {}
    events = receiver.timeseries(instance_urn("r"), "dataProcessInstanceRunEvent")
    assert [event["status"] for event in events] == ["STARTED", "COMPLETE"]


def test_emitting_twice_changes_nothing(receiver: Receiver, sink: RestSink) -> None:
    sink.emit(mixture())
    state = receiver.state()
    sink.emit(mixture())
    assert receiver.state() == state
    assert receiver.store.overwritten == []


def test_an_empty_batch_sends_nothing(receiver: Receiver, sink: RestSink) -> None:
    assert sink.emit([]) == []
    assert receiver.requests == []


def test_a_request_has_at_most_two_hundred_proposals(receiver: Receiver, sink: RestSink) -> None:
    sink.emit(many(450))
    assert sorted(sizes(receiver)) == [50, 200, 200]
    assert len(receiver.entities()) == 450


def test_a_request_stays_below_the_bytes_that_datahub_allows(
    receiver: Receiver, sink: RestSink
) -> None:
    quotes = '"' * 2_000_000  # in the request each is four characters
    sink.emit([properties(number, quotes) for number in range(4)])
    assert sizes(receiver) == [1, 1, 1, 1]
    assert len(receiver.entities()) == 4


def test_a_batch_of_any_size_is_delivered(receiver: Receiver, sink: RestSink) -> None:
    batch = many(2 * PORTION + 1)
    batch[PORTION] = proposal(dataset_urn("wrong"), "nonsense", {})
    (rejected,) = sink.emit(batch)
    assert rejected.urn == dataset_urn("wrong")
    assert len(receiver.entities()) == 2 * PORTION


def test_a_proposal_names_the_run_that_it_speaks_of(receiver: Receiver, sink: RestSink) -> None:
    sink.emit([properties("a"), properties("b", run_id="")])
    assert receiver.writes[0].run_ids == (RUN_ID, "no-run-id-provided")


@pytest.mark.parametrize(
    ("mode", "is_async"),
    [("SYNC_PRIMARY", False), ("SYNC_WAIT", False), ("ASYNC", True), ("ASYNC_WAIT", False)],
)
def test_the_emit_mode_is_honoured(
    receiver: Receiver, connected: Callable[..., RestSink], mode: str, *, is_async: bool
) -> None:
    connected(mode).emit(many(1))
    assert [write.is_async for write in receiver.writes] == [is_async]


def test_extra_headers_are_sent(receiver: Receiver, connected: Callable[..., RestSink]) -> None:
    connected(extra_headers={"X-Team": "data"}).emit(many(1))
    assert receiver.writes[0].headers["x-team"] == "data"


def test_a_lost_lease_stops_the_next_request(receiver: Receiver, sink: RestSink) -> None:
    calls: list[int] = []

    def proceed() -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            raise LeaseLost

    with pytest.raises(LeaseLost):
        sink.emit(many(450), proceed)
    assert sizes(receiver) == [200]


# ------------------------------------------------------------------------------ refused for content


def test_one_rejected_among_five_hundred_costs_only_itself(
    receiver: Receiver, sink: RestSink
) -> None:
    batch = many(500)
    batch[333] = proposal(dataset_urn(333), "datasetProperties", {"nonsense": 1})
    (rejected,) = sink.emit(batch)
    assert (rejected.urn, rejected.aspect) == (dataset_urn(333), "datasetProperties")
    assert rejected.reason.startswith("422: Failed to validate record with class com.linkedin.")
    assert "/nonsense :: unrecognized field found but not allowed" in rejected.reason
    assert "\n" not in rejected.reason
    assert "\tat " not in rejected.reason
    assert len(receiver.entities()) == 499


@pytest.mark.parametrize("status", [400, 413, 422])
def test_whatever_the_status_the_guilty_one_is_found(
    receiver: Receiver, sink: RestSink, status: int
) -> None:
    receiver.fault("reject", urn=r",7,PROD\)", status=status, message="no sevens")
    (rejected,) = sink.emit(many(20))
    assert rejected.urn == dataset_urn(7)
    assert "no sevens" in rejected.reason
    assert len(receiver.entities()) == 19


def test_what_is_between_two_rejected_ones_keeps_its_order(
    receiver: Receiver, sink: RestSink
) -> None:
    wrong = proposal(dataset_urn("a"), "nonsense", {})
    rejected = sink.emit([wrong, properties("a", "1"), tag("a", "t"), properties("a", "2"), wrong])
    assert [each.reason for each in rejected] == [
        "422: Unknown aspect nonsense for entity dataset"
    ] * 2
    assert receiver.aspects(dataset_urn("a")) == {
        "datasetProperties": {"name": "a", "description": "2"},
        "globalTags": {"tags": [{"tag": "urn:li:tag:t"}]},
    }


def test_a_rejection_is_not_tried_again_within_the_same_emit(
    receiver: Receiver, sink: RestSink, sleeps: Sleeps
) -> None:
    receiver.fault("reject", status=422)
    assert len(sink.emit(many(1))) == 1
    assert sizes(receiver) == [1]
    assert sleeps == []


def test_text_that_is_no_utf8_is_rejected_and_the_rest_is_delivered(
    receiver: Receiver, sink: RestSink
) -> None:
    wrong = dataclasses.replace(properties("a"), body='{"description":"\ud800"}')
    (rejected,) = sink.emit([wrong, properties("b")])
    assert rejected.urn == dataset_urn("a")
    assert receiver.entities() == [dataset_urn("b")]


# ---------------------------------------------------------------------------- internal errors (500)


def test_a_passing_internal_error_is_tried_again(
    receiver: Receiver, sink: RestSink, sleeps: Sleeps
) -> None:
    receiver.fault("status", status=500, count=2)
    assert sink.emit(many(3)) == []
    assert sizes(receiver) == [3, 3, 3]
    assert len(sleeps) == 2


def test_a_proposal_that_the_server_stumbles_over_is_rejected(
    receiver: Receiver, sink: RestSink
) -> None:
    receiver.fault("reject", urn=r",7,PROD\)", status=500, message="NullPointerException")
    (rejected,) = sink.emit(many(20))
    assert rejected.urn == dataset_urn(7)
    assert "500: NullPointerException" in rejected.reason
    assert len(receiver.entities()) == 19


def test_a_single_proposal_is_rejected_once_another_has_proved_that_the_server_is_up(
    receiver: Receiver, sink: RestSink
) -> None:
    receiver.fault("reject", urn=r",7,PROD\)", status=500)
    with pytest.raises(Unavailable, match=r"answers 500.*urn:li:dataset:.*,7,PROD\) dataset"):
        sink.emit([properties(7)])
    sink.emit([run_event("r")])
    (rejected,) = sink.emit([properties(7)])
    assert rejected.urn == dataset_urn(7)
    assert len(receiver.timeseries(instance_urn("r"), "dataProcessInstanceRunEvent")) == 1


@pytest.mark.parametrize("has_delivered", [False, True])
def test_a_server_that_answers_500_to_everything_is_unavailable(
    receiver: Receiver, sink: RestSink, *, has_delivered: bool
) -> None:
    if has_delivered:
        sink.emit([run_event("r")])
    receiver.fault("status", status=500, message="no database")
    before = len(receiver.writes)
    with pytest.raises(Unavailable, match="answers 500: no database"):
        sink.emit(many(200))
    assert len(receiver.writes) - before < 20


# -------------------------------------------------------------------------------------- unavailable


@pytest.mark.parametrize("status", [429, 502, 503])
def test_passing_faults_are_tried_again_with_growing_waits(
    receiver: Receiver, sink: RestSink, sleeps: Sleeps, status: int
) -> None:
    receiver.fault("status", status=status, count=TRIES - 1)
    assert sink.emit(many(3)) == []
    assert sleeps == sorted(sleeps)
    assert len(sleeps) == TRIES - 1
    assert len(receiver.entities()) == 3


@pytest.mark.parametrize("status", [429, 502, 503])
def test_lasting_faults_are_unavailable(receiver: Receiver, sink: RestSink, status: int) -> None:
    receiver.fault("status", status=status)
    with pytest.raises(Unavailable, match=f"answers {status}") as raised:
        sink.emit(many(3))
    assert not isinstance(raised.value, Misconfigured)
    assert raised.value.retry_after is None
    assert len(receiver.writes) == TRIES


def test_a_short_retry_after_is_waited_out(
    receiver: Receiver, sink: RestSink, sleeps: Sleeps
) -> None:
    receiver.fault("status", status=429, retry_after=3, count=1)
    sink.emit(many(3))
    assert sleeps == [3.0]


def test_a_long_retry_after_is_left_to_the_caller(
    receiver: Receiver, sink: RestSink, sleeps: Sleeps
) -> None:
    receiver.fault("status", status=503, retry_after=120)
    with pytest.raises(Unavailable) as raised:
        sink.emit(many(3))
    assert raised.value.retry_after == 120
    assert sleeps == []
    assert len(receiver.writes) == 1


def test_a_retry_after_can_be_a_date(receiver: Receiver, sink: RestSink) -> None:
    receiver.fault("status", status=503, retry_after="Fri, 31 Dec 2099 23:59:59 GMT")
    with pytest.raises(Unavailable) as raised:
        sink.emit(many(3))
    assert raised.value.retry_after is not None
    assert raised.value.retry_after > 1_000_000_000


def test_a_retry_after_that_says_nothing_is_ignored(receiver: Receiver, sink: RestSink) -> None:
    receiver.fault("status", status=503, retry_after="soon", count=1)
    assert sink.emit(many(3)) == []


def test_a_refused_connection_says_that_gms_is_not_up_at_that_url(
    receiver: Receiver, connected: Callable[..., RestSink], sleeps: Sleeps
) -> None:
    sink = connected(server=receiver.url.replace("http://", "http://user:pass-word@"))
    receiver.refuse()
    with pytest.raises(Unavailable) as raised:
        sink.emit(many(3))
    text = str(raised.value)
    assert f"Connection error: DataHub's GMS is not up at {receiver.url} (" in text
    assert "refused" in text
    assert "pass-word" not in text
    assert len(sleeps) == TRIES - 1


def test_it_goes_on_when_the_server_is_back(receiver: Receiver, sink: RestSink) -> None:
    sink.emit(many(1))
    receiver.refuse()
    with pytest.raises(Unavailable):
        sink.emit(many(3))
    receiver.accept()
    assert sink.emit(many(3)) == []
    assert len(receiver.entities()) == 3


def test_an_unknown_host_is_unavailable(connected: Callable[..., RestSink]) -> None:
    with pytest.raises(Unavailable, match=r"not up at http://gms\.invalid:8080 \("):
        connected(server="http://gms.invalid:8080").emit(many(1))


def test_a_proxy_that_is_not_up_is_told_from_gms(
    connected: Callable[..., RestSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://user:pass-word@127.0.0.1:1")
    with pytest.raises(Unavailable, match="the proxy does not answer") as raised:
        connected(server="http://gms.invalid:8080").emit(many(1))
    assert "pass-word" not in str(raised.value)


@pytest.mark.parametrize("when", ["before", "after", "within"])
def test_a_lost_connection_or_answer_is_sent_again(
    receiver: Receiver, sink: RestSink, when: str
) -> None:
    receiver.fault("cut", when=when, count=1)
    assert sink.emit(mixture()) == []
    assert [write.applied for write in receiver.writes] == [when != "before", True]
    assert len(receiver.timeseries(instance_urn("r"), "dataProcessInstanceRunEvent")) == 2


# ----------------------------------------------------------------------------------------- timeouts


def test_a_timed_out_batch_is_halved_and_batches_grow_again(
    receiver: Receiver, connected: Callable[..., RestSink]
) -> None:
    sink = connected(timeout_sec=1)
    receiver.fault("hang", above=60)
    sink.emit(many(200))
    assert sizes(receiver)[:3] == [200, 100, 50]
    assert len(receiver.entities()) == 200
    receiver.clear()
    for _ in range(20):
        sink.emit(many(200))
        if sizes(receiver)[-1] == 200:
            break
    assert sizes(receiver)[-1] == 200


def test_the_size_that_works_is_remembered(
    receiver: Receiver, connected: Callable[..., RestSink]
) -> None:
    sink = connected(timeout_sec=1)
    receiver.fault("hang", above=10)
    with pytest.raises(Unavailable, match="did not answer within 1 s"):
        sink.emit(many(200))
    assert sizes(receiver) == [200, 100, 50]
    receiver.clear()
    sink.emit(many(40))
    assert sizes(receiver)[3:] == [25, 15]


def test_a_single_proposal_that_times_out_is_no_rejection(
    receiver: Receiver, connected: Callable[..., RestSink]
) -> None:
    receiver.fault("hang")
    with pytest.raises(Unavailable, match="did not answer within 1 s"):
        connected(timeout_sec=1).emit(many(1))


def test_a_gateway_that_gave_up_is_a_timeout(receiver: Receiver, sink: RestSink) -> None:
    receiver.fault("status", status=504, above=60)
    sink.emit(many(120))
    assert sizes(receiver)[:2] == [120, 60]
    assert len(receiver.entities()) == 120


def test_a_request_that_is_too_large_is_halved(receiver: Receiver, sink: RestSink) -> None:
    receiver.fault("status", status=413, above=60)
    assert sink.emit(many(120)) == []
    assert sizes(receiver) == [120, 60, 60]
    assert len(receiver.entities()) == 120


# --------------------------------------------------------------------------------- misconfiguration


def test_a_wrong_token_is_named_without_being_shown(
    receiver: Receiver, connected: Callable[..., RestSink], sleeps: Sleeps
) -> None:
    with pytest.raises(Misconfigured, match="DATAHUB_GMS_TOKEN") as raised:
        connected(token="another-secret").emit(many(3))
    assert "another-secret" not in str(raised.value)
    assert sleeps == []
    assert receiver.entities() == []


def test_a_token_that_may_not_write_needs_a_privilege(receiver: Receiver, sink: RestSink) -> None:
    receiver.fault("status", status=403, message="Unauthorized")
    with pytest.raises(Misconfigured, match="privilege"):
        sink.emit(many(3))


def test_a_wrong_path_names_the_addresses_that_work(
    receiver: Receiver, connected: Callable[..., RestSink]
) -> None:
    with pytest.raises(Misconfigured, match=r"/nowhere answers 404.*/api/gms"):
        connected(server=f"{receiver.url}/nowhere").emit(many(3))


@pytest.mark.parametrize("status", [200, 400, 405])
def test_a_web_page_is_not_datahub(receiver: Receiver, sink: RestSink, status: int) -> None:
    receiver.fault("html", status=status)
    with pytest.raises(Misconfigured, match="is not DataHub's GMS"):
        sink.emit(many(3))


def test_a_redirect_that_would_lose_what_was_sent_names_the_final_address(
    receiver: Receiver, sink: RestSink
) -> None:
    receiver.fault("redirect", location="https://datahub.example/aspects")
    with pytest.raises(Misconfigured, match=r"redirects to https://datahub\.example"):
        sink.emit(many(3))
    assert len(receiver.requests) == 1


def test_a_redirect_that_keeps_what_was_sent_is_followed(
    receiver: Receiver, sink: RestSink
) -> None:
    there = f"{receiver.url}/aspects?action=ingestProposalBatch"
    receiver.fault("redirect", status=307, location=there, count=1)
    assert sink.emit(many(3)) == []
    assert len(receiver.entities()) == 3


# urllib3 leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_does_not_speak_tls_is_a_wrong_address(
    receiver: Receiver, connected: Callable[..., RestSink]
) -> None:
    sink = connected(server=receiver.url.replace("http:", "https:"))
    assert "does not speak TLS" in misconfiguration(sink)
    gc.collect()


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"token": f"{TOKEN}\n"}, "line break"),
        ({"token": f"{TOKEN}€"}, "Latin-1"),
        ({"server": "http://"}, "no address"),
        ({"server": "http://[::1"}, "no address"),
    ],
)
def test_what_can_not_be_sent_is_explained(
    connected: Callable[..., RestSink], options: dict[str, str], advice: str
) -> None:
    with pytest.raises(Misconfigured, match=advice) as raised:
        connected(**options).emit(many(1))
    assert TOKEN not in str(raised.value)


def test_a_missing_certificate_file_is_named(
    connected: Callable[..., RestSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    options = {"server": "https://127.0.0.1:1", "ca_certificate_path": "/no/such/ca.pem"}
    with pytest.raises(Misconfigured, match=r"/no/such/ca\.pem"):
        connected(**options).emit(many(1))


def test_the_token_is_shown_nowhere(sink: RestSink) -> None:
    target = RestTarget("http://localhost", token=TOKEN, extra_headers={"X-Key": "key-secret"})
    assert TOKEN not in repr(target) + repr(sink) + str(vars(sink))
    assert "key-secret" not in repr(target)


# ----------------------------------------------------------------------------------- for extractors


def test_the_graph_reads_what_was_delivered(receiver: Receiver, sink: RestSink) -> None:
    from datahub.metadata.schema_classes import DatasetPropertiesClass

    sink.emit([properties("a", "read me")])
    client = graph(RestTarget(receiver.url, token=TOKEN))
    read = client.get_aspect(dataset_urn("a"), DatasetPropertiesClass)
    client.close()
    assert read is not None
    assert json.loads(json.dumps(read.description)) == "read me"
