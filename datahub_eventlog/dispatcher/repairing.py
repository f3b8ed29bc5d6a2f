"""The proposals of a repair: those of a delivery that DataHub was found to lack."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from datahub_eventlog.catalog.packing import decode
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.filters import has_wanted_steps, is_wanted
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.proposals import (
    catalog_items,
    removals,
    run_items,
    runless_items,
)
from datahub_eventlog.dispatcher.run_logs import RunLogs
from datahub_eventlog.ledger import StoredCatalog, location_of
from datahub_eventlog.proposal_claims import claim_of, repair_key
from datahub_eventlog.values import Problem, Proposal

Items = Iterator[Proposal | Problem]


def repair_items(row_id: str, keys: Collection[str], config: Config, parts: Parts) -> Items:
    """What the run, the catalogue or the events without a run become, if it is to be repaired.

    Whoever sends a state whole takes away what the same run adds to it, so that comes along.
    """
    for item in _all_items(row_id, config, parts):
        if isinstance(item, Proposal):
            claim = claim_of(item)
            is_added = claim is not None and claim.base_row_key in keys
            if is_added or repair_key(item, claim) in keys:
                yield item


def _all_items(row_id: str, config: Config, parts: Parts) -> Items:
    location = location_of(row_id)
    if location is not None:
        catalog = parts.ledger.catalogs.find(location)
        yield from () if catalog is None else whole_catalog_items(catalog, config, parts)
    elif row_id:
        yield from _run_items(row_id, config, parts)
    else:
        since, now = parts.ledger.upkeep.runless_since(), parts.ledger.database.read_clock()
        events = parts.source.runless(None, since, now).events
        yield from runless_items(events, config, parts)


def _run_items(run_id: str, config: Config, parts: Parts) -> Items:
    run = parts.source.run(run_id)
    if run is None or not is_wanted(run, config):
        return
    hash_ = parts.ledger.runs.definitions_of(run_id)
    log = RunLogs(parts.ledger, parts.source, parts.catalog).read(run, hash_)
    if has_wanted_steps(log, config):
        yield from run_items(log, config, parts)


def whole_catalog_items(catalog: StoredCatalog, config: Config, parts: Parts) -> Items:
    """Everything that a code location defines, and that what it defines no longer is removed.

    It ends early if a newer catalogue takes the place of this one.
    """
    catalogs, now = parts.ledger.catalogs, parts.ledger.database.read_clock()
    for number in range(catalog.parts):
        blob = catalogs.part(catalog, number)
        if blob is None:
            return
        yield from catalog_items(decode(blob), catalog.loaded, config, parts, now=now)
    yield from removals(catalogs.removed(catalog.location), catalog.loaded, config)
