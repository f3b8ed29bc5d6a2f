"""States that are sent only when they change: people may change the rest in between."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

from ledgers import MINUTE, Clock, due, lease_of
from test_ledger_states import DAY

from datahub_eventlog.ledger import Claim, Ledger

URN = "urn:li:incident:a"
ACTIVE, RESOLVED = "transition:ACTIVE", "transition:RESOLVED"


def created(time: float) -> Claim:
    slot = "incidentInfo#created"
    return Claim(URN, slot, time, ACTIVE, base="incidentInfo#state")


def opened(time: float) -> Claim:
    return Claim(URN, "incidentInfo#state", time, ACTIVE, base="incidentInfo")


def resolved(time: float) -> Claim:
    return Claim(
        URN,
        "incidentInfo#state",
        time,
        RESOLVED,
        base="incidentInfo",
        is_vacant=True,
    )


def deliver(
    ledger: Ledger, run_id: str, *claims: Claim, resend_after: timedelta = DAY
) -> list[bool]:
    """What of a run's claims is sent; DataHub takes all of it."""
    ledger.runs.touch(run_id, is_urgent=True)
    lease = lease_of(ledger, run_id)
    granted = ledger.claims.grant(lease, MINUTE, claims, resend_after=resend_after)
    sent = [claim for claim, is_sent in zip(claims, granted, strict=True) if is_sent]
    ledger.claims.confirm(lease, sent)
    ledger.leases.settle(lease, "delivered")
    return granted


def test_a_state_is_sent_when_it_changes(ledger: Ledger) -> None:
    assert deliver(ledger, "one", created(1), opened(1)) == [True, True]
    assert deliver(ledger, "two", created(2), opened(2)) == [False, False]
    assert deliver(ledger, "three", resolved(3)) == [True]
    assert deliver(ledger, "four", resolved(4)) == [False]
    assert deliver(ledger, "five", created(5), opened(5)) == [True, True]


def test_the_same_state_is_not_sent_again_however_long_ago_it_was(
    ledger: Ledger, clock: Clock
) -> None:
    deliver(ledger, "one", created(1), opened(1))
    clock.advance(timedelta(days=300).total_seconds())
    assert deliver(ledger, "one", created(1), opened(1)) == [False, False]
    assert deliver(ledger, "two", created(2), opened(2)) == [False, False]


def test_a_run_that_is_wanted_again_sends_no_state_again(ledger: Ledger) -> None:
    deliver(ledger, "one", created(1), opened(1))
    ledger.runs.redeliver(["one"], backfilled=False)
    assert deliver(ledger, "one", created(1), opened(1)) == [False, False]


def test_a_run_that_is_tried_again_for_its_rejections_sends_no_state_again(
    ledger: Ledger,
) -> None:
    schema = Claim("urn:li:dataset:a", "schemaMetadata", 1, "content")
    deliver(ledger, "one", created(1), opened(1), schema)
    ledger.reports.record_rejections("one", [("urn:li:dataset:a", "status", "no")])
    assert ledger.runs.revive(["one"]) == 1
    assert deliver(ledger, "one", created(1), opened(1), schema) == [False, False, True]


def test_what_nobody_confirmed_is_sent_again(ledger: Ledger, clock: Clock) -> None:
    ledger.runs.touch("one")
    lease = lease_of(ledger, "one")
    claims = [created(1), opened(1)]
    assert ledger.claims.grant(lease, MINUTE, claims, resend_after=DAY) == [True, True]
    clock.advance(3600)
    assert deliver(ledger, "one", *claims) == [True, True]


def test_what_was_never_opened_is_not_resolved(ledger: Ledger) -> None:
    assert deliver(ledger, "one", resolved(1)) == [False]
    assert deliver(ledger, "two", created(2), opened(2)) == [True, True]


def test_whatever_the_order_of_delivery_the_newest_state_counts(ledger: Ledger) -> None:
    runs = {
        "one": [created(1), opened(1)],
        "two": [resolved(2)],
        "three": [created(3), opened(3)],
        "four": [resolved(4)],
    }
    for number, order in enumerate(permutations(runs)):
        urn = f"{URN}{number}"
        is_there, state = False, None
        waiting = list(order)
        while waiting:
            run_id = waiting.pop(0)
            claims = [_of(claim, urn) for claim in runs[run_id]]
            granted = deliver(ledger, run_id, *claims)
            for claim, is_sent in zip(claims, granted, strict=True):
                if is_sent and claim.slot.endswith("#created"):
                    is_there, state = True, state or claim.hash
                elif is_sent:
                    assert is_there, "a patch of what is not there yet"
                    state = claim.hash
            waiting += due(ledger)
        # Where the last pass came first, nothing was ever opened.
        assert state == (RESOLVED if is_there else None), order


def _of(claim: Claim, urn: str) -> Claim:
    return Claim(
        urn,
        claim.slot,
        claim.time,
        claim.hash,
        claim.base,
        is_vacant=claim.is_vacant,
    )


def test_an_older_run_that_comes_late_opens_nothing(ledger: Ledger) -> None:
    deliver(ledger, "two", resolved(2))
    assert deliver(ledger, "one", created(1), opened(1)) == [False, False]
