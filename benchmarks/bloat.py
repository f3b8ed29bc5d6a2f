"""What is left of rows that change all the time: Postgres keeps each version until it tidies up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from deployment import eventually
from sqlalchemy import text

from benchmarks.contention import own
from benchmarks.environment import Environment
from benchmarks.rows import Row
from datahub_eventlog.ledger import Ledger

LIVE = 10
"""Runs that go on at the same time."""
TOUCHES = 20
"""Of all of them, for each look that a dispatcher takes at one."""
TTL = timedelta(minutes=1)
GROWTH = 1.0
"""MB by which a ledger may grow, however often its rows change."""
HOT = 90.0
"""Percent of the touches' updates that must leave the indexes alone."""
TABLE = "datahub_eventlog_runs"


@dataclass(frozen=True)
class Seen:
    """What Postgres says of the table of runs."""

    size: int
    """Bytes, indexes included."""
    updates: int
    hot: int
    """Updates that left the indexes alone."""
    dead: int
    """Versions that nobody needs and that were not tidied up yet."""


@dataclass
class Change:
    """What a measurement did to the table."""

    before: Seen
    after: Seen | None = None

    @property
    def seen(self) -> Seen:
        """The differences; of the dead versions what there is."""
        assert self.after is not None
        old, new = self.before, self.after
        return Seen(new.size - old.size, new.updates - old.updates, new.hot - old.hot, new.dead)

    @property
    def grown(self) -> float:
        """MB."""
        return self.seen.size / 2**20

    @property
    def hot(self) -> float:
        """Percent."""
        return 100 * self.seen.hot / self.seen.updates

    def __str__(self) -> str:
        return f"{self.hot:.0f} % HOT, {self.grown:+.2f} MB, {self.seen.dead} dead versions"


@dataclass(frozen=True)
class Bloat:
    """Live runs beside what is in the ledger: one is touched all the time, then all are."""

    environment: Environment
    touches: int

    def rows(self) -> Iterator[Row]:
        """What touches alone leave, and touches with a dispatcher that looks at the runs."""
        run_ids = [f"live {number}" for number in range(LIVE)]
        for run_id in run_ids:
            self.environment.ledger.runs.touch(run_id)
        with self._changing(self.touches) as change, self._ledger() as ledger:
            for _ in range(self.touches):
                ledger.runs.touch(run_ids[0])
        yield Row(
            f"one row touched {self.touches} times",
            ours=str(change),
            goal=f"at least {HOT:g} % HOT, at most {GROWTH:+g} MB",
            is_met=change.hot >= HOT and change.grown <= GROWTH,
        )
        looks = self.touches // TOUCHES
        with self._changing(self.touches + 3 * looks) as change, self._ledger() as ledger:
            for number in range(self.touches):
                ledger.runs.touch(run_ids[number % LIVE])
                if number % TOUCHES == 0:
                    _look(ledger)
        yield Row(
            f"{LIVE} live runs touched {self.touches} times and looked at {looks} times",
            ours=str(change),
            goal=f"at most {GROWTH:+g} MB",
            is_met=change.grown <= GROWTH,
        )

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        with own(self.environment.engine.url) as engine:
            yield Ledger(engine.connect)

    @contextmanager
    def _changing(self, updates: int) -> Iterator[Change]:
        """What happens to the table meanwhile, with at least so many updates.

        Postgres counts a connection's updates a little later, at the latest when it ends.
        """
        change = Change(self._seen())
        yield change
        expected = change.before.updates + updates
        eventually(lambda: self._seen().updates >= expected, "Postgres has counted the updates")
        change.after = self._seen()

    def _seen(self) -> Seen:
        asked = text(
            "SELECT pg_total_relation_size(relid), n_tup_upd, n_tup_hot_upd, n_dead_tup "
            "FROM pg_stat_user_tables WHERE relname = :table"
        )
        with self.environment.engine.connect() as connection:
            return Seen(*connection.execute(asked, {"table": TABLE}).one())


def _look(ledger: Ledger) -> None:
    """What a dispatcher does with a live run that has nothing new to show."""
    for lease in ledger.leases.take("dispatcher", 1, TTL):
        ledger.leases.attempt(lease, TTL)
        ledger.leases.wait(lease, timedelta(seconds=5), "cursor")
