"""What answers is broken, or means ill: it costs no run an attempt, and neither time nor memory."""

from __future__ import annotations

import contextlib
import re
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from proposals import many, properties
from raw_server import Answer, RawServer, dripping, endless, exactly, head, packed, whole
from receiver import Receiver
from receivers import Sleeps

from datahub_eventlog import sinks
from datahub_eventlog.config import RestTarget
from datahub_eventlog.dispatcher.known_columns import KnownColumns
from datahub_eventlog.errors import Conflict, Misconfigured, Unavailable
from datahub_eventlog.sinks.answers import Unending
from datahub_eventlog.sinks.rest import CONFLICT_TRIES, RestSink, graph
from datahub_eventlog.sinks.session import (
    ANSWER_BYTES,
    GRAPH_BYTES,
    HEAD_BYTES,
    RedirectedElsewhere,
)

SECRET = "header-secret"
IN_TRANSIT = 16 * 2**20
"""Bytes that the two sockets' buffers may hold of what nobody has read."""
CHUNKED = "Transfer-Encoding: chunked"
CONFLICT = b'{"message":"DATABASE_TRANSACTION_CONFLICT: could not serialize access"}'


def connected(url: str, sleeps: Sleeps | None = None, **options: Any) -> RestSink:
    target = RestTarget(url, token="t", extra_headers={"X-Key": SECRET}, **options)
    return RestSink(target, sleep=sleeps if sleeps is not None else Sleeps())


@contextlib.contextmanager
def sink_of(answer: Answer, **options: Any) -> Iterator[tuple[RawServer, RestSink]]:
    with RawServer(answer) as server:
        sink = connected(server.url, **options)
        yield server, sink
        sink.close()


# ---------------------------------------------------------------------------------------- redirects


@pytest.fixture
def elsewhere() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_is_sent_to_another_origin(
    receiver: Receiver, elsewhere: Receiver, status: int
) -> None:
    receiver.fault("redirect", status=status, location=f"{elsewhere.url}/aspects")
    sink = connected(receiver.url)
    with pytest.raises(Misconfigured, match=rf"redirects to {elsewhere.url}.*`server`"):
        sink.emit(many(3))
    sink.close()
    assert len(receiver.requests) == 1
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1:{port}/aspects",
        "http://localhost:{port}/aspects",
        "//localhost:{port}/aspects",
        "http://127.0.0.1:{port}@localhost/aspects",
    ],
)
def test_an_origin_is_scheme_host_and_port(receiver: Receiver, location: str) -> None:
    receiver.fault("redirect", status=307, location=location.format(port=receiver.port))
    sink = connected(receiver.url)
    with pytest.raises(Misconfigured, match="redirects to"):
        sink.emit(many(3))
    sink.close()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [302, 307])
def test_a_probe_and_a_graph_go_to_no_other_origin(
    receiver: Receiver, elsewhere: Receiver, status: int
) -> None:
    receiver.fault("redirect", status=status, location=f"{elsewhere.url}/config")
    target = RestTarget(receiver.url, token="t", extra_headers={"X-Key": SECRET})
    (finding,) = sinks.probe(target)
    assert not finding.is_ok
    assert f"redirects to {elsewhere.url}" in finding.text
    client = graph(target)
    with pytest.raises(RedirectedElsewhere):
        client.test_connection()
    client.close()
    assert KnownColumns(target).columns("urn:li:dataset:(urn:li:dataPlatform:hive,t,PROD)") is None
    assert elsewhere.requests == []


def test_a_redirect_in_a_circle_is_a_wrong_address(receiver: Receiver) -> None:
    receiver.fault("redirect", status=307, location=f"{receiver.url}/aspects")
    sink = connected(receiver.url)
    with pytest.raises(Misconfigured, match="again and again"):
        sink.emit(many(3))
    sink.close()


