"""Sending by hand what the code locations of a workspace define, and counting what would be sent.

It goes the way of everything else: into the ledger, and from there to DataHub by whichever
dispatcher is first. A dispatcher of its own helps until all is delivered.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dagster import DagsterInstance

from datahub_eventlog.catalog.packing import encode
from datahub_eventlog.catalog.reading import LocationReading, read_location
from datahub_eventlog.catalog.workspace import LocationState
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher import Dispatcher, Observer, Parts, catalog_items
from datahub_eventlog.ledger import Ledger, State, catalog_row, content_hash
from datahub_eventlog.values import CatalogPart, Problem


@dataclass
class LocationProgress:
    """What became of one code location."""

    name: str
    error: str | None = None
    """Why it could not be loaded."""
    is_new: bool = False
    """It was to be delivered: it has changed, or somebody asked for it."""
    state: State | None = None
    """The state of its delivery in the ledger."""
    entities: Counter[str] = field(default_factory=Counter)
    """By type, of what would be sent."""
    problems: list[Problem] = field(default_factory=list)


@dataclass
class CatalogProgress:
    """How far it has come."""

    locations: list[LocationProgress] = field(default_factory=list)
    total: int = 0
    """The number of the code locations."""
    sent: int = 0
    """The proposals that this process has sent."""
    trouble: str = ""
    """Why nothing can be delivered just now."""

    @property
    def fell_short(self) -> bool:
        """Whether a code location is not in DataHub as it is."""
        return any(
            location.error or location.state not in {None, "delivered"}
            for location in self.locations
        )


class CatalogDelivery:
    """Sends the catalogues of a workspace; `stop` may come from a signal."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        instance: DagsterInstance,
        on_progress: Callable[[CatalogProgress], None],
    ) -> None:
        self._ledger: Ledger = parts.ledger
        self._instance = instance
        self._on_progress = on_progress
        self._stop = threading.Event()
        self.progress = CatalogProgress()
        self._dispatcher = Dispatcher(config, parts, observer=_Counting(self.progress))

    def run(self, states: Sequence[LocationState], *, is_confirmed: bool) -> CatalogProgress:
        """Send what has changed; `is_confirmed`: all, and remove whatever is gone."""
        self.progress.total = len(states)
        try:
            for state, reading in readings(states, self._instance):
                if self._stop.is_set():
                    break
                location = LocationProgress(state.name, state.error)
                self.progress.locations.append(location)
                if reading is not None:
                    self._deliver(location, reading, is_confirmed=is_confirmed)
                self._on_progress(self.progress)
            return self.progress
        finally:
            self._dispatcher.abandon()

    def stop(self) -> None:
        """End soon; what is in the ledger stays there for another dispatcher."""
        self._stop.set()
        self._dispatcher.stop()

    def _deliver(
        self, location: LocationProgress, reading: LocationReading, *, is_confirmed: bool
    ) -> None:
        blobs = [encode(part) for part in reading.parts()]
        known = self._ledger.catalogs.find(location.name)
        # The same content was not loaded anew for the daemon, which compares it later.
        is_same = known and known.hash == content_hash(blobs, is_whole=reading.is_complete)
        loaded = known.loaded if known and is_same else self._ledger.database.read_clock()
        location.is_new = self._ledger.catalogs.store(
            location.name,
            blobs,
            loaded,
            is_whole=reading.is_complete,
            is_confirmed=is_confirmed,
        )
        row = catalog_row(location.name)
        self._dispatcher.deliver_until_done([row], self._stop, self._show)
        location.state = self._ledger.runs.state(row)

    def _show(self, trouble: str) -> None:
        self.progress.trouble = trouble
        self._on_progress(self.progress)


def readings(
    states: Sequence[LocationState], instance: DagsterInstance
) -> Iterator[tuple[LocationState, LocationReading | None]]:
    """Each code location with its definitions; None for one that could not be loaded."""
    for state in states:
        if state.location is None:
            yield state, None
        else:
            yield state, read_location(state, states, instance)


def count(
    states: Sequence[LocationState], config: Config, parts: Parts, instance: DagsterInstance
) -> CatalogProgress:
    """What would be sent; nothing is stored or sent."""
    now = parts.ledger.database.read_clock()
    progress = CatalogProgress(total=len(states))
    for state, reading in readings(states, instance):
        location = LocationProgress(state.name, state.error)
        progress.locations.append(location)
        for part in reading.parts() if reading else ():
            _count_part(location, part, now, config, parts)
    return progress


def _count_part(
    location: LocationProgress, part: CatalogPart, now: float, config: Config, parts: Parts
) -> None:
    types: dict[str, str] = {}
    for item in catalog_items(part, now, config, parts):
        if isinstance(item, Problem):
            location.problems.append(item)
        else:
            types[item.urn] = item.entity_type
    location.entities.update(types.values())


class _Counting(Observer):
    def __init__(self, progress: CatalogProgress) -> None:
        self._progress = progress

    def sent(self, proposals: int, rejected: int) -> None:
        self._progress.sent += proposals
