"""One batch on its way over HTTP: what to send next, by what came of the last request.

```
200                  go on; larger requests where they were answered quickly
Refused              halve, down to the guilty proposal; it is rejected, all else is delivered
TimedOut, too large  halve, and keep to the smaller size until answers are quick again
Broken (500)         the same as Refused, once another proposal has proved that the server is up
anything else        passes through; the caller's business
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from datahub_eventlog.errors import DeliveryError, Rejected, Unavailable
from datahub_eventlog.sinks.answers import Broken, Refused, TimedOut
from datahub_eventlog.sinks.mcps import Mcp
from datahub_eventlog.values import Proposal

TIMEOUTS = 3
"""After so many in a row the server is stuck rather than slow."""
QUICK = 0.25
"""An answer within this share of the timeout: twice as much would do in one request, too."""
WITNESSES = 3


@dataclass(frozen=True)
class Item:
    """A proposal in the client's form."""

    proposal: Proposal
    mcp: Mcp
    length: int
    """Its bytes in a request, or a few more."""
    is_timeseries: bool


class Post(Protocol):
    """Sends one request."""

    def __call__(self, piece: Sequence[Item], *, is_patient: bool) -> float:
        """Return the share of the timeout that the answer took.

        `is_patient`: whether a 500 is worth a few tries, as where nothing is known yet.
        """
        ...


@dataclass
class Experience:
    """What a sink has learned about its server, from one batch to the next."""

    most: int
    """Proposals and bytes in a request, as far as DataHub allows."""
    most_bytes: int
    limit: int = 0
    """How many proposals the server manages in one request just now."""
    proof: Item | None = None
    """A timeseries document that it took: sending it again never changes anything."""

    def __post_init__(self) -> None:
        """Begin with as much as is allowed."""
        self.limit = self.limit or self.most


class Delivery:
    """One batch on its way."""

    def __init__(self, items: Sequence[Item], post: Post, experience: Experience) -> None:
        """Take a batch; `experience` is changed as it goes."""
        self._items = items
        self._post = post
        self._experience = experience
        self._last: Item | None = None
        self._timeouts = 0

    def run(self) -> list[Rejected]:
        """Deliver all of it and return what was rejected."""
        rejected: list[Rejected] = []
        start = 0
        while start < len(self._items):
            piece = self._piece(start)
            try:
                rejected += self._deliver(piece)
            except TimedOut:
                continue
            start += len(piece)
        return rejected

    def _piece(self, start: int) -> Sequence[Item]:
        """The next items that go into one request; at least one."""
        stop, length = start + 1, self._items[start].length
        while stop < len(self._items) and stop - start < self._experience.limit:
            length += self._items[stop].length
            if length > self._experience.most_bytes:
                break
            stop += 1
        return self._items[start:stop]

    def _deliver(self, piece: Sequence[Item], *, is_patient: bool = True) -> list[Rejected]:
        try:
            self._send(piece, is_patient=is_patient)
        except Refused as refused:
            if refused.is_too_large:
                self._shrink(piece)
            return self._halve(piece) if len(piece) > 1 else [_rejected(piece[0], refused)]
        except Broken as broken:
            return self._doubt(piece, broken, is_patient=is_patient)
        return []

    def _send(self, piece: Sequence[Item], *, is_patient: bool) -> None:
        try:
            share = self._post(piece, is_patient=is_patient)
        except TimedOut as late:
            self._timeouts += 1
            self._shrink(piece)
            if len(piece) == 1 or self._timeouts >= TIMEOUTS:
                raise self._stuck(piece, late) from None
            raise
        self._learn(piece, share)

    def _stuck(self, piece: Sequence[Item], late: TimedOut) -> DeliveryError:
        """The server is stuck; or it takes others, and this one is its run's own trouble."""
        known = self._known_good()
        if len(piece) > 1 or known is None or not self._takes(known):
            return Unavailable(str(late))
        only = piece[0].proposal
        return DeliveryError(f"{late} to {only.urn} {only.aspect} alone; it takes others")

    def _shrink(self, piece: Sequence[Item]) -> None:
        self._experience.limit = max(1, len(piece) // 2)

    def _learn(self, piece: Sequence[Item], share: float) -> None:
        self._timeouts = 0
        self._last = piece[-1]
        experience = self._experience
        experience.proof = next(
            (each for each in reversed(piece) if each.is_timeseries), experience.proof
        )
        if share < QUICK and len(piece) >= experience.limit:
            experience.limit = min(experience.most, 2 * experience.limit)

    def _halve(self, piece: Sequence[Item]) -> list[Rejected]:
        middle = len(piece) // 2
        first = self._deliver(piece[:middle], is_patient=False)
        return first + self._deliver(piece[middle:], is_patient=False)

    def _doubt(self, piece: Sequence[Item], broken: Broken, *, is_patient: bool) -> list[Rejected]:
        """Find out, after a 500, whether it is the server or a proposal that it stumbles over."""
        if len(piece) > 1:
            known = self._known_good()
            if is_patient and known and not self._takes(known):
                raise Unavailable(str(broken))
            return self._halve(piece)
        if not any(self._takes(each) for each in self._witnesses(piece[0])):
            raise Unavailable(f"{broken} (to {piece[0].proposal.urn} {piece[0].proposal.aspect})")
        try:
            self._send(piece, is_patient=True)
        except (Refused, Broken) as again:
            return [_rejected(piece[0], again)]
        return []

    def _known_good(self) -> Item | None:
        """What the server has taken before, and can be sent once more without any effect."""
        return self._last or self._experience.proof

    def _witnesses(self, suspect: Item) -> Iterator[Item]:
        """What a server that is up should take, whatever is wrong with the suspect."""
        known = self._known_good()
        if known:
            yield known
            return
        # They are not sent yet, and will be in their order: being early does no harm.
        urns = {suspect.proposal.urn}
        for each in reversed(self._items):
            if each is suspect or len(urns) > WITNESSES:
                return
            if each.proposal.urn not in urns:
                urns.add(each.proposal.urn)
                yield each

    def _takes(self, witness: Item) -> bool:
        try:
            self._post([witness], is_patient=False)
        except (Broken, Refused):
            return False
        except TimedOut as late:
            raise Unavailable(str(late)) from None
        return True


def _rejected(item: Item, error: Refused | Broken) -> Rejected:
    return Rejected(item.proposal.urn, item.proposal.aspect, str(error))