# ------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "answer",
    [
        endless(head("Content-Type: application/json"), b"[" * 65536),
        endless(head(CHUNKED), b"10000\r\n" + b" " * 65536 + b"\r\n"),
        endless(head(CHUNKED), b"1" * 65536),
        endless(head(status="500 Internal Server Error"), b"x" * 65536),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    ],
    ids=["content", "chunks", "the size of a chunk", "an error", "informational answers"],
)
def test_of_an_endless_answer_little_is_read(answer: Answer) -> None:
    with sink_of(answer) as (server, sink):
        with pytest.raises(Unavailable) as raised:
            sink.emit(many(3))
        assert server.gone.wait(30)
    assert not isinstance(raised.value, Misconfigured)
    assert server.sent < 4 * (ANSWER_BYTES + HEAD_BYTES) + IN_TRANSIT


def test_an_answer_that_announces_too_much_is_not_read() -> None:
    answer = endless(head(f"Content-Length: {3 * 10**9}"), bytes(65536))
    with sink_of(answer) as (server, sink):
        with pytest.raises(Unending, match="longer than 4 MB"):
            sink.emit(many(3))
        assert server.gone.wait(30)
        assert len(server.requests) == 1
    assert server.sent < IN_TRANSIT


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_refusal_of_any_length_costs_only_the_guilty_one(*, is_packed: bool) -> None:
    body = b'{"message":"no sevens: ' + b"7" * (ANSWER_BYTES + 1) + b'"}'
    packer = zlib.compressobj(wbits=31)
    content = packer.compress(body) + packer.flush() if is_packed else body
    lines = ["Content-Encoding: gzip"] if is_packed else []

    def answer() -> Iterator[bytes]:
        refused = whole(content, *lines, status="422 Unprocessable Entity")
        yield from (refused if next(is_refused) else whole(b"{}"))()

    is_refused = iter([True, True, False, True, False])  # of 4, 2, 1, 1 and 2
    with RawServer(answer) as server:
        sink = connected(server.url)
        (rejected,) = sink.emit(many(4))
        sink.close()
    assert rejected.reason.startswith("422: no sevens: 777")
    assert len(rejected.reason) < 600


def test_an_answer_in_latin_1_is_an_answer() -> None:
    kind = "Content-Type: application/json; charset=iso-8859-1"
    with sink_of(whole('{"value":"Grüße"}'.encode("latin-1"), kind)) as (server, sink):
        assert sink.emit(many(3)) == []
        assert len(server.requests) == 1


@pytest.mark.parametrize("coding", ["none", "UTF-8", "identity", "gzip, identity", "utf-8,gzip"])
def test_a_coding_that_packs_nothing_does_not_matter(coding: str) -> None:
    packer = zlib.compressobj(wbits=31)
    content = packer.compress(b"{}") + packer.flush() if "gzip" in coding else b"{}"
    answer = whole(content, f"Content-Encoding: {coding}")
    with sink_of(answer) as (server, sink):
        assert sink.emit(many(3)) == []
        assert len(server.requests) == 1


def test_an_answer_is_measured_as_it_is_unpacked() -> None:
    bomb = whole(packed(ANSWER_BYTES + 1), "Content-Encoding: gzip")
    with sink_of(bomb) as (_, sink), pytest.raises(Unending, match="longer than 4 MB"):
        sink.emit(many(3))
    twice = whole(packed(10), "Content-Encoding: gzip, gzip")
    with sink_of(twice) as (_, sink), pytest.raises(Unavailable, match="compressed in a way"):
        sink.emit(many(3))


def test_a_graph_reads_more_but_not_everything() -> None:
    with RawServer(whole(packed(GRAPH_BYTES + 1), "Content-Encoding: gzip")) as server:
        client = graph(RestTarget(server.url))
        with pytest.raises(OSError, match="longer than 64 MB"):
            client.test_connection()
        client.close()


def test_an_answer_that_drips_ends_with_the_time_of_the_request() -> None:
    never = threading.Event()
    answer = dripping(head(f"Content-Length: {10**6}") + bytes(10**6), never.wait)
    with sink_of(answer, timeout_sec=1) as (server, sink):
        with pytest.raises(Unavailable, match="did not answer within 1 s"):
            sink.emit(many(3))
        assert server.gone.wait(30)
        assert len(server.requests) == 2
        assert server.sent < 100


