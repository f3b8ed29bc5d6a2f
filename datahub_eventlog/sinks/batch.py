"""Delivers one batch over HTTP; each answer decides what is sent next, and how much at once.

```
200                  continue, with larger requests if the answer was quick
Refused              halve, down to the refused proposal; all others are delivered
TimedOut, too large  halve, and keep the smaller size until answers are quick again
ServerError (500)    as Refused, if another proposal proves that the server is up
anything else        is raised to the caller
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from datahub_eventlog.errors import DeliveryError, Rejected, Unavailable
from datahub_eventlog.sinks.answers import Refused, ServerError, TimedOut
from datahub_eventlog.sinks.mcps import Mcp
from datahub_eventlog.values import Proposal

MAX_TIMEOUTS = 3
"""After that many in a row the server is stuck rather than slow."""
QUICK_SHARE = 0.25
"""If an answer takes less of the timeout, the next request may have twice as many proposals."""
MAX_WITNESSES = 3
"""Other proposals that are tried before the server counts as down."""


@dataclass(frozen=True)
class Item:
    """A proposal in the client's form."""

    proposal: Proposal
    mcp: Mcp
    length: int
    """Its bytes in a request, rounded up."""
    is_timeseries: bool


class Post(Protocol):
    """Sends one request."""

    def __call__(self, request: Sequence[Item], *, is_patient: bool) -> float:
        """Return the share of the timeout that the answer took.

        `is_patient`: whether to repeat the request after a 500.
        """
        ...


@dataclass
class BatchLimits:
    """How much a server takes in one request; a sink keeps it from one batch to the next."""

    max_proposals: int
    """What DataHub allows in a request."""
    max_bytes: int
    current_max: int = 0
    """How many proposals the server manages in one request now."""
    accepted: Item | None = None
    """A timeseries document that it has accepted: sending it again changes nothing."""

    def __post_init__(self) -> None:
        """Begin with as much as is allowed."""
        self.current_max = self.current_max or self.max_proposals


class BatchDelivery:
    """The delivery of one batch."""

    def __init__(self, items: Sequence[Item], post: Post, limits: BatchLimits) -> None:
        """Take a batch; `limits` are adapted to the answers."""
        self._items = items
        self._post = post
        self._limits = limits
        self._last_accepted: Item | None = None
        self._timeouts = 0

    def run(self) -> list[Rejected]:
        """Deliver all of it and return what was rejected."""
        rejected: list[Rejected] = []
        start = 0
        while start < len(self._items):
            request = self._request(start)
            try:
                rejected += self._send_or_split(request)
            except TimedOut:
                continue
            start += len(request)
        return rejected

    def _request(self, start: int) -> Sequence[Item]:
        """The next items that go into one request; at least one."""
        stop, length = start + 1, self._items[start].length
        while stop < len(self._items) and stop - start < self._limits.current_max:
            length += self._items[stop].length
            if length > self._limits.max_bytes:
                break
            stop += 1
        return self._items[start:stop]

    def _send_or_split(self, request: Sequence[Item], *, is_patient: bool = True) -> list[Rejected]:
        try:
            self._send(request, is_patient=is_patient)
        except Refused as refused:
            if refused.is_too_large:
                self._shrink(request)
            return self._halve(request) if len(request) > 1 else [_rejected(request[0], refused)]
        except ServerError as error:
            return self._diagnose_500(request, error, is_patient=is_patient)
        return []

    def _send(self, request: Sequence[Item], *, is_patient: bool) -> None:
        try:
            share = self._post(request, is_patient=is_patient)
        except TimedOut as late:
            self._timeouts += 1
            self._shrink(request)
            if len(request) == 1 or self._timeouts >= MAX_TIMEOUTS:
                raise self._stuck(request, late) from None
            raise
        self._learn(request, share)

    def _stuck(self, request: Sequence[Item], late: TimedOut) -> DeliveryError:
        """What repeated timeouts mean: the server is stuck, or only this proposal is too slow."""
        accepted = self._accepted_before()
        if len(request) > 1 or accepted is None or not self._accepts(accepted):
            return Unavailable(str(late))
        only = request[0].proposal
        return DeliveryError(f"{late} to {only.urn} {only.aspect} alone; it accepts others")

    def _shrink(self, request: Sequence[Item]) -> None:
        self._limits.current_max = max(1, len(request) // 2)

    def _learn(self, request: Sequence[Item], share: float) -> None:
        self._timeouts = 0
        self._last_accepted = request[-1]
        limits = self._limits
        limits.accepted = next(
            (item for item in reversed(request) if item.is_timeseries), limits.accepted
        )
        if share < QUICK_SHARE and len(request) >= limits.current_max:
            limits.current_max = min(limits.max_proposals, 2 * limits.current_max)

    def _halve(self, request: Sequence[Item]) -> list[Rejected]:
        middle = len(request) // 2
        first = self._send_or_split(request[:middle], is_patient=False)
        return first + self._send_or_split(request[middle:], is_patient=False)

    def _diagnose_500(
        self, request: Sequence[Item], error: ServerError, *, is_patient: bool
    ) -> list[Rejected]:
        """Find out, after a 500, whether the server is down or one proposal causes it."""
        if len(request) > 1:
            accepted = self._accepted_before()
            if is_patient and accepted and not self._accepts(accepted):
                raise Unavailable(str(error))
            return self._halve(request)
        if not any(map(self._accepts, self._witnesses(request[0]))):
            raise Unavailable(
                f"{error} (to {request[0].proposal.urn} {request[0].proposal.aspect})"
            )
        try:
            self._send(request, is_patient=True)
        except (Refused, ServerError) as again:
            return [_rejected(request[0], again)]
        return []

    def _accepted_before(self) -> Item | None:
        """What the server has accepted before, and can be sent again without any effect."""
        return self._last_accepted or self._limits.accepted

    def _witnesses(self, suspect: Item) -> Iterator[Item]:
        """Other proposals, which a server that is up should accept."""
        accepted = self._accepted_before()
        if accepted:
            yield accepted
            return
        # They are sent again later, in their order: being early does no harm.
        urns = {suspect.proposal.urn}
        for item in reversed(self._items):
            if item is suspect or len(urns) > MAX_WITNESSES:
                return
            if item.proposal.urn not in urns:
                urns.add(item.proposal.urn)
                yield item

    def _accepts(self, witness: Item) -> bool:
        try:
            self._post([witness], is_patient=False)
        except (ServerError, Refused):
            return False
        except TimedOut as late:
            raise Unavailable(str(late)) from None
        return True


def _rejected(item: Item, error: Refused | ServerError) -> Rejected:
    return Rejected(item.proposal.urn, item.proposal.aspect, str(error))
