"""A ledger of many rows, many dispatchers that ask it for work, and runs that go on for long."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import create_engine, insert, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL, Engine
from statements import statements

from benchmarks.environment import Environment
from benchmarks.rows import Row
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger.dialects import instant
from datahub_eventlog.ledger.leases import due_runs
from datahub_eventlog.ledger.tables import runs

DUE = 100
"""One run in so many is due; the others are settled, as after some weeks."""
AT_ONCE = 10
"""Runs of one lease."""
POLL = 1.0
"""Seconds from one poll of a dispatcher to its next."""
TTL = timedelta(minutes=1)
SLOWER = 2.0
"""Times that a poll may take, against one of an empty ledger."""
INDEX = "datahub_eventlog_runs_due"


@dataclass
class Poller:
    """A dispatcher's polling."""

    ledger: Ledger
    name: str
    seconds: list[float] = field(default_factory=list)
    """What each poll took that found nothing."""
    run_ids: list[str] = field(default_factory=list)

    def poll(self) -> None:
        """Ask once, and settle what was found."""
        began = time.perf_counter()
        leases = self.ledger.leases.take(self.name, AT_ONCE, TTL)
        if not leases:
            self.seconds.append(time.perf_counter() - began)
        for lease in leases:
            self.ledger.leases.settle(lease, "delivered")
            self.run_ids.append(lease.run_id)

    def run(self, offset: float, interval: float, is_over: threading.Event) -> None:
        """Poll at these intervals until it is over."""
        is_over.wait(offset)
        while not is_over.is_set():
            self.poll()
            is_over.wait(interval)


@dataclass(frozen=True)
class Polled:
    """What some dispatchers saw together."""

    seconds: Sequence[float]
    """Of all polls that found nothing."""
    taken: Counter[str]
    """How often each run was delivered."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Contention:
    """Each dispatcher is a thread of this process with a connection of its own."""

    environment: Environment
    size: int
    dispatchers: int
    period: float

    def rows(self) -> Iterator[Row]:
        """What a poll takes, by which way it finds what is due, and who gets it."""
        self.environment.forget()
        empty = self._polled(1).median
        due = self._fill()
        taken = self._polled(self.dispatchers).taken
        with statements() as seen:
            crowd = self._polled(self.dispatchers)
        asked = len(seen) / len(crowd.seconds)
        alone = self._polled(1).median
        name = f"a ledger of {self.size} rows"
        times = f"{alone / empty:.2f} alone, {crowd.median / empty:.2f} among them"
        yield Row(
            f"{name}, {self.dispatchers} dispatchers: an idle poll, an empty ledger's being 1",
            ours=f"{times} (empty: {1000 * empty:.2f} ms)",
            goal=f"at most {SLOWER:g}",
            is_met=max(alone, crowd.median) <= SLOWER * empty,
        )
        yield self._plan(name)
        twice = sum(count > 1 for count in taken.values())
        yield Row(
            f"{self.dispatchers} dispatchers: of {due} runs delivered, delivered twice",
            ours=f"{len(taken)}, {twice} (then {asked:.2f} statements a poll)",
            goal=f"{due}, 0",
            is_met=len(taken) == due and not twice,
        )

    def _polled(self, count: int) -> Polled:
        """So many dispatchers for a while: together they ask as often as the crowd does."""
        is_over = threading.Event()
        interval = POLL * count / self.dispatchers
        with ExitStack() as stack:
            url = self.environment.engine.url
            ledgers = [Ledger(stack.enter_context(own(url)).connect) for _ in range(count)]
            pollers = [Poller(ledger, f"dispatcher {n}") for n, ledger in enumerate(ledgers)]
            threads = [
                threading.Thread(target=poller.run, args=(interval * n / count, interval, is_over))
                for n, poller in enumerate(pollers)
            ]
            for thread in threads:
                thread.start()
            is_over.wait(self.period)
            is_over.set()
            for thread in threads:
                thread.join()
        return Polled(
            [second for poller in pollers for second in poller.seconds],
            Counter(run_id for poller in pollers for run_id in poller.run_ids),
        )

    def _fill(self) -> int:
        """Fill the ledger; how many of its runs are due."""
        left = self._many()
        with self.environment.engine.begin() as connection:
            while rows := list(islice(left, 10_000)):
                connection.execute(insert(runs), rows)
        with self.environment.engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            connection.execute(text("VACUUM ANALYZE datahub_eventlog_runs"))
        return len(range(0, self.size, DUE))

    def _many(self) -> Iterator[dict[str, Any]]:
        now = time.time()
        for number in range(self.size):
            is_due = number % DUE == 0
            yield {
                "run_id": f"{number:08}-0000-4000-8000-000000000000",
                "state": "pending" if is_due else "delivered",
                "due": now if is_due else None,
                "settled": None if is_due else now,
                "backfilled": number % 2,
                "first_touch": now,
                "last_touch": now,
            }

    def _plan(self, name: str) -> Row:
        """How Postgres finds what is due, and how many pages it reads for that."""
        query = due_runs(instant(None), AT_ONCE).compile(
            dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
        )
        with self.environment.engine.connect() as connection:
            result = connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"))
            plan = result.scalar_one()[0]["Plan"]
        scans = list(_scans(plan))
        pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return Row(
            f"{name}: the lease query by its index, pages that it reads",
            ours=f"{', '.join(sorted(set(scans)))}: {pages}",
            goal=f"only {INDEX}",
            is_met=set(scans) == {INDEX},
        )


def _scans(plan: dict[str, Any]) -> Iterator[str]:
    """The indexes that a plan searches, and the tables that it reads from end to end."""
    below = plan.get("Plans", [])
    if "Index Name" in plan:
        yield plan["Index Name"]
    elif not below and plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for child in below:
        yield from _scans(child)


@contextmanager
def own(url: URL) -> Iterator[Engine]:
    """An engine with one connection, which is kept open as a dispatcher's is."""
    engine = create_engine(url, pool_size=1, max_overflow=0, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect():
            pass
        yield engine
    finally:
        engine.dispose()
