"""Compares Dagster's event log with what DataHub has received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dagster import DagsterEvent, DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.storage.dagster_run import RunRecord
from receiver import Receiver
from undisturbed import differences, undisturbed

from chaos.failures import errors_of, external_cause, failed
from chaos.faults import Tally
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.source import Source
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.asset_checks import assertion_urn
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CheckKey, Run

Document: TypeAlias = Mapping[str, Any]
FINAL_STATES = frozenset({"delivered", "parked", "filtered"})
STEPS = frozenset({"STEP_START", "STEP_SUCCESS", "STEP_FAILURE", "STEP_UP_FOR_RETRY"})
ENDS = frozenset({"RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED"})
FAILURE_EVENTS = frozenset({"RUN_FAILURE", "STEP_FAILURE", "ENGINE_EVENT"})
UNFINISHED = [
    status
    for status in DagsterRunStatus
    if status.name not in {"SUCCESS", "FAILURE", "CANCELED", "MANAGED"}
]
CONTEXT = Context()


@dataclass(frozen=True)
class ExpectedDocument:
    """A document that DataHub must have because of one event."""

    event: str
    """A description of the event."""
    urn: str
    aspect: str
    matches: Callable[[Document], bool] = field(repr=False, compare=False)


@dataclass
class Report:
    """The result of an audit."""

    runs: int = 0
    events: int = 0
    states: Counter[str] = field(default_factory=Counter)
    external_causes: Counter[str] = field(default_factory=Counter)
    """Failed runs by their cause, where it is not this package."""
    lost: list[str] = field(default_factory=list)
    """Runs without a final state or without the facts of their definitions, and events without
    their document."""
    differing: list[str] = field(default_factory=list)
    """Aspects that differ from those of an undisturbed delivery."""
    failed: list[str] = field(default_factory=list)
    """Runs whose failure has no external cause."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is lost, nothing differs, and no run failed because of this package."""
        return not (self.lost or self.differing or self.failed)


class Audit:
    """Of one instance, its ledger and a DataHub."""

    def __init__(self, instance: DagsterInstance, ledger: Ledger, receiver: Receiver) -> None:
        self._instance = instance
        self._ledger = ledger
        self._receiver = receiver
        self._source = Source(instance)

    def lost(self) -> list[str]:
        """A line for each run and event of Dagster's that has not arrived."""
        return [*self._lost_runs(), *self._lost_events()]

    def report(self, tally: Tally) -> Report:
        """Audit every run and event. Call it when everything is delivered."""
        report = Report()
        for record in self._instance.get_run_records():
            report.runs += 1
            report.states[str(self._ledger.runs.state(record.dagster_run.run_id))] += 1
            if failed(record):
                self._add_failure(record, tally, report)
        report.events = sum(1 for _ in self._expected())
        report.lost = self.lost()
        expected = undisturbed(self._instance, self._ledger)
        report.differing = differences(self._receiver.state(), expected)
        return report

    def _add_failure(self, record: RunRecord, tally: Tally, report: Report) -> None:
        run = record.dagster_run
        cause = external_cause(tally, record, [event for _, event in self._events(run.run_id)])
        if cause is None:
            report.failed.append(self._describe_failure(run))
        else:
            report.external_causes[cause] += 1

    def _describe_failure(self, run: DagsterRun) -> str:
        """The run with all messages and errors of its failure events."""
        events = [
            event
            for _, event in self._events(run.run_id)
            if event.event_type.name in FAILURE_EVENTS
        ]
        texts = [event.message or "" for event in events]
        texts += [error.message.strip() for event in events for error in errors_of(event)]
        return f"{run.job_name} {run.run_id}: {' | '.join(texts)}"

    def _lost_runs(self) -> Iterator[str]:
        for run in self._instance.get_runs():
            state = self._ledger.runs.state(run.run_id)
            if state not in FINAL_STATES:
                yield f"run {run.run_id} of {run.job_name} is {state or 'unknown'}"
            elif self._lacks_facts(run, state):
                yield f"run {run.run_id} of {run.job_name} has no facts of its definitions"

    def _lacks_facts(self, run: DagsterRun, state: str | None) -> bool:
        """Whether a run that ended normally did not store the facts of its definitions."""
        is_whole = run.status is DagsterRunStatus.SUCCESS and state == "delivered"
        return is_whole and self._ledger.runs.definitions_of(run.run_id) is None

    def _lost_events(self) -> Iterator[str]:
        for expected in self._expected():
            documents = self._receiver.timeseries(expected.urn, expected.aspect)
            if not any(expected.matches(document) for document in documents):
                yield f"{expected.event}: {expected.urn} has no such {expected.aspect}"

    def _expected(self) -> Iterator[ExpectedDocument]:
        for dagster_run in self._instance.get_runs():
            if self._ledger.runs.state(dagster_run.run_id) == "delivered":
                run = self._source.run(dagster_run.run_id)
                assert run is not None
                yield from _expected_of_run(run, list(self._events(run.run_id)))
        for time, event in self._events(""):
            yield from _expected_of_asset("", event, time)

    def _events(self, run_id: str) -> Iterator[tuple[float, DagsterEvent]]:
        """The events with their times, as Dagster itself reads them."""
        for entry in self._instance.all_logs(run_id):
            if entry.dagster_event is not None:
                yield entry.timestamp, entry.dagster_event


