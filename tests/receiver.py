"""A small, strict stand-in for DataHub's GMS: a real HTTP server for tests.

It speaks Rest.li's `ingestProposal` and `ingestProposalBatch` and GET /config, refuses what the
schemas of acryl-datahub don't allow, applies UPSERT, CREATE and PATCH, keeps timeseries under the
server's document id, answers reads (`receiver_reads.py`), and plays every fault that a network
has.

    with Receiver(token="t") as receiver:
        receiver.fault("status", status=503, retry_after=2, count=1)
        ...
        receiver.aspect(urn, "datasetProperties")

`python tests/receiver.py --port 0` runs it in a process of its own: it prints one line of JSON
with its `url` and the `control` address, where `Remote(control)` offers the same methods.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import re
import signal
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import receiver_reads as reads
import receiver_schemas as schemas
from receiver_patches import patched
from receiver_schemas import Flaw
from typing_extensions import Self

Json: TypeAlias = Any
WRITES = ("/aspects?action=ingestProposal", "/aspects?action=ingestProposalBatch")
SYSTEM_METADATA = {"lastObserved": 0, "runId": "no-run-id-provided"}
"""What GMS fills in."""
MOST_BYTES = 16_000_000
"""The size of a request above which GMS answers 413."""
KINDS = ("status", "html", "redirect", "hang", "slow", "cut", "reject", "deny", "lag")


@dataclass
class Fault:
    """Something that goes wrong, for the requests that it fits."""

    kind: str
    """status: an answer with `status` · html: a web page with `status` (or 200) · redirect: to
    `location` · hang: nothing until `clear()` or for `seconds`, then the connection ends · slow:
    each takes `seconds` · cut: the connection ends · reject: proposals whose urn and aspect fit
    are refused with `status` (422) and `message` · deny: reading what fits urn and aspect is not
    allowed · lag: reading does not find the documents of a timeseries that fit, `count` times."""
    count: int | None = None
    """How often it happens; None: until `clear()`."""
    above: int = -1
    """Only for requests with more than so many proposals; a GET has 0."""
    path: str = ""
    """Only for requests whose path this regular expression finds."""
    status: int | None = None
    retry_after: str | float | None = None
    seconds: float | None = None
    when: str = "before"
    """hang, cut: `before` or `after` applying, or `within` the answer."""
    urn: str = ""
    aspect: str = ""
    message: str = "rejected on purpose"
    location: str = ""
    happened: int = 0

    def fits(self, path: str, size: int) -> bool:
        return not self.is_over() and size > self.above and bool(re.search(self.path, path))

    def rejects(self, urn: str, aspect: str) -> bool:
        fits = re.search(self.urn, urn) and re.search(self.aspect, aspect)
        return not self.is_over() and bool(fits)

    def is_over(self) -> bool:
        return self.count is not None and self.happened >= self.count


@dataclass
class Request:
    """A request as it came in, and what became of it."""

    method: str
    path: str
    proposals: tuple[tuple[str, str], ...] = ()
    """Urn and aspect of each proposal, in their order."""
    is_async: bool = False
    run_ids: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    applied: bool = False
    status: int = 0
    """Of the answer; 0: there was none (yet)."""

    @property
    def is_write(self) -> bool:
        return self.method == "POST" and self.path.endswith(WRITES)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """What GMS answers with an error of Rest.li's kind."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Cut(Exception):
    """The connection ends without an answer, or within it."""

    def __init__(self, torn: Answer | None = None) -> None:
        super().__init__()
        self.torn = torn


@dataclass(frozen=True)
class _Proposal:
    urn: str
    aspect: schemas.Aspect
    change: str
    is_if_absent: bool
    """It is to be ignored where the aspect is there already."""
    value: Json
    metadata: Mapping[str, Json]


