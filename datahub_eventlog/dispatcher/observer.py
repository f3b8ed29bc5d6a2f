"""What can be counted of a dispatcher's work."""

from __future__ import annotations

from datahub_eventlog.ledger import Outcome


class Observer:
    """Is notified of a dispatcher's work. This one does nothing; none may raise."""

    def attempted(self) -> None:
        """The delivery of a run begins."""

    def sent(self, proposals: int, rejected: int) -> None:
        """So many proposals were taken, and so many rejected or not translated."""

    def settled(self, outcome: Outcome) -> None:
        """The delivery of a run has ended."""

    def parked(self) -> None:
        """A run was set aside for a person to look at."""

    def requested(self, seconds: float) -> None:
        """A request to DataHub took so long, whatever came of it."""

    def verified(self, aspects: int, differing: int) -> None:
        """So many aspects were compared with DataHub, of which so many were not as sent."""