def test_headers_that_drip_end_with_the_time_of_the_request() -> None:
    answer = dripping(head("X: " + "x" * 10_000), threading.Event().wait)
    with sink_of(answer, timeout_sec=1) as (server, sink):
        with pytest.raises(Unavailable, match="did not answer within 1 s"):
            sink.emit(many(3))
        assert server.gone.wait(30)


def test_a_server_that_works_after_its_headers_gets_smaller_requests() -> None:
    never = threading.Event()

    def answer() -> Iterator[bytes]:
        yield head("Content-Length: 2", "Connection: close")
        never.wait(0.6 * _proposals(server.requests[-1]))
        yield b"{}"

    with RawServer(answer) as server:
        sink = connected(server.url, timeout_sec=1)
        assert sink.emit(many(3)) == []
        sink.close()
        assert len(server.requests) == 4


def _proposals(request: bytes) -> int:
    """How many of `many` are in a request, from its length."""
    length = re.search(rb"(?i)content-length: *([0-9]+)", request)
    assert length
    return round(int(length[1]) / 480)


def test_a_server_may_take_nearly_the_whole_timeout_until_it_begins() -> None:
    never = threading.Event()

    def answer() -> Iterator[bytes]:
        never.wait(1.8)
        yield from whole(b"{}")()

    with sink_of(answer, timeout_sec=2) as (server, sink):
        assert sink.emit(many(3)) == []
        assert len(server.requests) == 1


def test_a_server_that_takes_no_more_of_a_request_is_a_timeout() -> None:
    with RawServer(exactly(b""), is_reading=False) as server:
        sink = connected(server.url, timeout_sec=1)
        with pytest.raises(Unavailable, match="did not answer within 1 s"):
            sink.emit([properties("a", "x" * 12_000_000)])
        sink.close()


def test_a_server_that_asks_a_graph_to_wait_for_a_day_is_not_waited_for(
    receiver: Receiver,
) -> None:
    receiver.fault("status", status=503, retry_after=86400)
    tables = KnownColumns(RestTarget(receiver.url))
    assert tables.columns("urn:li:dataset:(urn:li:dataPlatform:hive,t,PROD)") is None
    assert len(receiver.requests) == 2


# ---------------------------------------------------------------------------------------- any bytes

NESTED = b"[" * 100_000 + b"]" * 100_000
OBJECTS = b'{"message":' * 50_000 + b"1" + b"}" * 50_000

