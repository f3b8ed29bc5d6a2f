"""What becomes of a run's row: touched, leased, and its delivery ended one way or the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from ledgers import MINUTE, Clock, due, lease_of
from sqlalchemy import select

from datahub_eventlog.errors import LeaseLost
from datahub_eventlog.ledger import Facts, Lease, Ledger
from datahub_eventlog.ledger.database import Connect
from datahub_eventlog.ledger.tables import runs

SECOND = timedelta(seconds=1)
ENDINGS: dict[str, Callable[[Ledger, Lease], Any]] = {
    "extend": lambda ledger, lease: ledger.leases.extend(lease, MINUTE),
    "attempt": lambda ledger, lease: ledger.leases.attempt(lease, MINUTE),
    "settle": lambda ledger, lease: ledger.leases.settle(lease, "delivered", cursor="new"),
    "wait": lambda ledger, lease: ledger.leases.wait(lease, MINUTE, "new"),
    "defer": lambda ledger, lease: ledger.leases.defer(lease, MINUTE, "error", counts=True),
    "park": lambda ledger, lease: ledger.leases.park(lease, "error"),
    "release": lambda ledger, lease: ledger.leases.release(lease),
    "claim": lambda ledger, lease: ledger.claims.grant(lease, MINUTE, [], resend_after=MINUTE),
}


def row(connect: Connect, run_id: str) -> Any:
    with connect() as connection:
        return connection.execute(select(runs).where(runs.c.run_id == run_id)).one()


def settled(ledger: Ledger, run_id: str) -> None:
    ledger.runs.touch(run_id)
    assert ledger.leases.settle(lease_of(ledger, run_id), "delivered")


def parked(ledger: Ledger, run_id: str) -> None:
    ledger.runs.touch(run_id)
    lease = lease_of(ledger, run_id)
    ledger.leases.defer(lease, timedelta(), "first", counts=True)
    assert ledger.leases.park(lease_of(ledger, run_id), "why")


def test_a_touched_run_is_due_at_once(ledger: Ledger) -> None:
    ledger.runs.touch("one")
    assert ledger.runs.state("one") == "pending"
    assert due(ledger) == ["one"]


def test_a_lease_says_what_is_known_of_the_run(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    clock.advance(3)
    ledger.runs.touch("one", definitions=Facts("hash", b"facts"))
    (lease,) = ledger.leases.take("host:1", 10, MINUTE)
    assert lease.token.endswith("host:1")
    assert lease == Lease(
        run_id="one",
        token=lease.token,
        touches=2,
        attempts=0,
        definitions_hash="hash",
        cursor=None,
        again=False,
        backfilled=False,
        first_touch=clock.time - 3,
        last_touch=clock.time,
        begun=clock.time,
        was="pending",
        is_unfinished=False,
    )


def test_a_touch_says_how_long_ago_a_dispatcher_was_last_seen(ledger: Ledger, clock: Clock) -> None:
    assert ledger.runs.touch("one") is None
    ledger.reports.heartbeat("old", 1, "1.0")
    clock.advance(7)
    ledger.reports.heartbeat("new", 1, "1.0")
    clock.advance(3)
    assert ledger.runs.touch("one") == pytest.approx(3)


def test_facts_are_kept_once_and_named_by_the_runs_that_have_them(ledger: Ledger) -> None:
    blob = bytes(range(256)) * 1000
    ledger.runs.touch("one", definitions=Facts("hash", blob))
    ledger.runs.touch("one")
    ledger.runs.touch("two", definitions=Facts("hash", b"never looked at"))
    assert {each.definitions_hash for each in ledger.leases.take("test", 10, MINUTE)} == {"hash"}
    assert ledger.runs.facts("hash") == blob
    assert ledger.runs.facts("other") is None


def test_newer_facts_replace_those_of_the_run(ledger: Ledger) -> None:
    ledger.runs.touch("one", definitions=Facts("old", b"old"))
    ledger.runs.touch("one", definitions=Facts("new", b"new"))
    assert lease_of(ledger, "one").definitions_hash == "new"


def test_live_runs_come_before_backfilled_ones_and_the_longest_due_first(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.runs.add(["history 2", "history 1"], backfilled=True)
    clock.advance(1)
    ledger.runs.touch("b")
    clock.advance(1)
    ledger.runs.touch("a")
    taken = [each.run_id for each in ledger.leases.take("test", 3, MINUTE)]
    assert taken == ["b", "a", "history 2"]
    assert [each.run_id for each in ledger.leases.take("test", 3, MINUTE)] == ["history 1"]


def test_a_leased_run_is_leased_to_nobody_else_until_the_lease_ends(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.runs.touch("one")
    first = lease_of(ledger, "one")
    ledger.runs.touch("one")
    assert ledger.leases.take("other", 1, MINUTE) == []
    clock.advance(59)
    ledger.leases.extend(first, MINUTE)
    clock.advance(59)
    assert ledger.leases.take("other", 1, MINUTE) == []
    clock.advance(2)
    assert [each.was for each in ledger.leases.take("other", 1, MINUTE)] == ["leased"]


def test_only_the_runs_that_are_asked_for_are_leased(ledger: Ledger) -> None:
    for each in ("one", "two", "three"):
        ledger.runs.touch(each)
    leases = ledger.leases.take("test", 5, MINUTE, run_ids=["two", "unknown"])
    assert [lease.run_id for lease in leases] == ["two"]


@pytest.mark.parametrize("outcome", ["delivered", "filtered", "gone"])
def test_a_settled_run_is_not_due_until_it_is_touched(ledger: Ledger, outcome: Any) -> None:
    ledger.runs.touch("one")
    assert ledger.leases.settle(lease_of(ledger, "one"), outcome, cursor="seen")
    assert ledger.runs.state("one") == outcome
    assert due(ledger) == []
    ledger.runs.touch("one")
    assert ledger.runs.state("one") == "pending"
    assert lease_of(ledger, "one").cursor == "seen"


def test_an_event_stored_during_delivery_is_not_marked_delivered(ledger: Ledger) -> None:
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    ledger.runs.touch("one")
    assert not ledger.leases.settle(lease, "delivered", cursor="seen")
    assert ledger.runs.state("one") == "pending"
    again = lease_of(ledger, "one")
    assert again.cursor == "seen"
    assert ledger.leases.settle(again, "delivered")


def test_a_touch_that_is_not_urgent_waits_for_some_seconds_since_the_last_look(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.runs.touch("one")
    ledger.leases.wait(lease_of(ledger, "one"), MINUTE)
    clock.advance(2)
    ledger.runs.touch("one", is_urgent=False)
    assert due(ledger) == []
    clock.advance(3)
    assert due(ledger) == ["one"]


def test_a_touch_never_puts_a_run_off(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    ledger.leases.wait(lease_of(ledger, "one"), MINUTE)
    clock.advance(20)
    ledger.runs.touch("one", is_urgent=False)
    clock.advance(1)
    ledger.runs.touch("two")
    ledger.runs.touch("one", is_urgent=False)
    assert due(ledger) == ["one", "two"]


def test_an_urgent_touch_does_not_wait(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    ledger.leases.wait(lease_of(ledger, "one"), MINUTE)
    clock.advance(1)
    ledger.runs.touch("one", is_urgent=True)
    assert due(ledger) == ["one"]


def test_a_run_that_goes_on_is_due_after_its_delay(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    ledger.leases.wait(lease_of(ledger, "one"), timedelta(seconds=30), "seen")
    clock.advance(29)
    assert due(ledger) == []
    clock.advance(1)
    assert lease_of(ledger, "one").cursor == "seen"


@pytest.mark.parametrize(("urgent", "seconds"), [(True, 0), (False, 5)])
def test_a_run_that_goes_on_and_was_touched_meanwhile_is_due_soon(
    ledger: Ledger, clock: Clock, seconds: float, *, urgent: bool
) -> None:
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    ledger.runs.touch("one", is_urgent=urgent)
    ledger.leases.wait(lease, MINUTE)
    clock.advance(seconds - 1)
    assert due(ledger) == []
    clock.advance(1)
    assert due(ledger) == ["one"]


def test_a_failed_attempt_counts_or_does_not(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    ledger.leases.defer(lease_of(ledger, "one"), MINUTE, "bad", counts=True)
    assert due(ledger) == []
    clock.advance(60)
    ledger.leases.defer(lease_of(ledger, "one"), timedelta(), "no ledger", counts=False)
    assert lease_of(ledger, "one").attempts == 1


def test_an_event_does_not_make_a_failing_run_succeed_earlier(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    ledger.leases.defer(lease_of(ledger, "one"), MINUTE, "bad", counts=True)
    ledger.runs.touch("one")
    assert due(ledger) == []
    clock.advance(60)
    assert lease_of(ledger, "one").attempts == 1


def test_an_attempt_that_comes_to_no_end_counts(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    ledger.leases.attempt(lease_of(ledger, "one"), MINUTE)
    clock.advance(61)
    second = lease_of(ledger, "one")
    assert second.attempts == 1
    ledger.leases.attempt(second, MINUTE)
    clock.advance(61)
    assert lease_of(ledger, "one").attempts == 2


@pytest.mark.parametrize("ending", ["settle", "wait", "release"])
def test_an_attempt_that_comes_to_an_end_does_not_count(ledger: Ledger, ending: str) -> None:
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    ledger.leases.attempt(lease, MINUTE)
    ENDINGS[ending](ledger, lease)
    ledger.runs.touch("one")
    assert lease_of(ledger, "one").attempts == 0


def test_a_failed_attempt_counts_once(ledger: Ledger) -> None:
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    ledger.leases.attempt(lease, MINUTE)
    ledger.leases.defer(lease, timedelta(), "bad", counts=True)
    assert lease_of(ledger, "one").attempts == 1


def test_runs_that_were_leased_with_a_deadly_one_lose_no_attempt(
    ledger: Ledger, clock: Clock
) -> None:
    for each in ("deadly", "innocent"):
        ledger.runs.touch(each)
    deadly, _ = ledger.leases.take("test", 2, MINUTE)
    ledger.leases.attempt(deadly, MINUTE)
    clock.advance(61)
    assert lease_of(ledger, "innocent").attempts == 0


def test_success_clears_the_failed_attempts(ledger: Ledger) -> None:
    ledger.runs.touch("one")
    ledger.leases.defer(lease_of(ledger, "one"), timedelta(), "bad", counts=True)
    ledger.leases.settle(lease_of(ledger, "one"), "delivered")
    ledger.runs.touch("one")
    assert lease_of(ledger, "one").attempts == 0


def test_a_parked_run_waits_for_an_event_and_then_begins_anew(ledger: Ledger) -> None:
    parked(ledger, "one")
    assert ledger.runs.state("one") == "parked"
    assert due(ledger) == []
    ledger.runs.touch("one")
    assert lease_of(ledger, "one").attempts == 0


def test_a_run_touched_meanwhile_is_not_parked(ledger: Ledger) -> None:
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    ledger.runs.touch("one")
    assert not ledger.leases.park(lease, "why")
    assert due(ledger) == ["one"]


def test_a_released_run_is_as_it_was(ledger: Ledger) -> None:
    ledger.runs.touch("one")
    ledger.leases.defer(lease_of(ledger, "one"), timedelta(), "bad", counts=True)
    ledger.leases.release(lease_of(ledger, "one"))
    lease = lease_of(ledger, "one")
    assert (lease.was, lease.attempts, lease.touches) == ("pending", 1, 1)


def test_one_more_look_leaves_the_run_delivered(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    ledger.leases.settle(lease_of(ledger, "one"), "delivered", look_again=timedelta(seconds=15))
    assert due(ledger) == []
    clock.advance(15)
    lease = lease_of(ledger, "one")
    assert (lease.was, ledger.runs.state("one")) == ("delivered", "delivered")
    ledger.leases.release(lease)
    assert ledger.runs.state("one") == "delivered"
    assert ledger.leases.settle(lease_of(ledger, "one"), "delivered")
    assert due(ledger) == []


def test_an_event_during_the_one_more_look_makes_the_run_pending_after_it(
    ledger: Ledger,
) -> None:
    ledger.runs.touch("one")
    ledger.leases.settle(lease_of(ledger, "one"), "delivered", look_again=timedelta())
    look = lease_of(ledger, "one")
    ledger.runs.touch("one")
    assert ledger.runs.state("one") == "leased"
    assert ledger.leases.take("other", 1, MINUTE) == []
    assert not ledger.leases.settle(look, "delivered")
    assert lease_of(ledger, "one").was == "pending"


def test_a_run_can_go_on_after_it_was_delivered(ledger: Ledger) -> None:
    ledger.runs.touch("one")
    ledger.leases.settle(lease_of(ledger, "one"), "delivered", look_again=timedelta())
    ledger.leases.wait(lease_of(ledger, "one"), MINUTE)
    assert ledger.runs.state("one") == "pending"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_stale_lease_writes_nothing(
    ledger: Ledger, connect: Connect, clock: Clock, ending: str
) -> None:
    ledger.runs.touch("one")
    stale = lease_of(ledger, "one")
    clock.advance(61)
    lease_of(ledger, "one")
    before = row(connect, "one")
    with pytest.raises(LeaseLost, match="one"):
        ENDINGS[ending](ledger, stale)
    assert row(connect, "one") == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_lease_that_has_ended_writes_nothing(
    ledger: Ledger, connect: Connect, ending: str
) -> None:
    ledger.runs.touch("one")
    ended = lease_of(ledger, "one")
    ledger.leases.settle(ended, "delivered")
    before = row(connect, "one")
    with pytest.raises(LeaseLost, match="one"):
        ENDINGS[ending](ledger, ended)
    assert row(connect, "one") == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_expired_lease_that_nobody_took_still_counts(
    ledger: Ledger, clock: Clock, ending: str
) -> None:
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    clock.advance(3600)
    ENDINGS[ending](ledger, lease)


def test_nothing_is_left_when_all_is_settled_or_waits(ledger: Ledger, clock: Clock) -> None:
    assert ledger.leases.is_drained()
    for each in ("delivered", "goes on", "deferred", "parked"):
        ledger.runs.touch(each)
    assert not ledger.leases.is_drained()
    ledger.leases.settle(lease_of(ledger, "delivered"), "delivered", look_again=SECOND)
    ledger.leases.wait(lease_of(ledger, "goes on"), MINUTE)
    ledger.leases.defer(lease_of(ledger, "deferred"), MINUTE, "bad", counts=True)
    lease = lease_of(ledger, "parked")
    assert not ledger.leases.is_drained()
    ledger.leases.park(lease, "bad")
    assert ledger.leases.is_drained()
    clock.advance(1)
    assert ledger.leases.is_drained()
    lease_of(ledger, "delivered")
    assert ledger.leases.is_drained()
    clock.advance(59)
    assert not ledger.leases.is_drained()


def test_runs_without_a_row_are_found_and_added_in_their_order(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.runs.touch("known")
    clock.advance(1)
    assert ledger.runs.missing(["b", "known", "a"]) == ["b", "a"]
    assert ledger.runs.add(["b", "known", "a"], backfilled=False) == ["b", "a"]
    assert ledger.runs.add(["a", "c"], backfilled=True) == ["c"]
    assert ledger.runs.missing(["a", "b", "c"]) == []
    assert due(ledger) == ["known", "b", "a", "c"]


def test_many_runs_are_added_at_once(ledger: Ledger) -> None:
    run_ids = [f"run {number:04}" for number in range(1200)]
    assert ledger.runs.add(run_ids, backfilled=True) == run_ids
    leases = ledger.leases.take("test", 2000, MINUTE)
    assert [lease.run_id for lease in leases] == run_ids


def test_adding_changes_no_row_that_is_there(ledger: Ledger, connect: Connect) -> None:
    settled(ledger, "one")
    before = row(connect, "one")
    assert ledger.runs.add(["one"], backfilled=True) == []
    assert row(connect, "one") == before


def test_an_event_makes_a_backfilled_run_a_live_one(ledger: Ledger) -> None:
    ledger.runs.add(["one"], backfilled=True)
    ledger.runs.touch("one")
    assert not lease_of(ledger, "one").backfilled


def test_settled_runs_are_delivered_again_and_others_left_alone(ledger: Ledger) -> None:
    settled(ledger, "settled")
    parked(ledger, "parked")
    ledger.runs.touch("pending")
    wanted = ["settled", "parked", "pending", "unknown"]
    assert ledger.runs.redeliver(wanted, backfilled=True) == 2
    leases = {each.run_id: each for each in ledger.leases.take("test", 10, MINUTE)}
    assert {each for each, lease in leases.items() if lease.again} == {"settled", "parked"}
    assert {each for each, lease in leases.items() if lease.backfilled} == {"settled", "parked"}
    assert leases["settled"].cursor == ""


def test_again_holds_until_all_was_sent_once_more(ledger: Ledger) -> None:
    settled(ledger, "one")
    ledger.runs.redeliver(["one"], backfilled=False)
    ledger.leases.defer(lease_of(ledger, "one"), timedelta(), "DataHub is away", counts=False)
    lease = lease_of(ledger, "one")
    assert lease.again
    ledger.leases.settle(lease, "delivered")
    ledger.runs.touch("one")
    assert not lease_of(ledger, "one").again


def test_a_run_that_goes_on_is_sent_again_as_a_whole_only_once(ledger: Ledger) -> None:
    settled(ledger, "one")
    ledger.runs.redeliver(["one"], backfilled=False)
    first = lease_of(ledger, "one")
    assert first.again
    ledger.reports.record_rejections("one", [("urn", "aspect", "reason")])
    assert ledger.runs.revive(["one"]) == 1
    ledger.leases.wait(first, timedelta())
    second = lease_of(ledger, "one")
    assert second.again  # it was wanted while the first was under way
    ledger.leases.wait(second, timedelta())
    assert not lease_of(ledger, "one").again


def test_a_run_wanted_again_during_its_one_more_look_is_delivered_again(
    ledger: Ledger,
) -> None:
    ledger.runs.touch("one")
    ledger.leases.settle(lease_of(ledger, "one"), "delivered", look_again=timedelta())
    look = lease_of(ledger, "one")
    assert ledger.runs.redeliver(["one"], backfilled=False) == 1
    assert not ledger.leases.settle(look, "delivered")
    assert lease_of(ledger, "one").again


def test_parked_runs_and_those_with_rejections_are_revived(ledger: Ledger) -> None:
    parked(ledger, "parked")
    settled(ledger, "rejected")
    settled(ledger, "fine")
    ledger.reports.record_rejections("rejected", [("urn", "aspect", "reason")])
    assert ledger.runs.revive() == 2
    leases = ledger.leases.take("test", 10, MINUTE)
    assert {(lease.run_id, lease.again, lease.attempts) for lease in leases} == {
        ("parked", True, 0),
        ("rejected", True, 0),
    }


def test_only_the_runs_that_are_named_are_revived(ledger: Ledger) -> None:
    parked(ledger, "one")
    parked(ledger, "two")
    settled(ledger, "fine")
    assert ledger.runs.revive(["two", "fine", "unknown"]) == 1
    assert due(ledger) == ["two"]


def test_a_run_revived_while_it_is_leased_is_delivered_again(ledger: Ledger) -> None:
    settled(ledger, "one")
    ledger.reports.record_rejections("one", [("urn", "aspect", "reason")])
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    assert ledger.runs.revive(["one"]) == 1
    assert ledger.leases.take("other", 1, MINUTE) == []
    assert not ledger.leases.settle(lease, "delivered")
    assert lease_of(ledger, "one").again


def test_a_redelivery_outlives_parking_and_a_stale_lease_and_is_done_when_all_was_sent(
    ledger: Ledger,
) -> None:
    parked(ledger, "one")
    ledger.runs.redeliver(["one"], backfilled=False)
    stale = lease_of(ledger, "one")
    assert stale.again
    assert ledger.leases.park(stale, "why")
    ledger.runs.touch("one")
    with pytest.raises(LeaseLost):
        ledger.leases.wait(stale, timedelta())
    lease = lease_of(ledger, "one")
    assert lease.again
    ledger.leases.wait(lease, timedelta(), "all of it, as far as it goes")
    assert not lease_of(ledger, "one").again


@pytest.mark.parametrize("ending", ["settle", "wait"])
def test_what_is_to_be_read_anew_is_so_however_often_that_was_asked_for(
    ledger: Ledger, ending: str
) -> None:
    """The second time while the first one is under way, which reads less: its end is no news."""
    ledger.runs.recall_runless(20.0, again=False)
    lease = lease_of(ledger, "")
    ledger.leases.attempt(lease, MINUTE)
    ledger.runs.recall_runless(10.0, again=False)
    ENDINGS[ending](ledger, lease)
    assert not lease_of(ledger, "").cursor


def test_a_run_wanted_again_while_it_fails_begins_anew_at_once(ledger: Ledger) -> None:
    ledger.runs.touch("one")
    ledger.reports.record_rejections("one", [("urn", "aspect", "reason")])
    for _ in range(3):
        ledger.leases.defer(lease_of(ledger, "one"), timedelta(), "bad", counts=True)
    lease = lease_of(ledger, "one")
    ledger.leases.attempt(lease, MINUTE)
    assert ledger.runs.revive(["one"]) == 1
    ledger.leases.defer(lease, timedelta(hours=6), "bad", counts=True)
    second = lease_of(ledger, "one")
    assert second.again
    assert second.attempts == 1


def test_a_clock_that_was_ahead_for_a_moment_puts_nothing_off(ledger: Ledger, clock: Clock) -> None:
    month = timedelta(days=30).total_seconds()
    clock.advance(month)
    ledger.runs.touch("leased")
    lease_of(ledger, "leased")
    ledger.runs.touch("pending")
    clock.advance(-month)
    assert due(ledger) == []
    ledger.upkeep.sweep(timedelta(days=30))
    assert sorted(due(ledger)) == ["leased", "pending"]


@pytest.mark.parametrize("text", ["zero \0 byte", "half a \ud800 pair", "x" * 100_000])
def test_an_error_may_be_any_text(ledger: Ledger, text: str) -> None:
    ledger.runs.touch("one")
    ledger.leases.park(lease_of(ledger, "one"), text)
    (parked_run,) = ledger.reports.status().parked
    assert parked_run.error[:4] == text[:4]
