"""The proposals of a run, those of the user's functions included, within limits, without secrets.

All that is delivered, shown or previewed comes from here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from datahub_eventlog.config import Config, Redaction
from datahub_eventlog.dispatcher.context import asset_keys, context_of, plain_context
from datahub_eventlog.dispatcher.filters import wanted_jobs
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.extractor import Extraction
from datahub_eventlog.redact import Redactor
from datahub_eventlog.translate import translate, translate_runless
from datahub_eventlog.translate.aspects import json_of
from datahub_eventlog.translate.catalog import catalog_proposals, definitions_log, removal
from datahub_eventlog.translate.limits import within_limits
from datahub_eventlog.translate.runs.backfill import backfill_proposals
from datahub_eventlog.values import (
    Backfill,
    CatalogPart,
    Change,
    Event,
    Problem,
    Proposal,
    Run,
    RunLog,
)


def run_items(
    log: RunLog, config: Config, parts: Parts, *, opens_since: float = 0.0
) -> Iterator[Proposal | Problem]:
    """Everything that a run becomes; what failed before `opens_since` opens no incident."""
    context, extraction = context_of(log, config, parts, opens_since)
    return _outgoing(_merged(translate(log, context), extraction), config)


def backfill_items(backfill: Backfill, config: Config) -> Iterator[Proposal | Problem]:
    """Everything that the runs of a backfill together become."""
    if not config.health.backfills:
        return iter(())
    return _outgoing(backfill_proposals(backfill, plain_context(config)), config)


def runless_items(
    events: Sequence[Event], config: Config, parts: Parts, *, opens_since: float = 0.0
) -> Iterator[Proposal | Problem]:
    """The same of events without a run."""
    log = RunLog(Run("", "", ""), None, (), events)
    context, extraction = context_of(log, config, parts, opens_since)
    definitions = None
    if parts.catalog is not None and not config.emit_assets:
        definitions = parts.catalog.known_anywhere(asset_keys(log))  # they name the tables
    translated = translate_runless(events, definitions, context)
    return _outgoing(_merged(translated, extraction), config)


def catalog_items(
    part: CatalogPart, since: float, config: Config, parts: Parts, *, now: float | None = None
) -> Iterator[Proposal | Problem]:
    """Everything that a part of a code location's catalogue becomes; see `catalog_proposals`."""
    context, extraction = context_of(definitions_log(part), config, parts)
    items = _merged(
        catalog_proposals(wanted_jobs(part, config), since, context, now=now), extraction
    )
    return _outgoing(items, config)


def removals(urns: Iterable[str], since: float, config: Config) -> Iterator[Proposal | Problem]:
    """That these entities are not defined any more."""
    return _outgoing((removal(urn, since) for urn in urns), config)


@lru_cache(maxsize=8)
def redactor_of(redaction: Redaction) -> Redactor | None:
    """What hides secrets under that configuration, or None where it is switched off."""
    if not redaction.enabled:
        return None
    return Redactor(redaction.patterns, redaction.keys)


def _merged(
    translated: Iterator[Proposal | Problem], extraction: Extraction
) -> Iterator[Proposal | Problem]:
    """The run's own proposals, then the extractor's, which replace or add to ours."""
    replaced = {
        (proposal.urn, proposal.aspect)
        for proposal in extraction.proposals
        if proposal.change is Change.UPSERT
    }
    for item in translated:
        is_whole = isinstance(item, Proposal) and item.change is Change.UPSERT
        if not is_whole or (item.urn, item.aspect) not in replaced:
            yield item
    yield from extraction.proposals
    yield from extraction.problems


def _outgoing(items: Iterable[Proposal | Problem], config: Config) -> Iterator[Proposal | Problem]:
    redactor = redactor_of(config.redact)
    for item in within_limits(items):  # first, since to look through a huge text takes long
        if redactor is None:
            yield item
        elif isinstance(item, Problem):
            yield redactor.value(item)
        else:
            yield _without_secrets(item, redactor)


def _without_secrets(proposal: Proposal, redactor: Redactor) -> Proposal:
    """The proposal itself where there is nothing to hide, which is nearly always."""
    urn = redactor.text(proposal.urn)
    if not redactor.may_hold_secret(proposal.body):
        return proposal if urn == proposal.urn else replace(proposal, urn=urn)
    body = json_of(redactor.aspect(json.loads(proposal.body)))
    return replace(proposal, urn=urn, body=body)
