"""Runs with everything that their translation needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Literal, TypeAlias

from datahub_eventlog import definitions
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.catalog_facts import CatalogFacts
from datahub_eventlog.dispatcher.context import asset_keys
from datahub_eventlog.dispatcher.filters import has_wanted_steps, is_wanted
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.source import Source
from datahub_eventlog.values import Definitions, Run, RunLog

Absence: TypeAlias = Literal["filtered", "gone"]
"""Why nothing of a run is sent: it is left out on purpose, or no longer in the event log."""
DECODED_DEFINITIONS = 16
"""Jobs whose definitions are kept decoded: the runs of one have the same again and again."""


class RunLogs:
    """Reads runs with the facts of their definitions, from the run itself or the catalogue."""

    def __init__(self, ledger: Ledger, source: Source, catalog: CatalogFacts | None) -> None:
        self._ledger = ledger
        self._source = source
        self._catalog = catalog
        self._definitions = lru_cache(maxsize=DECODED_DEFINITIONS)(self._decode)

    def wanted(
        self,
        run_id: str,
        definitions_hash: str | None,
        config: Config,
        on_page: Callable[[], None] = lambda: None,
    ) -> RunLog | Absence:
        """The run as it is now, or why nothing of it is to be sent; see `read`."""
        run = self._source.run(run_id)
        if run is None:
            return "gone"
        if not is_wanted(run, config):
            return "filtered"
        log = self.read(run, definitions_hash, on_page)
        return log if has_wanted_steps(log, config) else "filtered"

    def read(
        self,
        run: Run,
        definitions_hash: str | None,
        on_page: Callable[[], None] = lambda: None,
    ) -> RunLog:
        """The run as it is now; `on_page` is called after each page of its events."""
        facts = None if definitions_hash is None else self._definitions(definitions_hash)
        log = self._source.log(run, facts, on_page)
        if facts is None and self._catalog is not None:
            defined = self._catalog.definitions_of(run.location, asset_keys(log))
            return replace(log, definitions=defined)
        return log

    def _decode(self, hash_: str) -> Definitions | None:
        blob = self._ledger.runs.facts(hash_)
        return None if blob is None else definitions.decode(blob)