class Store:
    """The state of all entities. Not safe for threads by itself."""

    def __init__(self) -> None:
        self.versioned: dict[tuple[str, str], Json] = {}
        self.series: dict[tuple[str, str], dict[str, Json]] = {}
        self.metadata: dict[tuple[str, str], Mapping[str, Json]] = {}
        """The system metadata of versioned aspects."""
        self.overwritten: list[tuple[str, str, Json]] = []
        """Timeseries documents that another one with the same id took the place of."""

    def ingest(self, batch: Sequence[_Proposal]) -> None:
        """Apply the whole batch, or nothing if one of it is refused."""
        staged: dict[tuple[str, str], Json] = {}
        metadata: dict[tuple[str, str], Mapping[str, Json]] = {}
        for each in batch:
            place = (each.urn, each.aspect.name)
            value, now = each.value, staged.get(place, self.versioned.get(place))
            if each.change == "PATCH":
                value = _patched(each.aspect, now, each.value)
            _check(each.aspect, value)
            if each.change == "CREATE" and now is not None:
                if each.is_if_absent:
                    continue
                text = "Cannot perform CREATE since the aspect already exists."
                raise Refusal(422, text)
            if not each.aspect.is_timeseries:
                staged[place], metadata[place] = value, each.metadata
        self.versioned.update(staged)
        self.metadata.update(metadata)
        for each in batch:
            if each.aspect.is_timeseries:
                self._append(each)

    def _append(self, proposal: _Proposal) -> None:
        place = (proposal.urn, proposal.aspect.name)
        documents = self.series.setdefault(place, {})
        name = document_id(proposal.value)
        if name in documents and documents[name] != proposal.value:
            self.overwritten.append((*place, documents[name]))
        documents[name] = proposal.value


def document_id(value: Mapping[str, Any]) -> str:
    """What the server's index tells timeseries documents of one urn and aspect apart by."""
    partition = value.get("partitionSpec") or {}
    keys = (
        value.get("timestampMillis"),
        value.get("eventGranularity"),
        value.get("messageId"),
        partition.get("partition") or partition.get("timePartition"),
    )
    return json.dumps(keys, sort_keys=True)


def _patched(aspect: schemas.Aspect, now: Json | None, patch: Json) -> Json:
    try:
        return patched(aspect.name, now, patch)
    except (Flaw, AttributeError, LookupError, TypeError) as error:
        raise Refusal(400, f"Failed to apply the patch to {aspect.name}: {error!r}") from None


def _check(aspect: schemas.Aspect, value: Json) -> None:
    try:
        aspect.check(value)
    except Flaw as flaw:
        text = f"Failed to validate record with class {aspect.java_name}: {flaw}\n"
        raise Refusal(422, text) from None


