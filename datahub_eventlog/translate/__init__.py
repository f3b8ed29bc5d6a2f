"""From a run's log to what DataHub is told: values in, proposals out.

Nothing in here reads, waits, logs or looks at a clock, so that a run translated twice is equal,
and a run translated while it goes on is what the whole of it begins with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from datahub_eventlog.translate.asset_checks import check_proposals
from datahub_eventlog.translate.assets.emitter import AssetView, asset_view, runless_proposals
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import Datasets
from datahub_eventlog.translate.lineage.op_lineage import (
    AssetDatasets,
    RunLineage,
    lineage_proposals,
    op_lineage,
)
from datahub_eventlog.translate.runs.jobs import flow_proposals, job_proposals
from datahub_eventlog.translate.runs.plan import plan_of
from datahub_eventlog.translate.runs.progress import progress_of
from datahub_eventlog.translate.runs.run import run_proposals
from datahub_eventlog.translate.runs.steps import step_proposals
from datahub_eventlog.values import Definitions, Event, Problem, Proposal, RunLog

__all__ = ["Context", "translate", "translate_runless"]


def translate(log: RunLog, context: Context) -> Iterator[Proposal | Problem]:
    """Everything that a run says to DataHub, and what of it could not be said.

    A run that is still going on says what is known so far: nothing that its whole takes back.
    """
    view = asset_view(log, context)
    assets = _asset_datasets(view)
    parts = (run_part(log, assets, context), view.proposals(), check_proposals(log, context))
    yield from once(chain.from_iterable(parts))


def run_lineage(log: RunLog, context: Context) -> RunLineage:
    """What the run's steps and ops read and wrote, as `translate` tells it."""
    assets = _asset_datasets(asset_view(log, context))
    return op_lineage(log, plan_of(log), progress_of(log), assets, context)


def _asset_datasets(view: AssetView) -> AssetDatasets:
    """What asset events, and the definitions of assets, say of the steps."""
    return AssetDatasets(
        seen=datasets(view.ports.inputs, view.ports.outputs),
        defined=datasets(view.ports.takes, view.ports.makes),
    )


def translate_runless(
    events: Sequence[Event], definitions: Definitions | None, context: Context
) -> Iterator[Proposal | Problem]:
    """What the events that belong to no run say."""
    yield from once(runless_proposals(events, definitions, context))


def datasets(
    inputs: Mapping[str, frozenset[str]], outputs: Mapping[str, frozenset[str]]
) -> Mapping[str, Datasets]:
    """Both sides as one."""
    return {
        name: Datasets(inputs.get(name, frozenset()), outputs.get(name, frozenset()))
        for name in inputs.keys() | outputs.keys()
    }


def run_part(log: RunLog, assets: AssetDatasets, context: Context) -> Iterator[Proposal | Problem]:
    """Job, ops, run, steps and their lineage."""
    plan = plan_of(log)
    progress = progress_of(log)
    lineage = op_lineage(log, plan, progress, assets, context)
    yield from flow_proposals(log, progress, context)
    yield from job_proposals(log, plan, progress, context)
    yield from run_proposals(log, progress, context)
    yield from step_proposals(log, plan, progress, lineage.steps, context)
    yield from lineage_proposals(log, lineage, progress.began, context)


def once(found: Iterable[Proposal | Problem]) -> Iterator[Proposal | Problem]:
    """Without the repetitions of what the parts say alike: that a dataset exists, and problems."""
    said: set[tuple[str, str, str]] = set()
    for each in found:
        if isinstance(each, Problem) or each.aspect == "datasetKey":
            reason = each.reason if isinstance(each, Problem) else ""
            if (each.urn, each.aspect, reason) in said:
                continue
            said.add((each.urn, each.aspect, reason))
        yield each
