"""What `verify` costs, beside the delivery of the same runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import Environment, Worker
from benchmarks.histories import Template, ten_steps
from benchmarks.rows import Row

AS_FAST = 1.0
ENTITIES = 100
POLL_SECONDS = 0.1
FLAT = 100.0
"""MB above a process that has nothing to compare."""


@dataclass
class Verified:
    """Delivered runs of ten steps, and their comparison with what the endpoint holds."""

    environment: Environment
    runs: int

    def rows(self) -> Iterator[Row]:
        """The rate, the requests and the memory."""
        environment = self.environment
        template = Template.of(environment.instance, environment.ledger, ten_steps)
        environment.wipe()
        environment.endpoint.reset(hold=True)
        idle = self._verify()
        template.repeat(environment.instance, environment.ledger, self.runs)
        environment.age()
        delivery = self._deliver()
        run = self._verify()
        found, seconds = run.found, run.seconds - idle.seconds
        assert (found["missing"], found["differs"]) == (0, 0), found
        assert found["runs"]["compared"] == self.runs
        rate, delivered = 60 * self.runs / seconds, 60 * self.runs / delivery
        name = f"verify, {self.runs} delivered runs of 10 steps"
        yield Row(
            f"{name}: runs a minute, over those that are delivered",
            ours=f"{rate:.0f} / {delivered:.0f} = {rate / delivered:.2f}",
            goal=f"at least {AS_FAST:g}",
            is_met=rate >= AS_FAST * delivered,
        )
        entities = found["entities"] / max(1, environment.endpoint.reads())
        yield Row(
            f"{name}: entities a request",
            ours=f"{entities:.0f}",
            goal=f"at least {ENTITIES}",
            is_met=entities >= ENTITIES,
        )
        yield Row(
            f"{name}: MB above one that has nothing to compare",
            ours=f"{run.most - idle.most:.0f} (of {run.most:.0f})",
            goal=f"at most {FLAT:g}",
            is_met=run.most - idle.most <= FLAT,
        )

    def _deliver(self) -> float:
        """Seconds from the first request to the last."""
        self.environment.worker("--until-empty").wait()
        times = self.environment.endpoint.times()
        return times[-1] - times[0]

    def _verify(self) -> _Run:
        """Compare everything, in a process of its own."""
        deployment = self.environment.deployment
        begun, log = time.monotonic(), f"verify-{time.monotonic_ns()}.json"
        process = deployment.start("datahub_eventlog.cli", "verify", "--json", log=log)
        worker, most = Worker(process.pid, process.wait), 0.0
        while process.poll() is None:
            most = max(most, worker.memory("VmHWM"))
            time.sleep(POLL_SECONDS)
        return _Run(json.loads(deployment.log(log)), time.monotonic() - begun, most)


@dataclass(frozen=True)
class _Run:
    """A run of `verify`: what it said, how long it took, and its memory in MB."""

    found: Any
    seconds: float
    most: float
