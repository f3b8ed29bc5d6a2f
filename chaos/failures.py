"""Why a run failed: by the program, by Dagster's own doing, or by an error of this package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from dagster import DagsterEvent, DagsterRunStatus
from dagster._core.storage.dagster_run import RunRecord

import datahub_eventlog
from chaos.faults import FAILING_JOB, Tally
from datahub_eventlog.source.runs import seconds

PID = re.compile(r"pid: (\d+)")
OURS = str(Path(datahub_eventlog.__file__).parent)
TABLES = "datahub_eventlog_"
"""The prefix of the ledger's tables."""
PASSES_ON = ("datahub.backend.", "forwarding.py")
"""Texts of those frames of this package that only call Dagster's own storage."""
UNREACHABLE = frozenset({"OperationalError", "DagsterPostgresException"})
"""Errors of Dagster that can't reach its database."""
FRAME = re.compile(r'^  File "(.+?)", line \d+, in .*(?:\n    .*)*', re.MULTILINE)
TRACEBACK = re.compile(
    r'Traceback \(most recent call last\):\n(?:  File ".*\n(?:    .*\n)*)+(?P<message>.*)'
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


def external_cause(tally: Tally, record: RunRecord, events: Sequence[DagsterEvent]) -> str | None:
    """Why the run would have failed without this package too; None if nothing explains it."""
    run = record.dagster_run
    if run.job_name == FAILING_JOB:
        return "broken on purpose"
    if run.run_id in tally.canceled:
        return "canceled"
    errors = [error for event in events for error in errors_of(event)]
    if any(is_own(error) for error in errors):
        return None
    begun, ended = seconds(record.create_timestamp), record.end_time or float("inf")
    if _was_killed(tally, events, begun, ended):
        return "killed"
    if errors:
        is_cut_off = any(begin <= ended for begin, _ in tally.outages)
        is_unreachable = any(error.cls_name in UNREACHABLE for error in errors)
        return "cut off from its database" if is_cut_off and is_unreachable else None
    was_out = any(begin <= ended and end >= begun for begin, end in tally.outages)
    return "gone with its database" if was_out else None


def _was_killed(tally: Tally, events: Sequence[DagsterEvent], begun: float, ended: float) -> bool:
    """Whether the run's process or one of its steps' was.

    The events of a run that never started name no process: then any kill in its time counts.
    """
    pids = {int(pid) for event in events for pid in PID.findall(event.message or "")}
    has_started = any(event.event_type.name == "RUN_START" for event in events)
    return any(
        pid in pids or (not has_started and begun <= time <= ended)
        for pid, time in tally.killed_at.items()
    )


def failed(record: RunRecord) -> bool:
    return record.dagster_run.status is DagsterRunStatus.FAILURE


def is_own(error: Error) -> bool:
    """Whether the error was raised in this package, and not in what the package only calls."""
    return _is_own("".join(error.stack), error.message)


def own_errors(log: str) -> list[str]:
    """The last lines of those tracebacks in a log that were raised in this package."""
    tracebacks = TRACEBACK.finditer(log)
    return [match["message"] for match in tracebacks if _is_own(match.group(), match["message"])]


def _is_own(stack: str, message: str) -> bool:
    if TABLES in message:
        return True
    frames = [match.group() for match in FRAME.finditer(stack) if match[1].startswith(OURS)]
    return bool(frames) and not any(text in frames[-1] for text in PASSES_ON)


def errors_of(event: DagsterEvent) -> Iterator[Error]:
    """The error of an event, and its causes."""
    error: Error | None = getattr(event.event_specific_data, "error", None)
    while error is not None:
        yield error
        error = error.cause


def own_errors_in(home: Path, names: Iterable[str]) -> list[str]:
    """The own errors in these logs of a home, each with the log's name."""
    paths = [home / name for name in names]
    texts = {path.name: path.read_text(errors="replace") for path in paths if path.exists()}
    return [f"{name}: {line}" for name, text in texts.items() for line in own_errors(text)]
