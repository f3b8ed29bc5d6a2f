"""The course of a run and its steps, read from its events in one pass.

Every moment that a prefix of the events shows, the whole shows as well. So what was sent while the
run went on is never taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from datahub_eventlog.event_types import RUN_ENDS
from datahub_eventlog.values import (
    ENDED,
    AssetKey,
    Event,
    Failure,
    Handled,
    Loaded,
    Materialization,
    Run,
    RunLog,
)


class Result(Enum):
    """How an attempt ended."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    SKIPPED = "SKIPPED"
    CANCELED = "CANCELED"
    UP_FOR_RETRY = "UP_FOR_RETRY"


@dataclass(frozen=True)
class Moment:
    """The start or the end of an attempt of a run or step."""

    time: float
    attempt: int
    result: Result | None = None
    """None for a start."""
    started: float | None = None
    """Of an end: when the attempt had started, if it had."""
    is_closed: bool = False
    """The step was going on when the run ended, and ended with it."""


@dataclass(frozen=True)
class StepProgress:
    """The course of one step."""

    key: str
    moments: tuple[Moment, ...] = ()
    failure: Failure | None = None
    assets: frozenset[AssetKey] = frozenset()
    """The assets that it materialised."""
    loaded: tuple[Loaded, ...] = ()
    """The inputs that I/O managers loaded."""
    stored: tuple[Handled, ...] = ()
    """The outputs that I/O managers stored."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended and won't be tried again."""
        last = self.moments[-1].result if self.moments else None
        return last is not None and last is not Result.UP_FOR_RETRY

    @property
    def has_started(self) -> bool:
        """Whether it took its inputs: it was not skipped, and did not die before its start."""
        return any(moment.result in {None, Result.SUCCESS} for moment in self.moments)

    @property
    def has_succeeded(self) -> bool:
        """Whether it ever succeeded by an event of its own."""
        return any(
            moment.result is Result.SUCCESS and not moment.is_closed for moment in self.moments
        )

    @property
    def succeeded(self) -> float | None:
        """When it succeeded, if that is how it ended."""
        last = self.moments[-1] if self.moments else None
        if last is None or last.is_closed or last.result is not Result.SUCCESS:
            return None
        return last.time


