"""Incidents: what failed opens one, and what is well again resolves it.

A check, a freshness policy, an asset's materialisation and a job have one incident each, which is
opened again when the same fails again. What DataHub is sent are changes of its state. So what
people decide about it in between stays: its priority, its assignees, and that they have resolved it
themselves while it went on failing.

One proposal creates the incident, but only where there is none; another brings its state up to
date. What fails in a run that Dagster is going to retry, or failed in history, opens none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from datahub.metadata.schema_classes import (
    AuditStampClass,
    IncidentInfoClass,
    IncidentSourceClass,
    IncidentSourceTypeClass,
    IncidentStageClass,
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
from datahub_eventlog.translate.properties import json_text
from datahub_eventlog.translate.runs.asset_events import AssetHistory
from datahub_eventlog.translate.runs.failed_assets import ITSELF, WILL_RETRY, failed_assets
from datahub_eventlog.translate.runs.instances import ACTOR, milliseconds
from datahub_eventlog.translate.runs.progress import Result as RunResult
from datahub_eventlog.translate.runs.progress import progress_of
from datahub_eventlog.values import (
    Change,
    CheckKey,
    Evaluation,
    Failure,
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
    will_be_retried = log.run.tags.get(WILL_RETRY, "").lower() == "true"
    for incident in (
        *_of_checks(log, assets, context),
        *_of_freshness(log, assets, context),
        *_of_assets(log, history, assets, context),
        *_of_job(log, history, context),
    ):
        is_opened = not will_be_retried and incident.time >= context.opens_since
        if incident.is_over or is_opened:
            yield from _proposals(incident, log.run.run_id, context)


def _proposals(incident: Incident, run_id: str, context: Context) -> Proposals:
    """The whole, where DataHub has none, and its change. Where none was opened, none is sent."""
    urn, time, is_over = incident.urn(context), incident.time, incident.is_over
    stamp = AuditStampClass(milliseconds(time), ACTOR)
    status = IncidentStatusClass(
        RESOLVED if is_over else ACTIVE,
        stamp,
        # What was done about the last failure is not done about this one.
        stage=None if is_over else IncidentStageClass.TRIAGE,
        message=incident.message,
    )
    state = str(status.state)
    whole = _info(incident, status, stamp)
    yield created(urn, whole, time, run_id, state=state, is_vacant=is_over)
    changed = {f"/status/{name}": value for name, value in status.to_obj().items()}
    if not is_over:
        changed["/startedAt"] = milliseconds(time)
    yield _transition(urn, changed, time, state, run_id)


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
        is_vacant=state == RESOLVED,
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


# ------------------------------------------------------------------------------------------ checks


def _of_checks(log: RunLog, assets: RunAssets, context: Context) -> Iterator[Incident]:
    """A check that fails more mildly than is asked for neither opens nor resolves its incident."""
    wanted = context.config.incidents.checks
    if not wanted:
        return
    checks = CheckEmitter(log, context)
    for check, results in _results(log, checks).items():
        assertion = checks.assertion_of(check, results[-1].evaluation)
        failures = [result for result in results if not result.evaluation.passed]
        severe = [one for one in failures if _is_wanted(one.evaluation, assets, wanted)]
        if assertion is None or (failures and not severe):
            continue
        shown = (severe or results)[-1].evaluation
        found = f"Check `{check.name}` of {'/'.join(check.asset_key)} "
        found += f"failed with severity {shown.severity}" if severe else "passed"
        found += f" for partition {shown.partition}" if severe and shown.partition else ""
        yield Incident(
            {"asset_key": json_text(list(check.asset_key)), "check_name": check.name},
            assertion.dataset,
            results[-1].time,
            is_over=not severe,
            title=f"Check {check.name} failed",
            message=_message(log, context, found, shown.description),
            type=IncidentTypeClass.CUSTOM,
            custom_type=CHECK_TYPE,
            assertion=assertion.urn if context.config.health.checks else None,
        )


class Result(NamedTuple):
    """The newest result of a check, of each partition."""

    time: float
    evaluation: Evaluation


def _results(log: RunLog, checks: CheckEmitter) -> Mapping[CheckKey, list[Result]]:
    """By check, oldest first; one whose step failed before it has failed."""
    results: dict[CheckKey, list[Result]] = {}
    evaluations = (
        ((event.data.check, event.data.partition), event.time, event.storage_id, event.data)
        for event in log.events
        if isinstance(event.data, Evaluation)
    )
    for (check, _), time, evaluation in _newest(evaluations):
        results.setdefault(check, []).append(Result(time, evaluation))
    for check, event in checks.not_evaluated():
        reason = event.data.message if isinstance(event.data, Failure) else None
        evaluation = Evaluation(check, passed=False, description=reason)
        results.setdefault(check, []).append(Result(event.time, evaluation))
    return results


def _is_wanted(evaluation: Evaluation, assets: RunAssets, wanted: tuple[str, ...]) -> bool:
    if evaluation.severity.lower() in wanted:
        return True
    facts = assets.facts(evaluation.check.asset_key)
    defined = [known for known in facts.checks if known.check == evaluation.check] if facts else []
    is_blocking = evaluation.blocking is True or any(known.blocking for known in defined)
    return "blocking" in wanted and is_blocking


# --------------------------------------------------------------------------------------- freshness


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
            {"asset_key": json_text(list(key)), "policy": "freshness"},
            dataset,
            time,
            is_over=change.state != "FAIL",
            title=f"{asset} is not fresh",
            message=f"{found} [Asset in Dagster]({link})" if link else found,
            type=IncidentTypeClass.FRESHNESS,
            assertion=policy_urn(key, context) if context.config.health.freshness else None,
        )


_FOUND = {
    "FAIL": "is not as fresh as its policy asks for",
    "NOT_APPLICABLE": "has no freshness policy any more",
}
"""By Dagster's state."""


