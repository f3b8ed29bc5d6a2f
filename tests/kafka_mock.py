"""Kafka for tests: librdkafka's mock cluster, and a schema registry that takes any schema."""

from __future__ import annotations

import io
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from datahub.metadata.schemas import getMetadataChangeProposalSchema

TOPIC = "MetadataChangeProposal_v1"
SCHEMA = fastavro.parse_schema(json.loads(getMetadataChangeProposalSchema()))
HEADER = 5
"""Bytes before the Avro content: a zero, and the schema's number."""


class Brokers:
    """A cluster that lives in this process until `end`."""

    def __init__(self, *topics: str) -> None:
        options = {"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0}
        self._producer: Producer | None = Producer(options)
        for each in topics:
            self._producer.list_topics(each, timeout=10)
        (broker,) = self._producer.list_topics(timeout=10).brokers.values()
        self.bootstrap = f"{broker.host}:{broker.port}"

    def end(self) -> None:
        self._producer = None

    def proposals(self, count: int, topic: str = TOPIC) -> list[dict[str, Any]]:
        """The first proposals on the topic, in the order of their arrival."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "tests"})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in partitions])
        try:
            messages = consumer.consume(count, timeout=60)
        finally:
            consumer.close()
        messages.sort(key=lambda each: each.timestamp())
        return [_decoded(message.value()) for message in messages]


def _decoded(content: bytes | None) -> dict[str, Any]:
    assert content is not None
    found = fastavro.schemaless_reader(io.BytesIO(content[HEADER:]), SCHEMA, SCHEMA)
    assert isinstance(found, dict)
    return found


class Registry(ThreadingHTTPServer):
    """Numbers schemas in the order in which it first sees them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.schemas: list[str] = []
        self.status = 200
        """Of all answers."""
        self.authorizations: set[str] = set()
        """What the requests said of who asks."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def number(self, schema: str) -> int:
        if schema not in self.schemas:
            self.schemas.append(schema)
        return self.schemas.index(schema) + 1


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer({"id": self.server.number(asked["schema"]), "version": 1, **asked})

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if path == "/subjects":
            self._answer([])
        elif path.startswith("/associations"):
            self.send_error(404)
        else:
            self._answer({"schema": self.server.schemas[int(path.rsplit("/", 1)[1]) - 1]})

    def _answer(self, content: object) -> None:
        self.server.authorizations.add(self.headers.get("Authorization", ""))
        body = json.dumps(content).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed for a request."""


@contextmanager
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
