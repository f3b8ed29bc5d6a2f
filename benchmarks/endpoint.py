"""The least that DataHub's client takes for a GMS, fast enough not to be what is measured.

    python -m benchmarks.endpoint PORT_FILE

It answers every write with 200 after a latency, counts requests, and judges nothing: whether what
is sent is right is for the tests' own receiver to say. `GET /bench/...` steers it:
`reset?latency=0.04&keep=1` begins anew, `counts`, `times` and `kept` say what came. With `hold=1`
it remembers aspects and documents, patches apart, and answers `verify` with them.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

CONFIG = {"noCode": "true", "versions": {"acryldata/datahub": {"version": "v1.3.0"}}}
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Write:
    """A request with proposals, and when it was answered."""

    time: float
    path: str
    body: str

    @property
    def proposals(self) -> Sequence[Any]:
        """The proposals in it, as they stand in the request."""
        request = json.loads(self.body)
        if "proposals" in request:
            return list(request["proposals"])
        return [request.get("proposal", request)]


@dataclass
class State:
    """What came since the last reset."""

    latency: float = 0.0
    is_kept: bool = False
    requests: int = 0
    proposals: int = 0
    times: list[float] = field(default_factory=list)
    kept: list[Write] = field(default_factory=list)
    held: Held | None = None
    reads: int = 0


@dataclass
class Held:
    """What was written, as JSON."""

    aspects: dict[str, dict[str, str]] = field(default_factory=dict)
    """By urn and name."""
    documents: dict[str, dict[tuple[int, str, str], str]] = field(default_factory=dict)
    """By aspect; by time, urn and message."""

    def write(self, body: bytes) -> None:
        for proposal in json.loads(body)["proposals"]:
            urn, name, value = proposal["entityUrn"], proposal["aspectName"], proposal["aspect"]
            text = value["value"]
            if '"timestampMillis"' in text:
                document = json.loads(text)
                key = (document["timestampMillis"], urn, str(document.get("messageId")))
                self.documents.setdefault(name, {})[key] = text
            elif proposal["changeType"] == "UPSERT":
                self.aspects.setdefault(urn, {})[name] = text

    def batch(self, body: bytes) -> str:
        """The answer to `batchGet`."""
        entities = []
        for asked in json.loads(body):
            there = self.aspects.get(asked["urn"], {})
            values = [f'"{name}":{{"value":{there[name]}}}' for name in asked if name in there]
            if values:
                entities.append(f'{{"urn":{json.dumps(asked["urn"])},{",".join(values)}}}')
        return f"[{','.join(entities)}]"

    def page(self, name: str, query: dict[str, str]) -> str:
        """A page of a timeseries, the newest first."""
        documents = self.documents.get(name, {})
        keys = sorted(documents)
        first = bisect.bisect_left(keys, (int(query["startTimeMillis"]), "", ""))
        last = bisect.bisect_left(keys, (int(query["endTimeMillis"]) + 1, "", ""))
        last -= int(query.get("scrollId", 0))
        chosen = keys[max(first, last - int(query["count"])) : last][::-1]
        rows = [f'{{"urn":{json.dumps(key[1])},"event":{documents[key]}}}' for key in chosen]
        more = len(chosen) == int(query["count"])
        scroll_id = int(query.get("scrollId", 0)) + len(chosen)
        end = f',"scrollId":"{scroll_id}"' if more else ""
        return f'{{"results":[{",".join(rows)}]{end}}}'


class Server:
    """Answers over kept-alive connections, each request after the latency."""

    def __init__(self) -> None:
        self._state = State()

    async def serve(self, port_file: Path) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**26)
        written = port_file.with_suffix(".new")
        written.write_text(str(server.sockets[0].getsockname()[1]))
        written.rename(port_file)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split(" ", 2)
        length = next((_length(line) for line in head.splitlines() if _is_length(line)), 0)
        body = await reader.readexactly(length) if length else b""
        if target.startswith("/bench/"):
            status, answer = 200, self._steered(target)
        else:
            status, answer = await self._answered(method, target, body)
        text = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        lines = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n"
        writer.write(f"{lines}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        await writer.drain()
        return True

    async def _answered(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        state = self._state
        await asyncio.sleep(state.latency)
        if target.startswith("/config"):
            return 200, CONFIG
        if state.held and target.startswith("/openapi/"):
            state.reads += 1
            asked = urlsplit(target)
            query = {name: texts[0] for name, texts in parse_qs(asked.query).items()}
            name = asked.path.rpartition("/")[2]
            if name == "batchGet":
                return 200, state.held.batch(body)
            return 200, state.held.page(name, query)
        if method not in WRITES:
            return 404, {"status": 404, "message": "there is nothing to read here"}
        state.requests += 1
        state.proposals += body.count(b'"changeType"')
        state.times.append(time.time())
        if state.held:
            state.held.write(body)
        if state.is_kept:
            state.kept.append(Write(time.time(), target, body.decode()))
        return 200, {"value": "urn:li:dataset:(urn:li:dataPlatform:dagster,any,PROD)"}

    def _steered(self, target: str) -> Any:
        asked = urlsplit(target)
        values = {name: texts[0] for name, texts in parse_qs(asked.query).items()}
        if asked.path == "/bench/reset":
            self._state = State(float(values["latency"]), values["keep"] == "1")
            self._state.held = Held() if values["hold"] == "1" else None
            return {}
        if asked.path == "/bench/kept":
            kept = self._state.kept[int(values["from"]) :]
            return [[write.time, write.path, write.body] for write in kept]
        if asked.path == "/bench/times":
            return self._state.times
        state = self._state
        return {"requests": state.requests, "proposals": state.proposals, "reads": state.reads}


def _is_length(line: str) -> bool:
    return line.lower().startswith("content-length:")


def _length(line: str) -> int:
    return int(line.partition(":")[2])


class Endpoint:
    """One in a process of its own, seen from the benchmark."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def reset(self, latency: float = 0.0, *, keep: bool = False, hold: bool = False) -> None:
        """Forget what came; from now on answer after so many seconds."""
        self._get(f"reset?latency={latency}&keep={int(keep)}&hold={int(hold)}")

    def reads(self) -> int:
        """Requests that asked for what was written."""
        return int(self._get("counts")["reads"])

    def requests(self) -> int:
        """Writes that came."""
        return int(self._get("counts")["requests"])

    def proposals(self) -> int:
        """Proposals in those."""
        return int(self._get("counts")["proposals"])

    def times(self) -> list[float]:
        """When the writes came."""
        return [float(time) for time in self._get("times")]

    def writes(self, begin: int = 0) -> list[Write]:
        """The writes that were kept, from that number on."""
        return [Write(*values) for values in self._get(f"kept?from={begin}")]

    def _get(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/bench/{what}", timeout=60) as answer:
            return json.load(answer)


@contextmanager
def endpoint(folder: Path) -> Iterator[Endpoint]:
    """Start one, and end it."""
    port_file = folder / f"endpoint-{os.getpid()}-{time.monotonic_ns()}.port"
    process = subprocess.Popen([sys.executable, __file__, str(port_file)])
    try:
        while not port_file.exists():
            if process.poll() is not None:
                raise RuntimeError("the endpoint does not start")
            time.sleep(0.01)
        yield Endpoint(int(port_file.read_text()))
    finally:
        process.kill()
        process.wait(30)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(Server().serve(Path(sys.argv[1])))
