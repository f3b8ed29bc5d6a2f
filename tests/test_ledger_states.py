"""Older never overwrites newer, whoever sends when, and nothing is sent for nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import permutations

import pytest
from ledgers import MINUTE, Clock, due, lease_of
from sqlalchemy import event
from sqlalchemy.engine import Engine

from datahub_eventlog.errors import LeaseLost
from datahub_eventlog.ledger import Claim, Lease, Ledger
from datahub_eventlog.ledger.claims import SQLITE_CLAIMS

DAY = timedelta(days=1)


def schema(time: float, content: str = "content", urn: str = "urn:li:dataset:a") -> Claim:
    return Claim(urn, "schemaMetadata", time, content)


def claim(ledger: Ledger, run_id: str, *claims: Claim) -> list[bool]:
    """What a delivery of that run may send, without sending it."""
    ledger.runs.touch(run_id)
    return ledger.claims.grant(lease_of(ledger, run_id), MINUTE, claims, resend_after=DAY)


def send(ledger: Ledger, run_id: str, *claims: Claim) -> list[bool]:
    """What a delivery of that run sends, from its lease to its end."""
    ledger.runs.touch(run_id)
    return finish(ledger, lease_of(ledger, run_id), *claims)


def finish(ledger: Ledger, lease: Lease, *claims: Claim) -> list[bool]:
    granted = ledger.claims.grant(lease, MINUTE, claims, resend_after=DAY)
    ledger.claims.confirm(
        lease, [each for each, grant in zip(claims, granted, strict=True) if grant]
    )
    ledger.leases.settle(lease, "delivered")
    return granted


def test_state_is_sent_once_and_again_when_it_changes(ledger: Ledger) -> None:
    assert send(ledger, "one", schema(1)) == [True]
    assert send(ledger, "one", schema(1)) == [False]
    assert send(ledger, "two", schema(2)) == [False]
    assert send(ledger, "three", schema(3, "changed")) == [True]


def test_older_state_is_not_sent(ledger: Ledger) -> None:
    send(ledger, "new", schema(2, "new"))
    assert send(ledger, "old", schema(1, "old")) == [False]
    assert send(ledger, "new", schema(2, "new")) == [False]


@pytest.mark.parametrize("order", list(permutations(["a", "b"])))
def test_of_two_states_of_one_moment_the_same_wins_in_any_order(
    ledger: Ledger, order: tuple[str, str]
) -> None:
    sent = {run_id: send(ledger, run_id, schema(1, run_id)) for run_id in order}
    assert sent["b"] == [True]
    assert send(ledger, "a", schema(1, "a")) == [False]


def test_unchanged_state_of_a_newer_run_holds_off_what_lies_between(ledger: Ledger) -> None:
    send(ledger, "one", schema(1))
    assert send(ledger, "three", schema(3)) == [False]
    assert send(ledger, "two", schema(2, "between")) == [False]


def test_unchanged_state_is_sent_again_after_a_while(ledger: Ledger, clock: Clock) -> None:
    send(ledger, "one", schema(1))
    clock.advance(DAY.total_seconds() - 1)
    assert send(ledger, "two", schema(2)) == [False]
    clock.advance(1)
    assert send(ledger, "three", schema(3)) == [True]


def test_unchanged_state_is_sent_by_a_run_that_is_wanted_again(ledger: Ledger) -> None:
    send(ledger, "one", schema(1))
    ledger.runs.redeliver(["one"], backfilled=False)
    assert finish(ledger, lease_of(ledger, "one"), schema(1)) == [True]
    send(ledger, "two", schema(2, "newer"))
    ledger.runs.redeliver(["one"], backfilled=False)
    assert finish(ledger, lease_of(ledger, "one"), schema(1)) == [False]


def test_state_that_nobody_confirmed_is_sent_again(ledger: Ledger) -> None:
    claim(ledger, "one", schema(1))
    assert send(ledger, "two", schema(2)) == [True]


def nothing(time: float) -> Claim:
    return Claim("urn:li:dataset:a", "schemaMetadata", time, "nothing", is_vacant=True)


def test_nothing_is_sent_only_over_something(ledger: Ledger, clock: Clock) -> None:
    assert send(ledger, "one", nothing(1)) == [False]
    assert send(ledger, "two", schema(2)) == [True]
    assert send(ledger, "three", nothing(3)) == [True]
    clock.advance(2 * DAY.total_seconds())
    assert send(ledger, "four", nothing(4)) == [False]


def test_nothing_that_was_not_sent_keeps_older_content_away(ledger: Ledger) -> None:
    assert send(ledger, "new", nothing(2)) == [False]
    assert send(ledger, "old", schema(1)) == [False]


def test_nothing_that_nobody_confirmed_is_sent_again(ledger: Ledger) -> None:
    send(ledger, "one", schema(1))
    assert claim(ledger, "two", nothing(2)) == [True]
    assert claim(ledger, "three", nothing(3)) == [True]


def test_nothing_is_sent_if_something_older_may_have_come_after_it(ledger: Ledger) -> None:
    ledger.runs.touch("old")
    old = lease_of(ledger, "old")
    ledger.claims.grant(old, MINUTE, [schema(1)], resend_after=DAY)
    assert send(ledger, "new", nothing(2)) == [True]
    ledger.claims.confirm(old, [schema(1)])
    assert due(ledger) == ["new"]
    assert send(ledger, "new", nothing(2)) == [True]


def test_slots_and_urns_do_not_touch_each_other(ledger: Ledger) -> None:
    send(ledger, "one", Claim("urn", "b", 9, "x"))
    others = (Claim("urn", "a", 1, "x"), Claim("urn\nb", "", 1, "x"), Claim("other", "b", 1, "x"))
    assert send(ledger, "two", *others) == [True, True, True]


def test_of_several_claims_for_one_slot_the_newest_is_sent(ledger: Ledger) -> None:
    claims = (schema(2, "older"), schema(3, "newer"), schema(1, "oldest"), schema(3, "last"))
    assert send(ledger, "one", *claims) == [False, False, False, True]


def test_no_claims_are_no_trouble(ledger: Ledger) -> None:
    assert send(ledger, "one") == []


def test_a_claim_extends_the_lease(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    clock.advance(59)
    ledger.claims.grant(lease, MINUTE, [schema(1)], resend_after=DAY)
    clock.advance(59)
    assert due(ledger) == []


def test_a_stale_lease_claims_nothing(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    stale = lease_of(ledger, "one")
    clock.advance(61)
    lease_of(ledger, "one")
    with pytest.raises(LeaseLost):
        ledger.claims.grant(stale, MINUTE, [schema(1, "stale")], resend_after=DAY)
    assert claim(ledger, "zero", schema(0, "older")) == [True]


def test_a_revived_run_sends_all_its_state(ledger: Ledger) -> None:
    send(ledger, "one", schema(1))
    ledger.reports.record_rejections("one", [("urn", "aspect", "reason")])
    ledger.runs.revive()
    assert finish(ledger, lease_of(ledger, "one"), schema(1)) == [True]


def test_runs_on_sqlite_wait_for_a_small_transaction_only(ledger: Ledger, engine: Engine) -> None:
    transactions: list[object] = []
    claims = [schema(1, "it", f"urn:{each}") for each in range(3 * SQLITE_CLAIMS + 1)]
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    ledger.database.dialect()
    event.listen(engine, "commit", transactions.append)
    granted = ledger.claims.grant(lease, MINUTE, claims, resend_after=DAY)
    assert granted == [True] * len(claims)
    assert len(transactions) >= (4 if engine.dialect.name == "sqlite" else 1)
    ledger.claims.confirm(lease, claims)
    assert len(transactions) >= (8 if engine.dialect.name == "sqlite" else 2)
    assert not any(ledger.claims.grant(lease, MINUTE, claims, resend_after=DAY))


def test_the_state_of_a_large_run_takes_few_statements(ledger: Ledger, engine: Engine) -> None:
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *each: statements.append(each[2]))
    claims = [schema(1, f"content {each}", f"urn:{each}") for each in range(200)]
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    statements.clear()
    assert all(ledger.claims.grant(lease, MINUTE, claims, resend_after=DAY))
    assert len(statements) == 3
    ledger.claims.confirm(lease, claims)
    assert len(statements) == 4
    assert not any(ledger.claims.grant(lease, MINUTE, claims, resend_after=DAY))
    assert len(statements) == 7


@dataclass
class World:
    """Some runs that all know a state of the same thing, and a DataHub that takes what comes."""

    ledger: Ledger
    claims: Mapping[str, Claim]
    datahub: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        for each in self.claims:
            self.ledger.runs.touch(each)

    def delivery(self, run_id: str) -> Iterator[None]:
        """The steps of a delivery; others may take theirs in between."""
        lease = lease_of(self.ledger, run_id)
        yield from self.delivery_of(lease)

    def delivery_of(self, lease: Lease) -> Iterator[None]:
        each = self.claims[lease.run_id]
        (granted,) = self.ledger.claims.grant(lease, MINUTE, [each], resend_after=DAY)
        yield
        if granted:
            self.datahub[each.urn] = each.hash
        yield
        if granted:
            self.ledger.claims.confirm(lease, [each])
        yield
        self.ledger.leases.settle(lease, "delivered")

    def drain(self) -> None:
        """Deliver until nothing is due."""
        while leases := self.ledger.leases.take("drain", 10, MINUTE):
            for lease in leases:
                for _ in self.delivery_of(lease):
                    pass

    @property
    def is_right(self) -> bool:
        newest = max(self.claims, key=lambda each: (self.claims[each].time, each))
        return self.datahub == {self.claims[newest].urn: self.claims[newest].hash}


def world(ledger: Ledger, name: str, contents: Sequence[str]) -> World:
    """A world of its own; the runs are in the order of their states' times."""
    claims = {
        f"{name} {time}": schema(time, content, f"urn:{name}")
        for time, content in enumerate(contents)
    }
    made = World(ledger, claims)
    made.begin()
    return made


