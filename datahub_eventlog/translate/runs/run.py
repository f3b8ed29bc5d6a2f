"""The run as a process instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from datahub.metadata.schema_classes import DataProcessTypeClass

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.properties import present
from datahub_eventlog.translate.runs.instances import Instance, instance_proposals
from datahub_eventlog.translate.runs.progress import Result, RunProgress
from datahub_eventlog.values import BACKFILL_TAG, Problem, Proposal, Run, RunLog

HIDDEN = ".dagster/"
"""The prefix of tags that Dagster's UI hides."""

_TRIGGERS = (
    ("automation", "dagster/from_automation_condition"),
    ("automation", "dagster/auto_materialize"),
    ("automation", "dagster/auto_observe"),
    ("schedule", "dagster/schedule_name"),
    ("sensor", "dagster/sensor_name"),
    ("backfill", BACKFILL_TAG),
    ("retry", "dagster/retry_number"),
)
"""What launched a run, by the first of these tags that it has. The order matters: Dagster's
automation conditions are evaluated by a sensor, and any of them can launch a backfill."""
_MANUAL = "manual"

_FACTS = {
    "partition": "dagster/partition",
    "backfill_id": BACKFILL_TAG,
    "schedule_name": "dagster/schedule_name",
    "sensor_name": "dagster/sensor_name",
    "scheduled_execution_time": ".dagster/scheduled_execution_time",
}


def run_proposals(
    log: RunLog, progress: RunProgress, context: Context
) -> Iterator[Proposal | Problem]:
    """The run's aspects; nothing as long as it has neither started nor ended."""
    if not progress.moments:
        return
    run = log.run
    backfill_id = run.tags.get(BACKFILL_TAG) if context.config.health.backfills else None
    this = Instance(
        urn=urns.run_urn(run.run_id, context),
        name=run.run_id,
        type=instance_type(run.tags),
        run_id=run.run_id,
        message=f"{run.run_id}:run",
        moments=tuple(
            replace(
                moment,
                time=_microseconds(moment.time),
                started=None if moment.started is None else _microseconds(moment.started),
            )
            for moment in progress.moments
        ),
        template=urns.flow_urn(run, context),
        parent=urns.backfill_urn(backfill_id, context) if backfill_id else None,
        # The run that it executes again came before it, and is not what it is a part of.
        upstream=(urns.run_urn(run.parent_run_id, context),) if run.parent_run_id else (),
        link=links.run_link(run.run_id, context),
        properties=_properties(run, progress),
    )
    yield from instance_proposals(this, context)


def _microseconds(time: float) -> float:
    """Seconds, exact to what Dagster's databases keep of a run's times."""
    return round(time, 6)


def trigger(tags: Mapping[str, str]) -> str:
    """What launched a run with such tags: schedule, sensor, automation, backfill, retry, manual."""
    return next((name for name, tag in _TRIGGERS if tag in tags), _MANUAL)


def instance_type(tags: Mapping[str, str]) -> str:
    """DataHub's word for how a run with such tags was launched."""
    if trigger(tags) == _MANUAL:
        return DataProcessTypeClass.BATCH_AD_HOC
    return DataProcessTypeClass.BATCH_SCHEDULED


def tag_properties(tags: Mapping[str, str]) -> dict[str, str]:
    """Dagster's tags as custom properties, one by one, without those it hides itself."""
    return {f"tags.{name}": value for name, value in tags.items() if not name.startswith(HIDDEN)}


def _properties(run: Run, progress: RunProgress) -> dict[str, str]:
    facts = {
        "trigger": trigger(run.tags),
        "job_snapshot_id": run.job_snapshot_id,
        "execution_plan_snapshot_id": run.plan_snapshot_id,
        "has_repository_load_data": str(run.has_repository_load_data),
        "root_run_id": run.root_run_id,
        "parent_run_id": run.parent_run_id,
        "code_location": run.location,
        **{name: run.tags.get(tag) for name, tag in _FACTS.items()},
    }
    return present({**tag_properties(run.tags), **facts, **_course(progress)})


def _course(progress: RunProgress) -> dict[str, str | None]:
    """The course of the run; the names are those of the sensor plugin where it has them."""
    last = progress.moments[-1]
    times = {
        "enqueued_time": progress.first.get("RUN_ENQUEUED"),
        "launch_time": progress.first.get("RUN_STARTING"),
        "start_time": progress.first.get("RUN_START"),
        "end_time": None if last.result is None else last.time,
    }
    counts = {
        "steps_succeeded": progress.counts.get("STEP_SUCCESS", 0),
        "steps_failed": progress.counts.get("STEP_FAILURE", 0),
        "materializations": progress.counts.get("ASSET_MATERIALIZATION", 0),
        "expectations": progress.counts.get("STEP_EXPECTATION_RESULT", 0),
    }
    moments = {name: None if time is None else _microseconds(time) for name, time in times.items()}
    numbers = {**moments, **counts}
    texts = {name: None if number is None else str(number) for name, number in numbers.items()}
    return {**texts, **_failure(progress)}


def _failure(progress: RunProgress) -> dict[str, str | None]:
    if progress.failure is None or progress.moments[-1].result is not Result.FAILURE:
        return {}
    return {
        "failure_reason": progress.failure.reason,
        "failure_message": progress.failure.message or None,
    }
