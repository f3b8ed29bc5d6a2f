"""What a whole `dagster job execute` takes, with all the processes that it starts."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from pairs import Cost, Pair

JOB = Path(__file__).with_name("twenty.py")


def pairs(python: Path, environments: Mapping[str, Mapping[str, str]], count: int) -> list[Pair]:
    """Execute the job under `plain` and under `other`, in turn."""
    found = []
    for number in range(count):
        order = sorted(environments, reverse=number % 2 == 1)
        costs = {name: _executed(python, environments[name]) for name in order}
        found.append(Pair(costs["plain"], costs["other"]))
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
