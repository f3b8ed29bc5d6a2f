"""The runs of a backfill together, as a process instance above theirs."""

from __future__ import annotations

from collections.abc import Iterator

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.properties import present
from datahub_eventlog.translate.runs.instances import Instance, instance_proposals
from datahub_eventlog.translate.runs.progress import Moment, Result
from datahub_eventlog.translate.runs.run import instance_type, tag_properties, trigger
from datahub_eventlog.values import Backfill, Problem, Proposal

LISTED_ASSETS = 100
"""The number of assets up to which they are named."""

_RESULTS = {
    "COMPLETED": Result.SUCCESS,
    "COMPLETED_SUCCESS": Result.SUCCESS,
    "COMPLETED_FAILED": Result.FAILURE,
    "FAILED": Result.FAILURE,
    "CANCELED": Result.CANCELED,
}


def backfill_proposals(backfill: Backfill, context: Context) -> Iterator[Proposal | Problem]:
    """The backfill's aspects; without Dagster's record of it, what its runs know."""
    name = f"backfill:{backfill.backfill_id}"
    this = Instance(
        urn=urns.backfill_urn(backfill.backfill_id, context),
        name=backfill.title or backfill.backfill_id,
        type=instance_type(backfill.tags),
        run_id=name,
        message=name,
        moments=_moments(backfill),
        template=_template(backfill, context),
        created=_created(backfill),
        link=links.backfill_link(backfill.backfill_id, context),
        properties=_properties(backfill, context),
    )
    yield from instance_proposals(this, context)


def _moments(backfill: Backfill) -> tuple[Moment, ...]:
    if backfill.created is None:
        return ()
    start = Moment(backfill.created, 1)
    result = _RESULTS.get(backfill.status or "")
    if result is None or backfill.ended is None:
        return (start,)
    return start, Moment(backfill.ended, 1, result, started=backfill.created)


def _created(backfill: Backfill) -> float:
    first = backfill.run.created if backfill.run else None
    return (first or 0.0) if backfill.created is None else backfill.created


def _template(backfill: Backfill, context: Context) -> str | None:
    """The job, unless the backfill is one of assets: its runs can belong to several jobs."""
    if backfill.run is None or backfill.run.job_name != backfill.job_name:
        return None
    return urns.flow_urn(backfill.run, context)


def _properties(backfill: Backfill, context: Context) -> dict[str, str]:
    allows = context.config.asset_pattern.allows
    assets = [name for name in map("/".join, backfill.assets) if allows(name)]
    numbers = {
        "partitions": backfill.partitions,
        "partitions_succeeded": backfill.partitions_succeeded,
        "partitions_failed": backfill.partitions_failed,
        "runs": backfill.runs,
        "asset_count": len(assets) or None,
        "start_time": backfill.created,
        "end_time": backfill.ended,
    }
    facts = {
        "backfill_id": backfill.backfill_id,
        "status": backfill.status,
        "trigger": trigger(backfill.tags),
        "title": backfill.title,
        "description": backfill.description,
        "job": backfill.job_name,
        "assets": ", ".join(assets) if 0 < len(assets) <= LISTED_ASSETS else None,
        "failure_message": backfill.error,
        **{name: None if number is None else str(number) for name, number in numbers.items()},
    }
    return present({**tag_properties(backfill.tags), **facts})