@dataclass(frozen=True)
class RunProgress:
    """The course of a run."""

    moments: tuple[Moment, ...] = ()
    failure: Failure | None = None
    steps: Mapping[str, StepProgress] = field(default_factory=dict)
    """By step key, in the order of the keys; also steps of which no start is known."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many events there were of a type."""
    first: Mapping[str, float] = field(default_factory=dict)
    """The time of the first event of a type."""
    began: float = 0.0
    """The time of the job's state: the run's start, or failing that its first event."""

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended, even if it was resumed afterwards."""
        return any(moment.result is not None for moment in self.moments)

    @property
    def has_succeeded(self) -> bool:
        """Whether the run succeeded, so that all of it has run."""
        return any(moment.result is Result.SUCCESS for moment in self.moments)


def progress_of(log: RunLog) -> RunProgress:
    """The course of a run.

    The record must have been read before the events. It decides that the run has ended only where
    no event does, as when the run was removed from its queue or its events were deleted.
    """
    fold = _ProgressFold()
    for event in log.events:
        fold.add(event)
    fold.end_by_record(log.run)
    return fold.progress(log.run)


@dataclass
class _Attempts:
    """The moments of a run or step so far, attempt by attempt."""

    moments: list[Moment] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def is_going_on(self) -> bool:
        return bool(self.moments) and self.moments[-1].result is None

    def start(self, time: float) -> None:
        attempts = sum(moment.result is None for moment in self.moments)
        self.moments.append(Moment(time, attempts + 1))

    def end(self, time: float, result: Result, *, is_closed: bool = False) -> None:
        last = self.moments[-1] if self.moments else None
        attempt = last.attempt if last else 1
        if last is not None and last.result is Result.UP_FOR_RETRY:
            attempt += 1
        starts = (moment.time for moment in reversed(self.moments) if moment.result is None)
        started = next(starts, None) if last is None or last.attempt == attempt else None
        self.moments.append(Moment(time, attempt, result, started, is_closed))


@dataclass
class _StepAttempts(_Attempts):
    assets: set[AssetKey] = field(default_factory=set)
    loaded: list[Loaded] = field(default_factory=list)
    stored: list[Handled] = field(default_factory=list)


class _ProgressFold:
    """Takes the events in their order."""

    def __init__(self) -> None:
        self._run = _Attempts()
        self._steps: dict[str, _StepAttempts] = {}
        self._counts: Counter[str] = Counter()
        self._first: dict[str, float] = {}
        self._last_time: float | None = None

    def add(self, event: Event) -> None:
        self._counts[event.type] += 1
        self._first.setdefault(event.type, event.time)
        self._last_time = event.time
        if event.type == "RUN_START":
            self._run.start(event.time)
        elif event.type in _RUN_ENDS:
            self._end_run(event.time, _RUN_ENDS[event.type], event.data)
        elif event.step_key is not None and event.type in _STEP_EVENTS:
            course = self._steps.setdefault(event.step_key, _StepAttempts())
            _STEP_EVENTS[event.type](course, event)
            self._close_if_over(course, event.time)

    def end_by_record(self, run: Run) -> None:
        ended = self._run.moments and self._run.moments[-1].result is not None
        result = _STATUSES.get(run.status)
        time = self._last_time if run.ended is None else run.ended
        if result is not None and not ended and time is not None:
            self._end_run(time, result, None)

    def progress(self, run: Run) -> RunProgress:
        first = min(self._first.values(), default=run.created or 0.0)
        return RunProgress(
            moments=tuple(self._run.moments),
            failure=self._run.failure,
            steps={key: _frozen(key, course) for key, course in sorted(self._steps.items())},
            counts=dict(self._counts),
            first=dict(self._first),
            began=self._first.get("RUN_START", first),
        )

    def _end_run(self, time: float, result: Result, data: object) -> None:
        self._run.end(time, result)
        self._run.failure = data if isinstance(data, Failure) else None
        for course in self._steps.values():
            self._close_if_over(course, time)

    def _close_if_over(self, course: _Attempts, time: float) -> None:
        last = self._run.moments[-1] if self._run.moments else None
        if last is not None and last.result is not None and course.is_going_on:
            course.end(max(time, course.moments[-1].time), last.result, is_closed=True)


def _start(course: _StepAttempts, event: Event) -> None:
    course.start(event.time)


def _end(result: Result) -> Callable[[_StepAttempts, Event], None]:
    def end(course: _StepAttempts, event: Event) -> None:
        course.end(event.time, result)
        course.failure = event.data if isinstance(event.data, Failure) else None

    return end


def _take_data(course: _StepAttempts, event: Event) -> None:
    match event.data:
        case Handled() as stored:
            course.stored.append(stored)
        case Loaded() as loaded:
            course.loaded.append(loaded)
        case Materialization(asset_key=key):
            course.assets.add(key)
        case _:
            pass


def _frozen(key: str, course: _StepAttempts) -> StepProgress:
    return StepProgress(
        key,
        tuple(course.moments),
        course.failure,
        assets=frozenset(course.assets),
        loaded=tuple(course.loaded),
        stored=tuple(course.stored),
    )


_RUN_ENDS = {name: Result(name.removeprefix("RUN_")) for name in RUN_ENDS}
_STATUSES = {status: Result(status) for status in ENDED}
_STEP_EVENTS: Mapping[str, Callable[[_StepAttempts, Event], None]] = {
    "STEP_START": _start,
    "STEP_RESTARTED": _start,
    "STEP_SUCCESS": _end(Result.SUCCESS),
    "STEP_FAILURE": _end(Result.FAILURE),
    "STEP_SKIPPED": _end(Result.SKIPPED),
    "STEP_UP_FOR_RETRY": _end(Result.UP_FOR_RETRY),
    "HANDLED_OUTPUT": _take_data,
    "LOADED_INPUT": _take_data,
    "ASSET_MATERIALIZATION": _take_data,
}
