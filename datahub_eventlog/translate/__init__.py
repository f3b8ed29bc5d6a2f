"""From a run's log to the proposals that DataHub is sent: values in, values out.

Nothing in here reads, waits, logs or looks at a clock. So a run translated twice is equal, and
what is sent while a run goes on is never taken back by its whole.

- `runs`: what happened in the run, and the job, ops, run and steps that DataHub gets of it.
- `assets`: what each asset is, and when its data changed.
- `lineage`: what an asset is made of, which table it is, what steps and ops read and write.
- `asset_checks`, `freshness`: asset checks and freshness policies as assertions.
- `incidents`: what opens an incident, and resolves it.
- `explain`: why an asset is linked to its datasets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from datahub_eventlog.translate.asset_checks import check_proposals
from datahub_eventlog.translate.assets.emitter import asset_proposals
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import Datasets
from datahub_eventlog.translate.freshness import freshness_proposals
from datahub_eventlog.translate.incidents import incident_proposals
from datahub_eventlog.translate.lineage.asset_ports import AssetDatasets, asset_datasets
from datahub_eventlog.translate.lineage.op_lineage import lineage_proposals, run_lineage
from datahub_eventlog.translate.runs.asset_events import asset_history
from datahub_eventlog.translate.runs.jobs import flow_proposals, job_proposals
from datahub_eventlog.translate.runs.plan import plan_of
from datahub_eventlog.translate.runs.progress import progress_of
from datahub_eventlog.translate.runs.run import run_proposals
from datahub_eventlog.translate.runs.steps import step_proposals
from datahub_eventlog.values import Definitions, Event, Problem, Proposal, Run, RunLog

__all__ = ["Context", "translate", "translate_runless"]


def translate(log: RunLog, context: Context) -> Iterator[Proposal | Problem]:
    """All proposals of a run, and the facts of it that could not be translated.

    Of a run that is still going on: what is known so far and will stay true.
    """
    history = asset_history(log.events)
    assets = asset_datasets(log, history, context)
    parts = (
        run_part(log, assets, context),
        asset_proposals(log, history, context),
        check_proposals(log, context),
        freshness_proposals(log, history, context),
        incident_proposals(log, history, context),
    )
    yield from without_repetitions(chain.from_iterable(parts))


def translate_runless(
    events: Sequence[Event], definitions: Definitions | None, context: Context
) -> Iterator[Proposal | Problem]:
    """All proposals of events that belong to no run: reports, observations, checks, freshness."""
    log = RunLog(Run("", "", ""), None, (), events, definitions)
    history = asset_history(events)
    parts = (
        asset_proposals(log, history, context),
        check_proposals(log, context),
        freshness_proposals(log, history, context),
        incident_proposals(log, history, context),
    )
    yield from without_repetitions(chain.from_iterable(parts))


def step_datasets(log: RunLog, context: Context) -> Mapping[str, Datasets]:
    """What each step of the run read and wrote, by its key, as `translate` has it."""
    assets = asset_datasets(log, asset_history(log.events), context)
    return run_lineage(log, plan_of(log), progress_of(log), assets, context).steps


def run_part(log: RunLog, assets: AssetDatasets, context: Context) -> Iterator[Proposal | Problem]:
    """Job, ops, run, steps and their lineage."""
    plan = plan_of(log)
    progress = progress_of(log)
    lineage = run_lineage(log, plan, progress, assets, context)
    yield from flow_proposals(log, progress, context)
    yield from job_proposals(log, plan, progress, context)
    yield from run_proposals(log, progress, context)
    yield from step_proposals(log, plan, progress, lineage.steps, context)
    yield from lineage_proposals(log, lineage, progress.began, context)


def without_repetitions(items: Iterable[Proposal | Problem]) -> Iterator[Proposal | Problem]:
    """Each problem, and that a dataset exists, once: several parts may yield the same."""
    seen: set[tuple[str, str, str]] = set()
    for item in items:
        if isinstance(item, Problem) or item.aspect == "datasetKey":
            place = (item.urn, item.aspect, item.reason if isinstance(item, Problem) else "")
            if place in seen:
                continue
            seen.add(place)
        yield item