class Receiver:
    """The server, its state and its faults. Starts as a context manager."""

    def __init__(
        self,
        port: int = 0,
        token: str | None = None,
        *,
        version: str = "v1.7.0",
        prefix: str = "",
    ) -> None:
        self.token = token
        self.version = version
        self.prefix = prefix
        """A path below which GMS answers, as behind a proxy; all else is 404."""
        self.store = Store()
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._server: _Server | None = None
        # Bound and never listening, it keeps the port for us while we refuse connections.
        self._reserved = _bound(port)
        self.port: int = self._reserved.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._reserved.close()

    # ------------------------------------------------------------------------------- the network

    def accept(self) -> None:
        """Listen (again)."""
        if self._server is None:
            self._released.clear()
            self._server = _Server(self.port, self)

    def refuse(self) -> None:
        """Refuse connections from now on, and end those that are open."""
        self._released.set()
        if self._server is not None:
            self._server.end()
            self._server = None

    def fault(self, kind: str, **options: Any) -> Fault:
        """Let something go wrong from now on; see `Fault`."""
        if kind not in KINDS:
            raise ValueError(f"there is no fault {kind}, only {', '.join(KINDS)}")
        fault = Fault(kind, **options)
        with self._changed:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """End all faults, and let hanging requests go."""
        with self._changed:
            self._faults.clear()
        self._released.set()
        self._released = threading.Event()

    # ------------------------------------------------------------------------------ what it holds

    def aspect(self, urn: str, name: str) -> Json | None:
        """The value of a versioned aspect, or None."""
        with self._changed:
            return copy.deepcopy(self.store.versioned.get((urn, name)))

    def value(self, urn: str, name: str) -> Any:
        """The value of a versioned aspect that must be there."""
        value = self.aspect(urn, name)
        assert value is not None, f"{urn} has no {name}"
        return value

    def aspects(self, urn: str) -> dict[str, Json]:
        """The values of all versioned aspects of an entity, by their names."""
        with self._changed:
            found = {
                name: each for (owner, name), each in self.store.versioned.items() if owner == urn
            }
            return copy.deepcopy(found)

    def timeseries(self, urn: str, name: str) -> list[Json]:
        """The documents of a timeseries aspect in the order of their times."""
        with self._changed:
            documents = list(self.store.series.get((urn, name), {}).values())
        return copy.deepcopy(sorted(documents, key=lambda each: each["timestampMillis"]))

    def entities(self, kind: str = "") -> list[str]:
        """The urns of all entities, or of those of one type, sorted."""
        with self._changed:
            urns = {urn for urn, _ in (*self.store.versioned, *self.store.series)}
        return sorted(urn for urn in urns if urn.startswith(f"urn:li:{kind}:" if kind else ""))

    def state(self) -> dict[str, dict[str, Json]]:
        """All aspects by urn and name; of a timeseries the list of its documents."""
        found: dict[str, dict[str, Json]] = {}
        for urn in self.entities():
            found[urn] = self.aspects(urn)
        with self._changed:
            places = list(self.store.series)
        for urn, name in places:
            found[urn][name] = self.timeseries(urn, name)
        return found

    @property
    def writes(self) -> list[Request]:
        """The requests that carried proposals."""
        with self._changed:
            return [each for each in self.requests if each.is_write]

    @property
    def reads(self) -> list[Request]:
        """The requests that asked for entities or documents."""
        with self._changed:
            return [each for each in self.requests if not each.is_write and each.path != "/config"]

    def wait_for(self, condition: Callable[[], object], timeout: float = 30) -> None:
        """Wait until the condition holds after some request; fail the test if it never does."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise AssertionError(f"not within {timeout} s; the receiver has {self.entities()}")

    # ------------------------------------------------------------------------------ one request

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Serve a request; raises `_Cut` where there is to be no answer."""
        batch, is_async = _batch(path, body) if method == "POST" else ([], False)
        names = tuple((str(each.get("entityUrn")), str(each.get("aspectName"))) for each in batch)
        run_ids = tuple((each.get("systemMetadata") or {}).get("runId", "") for each in batch)
        request = Request(method, path, names, is_async, run_ids, headers)
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        fault = self._next_fault(path, len(batch))
        answer = self._early(fault) if fault else None
        if answer is None:
            answer = self._serve(method, path, headers, body, batch)
            request.applied = answer.status == 200 and request.is_write
        if fault:
            self._end(fault, answer)
        request.status = answer.status
        with self._changed:
            self._changed.notify_all()
        return answer

    def _next_fault(self, path: str, size: int) -> Fault | None:
        with self._changed:
            for each in self._faults:
                if each.kind not in {"reject", "deny", "lag"} and each.fits(path, size):
                    each.happened += 1
                    return each
        return None

    def _early(self, fault: Fault) -> Answer | None:
        """What the fault answers; None where the request is served nevertheless."""
        if fault.kind == "slow":
            self._released.wait(fault.seconds)
        if fault.kind in {"hang", "cut"} and fault.when == "before":
            self._end(fault, None)
        if fault.kind == "redirect":
            return Answer(fault.status or 302, headers={"Location": fault.location})
        if fault.kind == "html":
            return _page(fault.status or 200, "a web page", fault.retry_after)
        return _failure(fault) if fault.kind == "status" else None

    def _end(self, fault: Fault, answer: Answer | None) -> None:
        if fault.kind == "hang":
            self._released.wait(fault.seconds)
        if fault.kind in {"hang", "cut"}:
            raise _Cut(answer if fault.when == "within" else None)

    def _serve(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        batch: Sequence[Json],
    ) -> Answer:
        try:
            return self._route(method, path, headers, body, batch)
        except Refusal as refusal:
            return _restli(refusal.status, str(refusal))

    def _route(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        batch: Sequence[Json],
    ) -> Answer:
        if not path.startswith(self.prefix):
            return _page(404, "Not Found")
        path = path[len(self.prefix) :]
        if (method, path) == ("GET", "/config"):
            return _json(200, self._config())
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            return _page(401, "Unauthorized to perform this action.")
        return self._route_authorized(method, path, body, batch)

    def _route_authorized(
        self, method: str, path: str, body: bytes, batch: Sequence[Json]
    ) -> Answer:
        if len(body) > MOST_BYTES:
            return _page(413, "Payload Too Large")
        if method == "POST" and path in WRITES:
            with self._changed:
                self.store.ingest([self._proposal(each) for each in batch])
            return _json(200, {"value": "success"})
        if method == "GET" and path.startswith("/aspects/"):
            return self._read(path)
        with self._changed:
            found = reads.read(self.store, method, path, body, self._faults)
        if found is not None:
            return _json(found.status, found.content)
        raise Refusal(404, f"No root resource defined for path '{path}'")

    def _config(self) -> Json:
        return {
            "noCode": "true",
            "patchCapable": True,
            "statefulIngestionCapable": True,
            "versions": {"acryldata/datahub": {"version": self.version, "commit": "0" * 40}},
            "datahub": {"serverEnv": "core", "serverType": "quickstart"},
            "telemetry": {"enabledCli": False, "enabledIngestion": False},
            "retention": "true",
        }

    def _read(self, path: str) -> Answer:
        split = urllib.parse.urlsplit(path)
        urn = urllib.parse.unquote(split.path.removeprefix("/aspects/"))
        name = urllib.parse.parse_qs(split.query).get("aspect", [""])[0]
        value = self.aspect(urn, name)
        if value is None:
            raise Refusal(404, f"Did not find urn: {urn} aspect: {name} version: 0")
        return _json(200, {"version": 0, "aspect": {schemas.aspects()[name].java_name: value}})

    def _proposal(self, raw: Json) -> _Proposal:
        """The proposal, if all but its aspect's value is as it must be."""
        try:
            schemas.proposal_check()(raw, "")
            kind = schemas.check_urn(raw.get("entityUrn"), "/entityUrn")
        except Flaw as flaw:
            raise Refusal(400, f"Parameters failed validation with error '{flaw}'") from None
        name = str(raw.get("aspectName"))
        if kind != raw["entityType"]:
            raise Refusal(422, f"the urn is of a {kind}, the proposal of a {raw['entityType']}")
        if name not in schemas.entities()[kind]:
            raise Refusal(422, f"Unknown aspect {name} for entity {kind}")
        self._reject(raw["entityUrn"], name)
        aspect = schemas.aspects()[name]
        value = _value(raw, aspect)
        metadata = {**SYSTEM_METADATA, **(raw.get("systemMetadata") or {})}
        is_if_absent = (raw.get("headers") or {}).get("If-None-Match") == "*"
        change = raw["changeType"]
        return _Proposal(raw["entityUrn"], aspect, change, is_if_absent, value, metadata)

    def _reject(self, urn: str, aspect: str) -> None:
        for each in self._faults:
            if each.kind == "reject" and each.rejects(urn, aspect):
                each.happened += 1
                raise Refusal(each.status or 422, each.message)


