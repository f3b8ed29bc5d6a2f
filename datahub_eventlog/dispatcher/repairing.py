"""The proposals of a repair: those of a delivery that DataHub was found to lack."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.catalog_sending import CatalogSending
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.proposals import (
    backfill_items,
    removals,
    run_items,
    runless_items,
)
from datahub_eventlog.dispatcher.run_logs import RunLogs
from datahub_eventlog.ledger import StoredCatalog, backfill_of, location_of
from datahub_eventlog.proposal_claims import claim_of, repair_key
from datahub_eventlog.values import Problem, Proposal, RunLog

Items = Iterator[Proposal | Problem]


def repair_items(
    row_id: str, keys: Collection[str], config: Config, parts: Parts, logs: RunLogs
) -> Items:
    """Of what the row's run, backfill, catalogue or runless events become: what to repair.

    Whoever sends a state whole takes away what the same run adds to it, so that comes along.
    """
    for item in _all_items(row_id, config, parts, logs):
        if isinstance(item, Proposal):
            claim = claim_of(item)
            is_added = claim is not None and claim.base_row_key in keys
            if is_added or repair_key(item, claim) in keys:
                yield item


def _all_items(row_id: str, config: Config, parts: Parts, logs: RunLogs) -> Items:
    location, backfill_id = location_of(row_id), backfill_of(row_id)
    if backfill_id is not None:
        backfill = parts.source.backfill(backfill_id)
        yield from () if backfill is None else backfill_items(backfill, config)
    elif location is not None:
        catalog = parts.ledger.catalogs.find(location)
        yield from () if catalog is None else whole_catalog_items(catalog, config, parts)
    elif row_id:
        log = logs.wanted(row_id, parts.ledger.runs.definitions_of(row_id), config)
        yield from run_items(log, config, parts) if isinstance(log, RunLog) else ()
    else:
        since, now = parts.ledger.upkeep.runless_since(), parts.ledger.database.read_clock()
        events = parts.source.runless(None, since, now).events
        yield from runless_items(events, config, parts)


def whole_catalog_items(catalog: StoredCatalog, config: Config, parts: Parts) -> Items:
    """Everything that a code location defines, and that what it defines no longer is removed."""
    now = parts.ledger.database.read_clock()
    yield from CatalogSending(catalog, config, parts, now=now).items()
    removed = parts.ledger.catalogs.removed(catalog.location)
    yield from removals(removed, catalog.loaded, config)
