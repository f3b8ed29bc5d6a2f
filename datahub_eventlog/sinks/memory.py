"""Delivery into memory, for tests and to show what would be sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datahub_eventlog.errors import Rejected
from datahub_eventlog.sinks import always_proceed
from datahub_eventlog.values import Change, Problem, Proposal


class MemorySink:
    """Keeps every proposal in the order in which it came."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.batches: list[int] = []
        """The sizes of the batches."""
        self.problems: list[Problem] = []
        """What could not be translated; `emit` does not add to it."""

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always_proceed
    ) -> Sequence[Rejected]:
        """Keep the batch; nothing is ever refused."""
        proceed()
        self.proposals += batch
        self.batches.append(len(batch))
        return ()

    def close(self) -> None:
        """Nothing is open."""

    def latest(self) -> dict[tuple[str, str], Proposal]:
        """The last full state of each (urn, aspect)."""
        return {
            (proposal.urn, proposal.aspect): proposal
            for proposal in self.proposals
            if proposal.change is not Change.PATCH
        }

    def bodies(self, urn: str) -> dict[str, str]:
        """The last proposal for each aspect of an entity, as JSON: a state, or a patch."""
        return {item.aspect: item.body for item in self.proposals if item.urn == urn}
