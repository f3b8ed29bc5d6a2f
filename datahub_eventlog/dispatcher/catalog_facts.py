"""The definitions of a run that has none of its own, from the catalogue of its code location.

Such a run is history: it ended before capture was switched on, and a backfill brings it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache

from datahub_eventlog.catalog.packing import decode
from datahub_eventlog.ledger import Ledger, StoredCatalog, stored_name
from datahub_eventlog.values import (
    AssetFacts,
    AssetKey,
    CatalogPart,
    CodeRepository,
    Definitions,
)

DECODED_PARTS = 8
"""Parts that are kept decoded; the runs of a job need the same again and again."""
INDEXES = 16
"""Catalogues of which we remember which part has which asset."""

COUNTS_FOR = timedelta(days=1)
"""How long a catalogue counts that nobody compares with its code location any more."""
LOCATIONS_KEPT = timedelta(seconds=60)
"""How long it is remembered which code locations have a catalogue."""
UNKNOWN_KEPT = timedelta(seconds=5)
"""The same of one that had none: its catalogue may be on its way."""


class CatalogFacts:
    """Reads catalogues from the ledger, and keeps what the next run may need."""

    def __init__(self, ledger: Ledger, interval: timedelta) -> None:
        """`interval` is how often catalogues are compared with their code locations."""
        self._ledger = ledger
        self._counts_for = max(COUNTS_FOR, 2 * interval)
        self._locations: frozenset[str] = frozenset()
        self._asked = float("-inf")
        self._part = lru_cache(maxsize=DECODED_PARTS)(self._read_part)
        self._places = lru_cache(maxsize=INDEXES)(self._find_places)

    def has(self, location: str | None) -> bool:
        """Whether the code location has a catalogue that is kept up to date; asked each minute."""
        if location is None:
            return False
        name = stored_name(location)
        age = time.monotonic() - self._asked
        kept = LOCATIONS_KEPT if name in self._locations else UNKNOWN_KEPT
        if age > kept.total_seconds():
            self._locations = frozenset(self._ledger.catalogs.locations(self._counts_for))
            self._asked = time.monotonic()
        return name in self._locations

    def definitions_of(self, location: str | None, keys: set[AssetKey]) -> Definitions | None:
        """What the code location defines of these assets now; None if it has no catalogue.

        The run's own code may have been another, so its lineage is only added to what is known.
        """
        catalog = None if location is None else self._ledger.catalogs.find(location)
        if catalog is None:
            return None
        own = self._facts(catalog, keys)
        upstream = {dep for asset in own.values() for dep in asset.deps} - own.keys()
        assets = {**self._facts(catalog, upstream), **own}
        return Definitions(assets=assets, is_cut=True) if assets else None

    def known_anywhere(self, keys: set[AssetKey]) -> Definitions | None:
        """What any code location defines of these assets now, without those upstream."""
        assets: dict[AssetKey, AssetFacts] = {}
        for name in self._ledger.catalogs.locations(self._counts_for):
            catalog = self._ledger.catalogs.find(name) if keys else None
            for key, facts in (self._facts(catalog, keys) if catalog else {}).items():
                if key not in assets or assets[key].is_external:
                    assets[key] = facts
        return Definitions(assets=assets, is_cut=True) if assets else None

    def _facts(self, catalog: StoredCatalog, keys: set[AssetKey]) -> dict[AssetKey, AssetFacts]:
        places = self._places(catalog)
        facts: dict[AssetKey, AssetFacts] = {}
        for number in sorted({places[key] for key in keys if key in places}):
            part = self._part(catalog, number)
            facts.update({asset.key: asset for asset in part.assets if asset.key in keys})
        return facts

    def _find_places(self, catalog: StoredCatalog) -> Mapping[AssetKey, int]:
        """The number of the part that has each asset."""
        return {
            asset.key: number
            for number in range(catalog.parts)
            for asset in self._read_part(catalog, number).assets
        }

    def _read_part(self, catalog: StoredCatalog, number: int) -> CatalogPart:
        blob = self._ledger.catalogs.part(catalog, number)
        # A newer catalogue has taken its place: the next run finds that one.
        return CatalogPart(CodeRepository(catalog.location, "")) if blob is None else decode(blob)
