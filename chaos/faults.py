"""What goes wrong, and when: decided by a seed."""

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

from stage import LOCATION, Stage, kill

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
"""How often each is launched, in proportion."""
BROKEN = "failing"
"""The job that fails on purpose."""
PARTITIONED = frozenset({"chain", "chain_in_processes"})
UNFINISHED = 4
"""Runs that go on at the same time."""
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
REASON = 200
"""Letters of it are enough."""
CALM = 40.0
"""Seconds between two ends of Postgres: Dagster itself needs them to go on."""


@dataclass
class Tally:
    """What was done."""

    launched: dict[str, str] = field(default_factory=dict)
    """The jobs of the runs, by their ids."""
    killed: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    canceled: set[str] = field(default_factory=set)
    retried: int = 0
    """Failed runs that were executed again."""
    reported: int = 0
    """Materialisations that were reported without a run."""
    hit: dict[int, float] = field(default_factory=dict)
    """When the processes of runs were hit, themselves or in one of their steps."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """From when to when Postgres was away."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that Dagster itself could not serve, and why."""


class Faults:
    """Launches runs, and gets into their way."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._random = random.Random(seed)
        self._fault_ends: float | None = None
        self._postgres_back: float | None = None
        self._last_outage = time.time()
        self._asking = ThreadPoolExecutor(UNFINISHED)
        self._asked: list[Future[None]] = []
        self._launches = 0
        """Those whose answer came too late included."""
        self._again: set[str] = set()
        """What was executed again."""
        self.tally = Tally()

    def go_on(self) -> None:
        """Do the next thing."""
        self._end_what_is_over()
        if self._postgres_back is not None:
            return
        self._stage.keep_up()
        self._launch()
        self._random.choice(self._tricks())()

    def pause(self) -> float:
        """Seconds until the next thing."""
        return self._random.uniform(0.3, 2.0)

    def calm_down(self) -> None:
        """End all faults."""
        if self._postgres_back is not None:
            self._start_postgres()
        self._asking.shutdown()
        self._stage.mend()
        self._stage.keep_up()

    def _tricks(self) -> list[Callable[[], None]]:
        tricks = [self._kill_run, self._kill_step, self._kill_step, self._kill_dispatcher]
        tricks += [self._begin_fault] * 3 + [self._cancel, self._report, self._nothing]
        tricks += [self._retry]
        is_calm = time.time() - self._last_outage > CALM
        return [*tricks, *[self._kill_postgres] * 3] if self._stage.postgres and is_calm else tricks

    def _nothing(self) -> None:
        """Not everything goes wrong all the time."""

    def _launch(self) -> None:
        self._asked = [each for each in self._asked if not each.done()]
        if len(self._stage.workers()[0]) + len(self._asked) >= UNFINISHED:
            return
        job = self._random.choices(list(JOBS), list(JOBS.values()))[0]
        day = self._random.choice(("mon", "tue", "wed"))
        tags = {"dagster/partition": day} if job in PARTITIONED else {}

        self._launches += 1

        def ask() -> None:
            run_id = self._stage.deployment.launch(LOCATION, job, **tags)
            self.tally.launched[run_id] = job

        self._ask(ask)

    def _ask(self, question: Callable[[], None]) -> None:
        """Ask Dagster's webserver in another thread: it is slow, and may have no database."""
        self._asked.append(self._asking.submit(self._try, question))

    def _try(self, question: Callable[[], None]) -> None:
        try:
            question()
        except (AssertionError, OSError, HTTPException) as error:
            body = error.read().decode() if isinstance(error, HTTPError) else ""
            self.tally.refused[f"{type(error).__name__} {error} {body}"[:REASON]] += 1

    def _kill_run(self) -> None:
        if self._is_turn_of("run workers"):
            self._kill("run workers", dict.fromkeys(self._stage.workers()[0]))

    def _kill_step(self) -> None:
        if self._is_turn_of("step workers"):
            self._kill("step workers", self._stage.workers()[1])

    def _kill_dispatcher(self) -> None:
        if self._is_turn_of("dispatchers"):
            pids = [each.pid for each in self._stage.dispatchers.values()]
            self._kill("dispatchers", dict.fromkeys(pids))

    def _is_turn_of(self, kind: str) -> bool:
        """At most once in three runs: on a slow machine nothing would come to its end else."""
        return 3 * self.tally.killed[kind] < self._launches

    def _kill(self, kind: str, pids: Mapping[int, int | None]) -> None:
        """Kill one of the processes; a step's has its run's beside it, which is hit as well."""
        if not pids:
            return
        pid = self._random.choice(sorted(pids))
        if kill(pid):
            self.tally.killed[kind] += 1
            if kind != "dispatchers":
                self.tally.hit[pids[pid] or pid] = time.time()

    def _kill_postgres(self) -> None:
        assert self._stage.postgres is not None
        self._last_outage = time.time()
        self._stage.postgres.kill()
        self.tally.killed["Postgres"] += 1
        self._postgres_back = time.time() + self._random.uniform(0.5, 4)

    def _start_postgres(self) -> None:
        assert self._stage.postgres is not None
        self._stage.postgres.start()
        self.tally.outages.append((self._last_outage, time.time()))
        self._last_outage = time.time()
        self._postgres_back = None

    def _begin_fault(self) -> None:
        if self._fault_ends is not None:
            return
        kind, options = self._random.choice(FAULTS)
        self.tally.faults[" ".join([kind, *map(str, options.values())])] += 1
        if kind == "refuse":
            self._stage.receiver.refuse()
        elif kind == "token":
            self._stage.receiver.token = "another"
        else:
            self._stage.receiver.fault(kind, **options)
        self._fault_ends = time.time() + self._random.uniform(2, 8)

    def _end_what_is_over(self) -> None:
        now = time.time()
        if self._postgres_back is not None and now >= self._postgres_back:
            self._start_postgres()
        if self._fault_ends is not None and now >= self._fault_ends:
            self._stage.mend()
            self._fault_ends = None

    def _cancel(self) -> None:
        launched = list(self.tally.launched.items())
        lingering = [run_id for run_id, job in launched if job == "lingering"]
        if lingering:
            self.tally.canceled.add(lingering[-1])
            self._ask(lambda: self._stage.deployment.terminate(lingering[-1]))

    def _retry(self) -> None:
        """Execute again, from its failed step on, a job that is broken on purpose."""
        launched = list(self.tally.launched.items())
        broken = [run_id for run_id, job in launched if job == BROKEN and run_id not in self._again]
        if not broken:
            return
        self._again.add(broken[0])

        def ask() -> None:
            run_id = self._stage.reexecute(broken[0])
            self.tally.launched[run_id] = BROKEN
            self.tally.retried += 1

        self._ask(ask)

    def _report(self) -> None:
        asset = f"outside_{self._random.randrange(3)}"

        def ask() -> None:
            self._stage.report(asset)
            self.tally.reported += 1

        self._ask(ask)
