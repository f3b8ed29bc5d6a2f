"""The reckoning: what stands in Dagster's own event log, and what became of it in DataHub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from blame import Blame, errors_of, failed
from dagster import DagsterEvent, DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.storage.dagster_run import RunRecord
from faults import Tally
from receiver import Receiver
from undisturbed import differences, undisturbed

from datahub_eventlog.ledger import Ledger
from datahub_eventlog.source import Source
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.checks import assertion_urn
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CheckKey, Run

Document: TypeAlias = Mapping[str, Any]
ACCOUNTED = frozenset({"delivered", "parked", "filtered"})
STEPS = frozenset({"STEP_START", "STEP_SUCCESS", "STEP_FAILURE", "STEP_UP_FOR_RETRY"})
ENDS = frozenset({"RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED"})
WORDS = frozenset({"RUN_FAILURE", "STEP_FAILURE", "ENGINE_EVENT"})
UNFINISHED = [
    each
    for each in DagsterRunStatus
    if each.name not in {"SUCCESS", "FAILURE", "CANCELED", "MANAGED"}
]
CONTEXT = Context()


@dataclass(frozen=True)
class Trace:
    """A document that an event of the log must have left in DataHub."""

    event: str
    """The event, in words."""
    urn: str
    aspect: str
    fits: Callable[[Document], bool] = field(repr=False, compare=False)


@dataclass
class Reckoning:
    """What was found."""

    runs: int = 0
    events: int = 0
    states: Counter[str] = field(default_factory=Counter)
    excuses: Counter[str] = field(default_factory=Counter)
    """Why runs failed that would have failed without us too."""
    lost: list[str] = field(default_factory=list)
    """Runs without a row that says what became of them or without the facts of their definitions,
    and events without a trace."""
    differing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Runs that failed and nothing else explains it."""

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, nothing differs and nothing failed for our sake."""
        return not (self.lost or self.differing or self.failed)


class Accounts:
    """Of one instance, its ledger and a DataHub."""

    def __init__(self, instance: DagsterInstance, ledger: Ledger, receiver: Receiver) -> None:
        self._instance = instance
        self._ledger = ledger
        self._receiver = receiver
        self._source = Source(instance)

    def lost(self) -> list[str]:
        """Every run and event of Dagster's that is not accounted for."""
        return [*self._lost_runs(), *self._lost_events()]

    def reckon(self, tally: Tally) -> Reckoning:
        """Everything, at the end."""
        found = Reckoning()
        for record in self._instance.get_run_records():
            found.runs += 1
            found.states[str(self._ledger.runs.state(record.dagster_run.run_id))] += 1
            if failed(record):
                self._reckon_failure(record, tally, found)
        found.events = sum(1 for _ in self._traces())
        found.lost = self.lost()
        expected = undisturbed(self._instance, self._ledger)
        found.differing = differences(self._receiver.state(), expected)
        return found

    def _reckon_failure(self, record: RunRecord, tally: Tally, found: Reckoning) -> None:
        run = record.dagster_run
        excuse = Blame(tally).excuse(record, [event for _, event in self._events(run.run_id)])
        if excuse is None:
            found.failed.append(self._failure(run))
        else:
            found.excuses[excuse] += 1

    def _failure(self, run: DagsterRun) -> str:
        """The run and everything that Dagster says of its end."""
        events = [event for _, event in self._events(run.run_id) if event.event_type.name in WORDS]
        said = [event.message or "" for event in events]
        said += [error.message.strip() for event in events for error in errors_of(event)]
        return f"{run.job_name} {run.run_id}: {' | '.join(said)}"

    def _lost_runs(self) -> Iterator[str]:
        for run in self._instance.get_runs():
            state = self._ledger.runs.state(run.run_id)
            if state not in ACCOUNTED:
                yield f"run {run.run_id} of {run.job_name} is {state or 'unknown'}"
            elif self._lacks_facts(run, state):
                yield f"run {run.run_id} of {run.job_name} has no facts of its definitions"

    def _lacks_facts(self, run: DagsterRun, state: str | None) -> bool:
        """Whether a run that had all the time for it did not store them."""
        is_whole = run.status is DagsterRunStatus.SUCCESS and state == "delivered"
        return is_whole and self._ledger.runs.definitions_of(run.run_id) is None

    def _lost_events(self) -> Iterator[str]:
        for trace in self._traces():
            documents = self._receiver.timeseries(trace.urn, trace.aspect)
            if not any(trace.fits(each) for each in documents):
                yield f"{trace.event}: {trace.urn} has no such {trace.aspect}"

    def _traces(self) -> Iterator[Trace]:
        for dagster_run in self._instance.get_runs():
            if self._ledger.runs.state(dagster_run.run_id) == "delivered":
                run = self._source.run(dagster_run.run_id)
                assert run is not None
                yield from _traces_of_run(run, list(self._events(run.run_id)))
        for time, event in self._events(""):
            yield from _traces_of_asset("", event, time)

    def _events(self, run_id: str) -> Iterator[tuple[float, DagsterEvent]]:
        """As Dagster itself reads them."""
        for entry in self._instance.all_logs(run_id):
            if entry.dagster_event is not None:
                yield entry.timestamp, entry.dagster_event


def _traces_of_run(run: Run, events: list[tuple[float, DagsterEvent]]) -> Iterator[Trace]:
    ends = [time for time, event in events if event.event_type.name in ENDS]
    if ends:
        yield _run_event(f"end of run {run.run_id}", urns.run_urn(run.run_id, CONTEXT), *ends)
    for time, event in events:
        name = event.event_type.name
        if name in STEPS and event.step_key:
            urn = urns.step_urn(run, event.step_key, CONTEXT)
            yield _run_event(f"{name} of {event.step_key} in run {run.run_id}", urn, time)
        else:
            yield from _traces_of_asset(run.run_id, event, time)


def _run_event(event: str, urn: str, *times: float) -> Trace:
    stamps = {_stamp(each) for each in times}
    return Trace(
        event, urn, "dataProcessInstanceRunEvent", lambda each: each["timestampMillis"] in stamps
    )


def _traces_of_asset(run_id: str, event: DagsterEvent, time: float) -> Iterator[Trace]:
    said: Any = event.event_specific_data
    if event.event_type.name == "ASSET_MATERIALIZATION":
        made = said.materialization
        urn = urns.asset_urn(tuple(made.asset_key.path), CONTEXT)
        text = f"materialisation of {made.asset_key.to_user_string()} in run {run_id or '-'}"
        yield Trace(text, urn, "operation", _operation(run_id, made.partition, time))
    elif event.event_type.name == "ASSET_CHECK_EVALUATION":
        urn = assertion_urn(CheckKey(tuple(said.asset_key.path), said.check_name), CONTEXT)
        yield Trace(
            f"result of the check {said.check_name} in run {run_id or '-'}",
            urn,
            "assertionRunEvent",
            lambda each: each["timestampMillis"] == _stamp(time),
        )


def _operation(run_id: str, partition: str | None, time: float) -> Callable[[Document], bool]:
    """One operation stands for all partitions of a run, from its first to its last."""

    def fits(each: Document) -> bool:
        facts = each.get("customProperties") or {}
        named = facts.get("partitions", "").split(", ")
        is_within = each["timestampMillis"] <= _stamp(time) <= each["lastUpdatedTimestamp"]
        is_ours = facts.get("run_id", "") == run_id
        return is_ours and is_within and (partition is None or partition in named)

    return fits


def _stamp(time: float) -> int:
    return int(time * 1000)
