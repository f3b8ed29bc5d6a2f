"""What became of states since they were claimed, and having just some of them sent again."""

from __future__ import annotations

from datetime import timedelta

from ledgers import Clock, due
from test_ledger_states import claim, schema, send

from datahub_eventlog.ledger import Claim, Ledger, Standing


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
    ledger.claims.forget([vacant.row_key], owner_is_gone=False)
    assert send(ledger, "one", vacant) == [False]


def test_only_what_was_forgotten_is_sent_again(ledger: Ledger) -> None:
    other = schema(1, urn="urn:li:dataset:b")
    send(ledger, "one", schema(1), other)
    ledger.claims.forget([other.row_key], owner_is_gone=False)
    ledger.runs.redeliver(["one"], backfilled=True, again=False)
    assert due(ledger) == ["one"]
    assert send(ledger, "one", schema(1), other) == [False, True]


def test_what_was_forgotten_still_keeps_older_states_away(ledger: Ledger) -> None:
    send(ledger, "two", schema(2, "new"))
    ledger.claims.forget([schema(2).row_key], owner_is_gone=False)
    assert send(ledger, "one", schema(1, "old")) == [False]
    assert send(ledger, "two", schema(2, "new")) == [True]


def test_the_state_of_a_run_that_is_gone_can_be_sent_by_another(ledger: Ledger) -> None:
    send(ledger, "two", schema(2))
    ledger.claims.forget([schema(2).row_key], owner_is_gone=True)
    assert send(ledger, "one", schema(1)) == [True]


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
    upkeep.note_left("verify", 7)
    assert (upkeep.begin("verify"), upkeep.left("verify")) == (begun, 7)
    upkeep.finish("verify")
    assert upkeep.left("verify") is None


def test_a_turn_comes_again_after_its_interval(ledger: Ledger, clock: Clock) -> None:
    hour = timedelta(hours=1)
    assert [ledger.upkeep.may_begin("verify", hour) for _ in range(2)] == [True, False]
    clock.advance(3600)
    assert ledger.upkeep.may_begin("verify", hour)