def interleavings(*lengths: int) -> set[tuple[int, ...]]:
    """All orders in which so many steps of each of several can be taken."""
    if not any(lengths):
        return {()}
    return {
        (which, *rest)
        for which, length in enumerate(lengths)
        if length
        for rest in interleavings(*lengths[:which], length - 1, *lengths[which + 1 :])
    }


def play(world: World, order: Sequence[int]) -> None:
    """Take the steps of all deliveries in this order, those left over at the end."""
    deliveries = [world.delivery(each) for each in world.claims]
    for which in order:
        next(deliveries[which], None)


def test_the_newer_state_wins_whoever_takes_which_step_first(ledger: Ledger) -> None:
    for number, order in enumerate(sorted(interleavings(4, 4))):
        one = world(ledger, f"world {number}", ["old", "new"])
        play(one, order)
        one.drain()
        assert one.is_right, order


def test_the_newest_of_three_states_wins_whoever_takes_which_step_first(ledger: Ledger) -> None:
    chance = random.Random(1)
    for number in range(40):
        one = world(ledger, f"world {number}", chance.choice([["a", "b", "c"], ["a", "b", "a"]]))
        order = [0, 1, 2] * 4
        chance.shuffle(order)
        play(one, order)
        one.drain()
        assert one.is_right, order


