"""What a code location defines, whether or not it ever ran.

It is what a run gives that has planned everything and not begun: the same urns, and the same
aspects. What only a run can know ranks above it, see `ranks`.

Of jobs, the catalogue knows as much as any run, and the schedules and sensors besides. So where
there is a catalogue, it has the last word on a job's `dataFlowInfo` (`Context.has_catalog`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from datahub.metadata.schema_classes import StatusClass
from datahub.metadata.urns import DatasetUrn

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import Proposals, dagster_platform, prepared, state
from datahub_eventlog.translate.asset_checks import assertion_info, assertion_urn
from datahub_eventlog.translate.assets.definition import definition_proposals, dependencies
from datahub_eventlog.translate.assets.description import existence
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.freshness import policy_proposals, policy_urn
from datahub_eventlog.translate.lineage.asset_lineage import asset_lineage
from datahub_eventlog.translate.lineage.asset_ports import asset_datasets
from datahub_eventlog.translate.lineage.op_lineage import lineage_proposals, run_lineage
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.translate.lineage.upstream_aspects import TableEdges
from datahub_eventlog.translate.ranks import ranked_time_alone
from datahub_eventlog.translate.runs.asset_events import asset_history
from datahub_eventlog.translate.runs.jobs import flow_proposals, job_proposals
from datahub_eventlog.translate.runs.plan import plan_of
from datahub_eventlog.translate.runs.progress import Moment, Result, RunProgress
from datahub_eventlog.values import (
    AssetFacts,
    CatalogJob,
    CatalogPart,
    CodeRepository,
    Definitions,
    Problem,
    Proposal,
    Run,
    RunLog,
)


def catalog_proposals(
    part: CatalogPart, since: float, context: Context, *, now: float | None = None
) -> Proposals:
    """Everything that a part defines; `since` is when its code location was loaded.

    `now` is the time of a job's own facts, if that is later. It is that of the delivery: a run may
    have begun since the load, and not have known of the catalogue.
    """
    config = context.config
    if config.capture_asset_materialization and config.emit_assets:
        yield from _asset_proposals(part, since, context)
    if config.capture_asset_materialization and config.health.freshness:
        yield from _freshness_proposals(part, since, context)
    for job in part.jobs:
        yield from _job_proposals(part.repository, job, since, context, max(since, now or since))


def removal(urn: str, since: float) -> Proposal | Problem:
    """That an entity is not defined any more."""
    return state(urn, StatusClass(removed=True), since)


def definitions_log(part: CatalogPart) -> RunLog:
    """The definitions of a part's assets, as of a run in which nothing happened."""
    facts = {asset.key: asset for asset in (*part.upstream, *part.assets)}
    return RunLog(Run("", "", ""), None, (), (), Definitions(facts))


def run_of(repository: CodeRepository, job: CatalogJob) -> Run:
    """A run of that job that never was: it gives the job its urns."""
    return Run(
        "",
        job.job.name,
        "",
        location=repository.location,
        repository=repository.name,
        module=repository.module,
        file=repository.file,
    )


def defined_urns(part: CatalogPart, context: Context) -> Iterator[str]:
    """The entities that a part defines, also those that the configuration leaves out."""
    for key in (*(facts.key for facts in part.assets), *part.shared):
        with suppress(urns.InvalidUrn):
            yield urns.asset_urn(key, context)
    yield from (policy_urn(facts.key, context) for facts in part.assets if facts.freshness)
    for job in part.jobs:
        run = run_of(part.repository, job)
        yield urns.flow_urn(run, context)
        yield from (urns.job_urn(run, op.handle, context) for op in job.job.ops)
        for facts in job.assets:
            checks = (check for check in facts.checks if not check.is_of_dbt)
            yield from (assertion_urn(check.check, context) for check in checks)


def _asset_proposals(part: CatalogPart, since: float, context: Context) -> Proposals:
    assets = RunAssets(definitions_log(part), context)
    edges = TableEdges()
    keyed: set[str] = set()
    exists = [prepared(aspect) for aspect in existence(context)]
    for facts in part.assets:
        if not assets.allows(facts.key):
            continue
        try:
            lineage = asset_lineage(facts.key, None, assets)
        except urns.InvalidUrn as error:
            yield Problem("/".join(facts.key), "datasetKey", str(error))
            continue
        yield from (state(lineage.urn, aspect, since) for aspect in exists)
        yield from lineage.problems
        yield from definition_proposals(facts, lineage, since, "", context)
        read = dependencies(replace(lineage, downstreams=frozenset()), context)
        for urn in sorted(read - keyed):
            yield state(urn, DatasetUrn.from_string(urn).to_key_aspect(), since)
        keyed |= read
        if facts.is_external:
            edges.add_sibling(lineage, since)
    yield from edges.proposals("")


def _freshness_proposals(part: CatalogPart, since: float, context: Context) -> Proposals:
    assets = RunAssets(definitions_log(part), context)
    for facts in part.assets:
        dataset = assets.checked(facts.key)
        if dataset is None or facts.freshness is None:
            continue
        yield from policy_proposals(facts, dataset, since, context)
        urn = policy_urn(facts.key, context)
        # Runs don't send it, so only a removal is taken back.
        yield state(urn, StatusClass(removed=False), since, is_vacant=True)


def _job_proposals(
    repository: CodeRepository, job: CatalogJob, since: float, context: Context, now: float
) -> Proposals:
    facts = {asset.key: asset for asset in job.assets}
    log = RunLog(run_of(repository, job), job.job, job.steps, (), Definitions(facts))
    # As of a run that has ended without a step: nothing more is to be expected of its ops.
    progress = RunProgress(moments=(Moment(since, 0, Result.SKIPPED),), began=since)
    plan = plan_of(log)
    assets = asset_datasets(log, asset_history(log.events), context)
    yield from flow_proposals(log, progress, context, triggers=job.triggers, info_since=now)
    yield from job_proposals(log, plan, progress, context)
    lineage = run_lineage(log, plan, progress, assets, context)
    yield from lineage_proposals(log, lineage, since, context)
    if context.config.health.checks and context.config.capture_asset_materialization:
        yield from _check_proposals(log, job.assets, since, context)


def _check_proposals(
    log: RunLog, facts: tuple[AssetFacts, ...], since: float, context: Context
) -> Proposals:
    """The checks as assertions; a run knows their metadata as well, and so ranks higher.

    Those that are tests of dbt are left to runs, which know whose assertion they are.
    """
    assets = RunAssets(log, context)
    for asset in facts:
        dataset = assets.checked(asset.key)
        if dataset is None:
            continue
        for check in asset.checks:
            if check.is_of_dbt:
                continue
            urn = assertion_urn(check.check, context)
            yield state(urn, assertion_info(check, dataset, context), ranked_time_alone(since))
            yield state(urn, dagster_platform(context), ranked_time_alone(since))
            # Runs don't send it, so only a removal is taken back.
            yield state(urn, StatusClass(removed=False), since, is_vacant=True)
