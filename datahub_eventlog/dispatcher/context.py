"""What a translation needs to know beside the run: found here, since translation is pure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.extractor import Extraction
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import (
    AssetKey,
    Evaluation,
    FreshnessChange,
    Materialization,
    MaterializationFailure,
    Planned,
    RunLog,
    Wiped,
)


def context_of(
    log: RunLog, config: Config, parts: Parts, opens_since: float = 0.0
) -> tuple[Context, Extraction]:
    """The context of that run, and what the user's functions said of it."""
    converted = parts.extractor.platform_urns(asset_keys(log))
    extracted = Extraction()
    scratch = parts.source.scratch()
    if log.run.run_id and log.has_ended:
        ends = [event.time for event in log.events if event.ends_run]
        extracted = parts.extractor.lineages(
            lambda: parts.source.sensor_context(log.run.run_id),
            parts.graph,
            max(ends, default=log.run.ended or 0.0),
            log,
            scratch,
        )
    context = replace(
        plain_context(config),
        platform_urns=converted.platform_urns,
        lineages=extracted.lineages,
        scratch=scratch,
        has_catalog=bool(parts.catalog and parts.catalog.has(log.run.location)),
        opens_since=opens_since,
        resolver=parts.known_columns.resolver if parts.known_columns else None,
    )
    problems = converted.problems + extracted.problems
    return context, Extraction(proposals=extracted.proposals, problems=problems)


def plain_context(config: Config) -> Context:
    """The context of what belongs to no single run."""
    return Context(
        config=config,
        is_cloud="DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT" in os.environ,
        deployment=os.environ.get("DAGSTER_CLOUD_DEPLOYMENT_NAME"),
    )


def asset_keys(log: RunLog) -> set[AssetKey]:
    """Every asset that the run's events, plan or definitions speak of."""
    return set(_asset_keys(log))


def _asset_keys(log: RunLog) -> Iterator[AssetKey]:
    for step in log.steps:
        yield from (output.asset_key for output in step.outputs if output.asset_key)
    for facts in (log.definitions.assets if log.definitions else {}).values():
        yield facts.key
        yield from facts.deps
    for event in log.events:
        match event.data:
            case Materialization() as asset:
                yield asset.asset_key
                yield from asset.made_of
            case (
                Planned(asset_key=key)
                | Wiped(asset_key=key)
                | MaterializationFailure(asset_key=key)
                | FreshnessChange(asset_key=key)
            ):
                yield key
            case Evaluation(check=check):
                yield check.asset_key
            case _:
                pass
