"""Adds runs that a crash between store and touch left out of the ledger, and removes old rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from datahub_eventlog.ledger import Ledger
from datahub_eventlog.log import logger
from datahub_eventlog.source import Source

RECONCILE_EVERY = timedelta(minutes=3)
RUNS_A_PAGE = 500
CLOCK_DIFFERENCE = timedelta(hours=2)
"""How far an update may be behind the watermark: clocks differ, and where the session of a Postgres
is not in UTC, Dagster stores local time, whose hour comes twice in autumn."""
ZONE_DIFFERENCE = timedelta(hours=15)
"""The same while the watermark is no stored time yet, but the ledger's own: every time zone."""
NEW_RUN_GRACE = timedelta(seconds=30)
"""A run is created before its first event is stored: a younger one is not missing."""


class Reconciler:
    """Compares the instance's runs with the ledger every few minutes."""

    def __init__(
        self,
        ledger: Ledger,
        source: Source,
        retention: timedelta,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._retention = retention
        self._clock = clock
        self._next = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again; at the start it is."""
        return time.monotonic() >= self._next  # whatever becomes of the clock

    def run_once(self) -> int:
        """Add the runs that are missing, drop what is old, and return how many were added."""
        self._next = time.monotonic() + RECONCILE_EVERY.total_seconds()
        if ahead := self._ledger.upkeep.ahead():
            logger.warning("A clock is wrong, or was: %s.", ahead)
        self._ledger.runs.look_for_runless()
        self._ledger.upkeep.sweep(self._retention)
        added = self._add_missing()
        if added:
            logger.info("Found %d runs whose events had not been noticed.", added)
        return added

    def _add_missing(self) -> int:
        """Follow the runs' updates from the watermark on, page by page."""
        newest = self._clock() - NEW_RUN_GRACE.total_seconds()
        oldest = self._clock() - self._retention.total_seconds()
        since = min(self._ledger.upkeep.captured_since(), self._clock())
        begun = max(oldest, since)
        position = max(self._first_position(since), oldest)
        added = 0
        while True:
            page = self._source.updated(position, RUNS_A_PAGE)
            # What seems to come from the future is local time, and as old as anything.
            settled = [update for update in page if not newest < update.time <= self._clock()]
            # A tag on an old run counts as an update: its row was removed for good, or the run
            # is older than the ledger, or from a time when capture was off.
            recent = [update.run_id for update in settled if (update.ended or begun) >= begun]
            added += len(self._ledger.runs.add(recent, backfilled=False))
            if not settled or settled[-1].time <= position:
                return added
            position = settled[-1].time
            self._ledger.upkeep.set_watermark(min(position, newest))
            if len(page) < RUNS_A_PAGE:
                return added

    def _first_position(self, since: float) -> float:
        """From where on to look: what was stored lately may seem older than what was seen."""
        watermark = min(self._ledger.upkeep.watermark(), self._clock())
        is_stored = watermark > since + NEW_RUN_GRACE.total_seconds()
        return watermark - (CLOCK_DIFFERENCE if is_stored else ZONE_DIFFERENCE).total_seconds()
