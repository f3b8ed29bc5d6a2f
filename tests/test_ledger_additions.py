"""What is added to a state by patches: the order of the moments decides, not that of delivery."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations

import pytest
from ledgers import MINUTE, due, lease_of

from datahub_eventlog.ledger import Claim, Ledger


@dataclass
class Lineage:
    """One aspect of one urn in DataHub, and the runs that write it."""

    ledger: Ledger
    runs: dict[str, Claim]
    now: set[str] = field(default_factory=set)

    def deliver(self, run_id: str) -> None:
        lease = lease_of(self.ledger, run_id)
        claim = self.runs[run_id]
        (granted,) = self.ledger.claims.grant(lease, MINUTE, [claim], resend_after=MINUTE * 1000)
        if granted:
            self.now = ({claim.hash} | self.now) if claim.base else {claim.hash}
            self.ledger.claims.confirm(lease, [claim])
        self.ledger.leases.settle(lease, "delivered")


def _whole(time: float, content: str) -> Claim:
    return Claim("urn:li:dataset:a", "upstreamLineage", time, content, takes_additions=True)


def _added(time: float, content: str) -> Claim:
    slot = f"upstreamLineage#{content}"
    return Claim("urn:li:dataset:a", slot, time, content, base="upstreamLineage")


RUNS = {
    "run1": _whole(1, "A"),
    "run2": _added(2, "B"),
    "run3": _added(3, "C"),
}
REPLACED = {**RUNS, "run4": _whole(4, "D")}
AGAIN = {"run1": _added(1, "B"), "run2": _whole(2, "A"), "run3": _added(3, "B")}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [(RUNS, {"A", "B", "C"}), (REPLACED, {"D"}), (AGAIN, {"A", "B"})],
    ids=["added", "replaced", "added again"],
)
def test_whatever_the_order_of_delivery_the_newest_words_count(
    ledger: Ledger, runs: dict[str, Claim], expected: set[str]
) -> None:
    for order in permutations(runs):
        urn = f"urn:li:dataset:{'-'.join(order)}"
        lineage = Lineage(ledger, {run_id: _of(each, urn) for run_id, each in runs.items()})
        for run_id in order:
            ledger.runs.touch(run_id)
            lineage.deliver(run_id)
        while again := due(ledger):
            lineage.deliver(again[0])
        assert lineage.now == expected, order


def _of(claim: Claim, urn: str) -> Claim:
    return Claim(urn, claim.slot, claim.time, claim.hash, claim.base, claim.takes_additions)
