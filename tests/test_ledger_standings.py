"""What became of states since they were claimed, and having just some of them sent again."""

from __future__ import annotations

from datetime import timedelta

from ledgers import MINUTE, Clock, due, lease_of
from test_ledger_states import DAY, claim, finish, schema, send

from datahub_eventlog.ledger import Claim, Ledger, Standing, repair_row
from datahub_eventlog.ledger.records import Left


def _standing(ledger: Ledger, run_id: str, claim: Claim) -> Standing:
    (standing,) = ledger.claims.standings([(claim, run_id)])
    return standing


def test_the_newest_state_stands(ledger: Ledger, clock: Clock) -> None:
    send(ledger, "one", schema(1))
    expected = Standing(is_newest=True, is_same=True, run_id="one", sent=clock.time)
    assert _standing(ledger, "one", schema(1)) == expected


def test_a_state_that_a_newer_run_replaced_does_not_stand(ledger: Ledger) -> None:
    send(ledger, "one", schema(1, "old"))
    send(ledger, "two", schema(2, "new"))
    standing = _standing(ledger, "one", schema(1, "old"))
    assert (standing.is_newest, standing.is_same, standing.run_id) == (False, False, "two")


def test_an_older_state_that_is_equal_to_the_newest_is_the_same(ledger: Ledger) -> None:
    send(ledger, "one", schema(1))
    send(ledger, "two", schema(2))
    standing = _standing(ledger, "one", schema(1))
    assert (standing.is_newest, standing.is_same, standing.run_id) == (False, True, "two")


def test_a_state_that_nobody_claimed_is_the_newest_as_far_as_is_known(ledger: Ledger) -> None:
    nobody = Standing(is_newest=True, is_same=False, run_id=None, sent=None)
    assert _standing(ledger, "one", schema(1)) == nobody


def test_a_state_on_its_way_was_not_sent(ledger: Ledger) -> None:
    claim(ledger, "one", schema(1))
    assert _standing(ledger, "one", schema(1)).sent is None


def test_an_addition_to_what_was_replaced_does_not_stand(ledger: Ledger) -> None:
    addition = Claim("urn:li:dataset:a", "schemaMetadata#x", 1, "more", base="schemaMetadata")
    send(ledger, "one", schema(0), addition)
    assert _standing(ledger, "one", addition).is_same
    send(ledger, "two", schema(2, "whole"))
    standing = _standing(ledger, "one", addition)
    assert (standing.is_newest, standing.is_same) == (False, False)


def test_a_vacant_state_that_replaced_nothing_was_not_sent(ledger: Ledger) -> None:
    vacant = Claim("urn:li:dataset:a", "schemaMetadata", 1, "none", is_vacant=True)
    assert send(ledger, "one", vacant) == [False]
    assert _standing(ledger, "one", vacant).sent is None
    assert _repair(ledger, "one", vacant) == [False]


def _repair(ledger: Ledger, run_id: str, *claims: Claim) -> list[bool]:
    """What a repair of that run sends, from its lease to its end."""
    ledger.repairs.request({run_id: [each.row_key for each in claims]})
    return finish(ledger, lease_of(ledger, repair_row(run_id)), *claims)


def test_what_datahub_has_is_sent_by_a_repair(ledger: Ledger) -> None:
    send(ledger, "one", schema(1))
    assert send(ledger, "one", schema(1)) == [False]
    assert _repair(ledger, "one", schema(1)) == [True]


def test_a_repair_sends_nothing_that_a_newer_run_replaced(ledger: Ledger) -> None:
    send(ledger, "one", schema(1, "old"))
    send(ledger, "two", schema(2, "new"))
    assert _repair(ledger, "one", schema(1, "old")) == [False]


def test_a_repair_leaves_a_state_to_the_run_that_claimed_it(ledger: Ledger) -> None:
    send(ledger, "one", schema(1))
    send(ledger, "two", schema(2))
    assert _repair(ledger, "one", schema(1)) == [True]
    assert _standing(ledger, "two", schema(2)).run_id == "two"
    assert send(ledger, "between", schema(1.5, "other")) == [False]


def test_a_state_that_nobody_claimed_is_claimed_by_its_repair(ledger: Ledger) -> None:
    assert _repair(ledger, "one", schema(1)) == [True]
    assert _standing(ledger, "one", schema(1)).run_id == "one"
    assert send(ledger, "older", schema(0.5, "old")) == [False]


def test_what_comes_while_a_repair_sends_is_sent_once_more(ledger: Ledger) -> None:
    send(ledger, "one", schema(1, "old"))
    ledger.repairs.request({"one": ["key"]})
    lease = lease_of(ledger, repair_row("one"))
    granted = ledger.claims.grant(lease, MINUTE, [schema(1, "old")], resend_after=DAY)
    assert granted == [True]
    send(ledger, "two", schema(2, "new"))
    ledger.claims.confirm(lease, [schema(1, "old")])
    assert due(ledger) == ["two"]
    assert send(ledger, "two", schema(2, "new")) == [True]


def test_a_repair_is_asked_for_by_its_keys_until_they_are_done(ledger: Ledger) -> None:
    ledger.repairs.request({"one": ["a", "b"], "": ["c"]})
    assert set(due(ledger)) == {repair_row("one"), repair_row("")}
    ledger.repairs.request({"one": ["d"]})
    assert ledger.repairs.keys("one") == {"a", "b", "d"}
    ledger.repairs.done("one", ["a", "b"])
    assert ledger.repairs.keys("one") == {"d"}
    ledger.repairs.done("one", ["d"])
    assert ledger.repairs.keys("one") == frozenset()


def test_a_repair_is_no_run_and_leaves_no_row(ledger: Ledger, clock: Clock) -> None:
    send(ledger, "one", schema(1))
    _repair(ledger, "one", schema(1))
    assert ledger.reports.status().runs["delivered"] == 1
    clock.advance(2 * DAY.total_seconds())
    ledger.upkeep.sweep(timedelta(days=30))
    assert ledger.runs.state(repair_row("one")) is None
    assert ledger.runs.state("one") == "delivered"


def test_a_sample_has_delivered_runs_only(ledger: Ledger) -> None:
    for number in range(5):
        send(ledger, f"run {number}")
    ledger.runs.touch("pending")
    ledger.runs.touch("")
    sample = ledger.runs.sample(3)
    assert len(set(sample)) == 3
    assert set(ledger.runs.sample(100)) == {f"run {number}" for number in range(5)}


def test_an_interrupted_undertaking_knows_how_much_is_left(ledger: Ledger) -> None:
    upkeep = ledger.upkeep
    begun = upkeep.begin("verify")
    assert upkeep.left("verify") is None
    upkeep.note_left("verify", 7, 2)
    assert upkeep.begin("verify") == begun
    assert upkeep.left("verify") == Left(number=7, faults=2)
    upkeep.finish("verify")
    assert upkeep.left("verify") is None


def test_a_turn_comes_again_after_its_interval(ledger: Ledger, clock: Clock) -> None:
    hour = timedelta(hours=1)
    assert [ledger.upkeep.may_begin("verify", hour) for _ in range(2)] == [True, False]
    clock.advance(3600)
    assert ledger.upkeep.may_begin("verify", hour)
