"""What people see of the ledger, and what is removed from it."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from ledgers import MINUTE, Clock, due, lease_of
from sqlalchemy import select
from sqlalchemy.engine import Engine

from datahub_eventlog.ledger import Claim, Dispatcher, Facts, Ledger, Parked, Rejection
from datahub_eventlog.ledger.reports import KEPT_REJECTIONS
from datahub_eventlog.ledger.tables import definitions, states

DAY = timedelta(days=1)
MONTH = timedelta(days=30)
STATES = ("pending", "leased", "delivered", "filtered", "gone", "parked", "expired")


def settle(ledger: Ledger, run_id: str) -> None:
    ledger.runs.touch(run_id)
    ledger.leases.settle(lease_of(ledger, run_id), "delivered")


def test_an_empty_ledger_has_all_counts(ledger: Ledger) -> None:
    status = ledger.reports.status()
    assert status.runs == dict.fromkeys(STATES, 0)
    assert status.oldest_pending_seconds is None
    assert (status.rejected, status.parked, status.dispatchers) == ((), (), ())


def test_runs_are_counted_by_state_and_the_runless_events_not_at_all(ledger: Ledger) -> None:
    ledger.runs.add(
        ["", "pending", "leased", "one", "two", "filtered", "gone", "parked"], backfilled=False
    )
    lease_of(ledger, "leased")
    ledger.leases.settle(lease_of(ledger, "one"), "delivered")
    ledger.leases.settle(lease_of(ledger, "two"), "delivered")
    ledger.leases.settle(lease_of(ledger, "filtered"), "filtered")
    ledger.leases.settle(lease_of(ledger, "gone"), "gone")
    ledger.leases.park(lease_of(ledger, "parked"), "why")
    ones = dict.fromkeys(("pending", "leased", "filtered", "gone", "parked"), 1)
    status = ledger.reports.status()
    assert status.runs == {**ones, "delivered": 2, "expired": 0}
    assert status.parked == (Parked("parked", "why"),)
    assert status.delivered_last_minute == 2


def test_throughput_is_that_of_the_last_minute(ledger: Ledger, clock: Clock) -> None:
    settle(ledger, "old")
    clock.advance(61)
    settle(ledger, "new")
    assert ledger.reports.status().delivered_last_minute == 1


def test_the_oldest_pending_run_counts_from_when_it_was_due(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("live")
    ledger.leases.wait(lease_of(ledger, "live"), timedelta(seconds=30))
    clock.advance(29)
    assert ledger.reports.status().oldest_pending_seconds is None
    clock.advance(5)
    assert ledger.reports.status().oldest_pending_seconds == pytest.approx(4)
    ledger.runs.touch("")
    assert ledger.reports.status().oldest_pending_seconds == pytest.approx(4)


def test_a_run_that_was_given_back_again_and_again_counts_from_its_touch(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.runs.touch("one")
    for _ in range(3):
        clock.advance(60)
        lease = lease_of(ledger, "one")
        ledger.claims.grant(lease, MINUTE, [], resend_after=MINUTE)
        ledger.leases.release(lease)
    clock.advance(60)
    assert ledger.reports.status().oldest_pending_seconds == pytest.approx(240)


def test_a_live_run_that_was_given_back_once_counts_from_when_it_was_due(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.runs.touch("live")
    lease = lease_of(ledger, "live")
    ledger.claims.grant(lease, MINUTE, [], resend_after=MINUTE)
    ledger.leases.release(lease)
    ledger.leases.wait(lease_of(ledger, "live"), timedelta(seconds=30))
    clock.advance(34)
    assert ledger.reports.status().oldest_pending_seconds == pytest.approx(4)


def test_a_delivery_replaces_the_rejections_of_the_one_before(ledger: Ledger) -> None:
    ledger.reports.record_rejections(
        "one", [("urn:a", "status", "bad"), ("urn:b", "status", "bad")]
    )
    ledger.reports.record_rejections("two", [("urn:a", "status", "bad")])
    ledger.reports.record_rejections("one", [("urn:a", "status", "worse")])
    assert set(ledger.reports.status().rejected) == {
        Rejection("one", "urn:a", "status", "worse"),
        Rejection("two", "urn:a", "status", "bad"),
    }
    ledger.reports.record_rejections("one", [])
    assert [each.run_id for each in ledger.reports.status().rejected] == ["two"]


def test_a_part_of_a_delivery_adds_its_rejections(ledger: Ledger) -> None:
    ledger.reports.record_rejections("", [("urn:a", "operation", "bad")])
    ledger.reports.record_rejections(
        "", [("urn:b", "operation", "bad"), ("urn:a", "operation", "worse")], is_whole=False
    )
    assert {(each.urn, each.reason) for each in ledger.reports.status().rejected} == {
        ("urn:a", "worse"),
        ("urn:b", "bad"),
    }


def test_only_the_newest_rejections_are_kept(ledger: Ledger, clock: Clock) -> None:
    ledger.reports.record_rejections("old", [("urn:old", "status", "bad")])
    clock.advance(1)
    many = [(f"urn:{number}", "status", "bad") for number in range(KEPT_REJECTIONS)]
    ledger.reports.record_rejections("new", many)
    rejected = ledger.reports.status().rejected
    assert len(rejected) == KEPT_REJECTIONS
    assert {each.run_id for each in rejected} == {"new"}


def test_too_many_rejections_of_one_delivery_are_cut(ledger: Ledger) -> None:
    many = [(f"urn:{number}", "status", "bad") for number in range(KEPT_REJECTIONS + 5)]
    ledger.reports.record_rejections("one", many)
    assert len(ledger.reports.status().rejected) == KEPT_REJECTIONS


def test_a_reason_may_be_any_text(ledger: Ledger) -> None:
    ledger.reports.record_rejections(
        "one", [("urn \0", "aspect \ud800", "reason \0" + "x" * 100_000)]
    )
    (rejection,) = ledger.reports.status().rejected
    assert rejection.reason.startswith("reason x")


def test_dispatchers_are_seen_for_half_a_minute_or_until_they_retire(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.reports.heartbeat("one", 1, "1.0")
    ledger.reports.heartbeat("two", 2, "1.0")
    clock.advance(20)
    ledger.reports.heartbeat("two", 2, "1.1")
    assert ledger.reports.dispatchers() == [
        Dispatcher("two", 2, "1.1", 0.0),
        Dispatcher("one", 1, "1.0", 20.0),
    ]
    clock.advance(11)
    assert [each.host for each in ledger.reports.status().dispatchers] == ["two"]
    ledger.reports.retire("two", 2)
    assert ledger.reports.dispatchers() == []


def test_the_watermark_starts_when_the_ledger_is_made(new_ledger: Ledger, clock: Clock) -> None:
    started = clock.time
    new_ledger.runs.touch("one")
    clock.advance(60)
    assert (new_ledger.upkeep.created(), new_ledger.upkeep.watermark()) == (started, started)
    new_ledger.upkeep.set_watermark(started + 30)
    new_ledger.database.migrate()
    assert (new_ledger.upkeep.created(), new_ledger.upkeep.watermark()) == (started, started + 30)


def test_settled_runs_expire_and_are_counted(ledger: Ledger, clock: Clock) -> None:
    for run_id in ("old", "older"):
        settle(ledger, run_id)
    clock.advance(MONTH.total_seconds())
    settle(ledger, "new")
    ledger.runs.touch("pending")
    clock.advance(1)
    assert ledger.upkeep.sweep(MONTH) == 2
    assert ledger.runs.missing(["old", "older", "new", "pending"]) == ["old", "older"]
    assert ledger.reports.status().runs["expired"] == 2
    assert ledger.upkeep.sweep(MONTH) == 0


def test_many_runs_expire_at_once(ledger: Ledger, clock: Clock) -> None:
    run_ids = [f"run {number}" for number in range(1100)]
    ledger.runs.add(run_ids, backfilled=True)
    for lease in ledger.leases.take("test", 2000, MINUTE):
        ledger.leases.settle(lease, "delivered")
    clock.advance(MONTH.total_seconds() + 1)
    assert ledger.upkeep.sweep(MONTH) == 1100
    assert ledger.reports.status().runs["expired"] == 1100


def test_what_is_not_settled_for_good_never_expires(ledger: Ledger, clock: Clock) -> None:
    for run_id in ("pending", "leased", "parked", "looked at again", ""):
        ledger.runs.touch(run_id)
    lease_of(ledger, "leased")
    ledger.leases.park(lease_of(ledger, "parked"), "why")
    ledger.leases.settle(lease_of(ledger, "looked at again"), "delivered", look_again=DAY)
    ledger.leases.settle(lease_of(ledger, ""), "delivered", cursor="seen")
    clock.advance(2 * MONTH.total_seconds())
    assert ledger.upkeep.sweep(MONTH) == 0
    ledger.runs.touch("")
    assert lease_of(ledger, "").cursor == "seen"


def test_a_sweep_forgets_what_no_run_needs(ledger: Ledger, engine: Engine, clock: Clock) -> None:
    ledger.runs.touch("old", definitions=Facts("old", b"old"))
    ledger.leases.settle(lease_of(ledger, "old"), "delivered")
    ledger.reports.record_rejections("old", [("urn", "status", "bad")])
    ledger.reports.heartbeat("host", 1, "1.0")
    clock.advance(MONTH.total_seconds() + 1)
    ledger.runs.touch("new", definitions=Facts("new", b"new"))
    ledger.upkeep.sweep(MONTH)
    assert ledger.reports.status().rejected == ()
    with engine.connect() as connection:
        assert connection.execute(select(definitions.c.hash)).scalars().all() == ["new"]
    assert ledger.runs.touch("new") is None


def test_facts_that_a_run_is_about_to_name_are_kept(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("old", definitions=Facts("hash", b"facts"))
    ledger.leases.settle(lease_of(ledger, "old"), "delivered")
    clock.advance(MONTH.total_seconds() + 1)
    ledger.runs.touch("other", definitions=Facts("hash", b"facts"))
    ledger.leases.settle(lease_of(ledger, "other"), "delivered")
    ledger.runs.touch("other", definitions=Facts("changed", b"facts"))
    ledger.upkeep.sweep(MONTH)
    assert ledger.runs.facts("hash") == b"facts"


def test_states_outlive_their_runs_for_a_year(ledger: Ledger, engine: Engine, clock: Clock) -> None:
    def remembered() -> int:
        with engine.connect() as connection:
            return len(connection.execute(select(states.c.digest)).all())

    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    ledger.claims.grant(lease, MINUTE, [Claim("urn", "status", 1, "x")], resend_after=DAY)
    ledger.leases.settle(lease, "delivered")
    clock.advance(timedelta(days=364).total_seconds())
    assert ledger.upkeep.sweep(MONTH) == 1
    assert remembered() == 1
    clock.advance(timedelta(days=2).total_seconds())
    ledger.upkeep.sweep(MONTH)
    assert remembered() == 0


def test_without_a_test_clock_the_databases_own_counts(engine: Engine) -> None:
    ledger = Ledger(engine.connect)
    assert abs(ledger.database.read_clock() - time.time()) < 3600
    assert any(ledger.database.read_clock() % 1 for _ in range(3))
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    assert ledger.leases.take("other", 1, MINUTE) == []
    ledger.claims.grant(lease, MINUTE, [Claim("urn", "status", 1, "x")], resend_after=DAY)
    ledger.leases.wait(lease, timedelta())
    ledger.leases.settle(lease_of(ledger, "one"), "delivered", look_again=timedelta())
    assert due(ledger) == ["one"]
    assert ledger.upkeep.sweep(MONTH) == 0
    ledger.reports.heartbeat("host", 1, "1.0")
    age = ledger.runs.touch("one")
    assert age is not None
    assert 0 <= age < 3600
