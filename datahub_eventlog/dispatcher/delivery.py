"""Sending one run: in order, in batches, each state only if it is the newest, nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeAlias

from datahub_eventlog.dispatcher.lease_keeper import LeaseKeeper
from datahub_eventlog.errors import LeaseLost
from datahub_eventlog.ledger import CLOCK_TOLERANCE_SECONDS, Claim, Lease, Ledger
from datahub_eventlog.log import logger
from datahub_eventlog.proposal_claims import claim_of, content_hash
from datahub_eventlog.sinks import Sink
from datahub_eventlog.values import Problem, Proposal

PROPOSALS_IN_BATCH = 1536
"""Claimed and sent at once. Over HTTP that is eight requests of up to 200 (`sinks.lanes.LANES`),
so that all lanes are busy."""

SentKey: TypeAlias = tuple[str, str]
"""Urn and content hash of what is sent without a claim; the ledger remembers the rest."""


@dataclass(frozen=True)
class Rules:
    """How a run is to be sent."""

    ttl: timedelta
    """How long each request extends the run's lease."""
    resend_after: timedelta
    on_request: Callable[[], None] = lambda: None
    is_logged: bool = False
    """Every proposal is written to the log."""


@dataclass
class Report:
    """What became of a run's proposals."""

    sent: int = 0
    urns: set[str] = field(default_factory=set)
    """Of what was sent."""
    rejected: list[tuple[str, str, str]] = field(default_factory=list)


class Delivery:
    """Sends the proposals of one lease; `LeaseLost` and `Unavailable` pass through."""

    def __init__(
        self, ledger: Ledger, sink: Sink, lease: Lease, rules: Rules, sent: set[SentKey]
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._lease = lease
        self._rules = rules
        self._sent = sent
        self._ready: list[_Claimed] = []
        # Neither slow SQL nor a slow server must cost us the lease.
        self._proceed = LeaseKeeper(ledger, lease, rules.ttl, rules.on_request).keep
        self.report = Report()

    def send(self, items: Iterable[Proposal | Problem]) -> Report:
        """Send the proposals in their order; record what could not be sent."""
        waiting: list[Proposal] = []
        for item in items:
            self._proceed()  # to make the next one may have taken long
            if isinstance(item, Problem):
                self.report.rejected.append((item.urn, item.aspect, item.reason))
                continue
            waiting.append(item)
            if len(waiting) >= PROPOSALS_IN_BATCH:
                self._add_granted(waiting)
                waiting = []
        self._add_granted(waiting)
        while self._ready:
            self._send_batch()
        return self.report

    def _add_granted(self, waiting: list[Proposal]) -> None:
        """Keep what is to be sent, and send when there is a batch of it."""
        claimed = self._not_ahead([_Claimed.of(proposal) for proposal in waiting])
        claims = _claims(claimed)
        granted = iter(
            self._ledger.claims.grant(
                self._lease, self._rules.ttl, claims, resend_after=self._rules.resend_after
            )
            if claims
            else ()
        )
        for item in claimed:
            if next(granted) if item.claim else item.sent_key not in self._sent:
                self._ready.append(item)
        while len(self._ready) >= PROPOSALS_IN_BATCH:
            self._send_batch()

    def _not_ahead(self, claimed: list[_Claimed]) -> list[_Claimed]:
        """The same, where states of events in the future count as of now.

        Until their time comes they would count as the newest, and hold back all that follows them.
        """
        latest = self._lease.begun + CLOCK_TOLERANCE_SECONDS
        if all(item.claim is None or item.claim.time <= latest for item in claimed):
            return claimed
        now = self._ledger.database.read_clock()
        return [item.not_after(now) for item in claimed]

    def _send_batch(self) -> None:
        ready, self._ready = self._ready[:PROPOSALS_IN_BATCH], self._ready[PROPOSALS_IN_BATCH:]
        batch = [item.proposal for item in ready]
        if self._rules.is_logged:
            for proposal in batch:
                logger.debug(
                    "%s %s %s: %s",
                    proposal.change.value,
                    proposal.urn,
                    proposal.aspect,
                    proposal.body,
                )
        try:
            rejected = self._sink.emit(batch, self._proceed)
        except LeaseLost:
            self._ledger.claims.resend_newer(self._lease, _claims(ready))
            raise
        refused = {(rejection.urn, rejection.aspect) for rejection in rejected}
        taken = [item for item in ready if (item.proposal.urn, item.proposal.aspect) not in refused]
        self.report.rejected += [
            (rejection.urn, rejection.aspect, rejection.reason) for rejection in rejected
        ]
        self.report.sent += len(taken)
        self.report.urns.update(item.proposal.urn for item in taken)
        self._ledger.claims.confirm(self._lease, _claims(taken))
        self._sent.update(item.sent_key for item in taken if item.sent_key)


@dataclass(frozen=True)
class _Claimed:
    """A proposal with its claim, or with a key of its own if it has none."""

    proposal: Proposal
    claim: Claim | None
    sent_key: SentKey | None

    @classmethod
    def of(cls, proposal: Proposal) -> _Claimed:
        """With the one or the other, made once: it takes a hash of the whole body."""
        claim = claim_of(proposal)
        return cls(proposal, claim, None if claim else (proposal.urn, content_hash(proposal)))

    def not_after(self, now: float) -> _Claimed:
        """The same, with the claim as of now if its time is ahead."""
        if self.claim is None or self.claim.time <= now + CLOCK_TOLERANCE_SECONDS:
            return self
        return replace(self, claim=replace(self.claim, time=now))


def _claims(claimed: Iterable[_Claimed]) -> list[Claim]:
    return [item.claim for item in claimed if item.claim is not None]