def test_the_newer_state_wins_when_the_sender_of_the_older_dies(
    ledger: Ledger, clock: Clock
) -> None:
    for number, order in enumerate(sorted(interleavings(2, 4))):
        one = world(ledger, f"world {number}", ["old", "new"])
        play(one, order)
        clock.advance(61)
        one.drain()
        assert one.is_right, order


def test_the_newer_state_wins_when_nobody_knows_whether_the_older_arrived(
    ledger: Ledger,
) -> None:
    for number, order in enumerate(sorted(interleavings(2, 4))):
        one = world(ledger, f"world {number}", ["old", "new"])
        old, new = one.claims
        lease = lease_of(ledger, old)
        deliveries = [one.delivery_of(lease), one.delivery(new)]
        for which in order:
            next(deliveries[which], None)
        ledger.leases.release(lease)
        one.drain()
        assert one.is_right, order


def test_what_both_say_is_not_sent_once_more(ledger: Ledger) -> None:
    one = world(ledger, "world", ["same", "same"])
    play(one, [0, 1, 0, 1, 0, 1, 0, 1])
    assert due(ledger) == []


def test_a_newer_run_delivered_meanwhile_is_delivered_once_more(ledger: Ledger) -> None:
    one = world(ledger, "world", ["old", "new"])
    play(one, [0, 1, 1, 1, 1, 0, 0])
    assert one.datahub == {"urn:world": "old"}
    assert due(ledger) == ["world 1"]
    one.drain()
    assert one.is_right


def test_many_workers_at_once_end_in_the_newest_state(ledger: Ledger) -> None:
    contents = [f"content {number // 2}" for number in range(24)]
    one = world(ledger, "world", contents)
    shuffled = list(one.claims)
    random.Random(2).shuffle(shuffled)
    taken, lock = iter(shuffled), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                run_id = next(taken, None)
            if run_id is None:
                return
            for _ in one.delivery(run_id):
                pass

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(work) for _ in range(4)]:
            each.result()
    one.drain()
    assert one.is_right


def test_a_hung_sender_that_wakes_up_late_does_no_harm(ledger: Ledger, clock: Clock) -> None:
    old, new = schema(1, "old"), schema(2, "new")
    ledger.runs.touch("old")
    hung = lease_of(ledger, "old")
    ledger.claims.grant(hung, MINUTE, [old], resend_after=DAY)
    clock.advance(61)
    assert finish(ledger, lease_of(ledger, "old"), old) == [True]
    assert send(ledger, "new", new) == [True]
    ledger.claims.confirm(hung, [old])
    assert due(ledger) == ["new"]
    assert finish(ledger, lease_of(ledger, "new"), new) == [True]
