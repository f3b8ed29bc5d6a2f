"""What somebody may want to count of a dispatcher's work."""

from __future__ import annotations

from datahub_eventlog.ledger import Outcome


class Watch:
    """Is told what happens; this one lets it pass. Nothing that it does may fail."""

    def attempted(self) -> None:
        """A run's delivery begins."""

    def sent(self, proposals: int, rejected: int) -> None:
        """So many proposals were taken, and so many rejected or not translated."""

    def settled(self, outcome: Outcome) -> None:
        """A run is done with."""

    def parked(self) -> None:
        """A run was laid aside for somebody to look at."""

    def requested(self, seconds: float) -> None:
        """A request to DataHub took so long, whatever came of it."""
