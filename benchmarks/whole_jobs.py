"""What a whole `dagster job execute` takes, with all the processes that it starts."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.pairs import Cost, Pair

JOB = Path(__file__).with_name("twenty_steps.py")


def pairs(
    python: Path, plain: Mapping[str, str], other: Mapping[str, str], *, count: int
) -> Iterator[Pair]:
    """Execute the job under `plain` and under `other`, both at the same time, again and again.

    How fast a machine is drifts by more, within a minute, than what is looked for. Side by side it
    is as fast for both: each executes a step at a time, so that two processors are enough.
    """
    with ThreadPoolExecutor(2) as pool:
        for _ in range(count):
            begun = [pool.submit(_executed, python, environment) for environment in (plain, other)]
            yield Pair(*(future.result() for future in begun))


def _executed(python: Path, environment: Mapping[str, str]) -> Cost:
    wall = time.perf_counter()
    process = subprocess.Popen(
        [str(python), "-m", "dagster", "job", "execute", "-f", str(JOB), "-j", "twenty"],
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    # The processor seconds of all children that it waited for are among its own.
    return Cost(time.perf_counter() - wall, used.ru_utime + used.ru_stime)
