"""Launches runs and injects faults, in an order that a seed decides."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from chaos.system import LOCATION, System, kill

JOBS: Mapping[str, int] = {
    "stepping": 3,
    "succeeding": 2,
    "failing": 2,
    "retrying": 2,
    "lingering": 3,
    "fanning": 1,
    "landing": 2,
    "chain": 4,
    "chain_in_processes": 2,
}
"""The weight of each job when one is chosen to be launched."""
FAILING_JOB = "failing"
"""The job that fails on purpose."""
PARTITIONED = frozenset({"chain", "chain_in_processes"})
CONCURRENT_RUNS = 4
FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status", {"status": 503}),
    ("status", {"status": 429, "retry_after": 1}),
    ("status", {"status": 500}),
    ("hang", {"when": "before"}),
    ("hang", {"when": "after"}),
    ("slow", {"seconds": 1}),
    ("cut", {"when": "before"}),
    ("cut", {"when": "after"}),
    ("cut", {"when": "within"}),
    ("html", {}),
    ("refuse", {}),
    ("token", {}),
)
REASON_LENGTH = 200
"""Characters of an error that are kept."""
OUTAGE_INTERVAL_SECONDS = 40.0
"""Seconds between two outages of Postgres. Dagster itself needs them to recover."""


@dataclass
class Tally:
    """Counts of what the program did."""

    launched: dict[str, str] = field(default_factory=dict)
    """The job of each run, by its id."""
    killed: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    canceled: set[str] = field(default_factory=set)
    retried: int = 0
    """Failed runs that were re-executed."""
    reported: int = 0
    """Materialisations that were reported without a run."""
    killed_at: dict[int, float] = field(default_factory=dict)
    """When a run's process, or one of its steps', was killed, by the process id of the run."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of each outage of Postgres."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that Dagster did not serve, by the error."""


class Faults:
    """Launches runs and disturbs them."""

    def __init__(self, system: System, seed: int) -> None:
        self._system = system
        self._random = random.Random(seed)
        self._fault_ends: float | None = None
        self._postgres_back: float | None = None
        self._last_outage = time.time()
        self._executor = ThreadPoolExecutor(CONCURRENT_RUNS)
        self._requests: list[Future[None]] = []
        self._launches = 0
        """Launches so far, including those whose answer came too late."""
        self._reexecuted: set[str] = set()
        self.tally = Tally()

    def step(self) -> None:
        """Launch a run if there is room, and inject a random fault."""
        self._end_faults()
        if self._postgres_back is not None:
            return
        self._system.restart_ended()
        self._launch()
        self._random.choice(self._actions())()

    def pause(self) -> float:
        """Seconds until the next step."""
        return self._random.uniform(0.3, 2.0)

    def stop(self) -> None:
        """End all faults."""
        if self._postgres_back is not None:
            self._start_postgres()
        self._executor.shutdown()
        self._system.clear_faults()
        self._system.restart_ended()

    def _actions(self) -> list[Callable[[], None]]:
        actions = [self._kill_run, self._kill_step, self._kill_step, self._kill_dispatcher]
        actions += [self._begin_fault] * 3 + [self._cancel, self._report, self._do_nothing]
        actions += [self._retry]
        may_end = time.time() - self._last_outage > OUTAGE_INTERVAL_SECONDS
        if self._system.postgres and may_end:
            actions += [self._kill_postgres] * 3
        return actions

    def _do_nothing(self) -> None:
        pass

    def _launch(self) -> None:
        self._requests = [request for request in self._requests if not request.done()]
        if len(self._system.workers()[0]) + len(self._requests) >= CONCURRENT_RUNS:
            return
        job = self._random.choices(list(JOBS), list(JOBS.values()))[0]
        day = self._random.choice(("mon", "tue", "wed"))
        tags = {"dagster/partition": day} if job in PARTITIONED else {}

        self._launches += 1

        def request() -> None:
            run_id = self._system.deployment.launch(LOCATION, job, **tags)
            self.tally.launched[run_id] = job

        self._send(request)

    def _send(self, request: Callable[[], None]) -> None:
        """Send it to Dagster's webserver in another thread, since the answer can take long."""
        self._requests.append(self._executor.submit(self._try, request))

    def _try(self, request: Callable[[], None]) -> None:
        try:
            request()
        except (AssertionError, OSError, HTTPException) as error:
            body = error.read().decode() if isinstance(error, HTTPError) else ""
            self.tally.refused[f"{type(error).__name__} {error} {body}"[:REASON_LENGTH]] += 1

    def _kill_run(self) -> None:
        if self._is_turn_of("run workers"):
            self._kill("run workers", dict.fromkeys(self._system.workers()[0]))

    def _kill_step(self) -> None:
        if self._is_turn_of("step workers"):
            self._kill("step workers", self._system.workers()[1])

    def _kill_dispatcher(self) -> None:
        if self._is_turn_of("dispatchers"):
            pids = [process.pid for process in self._system.dispatchers.values()]
            self._kill("dispatchers", dict.fromkeys(pids))

    def _is_turn_of(self, kind: str) -> bool:
        """Whether there were fewer than one kill in three runs; with more, few runs would end."""
        return 3 * self.tally.killed[kind] < self._launches

    def _kill(self, kind: str, pids: Mapping[int, int | None]) -> None:
        """Kill one of the processes. The values are the processes of the steps' runs."""
        if not pids:
            return
        pid = self._random.choice(sorted(pids))
        if kill(pid):
            self.tally.killed[kind] += 1
            if kind != "dispatchers":
                self.tally.killed_at[pids[pid] or pid] = time.time()

    def _kill_postgres(self) -> None:
        assert self._system.postgres is not None
        self._last_outage = time.time()
        self._system.postgres.kill()
        self.tally.killed["Postgres"] += 1
        self._postgres_back = time.time() + self._random.uniform(0.5, 4)

    def _start_postgres(self) -> None:
        assert self._system.postgres is not None
        self._system.postgres.start()
        self.tally.outages.append((self._last_outage, time.time()))
        self._last_outage = time.time()
        self._postgres_back = None

    def _begin_fault(self) -> None:
        if self._fault_ends is not None:
            return
        kind, options = self._random.choice(FAULTS)
        self.tally.faults[" ".join([kind, *map(str, options.values())])] += 1
        if kind == "refuse":
            self._system.receiver.refuse()
        elif kind == "token":
            self._system.receiver.token = "another"
        else:
            self._system.receiver.fault(kind, **options)
        self._fault_ends = time.time() + self._random.uniform(2, 8)

    def _end_faults(self) -> None:
        now = time.time()
        if self._postgres_back is not None and now >= self._postgres_back:
            self._start_postgres()
        if self._fault_ends is not None and now >= self._fault_ends:
            self._system.clear_faults()
            self._fault_ends = None

    def _cancel(self) -> None:
        launched = list(self.tally.launched.items())
        lingering = [run_id for run_id, job in launched if job == "lingering"]
        if lingering:
            self.tally.canceled.add(lingering[-1])
            self._send(lambda: self._system.deployment.terminate(lingering[-1]))

    def _retry(self) -> None:
        """Re-execute a run that failed on purpose, from its failed step."""
        launched = list(self.tally.launched.items())
        failing = [run_id for run_id, job in launched if job == FAILING_JOB]
        parent = next((run_id for run_id in failing if run_id not in self._reexecuted), None)
        if parent is None:
            return
        self._reexecuted.add(parent)

        def request() -> None:
            run_id = self._system.reexecute(parent)
            self.tally.launched[run_id] = FAILING_JOB
            self.tally.retried += 1

        self._send(request)

    def _report(self) -> None:
        asset = f"outside_{self._random.randrange(3)}"

        def request() -> None:
            self._system.report(asset)
            self.tally.reported += 1

        self._send(request)
