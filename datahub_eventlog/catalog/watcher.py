"""Notices that a code location was loaded, and has what it defines delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from dagster import DagsterInstance

from datahub_eventlog import error_text
from datahub_eventlog.catalog.packing import encode
from datahub_eventlog.catalog.reading import read_location
from datahub_eventlog.catalog.workspace import LocationState, Workspace
from datahub_eventlog.config import CatalogOptions
from datahub_eventlog.errors import LedgerUnavailable
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.log import logger

CHECK_EVERY = timedelta(seconds=5)
"""From one look at the versions of the code locations to the next; it costs no request."""

RETRY = timedelta(seconds=60)
"""Until what could not be read whole is read again; twice as long each time."""
REST = 20.0
"""How many times as long as a reading took nothing is read of the same code location. A daemon that
starts its code servers itself does so anew every minute, and each has another version."""


class CatalogWatcher:
    """Compares each code location with the ledger when it is loaded, and every `interval`."""

    def __init__(
        self,
        ledger: Ledger,
        instance: DagsterInstance,
        find_workspace: Callable[[], Workspace | None],
        options: CatalogOptions,
    ) -> None:
        self._ledger = ledger
        self._instance = instance
        self._find_workspace = find_workspace
        self._options = options
        self._next = float("-inf")
        self._compared: dict[str, tuple[str, float]] = {}
        """By code location: the version, and when it was compared."""
        self._failures: dict[str, tuple[str, int]] = {}
        """By code location: the version, and how often in a row it could not be read whole."""
        self._rests: dict[str, float] = {}
        """By code location: until when it is not read again."""
        self._loaded: dict[str, tuple[str, float]] = {}
        """By code location: the version, and when that was first seen, by the ledger's clock."""

    @property
    def is_due(self) -> bool:
        """Whether it is time to look again."""
        return self._options.enabled and time.monotonic() >= self._next

    def run_once(self) -> int:
        """Store what is new of the code locations, and return of how many there was any."""
        self._next = time.monotonic() + CHECK_EVERY.total_seconds()
        workspace = self._find_workspace()
        states = workspace.locations() if workspace else []
        due = [state for state in states if state.location is not None and self._is_due(state)]
        return sum(self._compare(state, states) for state in due)

    def _is_due(self, state: LocationState) -> bool:
        now = time.monotonic()
        if now < self._rests.get(state.name, now):
            return False
        version, compared = self._compared.get(state.name, ("", 0.0))
        age = now - compared
        return version != state.version or age >= self._options.interval.total_seconds()

    def _compare(self, state: LocationState, states: Sequence[LocationState]) -> bool:
        version, loaded = self._loaded.get(state.name, ("", 0.0))
        if version != state.version:
            loaded = self._ledger.database.read_clock()
            self._loaded[state.name] = (state.version, loaded)
        # First, so that one that can't be read is not read again and again.
        begun = time.monotonic()
        self._compared[state.name] = (state.version, begun)
        others = [other for other in states if other.name != state.name]
        try:
            reading = read_location(state, others, self._instance)
            blobs = [encode(part) for part in reading.parts()]
            is_new = self._ledger.catalogs.store(
                state.name, blobs, loaded, is_whole=reading.is_complete
            )
        except LedgerUnavailable:
            del self._compared[state.name]
            raise
        except Exception as error:  # noqa: BLE001 - runs are delivered all the same
            reason = error_text.trace(error)
            logger.error("Code location %s can't be read: %s", state.name, reason)  # noqa: TRY400 - `trace` has the traceback
            self._compare_soon(state)
            return False
        finally:
            now = time.monotonic()
            self._rests[state.name] = now + REST * (now - begun)
        if not reading.is_complete:
            self._compare_soon(state)
        if is_new:
            logger.info("Code location %s has changed, and is sent to DataHub.", state.name)
        return is_new

    def _compare_soon(self, state: LocationState) -> None:
        """Have it compared once more although it is not loaded anew: it may have been a hiccup."""
        failed = self._failures.get(state.name, (state.version, 0))
        number = failed[1] + 1 if failed[0] == state.version else 1
        self._failures[state.name] = (state.version, number)
        interval = self._options.interval.total_seconds()
        delay = min(RETRY.total_seconds() * 2 ** min(number - 1, 20), interval)
        self._compared[state.name] = (state.version, time.monotonic() - interval + delay)
