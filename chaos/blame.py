"""Who is to blame for a run that failed: the chaos program, Dagster itself, or we."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dagster import DagsterEvent, DagsterRunStatus
from dagster._core.storage.dagster_run import RunRecord
from faults import BROKEN, Tally

import datahub_eventlog
from datahub_eventlog.source.runs import seconds

PID = re.compile(r"pid: (\d+)")
OURS = str(Path(datahub_eventlog.__file__).parent)
TABLES = "datahub_eventlog_"
"""What the names of the ledger's tables begin with."""
PASSES_ON = ("datahub.backend.", "forwarding.py")
"""What stands in a frame of ours in which Dagster's own storage is called."""
UNREACHABLE = frozenset({"OperationalError", "DagsterPostgresException"})
"""What Dagster raises when it doesn't reach its database."""
FRAME = re.compile(r'^  File "(.+?)", line \d+, in .*(?:\n    .*)*', re.MULTILINE)
TRACEBACK = re.compile(
    r'Traceback \(most recent call last\):\n(?:  File ".*\n(?:    .*\n)*)+(?P<said>.*)'
)


class Error(Protocol):
    """Dagster's SerializableErrorInfo, whose module differs between versions."""

    @property
    def message(self) -> str: ...
    @property
    def stack(self) -> Sequence[str]: ...
    @property
    def cls_name(self) -> str | None: ...
    @property
    def cause(self) -> Error | None: ...


@dataclass(frozen=True)
class Blame:
    """Tells what became of failed runs by what was done to them."""

    tally: Tally

    def excuse(self, record: RunRecord, events: Sequence[DagsterEvent]) -> str | None:
        """Why the run would have failed without us too; None if nothing explains it."""
        run = record.dagster_run
        if run.job_name == BROKEN:
            return "broken on purpose"
        if run.run_id in self.tally.canceled:
            return "canceled"
        errors = [error for event in events for error in errors_of(event)]
        if any(is_ours(each) for each in errors):
            return None
        begun, ended = seconds(record.create_timestamp), record.end_time or float("inf")
        if self._was_killed(events, begun, ended):
            return "killed"
        if errors:
            is_cut_off = any(begin <= ended for begin, _ in self.tally.outages)
            return "cut off from its database" if is_cut_off and _unreached(errors) else None
        was_out = any(begin <= ended and end >= begun for begin, end in self.tally.outages)
        return "gone with its database" if was_out else None

    def _was_killed(self, events: Sequence[DagsterEvent], begun: float, ended: float) -> bool:
        """Whether its process or one of its steps' was; one that never started says no pid."""
        pids = {int(pid) for event in events for pid in PID.findall(event.message or "")}
        has_started = any(event.event_type.name == "RUN_START" for event in events)
        return any(
            pid in pids or (not has_started and begun <= time <= ended)
            for pid, time in self.tally.hit.items()
        )


def failed(record: RunRecord) -> bool:
    return record.dagster_run.status is DagsterRunStatus.FAILURE


def is_ours(error: Error) -> bool:
    """Whether the innermost error comes from our code, not from what our code only calls."""
    return _comes_from_us("".join(error.stack), error.message)


def outbursts(log: str) -> list[str]:
    """The last lines of the tracebacks in a log that come from us."""
    found = TRACEBACK.finditer(log)
    return [each["said"] for each in found if _comes_from_us(each.group(), each["said"])]


def _comes_from_us(stack: str, message: str) -> bool:
    if TABLES in message:
        return True
    frames = [each.group() for each in FRAME.finditer(stack) if each[1].startswith(OURS)]
    return bool(frames) and not any(each in frames[-1] for each in PASSES_ON)


def _unreached(errors: Sequence[Error]) -> bool:
    return any(each.cls_name in UNREACHABLE for each in errors)


def errors_of(event: DagsterEvent) -> Iterator[Error]:
    """The error of an event, and what caused it."""
    error: Error | None = getattr(event.event_specific_data, "error", None)
    while error is not None:
        yield error
        error = error.cause


def outbursts_in(home: Path, names: Iterable[str]) -> list[str]:
    """The same of those logs in a home, each with the log's name."""
    paths = [home / each for each in names]
    texts = {each.name: each.read_text(errors="replace") for each in paths if each.exists()}
    return [f"{name}: {said}" for name, text in texts.items() for said in outbursts(text)]