def _batch(path: str, body: bytes) -> tuple[list[Json], bool]:
    """The proposals of a request, as they stand there, and whether it is asynchronous."""
    try:
        content = json.loads(body)
    except ValueError:
        return [], False
    if not isinstance(content, dict):
        return [], False
    if path.endswith("action=ingestProposalBatch"):
        batch = content.get("proposals", [])
    else:
        batch = [content["proposal"]] if "proposal" in content else []
    return batch, content.get("async") == "true"


def _value(raw: Json, aspect: schemas.Aspect) -> Json:
    change, content = raw["changeType"], raw.get("aspect")
    is_wrong = change != "UPSERT" and aspect.is_timeseries
    if change not in {"UPSERT", "CREATE", "PATCH"} or is_wrong:
        raise Refusal(422, f"{change} is not supported for {aspect.name}")
    if content is None:
        raise Refusal(422, "Aspect and aspect name is required for create and update operations")
    kinds = ["application/json"] + ["application/json-patch+json"] * (change == "PATCH")
    if content["contentType"] not in kinds:
        raise Refusal(422, f"{content['contentType']} is not supported for {change}")
    try:
        return json.loads(content["value"])
    except ValueError as error:
        raise Refusal(422, f"Failed to deserialize aspect {aspect.name}: {error}") from None


# ------------------------------------------------------------------------------------------ answers


