"""Delivery into memory: for tests, and to look at what would be sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datahub_eventlog.errors import Rejected
from datahub_eventlog.sinks import always
from datahub_eventlog.values import Change, Problem, Proposal


class MemorySink:
    """Keeps every proposal in the order in which it came."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.batches: list[int] = []
        """The sizes of the batches."""
        self.problems: list[Problem] = []
        """What could not be translated; a sink itself never hears of it."""

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always
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
            (each.urn, each.aspect): each for each in self.proposals if each.change is Change.UPSERT
        }

    def bodies(self, urn: str) -> dict[str, str]:
        """The last thing said about each aspect of an entity, as JSON: a state, or a patch."""
        return {each.aspect: each.body for each in self.proposals if each.urn == urn}
