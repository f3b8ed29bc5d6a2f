"""What a whole `dagster job execute` takes, with all the processes that it starts."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from pairs import Cost, Pair

JOB = Path(__file__).with_name("twenty.py")


def pairs(
    python: Path, plain: Mapping[str, str], others: Mapping[str, Mapping[str, str]], count: int
) -> dict[str, list[Pair]]:
    """Execute the job under `plain` and under each of `others`, round after round.

    Each round begins with another one, so that what a run leaves behind (a delivery that goes on)
    falls on all of them.
    """
    order = [("", plain), *others.items()]
    found: dict[str, list[Pair]] = {name: [] for name in others}
    for _ in range(count):
        costs = {name: _executed(python, environment) for name, environment in order}
        for name, made in found.items():
            made.append(Pair(costs[""], costs[name]))
        order.append(order.pop(0))
    return found


def _executed(python: Path, environment: Mapping[str, str]) -> Cost:
    wall, cpu = time.perf_counter(), _children()
    subprocess.run(
        [str(python), "-m", "dagster", "job", "execute", "-f", str(JOB), "-j", "twenty"],
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return Cost(time.perf_counter() - wall, _children() - cpu)


def _children() -> float:
    """Processor seconds of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