# -------------------------------------------------------------------------------------------- runs


def _of_assets(
    log: RunLog, history: AssetHistory, assets: RunAssets, context: Context
) -> Iterator[Incident]:
    """Of those that failed themselves: what waits for them is not made either, and has none."""
    if not context.config.incidents.runs:
        return
    failures = failed_assets(log) if log.run.run_id else {}
    for key in sorted({*failures, *history.materialized}):
        dataset, failed = assets.checked(key), failures.get(key)
        if dataset is None or (failed is not None and failed.reason != ITSELF):
            continue
        asset = "/".join(key)
        found = f"{asset} was {'materialized' if failed is None else 'not materialized'}"
        yield Incident(
            {"asset_key": json_text(list(key)), "materialization": "failed"},
            dataset,
            history.materialized[key].last if failed is None else failed.time,
            is_over=failed is None,
            title=f"{asset} failed to materialize",
            message=_message(log, context, found, failed.message if failed else None),
        )


def _of_job(log: RunLog, history: AssetHistory, context: Context) -> Iterator[Incident]:
    """Of a job without assets, which have incidents of their own."""
    run, progress = log.run, progress_of(log)
    last = progress.moments[-1] if progress.moments else None
    outputs = (output for step in log.steps for output in step.outputs)
    has_assets = history.materialized or any(output.asset_key for output in outputs)
    if not (context.config.incidents.runs and run.run_id) or has_assets or last is None:
        return
    is_over = last.result is RunResult.SUCCESS
    if is_over and log.job is not None and log.job.is_part:
        return  # the part that failed may not have been executed
    if is_over or last.result is RunResult.FAILURE:
        found = f"Job `{run.job_name}` {'succeeded' if is_over else 'failed'}"
        failure = progress.failure
        yield Incident(
            {"job": urns.flow_urn(run, context)},
            urns.flow_urn(run, context),
            last.time,
            is_over,
            title=f"Job {run.job_name} failed",
            message=_message(log, context, found, failure.message if failure else None),
        )


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
