"""Notices that a code location was loaded, and has what it defines delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
        self._watched: dict[str, _Watched] = {}
        """By code location."""

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
        watched = self._watched.get(state.name)
        if watched is None:
            return True
        now = time.monotonic()
        return now >= watched.rest and (watched.version != state.version or now >= watched.due)

    def _compare(self, state: LocationState, states: Sequence[LocationState]) -> bool:
        watched = self._watched.get(state.name)
        if watched is None or watched.version != state.version:
            watched = _Watched(state.version, self._ledger.database.read_clock())
            self._watched[state.name] = watched
        begun = time.monotonic()
        is_new = is_complete = False
        try:
            reading = read_location(state, states, self._instance)
            blobs = [encode(part) for part in reading.parts()]
            is_complete = reading.is_complete
            is_new = self._ledger.catalogs.store(
                state.name, blobs, watched.loaded, is_whole=is_complete
            )
        except LedgerUnavailable:
            watched.due = begun
            raise
        except Exception as error:  # noqa: BLE001 - runs are delivered all the same
            reason = error_text.trace(error)
            logger.error("Code location %s can't be read: %s", state.name, reason)  # noqa: TRY400 - `trace` has the traceback
            is_complete = False
        finally:
            now = time.monotonic()
            watched.rest = now + REST * (now - begun)
        watched.due = begun + self._delay(watched, is_complete=is_complete)
        if is_new:
            logger.info("Code location %s has changed, and is sent to DataHub.", state.name)
        return is_new

    def _delay(self, watched: _Watched, *, is_complete: bool) -> float:
        """Until it is compared again although it is not loaded anew: a failure may be a hiccup."""
        interval = self._options.interval.total_seconds()
        if is_complete:
            watched.failures = 0
            return interval
        watched.failures += 1
        return min(RETRY.total_seconds() * 2.0 ** min(watched.failures - 1, 20), interval)


@dataclass
class _Watched:
    """What is known of a code location; times but `loaded` are those of the monotonic clock."""

    version: str
    loaded: float
    """When this version was first seen, by the ledger's clock."""
    due: float = float("-inf")
    """When it is compared again although it is not loaded anew."""
    rest: float = float("-inf")
    """Until when it is not read, whatever its version."""
    failures: int = 0
    """How often in a row it could not be read whole."""
