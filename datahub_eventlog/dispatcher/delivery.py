"""Sending one run: in order, in batches, each state only if it is the newest, nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias

from datahub_eventlog.dispatcher.keeping import Keeper
from datahub_eventlog.errors import LeaseLost
from datahub_eventlog.ledger import AHEAD, Claim, Lease, Ledger
from datahub_eventlog.log import logger
from datahub_eventlog.sinks import Sink
from datahub_eventlog.values import Change, Problem, Proposal

BATCH = 1536
"""Proposals that the ledger is asked about and the sink is given at once: over HTTP, a little less
than what fills the requests that it has under way at once."""

ADDED_TO = frozenset({"dataJobInputOutput", "datasetProperties", "upstreamLineage"})
"""The states that patches with a time add to."""


Mark: TypeAlias = tuple[str, str]
"""Urn and digest of what is sent without a claim; the ledger remembers the rest."""


def digest(proposal: Proposal) -> str:
    """The hash of everything that is sent."""
    return _hash(f"{proposal.change.value}\0{proposal.body}")


def slot(proposal: Proposal) -> str:
    """What a proposal takes the place of: an aspect, or of a patch its topic or paths."""
    if proposal.change is Change.UPSERT:
        return proposal.aspect
    if proposal.topic:
        return f"{proposal.aspect}#{proposal.topic}"
    return f"{proposal.aspect}#{_hash(json.dumps(_places(json.loads(proposal.body))))}"


def _places(patch: Any) -> list[Any]:
    """What a patch changes, in either of the forms that DataHub knows; a user can send both.

    And neither: whether it is one at all is for DataHub to say.
    """
    changes = patch.get("patch", ()) if isinstance(patch, dict) else patch
    return [
        [each.get("op"), each.get("path")] if isinstance(each, dict) else each for each in changes
    ]


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def claim_of(proposal: Proposal) -> Claim | None:
    """The claim under which a state is sent, or None for what is always sent.

    A patch adds to what is there, whoever sent it: it has a slot of its own, so that it is not
    repeated for nothing and gives way only to a patch of the same places. One with a time adds
    to the state of that moment, and so gives way to a newer state.
    """
    if proposal.change is Change.PATCH:
        base = None if proposal.time is None else proposal.aspect
        return Claim(proposal.urn, slot(proposal), proposal.time or 0.0, digest(proposal), base)
    if proposal.time is None:
        return None
    return Claim(
        proposal.urn,
        proposal.aspect,
        proposal.time,
        digest(proposal),
        takes_additions=proposal.aspect in ADDED_TO,
        is_vacant=proposal.is_vacant,
    )


@dataclass(frozen=True)
class Rules:
    """How a run is to be sent."""

    ttl: timedelta
    """How long each request extends the run's lease."""
    resend_after: timedelta
    on_request: Callable[[], None] = lambda: None
    is_logged: bool = False
    """Every proposal is written to the log."""


@dataclass(frozen=True)
class _Claimed:
    """A proposal and its claim, or else its mark, which take longer to make than to keep."""

    proposal: Proposal
    claim: Claim | None
    mark: Mark | None

    @classmethod
    def of(cls, proposal: Proposal) -> _Claimed:
        """Either of them."""
        claim = claim_of(proposal)
        return cls(proposal, claim, None if claim else (proposal.urn, digest(proposal)))

    def not_after(self, now: float) -> _Claimed:
        """The same, or as of now if its time is ahead."""
        if self.claim is None or self.claim.time <= now + AHEAD:
            return self
        return replace(self, claim=replace(self.claim, time=now))


@dataclass
class Report:
    """What became of a run's proposals."""

    sent: int = 0
    urns: set[str] = field(default_factory=set)
    """Of what was sent."""
    rejected: list[tuple[str, str, str]] = field(default_factory=list)


class Delivery:
    """Sends what it is given for one lease; `LeaseLost` and `Unavailable` pass through."""

    def __init__(
        self, ledger: Ledger, sink: Sink, lease: Lease, rules: Rules, sent: set[Mark]
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._lease = lease
        self._rules = rules
        self._sent = sent
        self._ready: list[_Claimed] = []
        # Neither slow SQL nor a slow server must cost us the lease.
        self._proceed = Keeper(ledger, lease, rules.ttl, rules.on_request).keep
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
            if len(waiting) >= BATCH:
                self._sift(waiting)
                waiting = []
        self._sift(waiting)
        while self._ready:
            self._emit()
        return self.report

    def _sift(self, waiting: list[Proposal]) -> None:
        """Keep what is to be sent, and send when there is a batch of it."""
        found = self._dated([_Claimed.of(each) for each in waiting])
        claims = _claims(found)
        granted = iter(
            self._ledger.claims.grant(
                self._lease, self._rules.ttl, claims, resend_after=self._rules.resend_after
            )
            if claims
            else ()
        )
        for each in found:
            if next(granted) if each.claim else each.mark not in self._sent:
                self._ready.append(each)
        while len(self._ready) >= BATCH:
            self._emit()

    def _dated(self, found: list[_Claimed]) -> list[_Claimed]:
        """The same, where states of events whose time has not come yet count as of now.

        Until then they would be the newest, and keep away all that comes after them.
        """
        latest = self._lease.begun + AHEAD
        if all(each.claim is None or each.claim.time <= latest for each in found):
            return found
        now = self._ledger.database.read_clock()
        return [each.not_after(now) for each in found]

    def _emit(self) -> None:
        ready, self._ready = self._ready[:BATCH], self._ready[BATCH:]
        batch = [each.proposal for each in ready]
        if self._rules.is_logged:
            _log(batch)
        try:
            rejected = self._sink.emit(batch, self._proceed)
        except LeaseLost:
            self._ledger.claims.resend_newer(self._lease, _claims(ready))
            raise
        refused = {(each.urn, each.aspect) for each in rejected}
        taken = [each for each in ready if (each.proposal.urn, each.proposal.aspect) not in refused]
        self.report.rejected += [(each.urn, each.aspect, each.reason) for each in rejected]
        self.report.sent += len(taken)
        self.report.urns.update(each.proposal.urn for each in taken)
        self._ledger.claims.confirm(self._lease, _claims(taken))
        self._sent.update(each.mark for each in taken if each.mark)


def _claims(found: Iterable[_Claimed]) -> list[Claim]:
    return [each.claim for each in found if each.claim is not None]


def _log(batch: Iterable[Proposal]) -> None:
    for each in batch:
        logger.debug("%s %s %s: %s", each.change.value, each.urn, each.aspect, each.body)
