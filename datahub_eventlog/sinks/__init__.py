"""Where proposals go: DataHub's GMS over HTTP, its topic on Kafka, or a folder of files.

Importing this loads nothing of DataHub; `connect` and `probe` load what their target needs.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from typing_extensions import assert_never

from datahub_eventlog import error_text, extras
from datahub_eventlog.config import FileTarget, KafkaTarget, RestTarget, Target
from datahub_eventlog.errors import ConfigurationError, Rejected
from datahub_eventlog.values import Proposal

# Read by acryl-datahub when it is imported, which otherwise loads a tracking client.
os.environ.setdefault("DATAHUB_TELEMETRY_ENABLED", "false")

OnAnswer: TypeAlias = Callable[[float], None]


def ignore_answer(_seconds: float) -> None:
    """Do nothing with the time that an answer took."""


def always_proceed() -> None:
    """Let every request be sent."""


class Sink(Protocol):
    """Somewhere to deliver to. Used by one thread at a time, and not across a fork."""

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always_proceed
    ) -> Sequence[Rejected]:
        """Deliver the batch, each entity's proposals in their order; return what was refused.

        Refused means: for its content. `proceed` is called before each request, several of
        which may be sent in parallel threads; what it raises passes through. Raises
        `Unavailable` or `Misconfigured`; parts of the batch may have been applied then, and
        sending all of it again does no harm.
        """
        ...

    def close(self) -> None:
        """Close connections; what was emitted is delivered already."""
        ...


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    is_ok: bool
    what: str
    """What was checked, in a word or two."""
    text: str
    """What was found, and what to do where it is wrong."""


def connect(
    target: Target,
    emit_mode: str = "SYNC_PRIMARY",
    *,
    sleep: Callable[[float], None] = time.sleep,
    on_answer: OnAnswer = ignore_answer,
) -> Sink:
    """The sink for a target; nothing is sent before the first `emit`.

    `sleep` waits out the seconds between quick retries; `on_answer` is given the seconds of each
    request over HTTP, and of each batch that goes elsewhere, even of one that failed. Raises
    `ConfigurationError` if the packages that the target needs are not installed, or do not take
    its options.
    """
    with _missing_package_explained(target):
        match target:
            case RestTarget():
                from datahub_eventlog.sinks.rest import RestSink

                return RestSink(target, emit_mode, sleep=sleep, on_answer=on_answer)
            case KafkaTarget():
                from datahub_eventlog.sinks.kafka import KafkaSink

                return _timed(KafkaSink(target), on_answer)
            case FileTarget():
                from datahub_eventlog.sinks.file import FileSink

                return _timed(FileSink(target), on_answer)
            case _:
                assert_never(target)


def probe(target: Target) -> Sequence[Finding]:
    """Whether the target can be delivered to, without sending it anything.

    Raises `ConfigurationError` as `connect` does.
    """
    with _missing_package_explained(target):
        match target:
            case RestTarget():
                from datahub_eventlog.sinks import rest

                return rest.probe(target)
            case KafkaTarget():
                from datahub_eventlog.sinks import kafka

                return kafka.probe(target)
            case FileTarget():
                from datahub_eventlog.sinks import file

                return file.probe(target)
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


@contextlib.contextmanager
def _missing_package_explained(target: Target) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        extra = "kafka" if isinstance(target, KafkaTarget) else "datahub"
        text = f"{error.name} is not installed here: {extras.command(extra)}"
        raise ConfigurationError(text) from error


def _timed(sink: Sink, on_answer: OnAnswer) -> Sink:
    return sink if on_answer is ignore_answer else TimedSink(sink, on_answer)


class TimedSink:
    """Reports how long each batch took."""

    def __init__(self, sink: Sink, on_answer: OnAnswer) -> None:
        self._sink = sink
        self._on_answer = on_answer

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always_proceed
    ) -> Sequence[Rejected]:
        """Deliver the batch; see `Sink`."""
        begun = time.monotonic()
        try:
            return self._sink.emit(batch, proceed)
        finally:
            self._on_answer(time.monotonic() - begun)

    def close(self) -> None:
        """Close connections."""
        self._sink.close()
