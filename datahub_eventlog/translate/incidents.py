"""Incidents: what failed opens one, and what is well again resolves it.

A check, a freshness policy, an asset's materialisation and a job have one incident each, which is
opened again when the same fails again. What DataHub is sent are changes of its state. So what
people decide about it in between stays: its priority, its assignees, its stage, and that they have
resolved it themselves while it went on failing.

One proposal creates the incident, but only where there is none; another brings its state up to
date. What fails in a run that Dagster is going to retry, or failed in history, opens none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from datahub.metadata.schema_classes import (
    AuditStampClass,
    IncidentInfoClass,
    IncidentSourceClass,
    IncidentSourceTypeClass,
    IncidentStateClass,
    IncidentStatusClass,
    IncidentTypeClass,
)
from datahub.metadata.urns import IncidentUrn

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.aspects import STATE, Proposals, created, json_of
from datahub_eventlog.translate.asset_checks import CheckEmitter
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.freshness import changes, policy_urn
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.translate.runs.asset_events import AssetHistory
from datahub_eventlog.translate.runs.failed_assets import ITSELF, WILL_RETRY, failed_assets
from datahub_eventlog.translate.runs.instances import ACTOR, milliseconds
from datahub_eventlog.translate.runs.progress import Result, progress_of
from datahub_eventlog.values import (
    Change,
    Evaluation,
    Json,
    Proposal,
    RunLog,
)

ACTIVE, RESOLVED = IncidentStateClass.ACTIVE, IncidentStateClass.RESOLVED
CHECK_TYPE = "Dagster asset check"
"""The custom type of incidents of checks: DataHub has no type of its own for them."""


@dataclass(frozen=True)
class Incident:
    """What fails, or is well again, since `time`."""

    subject: Mapping[str, str]
    """What fails: it is the same incident whenever it does."""
    entity: str
    time: float
    is_over: bool
    title: str
    message: str
    """What was found, in Markdown."""
    type: str = IncidentTypeClass.OPERATIONAL
    custom_type: str | None = None
    assertion: str | None = None

    def urn(self, context: Context) -> str:
        """Its urn, however often it is opened."""
        bag = {
            **self.subject,
            "env": context.config.env,
            "platform_instance": context.config.platform_instance,
        }
        return IncidentUrn(urns.guid(bag)).urn()


def incident_proposals(log: RunLog, history: AssetHistory, context: Context) -> Proposals:
    """The incidents that a run, or events that belong to none, opened or resolved."""
    config = context.config
    if not (config.incidents.are_wanted and config.capture_asset_materialization):
        return
    assets = RunAssets(log, context)
    for incident in (
        *_of_checks(log, assets, context),
        *_of_freshness(log, assets, context),
        *_of_assets(log, history, assets, context),
        *_of_job(log, history, context),
    ):
        yield from _proposals(incident, log.run.run_id, context)


def _proposals(incident: Incident, run_id: str, context: Context) -> Proposals:
    urn, time = incident.urn(context), incident.time
    stamp = AuditStampClass(milliseconds(time), ACTOR)
    status = IncidentStatusClass(
        RESOLVED if incident.is_over else ACTIVE, stamp, message=incident.message
    )
    changed = {f"/status/{name}": value for name, value in status.to_obj().items()}
    if incident.is_over:
        yield _transition(urn, changed, time, RESOLVED, run_id)
    elif context.opens_incidents:
        yield created(urn, _info(incident, status, stamp), time, run_id, state=ACTIVE)
        changed["/startedAt"] = milliseconds(time)
        yield _transition(urn, changed, time, ACTIVE, run_id)


def _transition(
    urn: str, changed: Mapping[str, Json], time: float, state: str, run_id: str
) -> Proposal:
    """Bring fields of an incident, by their JSON pointers, up to date when its state changes.

    DataHub has no patch of its own for incidents, but takes its `GenericJsonPatch`.
    """
    operations = [
        {"op": "add", "path": path, "value": value} for path, value in sorted(changed.items())
    ]
    return Proposal(
        urn,
        "incident",
        "incidentInfo",
        json_of({"patch": operations, "arrayPrimaryKeys": {}, "forceGenericPatch": True}),
        Change.PATCH,
        time,
        run_id,
        is_vacant=state == RESOLVED,  # where none was opened, there is none to resolve
        topic=STATE,
        transition=state,
    )


def _info(
    incident: Incident, status: IncidentStatusClass, stamp: AuditStampClass
) -> IncidentInfoClass:
    source = None
    if incident.assertion is not None:
        kind = IncidentSourceTypeClass.ASSERTION_FAILURE
        source = IncidentSourceClass(type=kind, sourceUrn=incident.assertion)
    return IncidentInfoClass(
        type=incident.type,
        customType=incident.custom_type,
        title=incident.title,
        description=incident.message,
        entities=[incident.entity],
        status=status,
        source=source,
        startedAt=milliseconds(incident.time),
        created=stamp,
    )


def _of_checks(log: RunLog, assets: RunAssets, context: Context) -> Iterator[Incident]:
    wanted = context.config.incidents.checks
    if not wanted:
        return
    checks = CheckEmitter(log, context)
    evaluations = (
        (event.data.check, event.time, event.storage_id, event.data)
        for event in log.events
        if isinstance(event.data, Evaluation)
    )
    for check, time, evaluation in _newest(evaluations):
        assertion = checks.assertion_of(check, evaluation)
        if assertion is None:
            continue
        asset = "/".join(check.asset_key)
        failed = f"failed with severity {evaluation.severity}"
        found = f"Check `{check.name}` of {asset} {'passed' if evaluation.passed else failed}"
        yield Incident(
            {"asset_key": asset, "check_name": check.name},
            assertion.dataset,
            time,
            is_over=evaluation.passed or not _is_wanted(evaluation, assets, wanted),
            title=f"Check {check.name} failed",
            message=_message(log, context, found, evaluation.description),
            type=IncidentTypeClass.CUSTOM,
            custom_type=CHECK_TYPE,
            assertion=assertion.urn,
        )


def _is_wanted(evaluation: Evaluation, assets: RunAssets, wanted: tuple[str, ...]) -> bool:
    if evaluation.severity.lower() in wanted:
        return True
    facts = assets.facts(evaluation.check.asset_key)
    defined = [known for known in facts.checks if known.check == evaluation.check] if facts else []
    is_blocking = evaluation.blocking is True or any(known.blocking for known in defined)
    return "blocking" in wanted and is_blocking


def _of_freshness(log: RunLog, assets: RunAssets, context: Context) -> Iterator[Incident]:
    if not context.config.incidents.freshness:
        return
    known = (
        (change.asset_key, change.time, event.storage_id, change)
        for event, change in changes(log)
        if change.state != "UNKNOWN"  # the asset was wiped: that makes nothing good
    )
    for key, time, change in _newest(known):
        dataset = assets.checked(key)
        if dataset is None:
            continue
        asset, link = "/".join(key), links.asset_link(key, context)
        found = f"{asset} {_FOUND.get(change.state, 'is fresh again')}."
        yield Incident(
            {"asset_key": asset, "policy": "freshness"},
            dataset,
            time,
            is_over=change.state != "FAIL",
            title=f"{asset} is not fresh",
            message=f"{found} [Asset in Dagster]({link})" if link else found,
            type=IncidentTypeClass.FRESHNESS,
            assertion=policy_urn(key, context),
        )


_FOUND = {
    "FAIL": "is not as fresh as its policy asks for",
    "NOT_APPLICABLE": "has no freshness policy any more",
}
"""By Dagster's state."""


