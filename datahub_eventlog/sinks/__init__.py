"""Where proposals go: DataHub's GMS over HTTP, its topic on Kafka, or a folder of files.

Importing this loads nothing of DataHub; `connect` and `probe` load what their target needs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from typing_extensions import assert_never

from datahub_eventlog import error_text, extras
from datahub_eventlog.config import FileTarget, KafkaTarget, RestTarget, Target
from datahub_eventlog.errors import ConfigurationError, Rejected
from datahub_eventlog.values import Proposal

# Read by acryl-datahub when it is imported, which otherwise loads a tracking client.
os.environ.setdefault("DATAHUB_TELEMETRY_ENABLED", "false")

T = TypeVar("T")
OnAnswer: TypeAlias = Callable[[float], None]


def whatever(_seconds: float) -> None:
    """Take no notice."""


def always() -> None:
    """Proceed, whatever has happened since."""


class Sink(Protocol):
    """Somewhere to deliver to. Used by one thread at a time, and not across a fork."""

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always
    ) -> Sequence[Rejected]:
        """Deliver the batch, what each entity has of it in its order; return what was refused.

        That is refused for its content. `proceed` is called before each request, several of
        which may be under way in threads; what it raises passes through. Raises
        `Unavailable` or `Misconfigured`; parts of the batch may have been applied then, and
        sending all of it again does no harm.
        """
        ...

    def close(self) -> None:
        """Let go of connections; what was emitted is delivered already."""
        ...


class Timed:
    """Tells how long each batch took."""

    def __init__(self, sink: Sink, on_answer: OnAnswer) -> None:
        self._sink = sink
        self._on_answer = on_answer

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always
    ) -> Sequence[Rejected]:
        """Deliver the batch; see `Sink`."""
        begun = time.monotonic()
        try:
            return self._sink.emit(batch, proceed)
        finally:
            self._on_answer(time.monotonic() - begun)

    def close(self) -> None:
        """Let go of connections."""
        self._sink.close()


@dataclass(frozen=True)
class Finding:
    """One thing that a probe looked at."""

    is_ok: bool
    what: str
    """What was looked at, in a word or two."""
    text: str
    """What was found, and what to do where it is not as it must be."""


def connect(
    target: Target,
    emit_mode: str = "SYNC_PRIMARY",
    *,
    sleep: Callable[[float], None] = time.sleep,
    on_answer: OnAnswer = whatever,
) -> Sink:
    """The sink for a target; nothing is sent before the first `emit`.

    `sleep` waits out the seconds between quick retries; `on_answer` is given the seconds of each
    request over HTTP, and of each batch that goes elsewhere, whatever came of it. Raises
    `ConfigurationError` if the packages that the target needs are not installed, or do not take
    its options.
    """
    match target:
        case RestTarget():
            return _needing("datahub", lambda: _rest(target, emit_mode, sleep, on_answer))
        case KafkaTarget():
            return _needing("kafka", lambda: _timed(_kafka(target), on_answer))
        case FileTarget():
            return _timed(_file(target), on_answer)
        case _:
            assert_never(target)


def where(target: Target | None) -> str:
    """The target in a few words, without what may be secret."""
    match target:
        case RestTarget(server=server):
            return error_text.address(server)
        case KafkaTarget(bootstrap=bootstrap):
            return f"Kafka at {bootstrap}"
        case FileTarget(path=path):
            return f"files in {path}"
        case None:
            return "nowhere"
        case _:
            assert_never(target)


def probe(target: Target) -> Sequence[Finding]:
    """Whether the target can be delivered to, without sending it anything.

    Raises `ConfigurationError` as `connect` does.
    """
    match target:
        case RestTarget():
            return _needing("datahub", lambda: _probe_rest(target))
        case KafkaTarget():
            return _needing("kafka", lambda: _probe_kafka(target))
        case FileTarget():
            return _probe_file(target)
        case _:
            assert_never(target)


def _needing(extra: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except ModuleNotFoundError as error:
        text = f"{error.name} is not installed here: {extras.command(extra)}"
        raise ConfigurationError(text) from error


def _timed(sink: Sink, on_answer: OnAnswer) -> Sink:
    return sink if on_answer is whatever else Timed(sink, on_answer)


def _rest(
    target: RestTarget, emit_mode: str, sleep: Callable[[float], None], on_answer: OnAnswer
) -> Sink:
    from datahub_eventlog.sinks.rest import RestSink

    return RestSink(target, emit_mode, sleep=sleep, on_answer=on_answer)


def _kafka(target: KafkaTarget) -> Sink:
    from datahub_eventlog.sinks.kafka import KafkaSink

    return KafkaSink(target)


def _file(target: FileTarget) -> Sink:
    from datahub_eventlog.sinks.file import FileSink

    return FileSink(target)


def _probe_rest(target: RestTarget) -> Sequence[Finding]:
    from datahub_eventlog.sinks import rest

    return rest.probe(target)


def _probe_kafka(target: KafkaTarget) -> Sequence[Finding]:
    from datahub_eventlog.sinks import kafka

    return kafka.probe(target)


def _probe_file(target: FileTarget) -> Sequence[Finding]:
    from datahub_eventlog.sinks import file

    return file.probe(target)
