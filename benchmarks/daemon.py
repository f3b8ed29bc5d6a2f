"""What a dispatcher that is always busy costs the daemon in whose thread it runs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deployment import DEADLINE, eventually, postgres_yaml
from sqlalchemy import text

from benchmarks.environment import Environment
from benchmarks.histories import Template, ten_steps
from benchmarks.rows import Row
from benchmarks.schedules import SCHEDULES

RUNS = 100
"""Delivered again and again: whoever delivers them has always something to do."""
MORE = 1.0
"""Seconds by which the median lag may grow."""
MOST = 5.0
"""Seconds of lag at the 95th percentile."""
MINUTE = 60.0
LOCATION = Path(__file__).with_name("schedules.py")


@dataclass
class Side:
    """One way to deliver beside a daemon, and what was seen of the daemon."""

    dispatch: str
    """The option."""
    is_busy: bool
    has_worker: bool = False
    lags: list[float] = field(default_factory=list)
    """Seconds from the moment when a tick was due until it was evaluated."""
    requests: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"median {self.median:.2f}, p95 {self.late:.2f}"

    @property
    def median(self) -> float:
        """Of the lags."""
        return statistics.median(self.lags)

    @property
    def late(self) -> float:
        """The 95th percentile of the lags."""
        return sorted(self.lags)[math.ceil(0.95 * len(self.lags)) - 1]

    @property
    def rate(self) -> float:
        """Requests a minute."""
        return MINUTE * self.requests / self.seconds


@dataclass(frozen=True)
class Daemon:
    """Daemons in turn: one delivers nothing, one has a dispatcher that is never done."""

    environment: Environment
    minutes: int
    """In which the ticks of a daemon are looked at, at each of its turns."""
    turns: int
    has_third: bool
    """A daemon with a worker beside it shows what costs the machine and what the thread."""

    def rows(self) -> Iterator[Row]:
        """The lag of the ticks on all sides."""
        template = Template.of(self.environment.instance, self.environment.ledger, ten_steps)
        self.environment.forget()
        run_ids = template.repeat(self.environment.instance, self.environment.ledger, RUNS)
        without, busy = Side("worker", is_busy=False), Side("auto", is_busy=True)
        beside = Side("worker", is_busy=True, has_worker=True)
        for _ in range(self.turns):
            for side in (without, busy, beside)[: 2 + self.has_third]:
                self._watch(side, run_ids)
        others = f"without: {without}" + (f"; a worker: {beside}" if self.has_third else "")
        yield Row(
            f"lag of {SCHEDULES} schedules' ticks, the daemon's dispatcher busy, seconds",
            ours=f"{busy} ({others})",
            goal=f"median at most {MORE:g} more than without, p95 at most {MOST:g}",
            is_met=busy.median <= without.median + MORE and busy.late <= MOST,
        )
        workers = f"; a worker: {beside.rate:.0f}" if self.has_third else ""
        yield Row(
            "the same daemon: requests to DataHub a minute meanwhile",
            ours=f"{busy.rate:.0f} (without: {without.rate:.0f}{workers})",
            goal="some, and none",
            is_met=busy.requests > 0 and without.requests == 0,
        )

    def _watch(self, side: Side, run_ids: Sequence[str]) -> None:
        """Look at a daemon's ticks from the first minute on that begins while it is up."""
        work = run_ids if side.is_busy else ()
        self._start(side)
        self.environment.endpoint.reset()
        if side.is_busy:
            self._until(self.environment.endpoint.requests, work, "the dispatcher delivers")
        self.environment.endpoint.reset()
        began = time.time()
        due = MINUTE * (began // MINUTE + self.minutes)
        self._until(lambda: time.time() > due, work, "the last tick is due")
        self._until(lambda: self._is_evaluated(began), work, "the ticks are evaluated")
        side.requests += self.environment.endpoint.requests()
        side.seconds += time.time() - began
        side.lags += self._lags(began)
        self.environment.deployment.stop()

    def _until(self, condition: Callable[[], object], run_ids: Sequence[str], what: str) -> None:
        """Wait while the dispatcher is kept busy with these runs."""

        def is_true() -> bool:
            if self.environment.ledger.leases.is_drained() and run_ids:
                self.environment.ledger.runs.redeliver(run_ids, backfilled=True)
            return bool(condition())

        eventually(is_true, what, MINUTE * self.minutes + DEADLINE)

    def _start(self, side: Side) -> None:
        """Start it, with nothing to catch up with, and wait until it knows its schedules."""
        with self.environment.engine.begin() as connection:
            connection.execute(text("TRUNCATE job_ticks, instigators, jobs"))
        url = self.environment.engine.url.render_as_string(hide_password=False)
        client = {"server": self.environment.endpoint.url}
        deployment = self.environment.deployment
        deployment.write(
            postgres_yaml(url, {"datahub_client_config": client, "dispatch": side.dispatch})
        )
        deployment.start("dagster._daemon", "run", "-f", str(LOCATION), log="daemon.log")
        if side.has_worker:
            self.environment.worker()
        eventually(
            lambda: len(self.environment.instance.all_instigator_state()) == SCHEDULES,
            "the daemon knows its schedules",
        )

    def _is_evaluated(self, began: float) -> bool:
        """Whether all ticks since then are, asked in one small query."""
        counted = text(
            "SELECT count(*) FROM job_ticks WHERE status <> 'STARTED' "
            "AND timestamp AT TIME ZONE 'UTC' > to_timestamp(:began)"
        )
        with self.environment.engine.connect() as connection:
            count = connection.execute(counted, {"began": began}).scalar_one()
        return int(count) >= self.minutes * SCHEDULES

    def _lags(self, began: float) -> list[float]:
        instance = self.environment.instance
        ticks = [
            tick
            for schedule in instance.all_instigator_state()
            for tick in instance.get_ticks(
                schedule.instigator_origin_id, schedule.selector_id, None, began
            )
        ]
        return [one.end_timestamp - one.timestamp for one in ticks if one.end_timestamp]