def _of_assets(
    log: RunLog, history: AssetHistory, assets: RunAssets, context: Context
) -> Iterator[Incident]:
    """Of those that failed themselves: what waits for them is not made either, and has none."""
    if not (context.config.incidents.runs and log.run.run_id):
        return
    failures = {} if _will_be_retried(log) else failed_assets(log)
    for key in sorted({*failures, *history.materialized}):
        dataset, failed = assets.checked(key), failures.get(key)
        if dataset is None or (failed is not None and failed.reason != ITSELF):
            continue
        asset = "/".join(key)
        found = f"{asset} was {'materialized' if failed is None else 'not materialized'}"
        yield Incident(
            {"asset_key": asset, "materialization": "failed"},
            dataset,
            history.materialized[key].last if failed is None else failed.time,
            is_over=failed is None,
            title=f"{asset} failed to materialize",
            message=_message(log, context, found, failed.message if failed else None),
        )


def _of_job(log: RunLog, history: AssetHistory, context: Context) -> Iterator[Incident]:
    """Of a job without assets, which have incidents of their own."""
    run, moments = log.run, progress_of(log).moments
    last = moments[-1] if moments else None
    has_assets = history.planned or history.materialized
    if not context.config.incidents.runs or has_assets or last is None:
        return
    is_over = last.result is Result.SUCCESS
    if is_over and log.job is not None and log.job.is_part:
        return  # the part that failed may not have been executed
    if is_over or (last.result is Result.FAILURE and not _will_be_retried(log)):
        found = f"Job `{run.job_name}` {'succeeded' if is_over else 'failed'}"
        failure = progress_of(log).failure
        yield Incident(
            {"job": urns.flow_urn(run, context)},
            urns.flow_urn(run, context),
            last.time,
            is_over,
            title=f"Job {run.job_name} failed",
            message=_message(log, context, found, failure.message if failure else None),
        )


def _will_be_retried(log: RunLog) -> bool:
    """Whether Dagster executes the failed run once more by itself."""
    return log.run.tags.get(WILL_RETRY, "").lower() == "true"


K = TypeVar("K")
V = TypeVar("V")


def _newest(events: Iterable[tuple[K, float, int, V]]) -> Iterator[tuple[K, float, V]]:
    """The newest of each key, by their times and storage ids, oldest first."""
    newest: dict[K, tuple[float, int, V]] = {}
    for key, time, storage_id, data in events:
        if key not in newest or newest[key][:2] < (time, storage_id):
            newest[key] = (time, storage_id, data)
    for key, (time, _, data) in sorted(newest.items(), key=lambda entry: entry[1][:2]):
        yield key, time, data


def _message(log: RunLog, context: Context, found: str, detail: str | None = None) -> str:
    """What was found, in which run, and why."""
    run_id = log.run.run_id
    link = links.run_link(run_id, context) if run_id else None
    run = f" in [run {run_id}]({link})" if link else f" in run {run_id}" if run_id else ""
    return f"{found}{run}: {detail}" if detail else f"{found}{run}"
