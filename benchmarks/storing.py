"""Stores runs in two event logs side by side, and prints as JSON what each took.

    python benchmarks/storing.py PLAIN_HOME OTHER_HOME --events 1000 --pairs 30 [--drained]

Needs nothing but dagster, so that it measures in any virtual environment.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dagster as dg
from dagster._core.events import HandledOutputData, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._core.storage.dagster_run import DagsterRun, DagsterRunStatus
from dagster._core.storage.event_log.base import EventLogStorage

SLICE = 50
"""Events stored in one event log before it is the other's turn."""
DRAINED_WITHIN = 300.0
"""Seconds in which a dispatcher has delivered a run of the benchmark."""


def run_of(events: int, run_id: str) -> list[EventLogEntry]:
    """A run of that many events: of each step's, one is a materialisation, three are messages."""
    steps = _steps(run_id)
    inner = [next(steps) for _ in range(max(0, events - 2))]
    return [_event("RUN_START", run_id), *inner, _event("RUN_SUCCESS", run_id)]


def _steps(run_id: str) -> Iterator[EventLogEntry]:
    number = 0
    while True:
        key = f"step_{number:03}"
        asset = dg.AssetMaterialization(key, metadata={"rows": number, "path": f"/data/{key}"})
        yield _event("STEP_START", run_id, key)
        for line in range(3):
            yield _message(f"line {line} of {key}", run_id, key)
        yield _event("HANDLED_OUTPUT", run_id, key, HandledOutputData("result", "io_manager", {}))
        yield _event("ASSET_MATERIALIZATION", run_id, key, StepMaterializationData(asset))
        yield _event("STEP_SUCCESS", run_id, key, StepSuccessData(1.0))
        number += 1


def _event(kind: str, run_id: str, step: str | None = None, data: Any = None) -> EventLogEntry:
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType[kind].value,
        job_name="benchmark",
        step_key=step,
        event_specific_data=data,
    )
    return _message("", run_id, step, event)


def _message(
    text: str, run_id: str, step: str | None, event: dg.DagsterEvent | None = None
) -> EventLogEntry:
    return EventLogEntry(
        error_info=None,
        level=20,
        user_message=text,
        run_id=run_id,
        timestamp=time.time(),
        step_key=step,
        job_name="benchmark",
        dagster_event=event,
    )


@dataclass
class Storing:
    """A run on its way into an event log, and what that took so far."""

    storage: EventLogStorage
    left: Iterator[EventLogEntry]
    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def of(cls, instance: dg.DagsterInstance, events: int) -> Storing:
        """A new run, whose file is there already: that is Dagster's own affair."""
        run_id = str(uuid.uuid4())
        status = DagsterRunStatus.SUCCESS
        instance.add_run(DagsterRun(job_name="benchmark", run_id=run_id, status=status))
        storage = instance.event_log_storage
        storage.store_event(_message("first", run_id, None))
        return cls(storage, iter(run_of(events, run_id)))

    def go_on(self) -> bool:
        """Store the next slice; whether there was one."""
        entries = list(islice(self.left, SLICE))
        wall, cpu = time.perf_counter(), time.process_time()
        for entry in entries:
            self.storage.store_event(entry)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        return bool(entries)


def stored(instances: Mapping[str, dg.DagsterInstance], events: int) -> dict[str, Any]:
    """What it takes to store a new run in each, a slice here and a slice there in turn.

    So whatever else the machine does falls on all of them.
    """
    runs = {name: Storing.of(instance, events) for name, instance in instances.items()}
    order = list(runs.values())
    while sum(result.go_on() for result in order):
        order.reverse()
    return {name: {"wall": run.wall, "cpu": run.cpu} for name, run in runs.items()}


def drain(instance: dg.DagsterInstance) -> None:
    """Wait for the dispatcher, so that what it does for a run falls into no measurement."""
    from datahub_eventlog.ledger_location import ledger_of

    ledger = ledger_of(instance, patience=5)
    end = time.monotonic() + DRAINED_WITHIN
    while not ledger.leases.is_drained():
        if time.monotonic() > end:
            raise TimeoutError("the dispatcher does not deliver")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plain")
    parser.add_argument("other")
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--drained", action="store_true")
    options = parser.parse_args()
    with (
        dg.DagsterInstance.from_config(options.plain) as plain,
        dg.DagsterInstance.from_config(options.other) as other,
    ):
        sides = {"plain": plain, "other": other}
        stored(sides, 10)
        # A full collection is as long as a hundred events, most of it over what the imports made,
        # and falls on whichever side stores just then.
        gc.collect()
        gc.freeze()
        for _ in range(options.pairs):
            if options.drained:
                drain(other)
            print(json.dumps(stored(sides, options.events)))


if __name__ == "__main__":
    main()
