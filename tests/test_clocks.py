"""Clocks that are wrong: what was stored by one that was ahead waits for nothing.

That the clock of now was set back looks the same.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import dagster as dg
import pytest
from ledgers import MINUTE, Clock, due, lease_of
from scenes import Scene
from sqlalchemy import select

from datahub_eventlog.dispatcher.delivery import Delivery, Rules
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.ledger import Claim, Facts, Ledger
from datahub_eventlog.ledger.database import Connect
from datahub_eventlog.ledger.tables import definitions, metadata, rejections, runs, states
from datahub_eventlog.testing import MemorySink
from datahub_eventlog.values import Proposal

DAY = timedelta(days=1)
MONTH = timedelta(days=30)


@pytest.fixture
def ahead(connect: Connect, clock: Clock) -> Ledger:
    """The same ledger, for a process whose clock is a day ahead."""
    return Ledger(connect, clock=lambda: clock.time + DAY.total_seconds())


def test_runs_of_a_process_a_day_ahead_do_not_wait_for_tomorrow(
    ledger: Ledger, ahead: Ledger
) -> None:
    ahead.runs.touch("leased")
    lease_of(ahead, "leased")
    ahead.runs.touch("failed")
    ahead.leases.defer(lease_of(ahead, "failed"), timedelta(hours=6), "bad", counts=True)
    ahead.runs.touch("delivered")
    ahead.leases.settle(lease_of(ahead, "delivered"), "delivered", look_again=MINUTE)
    ahead.runs.touch("noted")
    assert due(ledger) == []
    ledger.upkeep.sweep(MONTH)
    assert sorted(due(ledger)) == ["delivered", "failed", "leased", "noted"]


def test_a_lease_that_a_clock_extended_while_it_was_an_hour_ahead_ends(
    ledger: Ledger, connect: Connect, clock: Clock
) -> None:
    ledger.runs.touch("one")
    ahead = Ledger(connect, clock=lambda: clock.time + 3600)
    ahead.leases.extend(lease_of(ledger, "one"), MINUTE)
    ledger.upkeep.sweep(MONTH)
    assert due(ledger) == ["one"]


def test_what_is_put_off_for_good_reasons_stays_so(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("failed")
    ledger.leases.defer(lease_of(ledger, "failed"), timedelta(hours=6), "bad", counts=True)
    ledger.runs.touch("leased")
    lease_of(ledger, "leased")
    clock.advance(-10)  # no two clocks are the same
    ledger.upkeep.sweep(MONTH)
    assert due(ledger) == []
    assert ledger.upkeep.ahead() is None


def test_a_touch_after_a_look_of_tomorrow_does_not_wait_for_it(
    ledger: Ledger, ahead: Ledger, clock: Clock
) -> None:
    ahead.runs.touch("one")
    ahead.leases.settle(lease_of(ahead, "one"), "delivered")
    ledger.runs.touch("one", is_urgent=False)
    clock.advance(6)
    assert due(ledger) == ["one"]


def test_a_dispatcher_that_was_a_day_ahead_and_was_killed_is_not_alive(
    ledger: Ledger, ahead: Ledger, clock: Clock
) -> None:
    ahead.reports.heartbeat("here", 1, "0")
    assert ledger.runs.touch("one") is None
    assert ledger.reports.dispatchers() == []
    ledger.reports.heartbeat("there", 2, "0")
    clock.advance(7)
    assert ledger.runs.touch("one") == pytest.approx(7)
    assert [each.host for each in ledger.reports.dispatchers()] == ["there"]


def test_a_heartbeat_of_a_clock_that_is_a_little_ahead_counts(ledger: Ledger, clock: Clock) -> None:
    clock.advance(5)
    ledger.reports.heartbeat("here", 1, "0")
    clock.advance(-5)
    assert ledger.runs.touch("one") == 0
    assert [each.last_seen_seconds for each in ledger.reports.dispatchers()] == [0]


@pytest.mark.parametrize("trace", ["touch", "heartbeat", "watermark"])
def test_it_is_said_until_it_is_set_right(ledger: Ledger, ahead: Ledger, trace: str) -> None:
    ledger.runs.touch("one")
    assert ledger.reports.status().ahead is None
    if trace == "touch":
        ahead.runs.touch("one")
    elif trace == "heartbeat":
        ahead.reports.heartbeat("here", 1, "0")
    else:
        ahead.upkeep.set_watermark(ahead.database.read_clock())
    lead = ledger.reports.status().ahead
    assert lead is not None
    assert lead.seconds == pytest.approx(86400)
    assert "86400 s ahead of" in str(lead)
    assert "synchronize it by NTP" in str(lead)
    ledger.upkeep.sweep(MONTH)
    assert ledger.reports.status().ahead is None


def test_nothing_stays_ahead(ledger: Ledger, ahead: Ledger, connect: Connect) -> None:
    ahead.runs.touch("one", definitions=Facts("hash", b"facts"))
    ahead.leases.settle(lease_of(ahead, "one"), "delivered")
    ahead.reports.record_rejections("one", [("urn", "aspect", "reason")])
    ahead.upkeep.switched_off()
    ahead.upkeep.begin("backfill_x")
    ledger.upkeep.sweep(MONTH)
    moments = (
        *(runs.c.first_touch, runs.c.last_touch, runs.c.looked, runs.c.settled),
        *(definitions.c.seen, rejections.c.noted, metadata.tables["datahub_eventlog_meta"].c.value),
    )
    with connect() as connection:
        latest = [max(connection.execute(select(each)).scalars()) for each in moments]
    assert max(latest) <= ledger.database.read_clock()


def test_a_ledger_that_a_clock_ahead_has_made_begins_with_its_first_touch(
    new_ledger: Ledger, new_connect: Connect, clock: Clock
) -> None:
    Ledger(new_connect, clock=lambda: clock.time + DAY.total_seconds()).runs.touch("")
    new_ledger.runs.touch("one")
    first = clock.time
    clock.advance(3600)
    new_ledger.upkeep.sweep(MONTH)
    assert new_ledger.upkeep.created() == first
    assert new_ledger.upkeep.runless_since() < first
    assert new_ledger.upkeep.captured_since() == first


def test_state_that_was_sent_tomorrow_is_sent_again(ledger: Ledger, ahead: Ledger) -> None:
    state = Claim("urn", "schemaMetadata", 1.0, "same")
    for each in (ahead, ledger):
        each.runs.touch("one")
        lease = lease_of(each, "one")
        assert each.claims.grant(lease, MINUTE, [state], resend_after=DAY) == [True]
        each.claims.confirm(lease, [state])
        each.leases.settle(lease, "delivered")
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    assert ledger.claims.grant(lease, MINUTE, [state], resend_after=DAY) == [False]


def test_an_event_of_tomorrow_holds_no_newer_state_back(
    ledger: Ledger, clock: Clock, connect: Connect
) -> None:
    sink = MemorySink()

    def deliver(run_id: str, body: str, moment: float) -> None:
        ledger.runs.touch(run_id)
        lease = lease_of(ledger, run_id)
        proposal = Proposal("urn:li:dataset:a", "dataset", "status", body, time=moment)
        Delivery(ledger, sink, lease, Rules(MINUTE, DAY), set()).send([proposal])
        ledger.leases.settle(lease, "delivered")

    deliver("tomorrow", '{"removed": true}', clock.time + DAY.total_seconds())
    clock.advance(60)
    deliver("today", '{"removed": false}', clock.time)
    assert [each.body for each in sink.proposals] == ['{"removed": true}', '{"removed": false}']
    with connect() as connection:
        assert connection.execute(select(states.c.time)).scalar() == clock.time


def test_a_run_is_delivered_whole_where_the_ledger_is_a_day_behind_it(scene: Scene) -> None:
    scene.ledger.database.clock = Clock(time.time() - DAY.total_seconds())
    run_id = small.execute_in_process(instance=scene.instance).run_id
    scene.ledger.upkeep.sweep(MONTH)
    scene.dispatcher().run_once()
    assert scene.ledger.runs.state(run_id) == "delivered"


def test_events_without_a_run_that_are_of_tomorrow_are_read_once(scene: Scene) -> None:
    """The ledger's clock is a day behind: the event's time lies ahead of it."""
    scene.ledger.database.clock = clock = Clock(time.time() - DAY.total_seconds())
    scene.instance.report_runless_asset_event(dg.AssetMaterialization("one"))
    scene.ledger.runs.touch("")
    clock.advance(120)
    scene.dispatcher().run_once()
    sent = len(scene.sink.proposals)
    assert sent
    scene.ledger.runs.look_for_runless()
    scene.dispatcher().run_once()
    assert len(scene.sink.proposals) == sent


def test_a_watermark_of_tomorrow_hides_no_run_that_nobody_noted(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.ledger.runs.touch("")
    scene.ledger.upkeep.set_watermark(time.time() + 2 * DAY.total_seconds())
    with scene.plain() as instance:
        run_id = small.execute_in_process(instance=instance).run_id
    reconciler = Reconciler(scene.ledger, scene.source, MONTH, lambda: time.time() + 60)
    reconciler.run_once()
    assert scene.ledger.runs.state(run_id) == "pending"
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "A clock is wrong, or was: the ledger has times that are" in warning.getMessage()


def test_a_reconciler_looks_again_after_a_clock_was_set_back(scene: Scene) -> None:
    """It counts the seconds that pass, whatever the time is."""
    clock = Clock(time.time() + DAY.total_seconds())
    reconciler = Reconciler(scene.ledger, scene.source, MONTH, clock)
    reconciler.run_once()
    assert not reconciler.is_due
    clock.advance(DAY.total_seconds())
    assert not reconciler.is_due


@dg.op
def nothing() -> None:
    pass


@dg.job
def small() -> None:
    nothing()
