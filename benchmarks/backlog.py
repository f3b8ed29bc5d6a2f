"""What worker processes manage: from a run's end to DataHub, backlogs, and very large runs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from deployment import eventually

from benchmarks.environment import Environment, Worker
from benchmarks.histories import Template, one_step, ten_steps
from benchmarks.rows import Row
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context

SLOW = 0.02
"""Seconds of latency with which workers are compared."""
MEDIAN, P95 = 1.5, 3.0
FACTOR = 1.6
COMPARED = 300
"""Runs, at the most, with which workers are compared."""
FLAT = 60.0
"""MB after the first hundred runs."""
LARGE = 300.0
"""MB above an idle worker."""
DOUBLE = 2.2
STEADY = 0.8
"""The last fifth of a backlog against the first, in runs a second."""


@dataclass(frozen=True)
class Ended:
    """From a run's end until DataHub has it, with a worker that has nothing else to do."""

    environment: Environment
    runs: int

    def row(self) -> Row:
        """The median and the 95th percentile."""
        self.environment.forget()
        self.environment.endpoint.reset(keep=True)
        worker = self.environment.worker()
        eventually(self.environment.ledger.reports.dispatchers, "the worker is alive")
        waited = sorted(self._wait() for _ in range(self.runs))
        _end(self.environment, worker)
        median, late = statistics.median(waited), waited[math.ceil(0.95 * len(waited)) - 1]
        return Row(
            "from a run's end to complete in DataHub, dispatcher idle, seconds",
            ours=f"median {median:.2f}, p95 {late:.2f}",
            goal=f"at most {MEDIAN} and {P95}",
            is_met=median <= MEDIAN and late <= P95,
        )

    def _wait(self) -> float:
        run_id = one_step.execute_in_process(instance=self.environment.instance).run_id
        record = self.environment.instance.get_run_record_by_id(run_id)
        assert record is not None
        urn = urns.run_urn(run_id, Context())
        came: float = eventually(lambda: self._came(urn), "the run is complete")
        return came - (record.end_time or 0.0)

    def _came(self, urn: str) -> float | None:
        for write in self.environment.endpoint.writes():
            if urn in write.body and "COMPLETE" in write.body:
                return write.time
        return None


@dataclass
class Drained:
    """A backlog, and how it went away."""

    seconds: float
    """From the first request to the last."""
    times: Sequence[float]
    """Of the requests."""
    early: float = 0.0
    """MB of the worker after the first hundred runs."""
    most: float = 0.0


@dataclass
class Backlog:
    """Many finished runs of ten steps, before any worker starts."""

    environment: Environment
    runs: int
    template: Template = field(init=False)

    def rows(self) -> Iterator[Row]:
        """One worker without latency, then one and two with it."""
        self.template = Template.of(self.environment.instance, self.environment.ledger, ten_steps)
        self.environment.forget()
        yield from self._single()
        runs = min(self.runs, COMPARED)
        one, two = self._drain(SLOW, 1, runs), self._drain(SLOW, 2, runs)
        factor = one.seconds / two.seconds
        requests = " and ".join(f"{len(drained.times) / runs:.2f}" for drained in (one, two))
        yield Row(
            f"a backlog of {runs} runs at {1000 * SLOW:g} ms: a second worker's factor",
            ours=f"{factor:.2f} (requests a run: {requests})",
            goal=f"at least {FACTOR}",
            is_met=factor >= FACTOR,
        )

    def _single(self) -> Iterator[Row]:
        empty = self.environment.ledger_bytes()
        drained = self._drain(0.0, 1, self.runs)
        ledger = (self.environment.ledger_bytes() - empty) / self.runs
        name = f"a backlog of {self.runs} runs of 10 steps"
        yield Row(
            f"{name}: runs a minute, one worker", ours=f"{60 * self.runs / drained.seconds:.0f}"
        )
        pace = _pace(drained.times)
        yield Row(
            f"{name}: the last fifth's rate over the first's",
            ours=f"{pace:.2f}",
            goal=f"at least {STEADY}",
            is_met=pace >= STEADY,
        )
        grown = drained.most - drained.early
        yield Row(
            f"{name}: MB that the worker grows by after the first hundred",
            ours=f"{grown:.0f} (of {drained.most:.0f})",
            goal=f"at most {FLAT:g}",
            is_met=grown <= FLAT,
        )
        yield Row("bytes of ledger a run, indexes included", ours=f"{ledger:.0f}")

    def _drain(self, latency: float, workers: int, runs: int) -> Drained:
        environment = self.environment
        environment.wipe()
        self.template.repeat(environment.instance, environment.ledger, runs)
        environment.age()
        environment.endpoint.reset(latency)
        started = [environment.worker("--until-empty") for _ in range(workers)]
        drained = Drained(0.0, ())
        eventually(lambda: self._is_over(started, drained, runs), "the backlog is gone", 3600)
        for worker in started:
            worker.wait()
        drained.times = environment.endpoint.times()
        drained.seconds = drained.times[-1] - drained.times[0]
        return drained

    def _is_over(self, workers: Sequence[Worker], drained: Drained, runs: int) -> bool:
        """Watch it once; its memory counts from the hundredth run on."""
        requests = self.environment.endpoint.requests()
        memory = workers[0].memory()
        if requests < min(100, runs // 2) or not drained.early:
            drained.early = max(drained.early, memory)
        drained.most = max(drained.most, memory)
        return requests >= runs and self.environment.ledger.leases.is_drained()


def _pace(times: Sequence[float]) -> float:
    fifth = len(times) // 5
    first, last = times[fifth] - times[0], times[-1] - times[-1 - fifth]
    return first / last


@dataclass(frozen=True)
class Large:
    """A run of many asset events, and one of twice as many, by the same worker."""

    environment: Environment
    events: int

    def rows(self) -> Iterator[Row]:
        """Time and memory."""
        template = Template.of(self.environment.instance, self.environment.ledger, one_step)
        self.environment.forget()
        self.environment.endpoint.reset()
        worker = self.environment.worker()
        eventually(self.environment.ledger.reports.dispatchers, "the worker is alive")
        self._deliver(template)
        idle = worker.memory()
        first = self._deliver(template.with_assets(self.events))
        second = self._deliver(template.with_assets(2 * self.events))
        most = worker.memory("VmHWM") - idle
        _end(self.environment, worker)
        yield Row(
            f"a run of {self.events} and of {2 * self.events} asset events: seconds",
            ours=f"{first:.1f}, {second:.1f} ({second / first:.2f})",
            goal=f"at most {DOUBLE} times",
            is_met=second / first <= DOUBLE,
        )
        yield Row(
            f"a run of {2 * self.events} asset events: MB above the idle worker",
            ours=f"{most:.0f}",
            goal=f"at most {LARGE:g}",
            is_met=most <= LARGE,
        )

    def _deliver(self, template: Template) -> float:
        """From the moment when it is there to the last request."""
        (run_id,) = template.repeat(self.environment.instance, self.environment.ledger, 1)
        began = time.time()
        eventually(lambda: self._is_delivered(run_id), "the run is delivered", 3600)
        return self.environment.endpoint.times()[-1] - began

    def _is_delivered(self, run_id: str) -> bool:
        return self.environment.ledger.runs.state(run_id) == "delivered"


def _end(environment: Environment, worker: Worker) -> None:
    environment.deployment.stop()
    worker.wait()