def _json(status: int, content: Json, headers: Mapping[str, str] | None = None) -> Answer:
    headers = {"X-RestLi-Protocol-Version": "2.0.0", **(headers or {})}
    return Answer(status, json.dumps(content).encode(), headers=headers)


def _restli(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    name = "com.linkedin.restli.server.RestLiServiceException"
    trace = f"{name} [HTTP Status:{status}]: {message}\n\tat com.linkedin.metadata.Aspects"
    content = {"exceptionClass": name, "message": message, "stackTrace": trace, "status": status}
    return _json(status, content, headers)


def _page(status: int, text: str, retry_after: object = None) -> Answer:
    body = f"<html><head><title>{status}</title></head><body>{text}</body></html>".encode()
    return Answer(status, body, "text/html;charset=utf-8", _retry_after(retry_after))


def _retry_after(value: object) -> Mapping[str, str]:
    return {} if value is None else {"Retry-After": str(value)}


def _failure(fault: Fault) -> Answer:
    """As GMS and the proxies before it answer: some in Rest.li's form, some as a page."""
    status = fault.status or 503
    if status in {401, 404, 502, 503, 504}:
        return _page(status, "something went wrong", fault.retry_after)
    return _restli(status, fault.message, _retry_after(fault.retry_after))


# ------------------------------------------------------------------------------------------ sockets


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class _Server(ThreadingHTTPServer):
    """Listens from the moment it is made, and can end the connections that are open."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, receiver: Receiver | _Control) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.receiver = receiver
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours."""

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = self.server.receiver.answer(self.command, self.path, headers, body)
        except _Cut as cut:
            self.close_connection = True
            if cut.torn:
                self._send(cut.torn, len(cut.torn.body) // 2)
        else:
            self._send(answer, len(answer.body))

    def _send(self, answer: Answer, length: int) -> None:
        self.send_response(answer.status)
        for name, value in (("Content-Type", answer.kind), *answer.headers.items()):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[:length])

    def log_message(self, *_: object) -> None:
        """Nothing is printed for a request."""


# ------------------------------------------------------------------------------- in another process


class _Control:
    """Answers the calls of a `Remote`: POST with {"call": name, "options": {...}}."""

    CALLS = ("fault", "clear", "accept", "refuse", "state", "entities", "written")

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        asked = json.loads(body)
        if asked["call"] == "written":
            return _json(200, [asdict(write) for write in self._receiver.writes])
        if asked["call"] not in self.CALLS:
            return _json(404, None)
        result = getattr(self._receiver, asked["call"])(**asked["options"])
        return _json(200, asdict(result) if isinstance(result, Fault) else result)


class Remote:
    """A receiver in another process, by its control address."""

    def __init__(self, control: str) -> None:
        self._control = control

    def fault(self, kind: str, **options: Any) -> None:
        self._call("fault", kind=kind, **options)

    def clear(self) -> None:
        self._call("clear")

    def accept(self) -> None:
        self._call("accept")

    def refuse(self) -> None:
        self._call("refuse")

    def state(self) -> dict[str, dict[str, Json]]:
        found: dict[str, dict[str, Json]] = self._call("state")
        return found

    def entities(self, kind: str = "") -> list[str]:
        found: list[str] = self._call("entities", kind=kind)
        return found

    @property
    def writes(self) -> list[Request]:
        return [
            Request(**{**each, "proposals": tuple(map(tuple, each["proposals"]))})
            for each in self._call("written")
        ]

    def _call(self, call: str, **options: Any) -> Any:
        body = json.dumps({"call": call, "options": options}).encode()
        with urllib.request.urlopen(self._control, body, timeout=60) as answer:
            return json.load(answer)


@contextlib.contextmanager
def controlled(receiver: Receiver, port: int = 0) -> Iterator[str]:
    """The address at which a `Remote` reaches the receiver, also while it refuses."""
    with _bound(port) as reserved:
        server = _Server(reserved.getsockname()[1], _Control(receiver))
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.end()


def main() -> None:
    parser = argparse.ArgumentParser(description="A strict stand-in for DataHub's GMS.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--token", help="refuse requests without this bearer token")
    options = parser.parse_args()
    ended = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())
    with (
        Receiver(options.port, options.token) as receiver,
        controlled(receiver, options.control_port) as control,
    ):
        print(json.dumps({"url": receiver.url, "control": control}), flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