ANSWERS: dict[str, Answer] = {
    "nested": whole(NESTED),
    "nested objects": whole(b'{"message":' * 5000, status="422 No"),
    "endless nested objects": whole(OBJECTS),
    "nested in an error": whole(NESTED, status="500 No"),
    "a message that is nested": whole(
        b'{"message":' + b"[" * 400 + b"]" * 400 + b"}", status="503 No"
    ),
    "no JSON": whole(b'{"value": '),
    "a number": whole(b"1"),
    "a list": whole(b"[]"),
    "a long number": whole(b'{"value":' + b"1" * 100_000 + b"}"),
    "null": whole(b"null"),
    "a web page": whole(b"<html>", "Content-Type: text/html"),
    "an unknown charset": whole(b"<\xff>", "Content-Type: application/json; charset=nonsense"),
    "a slow charset": whole(b"\xff" * 10**6, "Content-Type: text/plain; charset=punycode"),
    "no content": exactly(head(status="204 No Content")),
    "empty": whole(b""),
    "switching": exactly(head(status="101 Switching Protocols")),
    "early hints": exactly(head(status="103 Early Hints")),
    "not modified": exactly(head(status="304 Not Modified")),
    "no redirect": exactly(head("Content-Length: 0", status="307 Nowhere")),
    "a redirect to nonsense": exactly(
        head("Location: http://[::1", "Content-Length: 0", status="307 No")
    ),
    "a redirect to a port": exactly(
        head("Location: http://h:99999999", "Content-Length: 0", status="308 No")
    ),
    "a redirect to bytes": exactly(
        head("Location: http://\xff\xfe/", "Content-Length: 0", status="307 No")
    ),
    "a lost redirect to nonsense": exactly(
        head("Location: http://[::1", "Content-Length: 0", status="302 No")
    ),
    "a redirect to a file": exactly(
        head("Location: file:///etc/hosts", "Content-Length: 0", status="307 No")
    ),
    "too short": exactly(head("Content-Length: 2") + b"[]" * 100),
    "two lengths": exactly(head("Content-Length: 2", "Content-Length: 3") + b"{}"),
    "a length below zero": exactly(head("Content-Length: -5", "Connection: close") + b"[]"),
    "no length": exactly(head("Content-Length: many", "Connection: close") + b"[]"),
    "no gzip": whole(b"[]", "Content-Encoding: gzip"),
    "half a gzip": whole(packed(1000)[:10], "Content-Encoding: gzip"),
    "no such coding": whole(b"{}", "Content-Encoding: br"),
    "a bad chunk": exactly(head(CHUNKED) + b"xyz\r\n{}\r\n"),
    "a huge header": exactly(head("X: " + "x" * 10**6)),
    "many headers": exactly(head(*[f"X-{n}: x" for n in range(10_000)])),
    "a header without a name": exactly(head(": x", "\x00: y", "Content-Length: 2") + b"[]"),
    "a bad cookie": whole(
        b"[]", "Set-Cookie: \x00=\xff; expires=nonsense; domain=[", "Set-Cookie2: x"
    ),
    "a status of letters": exactly(b"HTTP/1.1 OK fine\r\n\r\n"),
    "a status of its own": whole(b"{}", status="999 Whatever"),
    "another protocol": exactly(b"SSH-2.0-OpenSSH_9.6\r\n" * 10),
    "a mailbox": exactly(b"220 mail.example ESMTP\r\n\r\n"),
    "zeros": exactly(bytes(100_000)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_is_answered_is_the_pauses_business(name: str) -> None:
    with sink_of(_closing(ANSWERS[name]), timeout_sec=2) as (_, sink):
        with pytest.raises(Unavailable) as raised:
            sink.emit(many(1))
        text = str(raised.value)
        assert text.isprintable()
        assert len(text) < 1000


@pytest.mark.parametrize("name", ANSWERS)
def test_a_probe_survives_whatever_is_answered(name: str) -> None:
    with RawServer(_closing(ANSWERS[name])) as server:
        findings = sinks.probe(RestTarget(server.url, timeout_sec=2))
        assert not all(each.is_ok for each in findings)


class _End(OSError):
    pass


def _closing(answer: Answer) -> Answer:
    """The answer, and then the connection ends, as broken servers do."""

    def closing() -> Iterator[bytes]:
        yield from answer()
        raise _End

    return closing


@pytest.mark.parametrize(
    "value",
    [
        "-5",
        "²",
        "9" * 400,
        "Fri, 31 Dec 99999999999 23:59:59 GMT",
        "Fri, 31 Dec 0000 00:00:00",
        "Fri, 31 Dec 2099 23:59:59 +99999999",
        "1.5",
        "\x01",
        "x" * 60_000,
    ],
)
def test_a_retry_after_of_nonsense_is_no_error(value: str) -> None:
    answer = whole(b"{}", f"Retry-After: {value}".encode().decode("latin-1"), status="503 No")
    with sink_of(answer) as (_, sink), pytest.raises(Unavailable):
        sink.emit(many(1))


# ---------------------------------------------------------------------------------------- conflicts


def test_a_transaction_conflict_is_tried_again_at_once() -> None:
    sleeps = Sleeps()
    conflicts = [whole(CONFLICT, status="503 Service Unavailable")] * (CONFLICT_TRIES - 1)
    left = iter([*conflicts, whole(b"{}")])

    def answer() -> Iterator[bytes]:
        return next(left)()

    with RawServer(answer) as server:
        sink = connected(server.url, sleeps)
        assert sink.emit(many(3)) == []
        sink.close()
    assert len(server.requests) == CONFLICT_TRIES
    assert len(set(sleeps)) > 1
    assert max(sleeps) <= 2
    assert sleeps[0] <= 0.2


def test_a_conflict_that_lasts_is_no_outage() -> None:
    with sink_of(whole(CONFLICT, status="503 Service Unavailable")) as (server, sink):
        with pytest.raises(Conflict, match="another transaction"):
            sink.emit(many(3))
        assert len(server.requests) == CONFLICT_TRIES
