"""The ledger against a model of it, driven at random: no touch is lost, no lease doubled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from ledgers import Clock
from sqlalchemy import delete
from sqlalchemy.engine import Engine

from datahub_eventlog.errors import LeaseLost
from datahub_eventlog.ledger import Lease, Ledger, Outcome
from datahub_eventlog.ledger.tables import metadata

TTL = 60.0
RUNS = ("", "a")
"""Few: only what happens to the same run meets a bug."""
SETTLED = {"delivered", "filtered", "gone"}


@dataclass
class Row:
    """What the model believes of a run."""

    state: str
    due: float | None
    news: int = 0
    """Events, and requests for a delivery, that no settled delivery has covered."""
    token: str | None = None
    attempts: int = 0
    again: bool = False
    cursor: str | None = None
    """Empty if somebody wants everything read anew."""
    seen: dict[str, int] = field(default_factory=dict)
    """By token, the news when it was leased."""
    is_rejected: bool = False


class Machine(RuleBasedStateMachine):
    """Random verbs on a few runs, whose leases may be used late and more than once."""

    engine: Engine
    leases = Bundle[Lease]("leases")

    def __init__(self) -> None:
        super().__init__()
        with self.engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(delete(table))
        self.clock = Clock()
        self.ledger = Ledger(self.engine.connect, clock=self.clock)
        self.rows: dict[str, Row] = {}

    # Events

    @rule(run_id=st.sampled_from(RUNS))
    def touch(self, run_id: str) -> None:
        self.ledger.runs.touch(run_id)
        row = self.rows.setdefault(run_id, Row("pending", self.clock.time))
        row.news += 1
        if row.token is not None:
            row.state = "leased"
        elif row.state == "pending" and row.attempts:
            pass
        else:
            if row.state == "parked":
                row.attempts = 0
            row.state = "pending"
            row.due = min(self.clock.time, row.due if row.due is not None else self.clock.time)

    @rule(run_ids=st.lists(st.sampled_from(RUNS), unique=True), backfilled=st.booleans())
    def add(self, run_ids: list[str], *, backfilled: bool) -> None:
        absent = [run_id for run_id in run_ids if run_id not in self.rows]
        assert self.ledger.runs.add(run_ids, backfilled=backfilled) == absent
        for each in absent:
            self.rows[each] = Row("pending", self.clock.time, news=1)

    @rule(run_ids=st.lists(st.sampled_from(RUNS), unique=True))
    def redeliver(self, run_ids: list[str]) -> None:
        rows = [self.rows[run_id] for run_id in run_ids if run_id in self.rows]
        settled = [each for each in rows if each.state in {*SETTLED, "parked"}]
        assert self.ledger.runs.redeliver(run_ids, backfilled=False) == len(settled)
        for row in settled:
            self._wanted_again(row)

    @rule(run_id=st.sampled_from(RUNS))
    def reject(self, run_id: str) -> None:
        """Only so can a run be wanted again that is pending or leased."""
        if run_id in self.rows:
            self.ledger.reports.record_rejections(run_id, [("urn", "aspect", "reason")])
            self.rows[run_id].is_rejected = True

    @rule()
    def revive(self) -> None:
        rows = self.rows.values()
        wanted = [each for each in rows if each.state == "parked" or each.is_rejected]
        self.ledger.runs.revive()
        for row in wanted:
            self._wanted_again(row)

    def _wanted_again(self, row: Row) -> None:
        row.news += 1
        row.again = True
        row.cursor = ""
        row.attempts = 0
        if row.token is None:
            row.state, row.due = "pending", self.clock.time
        else:
            row.state = "leased"

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 61.0]))
    def wait_a_while(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # Leases

    @rule(target=leases)
    def lease(self) -> Lease | MultipleResults[Lease]:
        due = {each for each, row in self.rows.items() if self._is_due(row)}
        found = self.ledger.leases.take("test", 1, timedelta(seconds=TTL))
        if not due:
            assert found == []
            return multiple()
        (lease,) = found
        assert lease.run_id in due
        row = self.rows[lease.run_id]
        assert (lease.was, lease.attempts, lease.again) == (row.state, row.attempts, row.again)
        assert lease.cursor == row.cursor
        row.state = "delivered" if row.state == "delivered" else "leased"
        row.token, row.due = lease.token, self.clock.time + TTL
        row.seen = {lease.token: row.news}
        return lease

    def _is_due(self, row: Row) -> bool:
        return row.due is not None and row.due <= self.clock.time

    @contextmanager
    def _held(self, lease: Lease) -> Iterator[Row | None]:
        """The row, if the lease still counts; if not, the verb must say so."""
        row = self.rows.get(lease.run_id)
        if row is not None and row.token == lease.token:
            yield row
            return
        with pytest.raises(LeaseLost):
            yield None

    @rule(lease=leases)
    def extend(self, lease: Lease) -> None:
        with self._held(lease) as row:
            self.ledger.leases.extend(lease, timedelta(seconds=TTL))
            assert row is not None
            row.due = self.clock.time + TTL

    @rule(lease=leases)
    def attempt(self, lease: Lease) -> None:
        with self._held(lease) as row:
            self.ledger.leases.attempt(lease, timedelta(seconds=TTL))
            assert row is not None
            row.due, row.attempts = self.clock.time + TTL, lease.attempts + 1
            if row.seen[lease.token] == row.news:
                row.cursor = row.cursor or None

    @rule(
        lease=leases,
        outcome=st.sampled_from(["delivered", "filtered", "gone"]),
        look=st.sampled_from([None, 0.0, 15.0]),
        cursor=st.sampled_from([None, "1", "2"]),
    )
    def settle(
        self, lease: Lease, outcome: Outcome, look: float | None, cursor: str | None
    ) -> None:
        with self._held(lease) as row:
            look_again = None if look is None else timedelta(seconds=look)
            settled = self.ledger.leases.settle(
                lease, outcome, look_again=look_again, cursor=cursor
            )
            assert row is not None
            self._advance(row, lease, cursor)
            assert settled == (row.seen[lease.token] == row.news)
            if settled:
                row.state, row.news, row.again = outcome, 0, False
                row.due = None if look is None else self.clock.time + look
            else:
                row.state, row.due = "pending", self.clock.time
            row.attempts, row.token = 0, None

    def _advance(self, row: Row, lease: Lease, cursor: str | None) -> None:
        is_set_back = row.seen[lease.token] != row.news and row.cursor == ""
        if cursor is not None and not is_set_back:
            row.cursor = cursor

    @rule(
        lease=leases,
        delay=st.sampled_from([0.0, 30.0]),
        cursor=st.sampled_from([None, "1", "2"]),
    )
    def wait(self, lease: Lease, delay: float, cursor: str | None) -> None:
        with self._held(lease) as row:
            self.ledger.leases.wait(lease, timedelta(seconds=delay), cursor)
            assert row is not None
            self._advance(row, lease, cursor)
            has_news = row.seen[lease.token] != row.news
            # What was asked for before is done: all of the run was sent, as far as it goes.
            row.again = row.again and has_news
            row.due = self.clock.time + (0 if has_news else delay)
            row.state, row.attempts, row.token = "pending", 0, None
            row.news = max(row.news, 1)

    @rule(lease=leases, delay=st.sampled_from([0.0, 30.0]), counts=st.booleans())
    def defer(self, lease: Lease, delay: float, *, counts: bool) -> None:
        with self._held(lease) as row:
            self.ledger.leases.defer(lease, timedelta(seconds=delay), "bad", counts=counts)
            assert row is not None
            is_asked_for = row.attempts < lease.attempts
            row.attempts = min(row.attempts, lease.attempts) + counts
            row.due = self.clock.time + (0 if is_asked_for else delay)
            row.state, row.token = "pending", None
            row.news = max(row.news, 1)

    @rule(lease=leases)
    def park(self, lease: Lease) -> None:
        with self._held(lease) as row:
            parked = self.ledger.leases.park(lease, "bad")
            assert row is not None
            assert parked == (row.seen[lease.token] == row.news)
            if parked:
                row.state, row.due, row.attempts = "parked", None, lease.attempts
            else:
                row.state, row.due, row.attempts = "pending", self.clock.time, 0
            row.token = None

    @rule(lease=consumes(leases))
    def release(self, lease: Lease) -> None:
        with self._held(lease) as row:
            self.ledger.leases.release(lease)
            assert row is not None
            row.state = "pending" if row.state == "leased" else row.state
            row.due, row.token = self.clock.time, None
            row.attempts = min(row.attempts, lease.attempts)

    # What must hold after every step

    @invariant()
    def the_states_are_those_of_the_model(self) -> None:
        states = {run_id: row.state for run_id, row in self.rows.items()}
        assert self.ledger.runs.states(RUNS) == states

    @invariant()
    def no_news_is_settled(self) -> None:
        for row in self.rows.values():
            assert not (row.news and row.state in SETTLED)

    @invariant()
    def the_ledger_knows_whether_anything_is_left(self) -> None:
        left = [
            row
            for row in self.rows.values()
            if row.state == "leased" or (row.state == "pending" and self._is_due(row))
        ]
        assert self.ledger.leases.is_drained() == (not left)


def machine_on(engine: Engine) -> type[Machine]:
    class Here(Machine):
        pass

    Here.engine = engine
    Ledger(engine.connect).database.migrate()
    return Here


def test_a_redelivery_outlives_its_parking_and_a_stale_lease_until_it_is_done(
    engine: Engine,
) -> None:
    """What Hypothesis found once, shrunk."""
    machine = machine_on(engine)()
    machine.add(backfilled=True, run_ids=["", "a"])
    machine.redeliver(run_ids=[""])
    first = machine.lease()
    machine.attempt(lease=first)
    machine.park(lease=first)
    machine.redeliver(run_ids=[""])
    machine.attempt(lease=first)
    second = machine.lease()
    for _ in range(3):
        machine.attempt(lease=second)
    machine.wait(lease=second, delay=0.0, cursor=None)
    machine.lease()


def test_the_ledger_does_what_its_model_does(engine: Engine) -> None:
    run_state_machine_as_test(
        machine_on(engine),
        # As many examples as the profile says.
        settings=settings(
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
