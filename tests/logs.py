"""Builders of run logs: small values, so that a test shows only what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from datahub_eventlog.values import (
    AssetFacts,
    AssetKey,
    CheckKey,
    Definitions,
    Event,
    EventData,
    Failure,
    Handled,
    Job,
    Loaded,
    Materialization,
    MaterializationFailure,
    Metadata,
    Metadatum,
    Op,
    Planned,
    Port,
    Run,
    RunLog,
    Step,
    StepOutput,
)

T0 = 1_700_000_000.0
"""The time of a log's first event; each later one comes a second after."""
RUN_ID = "0d9c8a04-2f0f-4b0f-9d50-6f1a51d0c0de"


def run(**changes: Any) -> Run:
    """A manual run of the job `sales`, whose record lags behind its events."""
    default = Run(
        run_id=RUN_ID,
        job_name="sales",
        status="STARTED",
        location="shop",
        repository="__repository__",
        module="shop.defs",
        job_snapshot_id="job-snapshot",
        plan_snapshot_id="plan-snapshot",
    )
    return replace(default, **changes)


def op(handle: str, *, inputs: Iterable[str] = (), outputs: Iterable[str] = ("result",)) -> Op:
    """An op node with such ports; an output whose name ends in `?` is optional."""
    return Op(
        handle=handle,
        name=handle.rsplit(".", 1)[-1],
        inputs=tuple(Port(each) for each in inputs),
        outputs=tuple(
            Port(each.rstrip("?"), is_required=not each.endswith("?")) for each in outputs
        ),
    )


def step(
    key: str,
    *upstream: str,
    asset: str | None = None,
    check: str | None = None,
    outputs: Mapping[str, str | None] | None = None,
) -> Step:
    """A planned step; assets are named as `a/b`, a check as `a/b:name`."""
    named = {"result": asset} if outputs is None else outputs
    made = [StepOutput(name, asset_key(each) if each else None) for name, each in named.items()]
    if check is not None:
        of, _, name = check.partition(":")
        made = [StepOutput("result", check=CheckKey(asset_key(of), name))]
    return Step(key, key.removesuffix("[?]"), tuple(sorted(upstream)), tuple(made))


def asset_key(text: str) -> AssetKey:
    """The key that is written `a/b`."""
    return tuple(text.split("/"))


def event(type: str, step_key: str | None = None, data: EventData | None = None) -> Event:  # noqa: A002
    """An event that gets its id and time from its place in the log."""
    return Event(storage_id=0, type=type, time=0.0, step_key=step_key, data=data)


def ran(key: str, *between: Event) -> tuple[Event, ...]:
    """A step that starts, has such events, and succeeds."""
    inner = (replace(each, step_key=key) for each in between)
    return event("STEP_START", key), *inner, event("STEP_SUCCESS", key)


def failed(key: str, *between: Event, message: str = "ValueError: no") -> tuple[Event, ...]:
    """A step that starts, has such events, and fails."""
    inner = (replace(each, step_key=key) for each in between)
    return event("STEP_START", key), *inner, event("STEP_FAILURE", key, Failure(message))


def wrote(path: str, output: str = "result") -> Event:
    """An output that an I/O manager stored at a path."""
    return event("HANDLED_OUTPUT", None, Handled(output, metadata={"path": path_of(path)}))


def yielded(output: str = "result") -> Event:
    """An output of which the I/O manager says nothing."""
    return event("HANDLED_OUTPUT", None, Handled(output))


def loaded(path: str, name: str = "x") -> Event:
    """An input that an I/O manager loaded from a path."""
    return event("LOADED_INPUT", None, Loaded(name, metadata={"path": path_of(path)}))


def materialized(key: str, **facts: Any) -> Event:
    """An asset, named as `a/b`, was materialised."""
    return event("ASSET_MATERIALIZATION", None, Materialization(asset_key(key), **facts))


def planned(key: str, partition: str | None = None) -> Event:
    """An asset, named as `a/b`, that the run is to make."""
    return event("ASSET_MATERIALIZATION_PLANNED", None, Planned(asset_key(key), None, partition))


def unmade(key: str, partition: str | None = None, **facts: Any) -> Event:
    """Dagster's own event that an asset, named as `a/b`, was not made."""
    data = MaterializationFailure(asset_key(key), partition, **facts)
    return event("ASSET_FAILED_TO_MATERIALIZE", None, data)


def text(value: str) -> Metadatum:
    return Metadatum("text", value)


def path_of(value: str) -> Metadatum:
    return Metadatum("path", value)


def json_of(value: Any) -> Metadatum:
    return Metadatum("json", value)


def declares(*urns: str, side: str = "inputs") -> Metadata:
    """Metadata that declares datasets: `datahub.inputs` or `datahub.outputs`."""
    return {f"datahub.{side}": json_of(list(urns))}


def facts(*assets: AssetFacts, **more: Any) -> Definitions:
    """Definitions with such assets."""
    return Definitions(assets={each.key: each for each in assets}, **more)


def asset_facts(key: str, *deps: str, **more: Any) -> AssetFacts:
    """The facts of an asset, it and its dependencies named as `a/b`."""
    return AssetFacts(asset_key(key), deps=tuple(asset_key(each) for each in deps), **more)


def succeeded(*events: Event) -> tuple[Event, ...]:
    """A run that starts, has such events, and succeeds."""
    return event("RUN_START"), *events, event("RUN_SUCCESS")


def broke(*events: Event, message: str = "ValueError: no") -> tuple[Event, ...]:
    """A run that starts, has such events, and fails."""
    failure = Failure(message, "STEP_FAILURE")
    return event("RUN_START"), *events, event("RUN_FAILURE", None, failure)


def log(
    *events: Event,
    ops: Iterable[Op] | None = None,
    steps: Iterable[Step] = (),
    definitions: Definitions | None = None,
    job: Job | None = None,
    run: Run | None = None,
) -> RunLog:
    """A run's log; the events get ids and times in their order, the job its ops from the steps."""
    this = run if run is not None else _RUN
    steps = tuple(sorted(steps, key=lambda each: each.key))
    nodes = [_op_of(each) for each in steps] if ops is None else list(ops)
    found = tuple(sorted(nodes, key=lambda each: each.handle))
    return RunLog(
        run=this,
        job=job or Job(this.job_name, ops=found),
        steps=steps,
        events=tuple(_placed(events)),
        definitions=definitions,
    )


def prefixes(whole: RunLog) -> Iterator[RunLog]:
    """The log as it was after each of its events."""
    for end in range(len(whole.events) + 1):
        yield replace(whole, events=whole.events[:end])


def _op_of(planned: Step) -> Op:
    return op(planned.handle, outputs=[each.name for each in planned.outputs])


def _placed(events: Iterable[Event]) -> Iterator[Event]:
    for index, each in enumerate(events):
        time = each.time or T0 + index
        yield replace(each, storage_id=each.storage_id or index + 1, time=time)


_RUN = run()