def _expected_of_run(
    run: Run, events: list[tuple[float, DagsterEvent]]
) -> Iterator[ExpectedDocument]:
    ends = [time for time, event in events if event.event_type.name in ENDS]
    if ends:
        yield _run_event(f"end of run {run.run_id}", urns.run_urn(run.run_id, CONTEXT), *ends)
    for time, event in events:
        name = event.event_type.name
        if name in STEPS and event.step_key:
            urn = urns.step_urn(run, event.step_key, CONTEXT)
            yield _run_event(f"{name} of {event.step_key} in run {run.run_id}", urn, time)
        else:
            yield from _expected_of_asset(run.run_id, event, time)


def _run_event(event: str, urn: str, *times: float) -> ExpectedDocument:
    stamps = {_stamp(time) for time in times}
    return ExpectedDocument(
        event,
        urn,
        "dataProcessInstanceRunEvent",
        lambda document: document["timestampMillis"] in stamps,
    )


def _expected_of_asset(run_id: str, event: DagsterEvent, time: float) -> Iterator[ExpectedDocument]:
    data: Any = event.event_specific_data
    if event.event_type.name == "ASSET_MATERIALIZATION":
        made = data.materialization
        urn = urns.asset_urn(tuple(made.asset_key.path), CONTEXT)
        text = f"materialisation of {made.asset_key.to_user_string()} in run {run_id or '-'}"
        yield ExpectedDocument(text, urn, "operation", _operation(run_id, made.partition, time))
    elif event.event_type.name == "ASSET_CHECK_EVALUATION":
        urn = assertion_urn(CheckKey(tuple(data.asset_key.path), data.check_name), CONTEXT)
        yield ExpectedDocument(
            f"result of the check {data.check_name} in run {run_id or '-'}",
            urn,
            "assertionRunEvent",
            lambda document: document["timestampMillis"] == _stamp(time),
        )


def _operation(run_id: str, partition: str | None, time: float) -> Callable[[Document], bool]:
    """A test for the operation, which covers all partitions of a run from first to last event."""

    def matches(document: Document) -> bool:
        properties = document.get("customProperties") or {}
        partitions = properties.get("partitions", "").split(", ")
        is_within = document["timestampMillis"] <= _stamp(time) <= document["lastUpdatedTimestamp"]
        is_of_run = properties.get("run_id", "") == run_id
        return is_of_run and is_within and (partition is None or partition in partitions)

    return matches


def _stamp(time: float) -> int:
    return int(time * 1000)
