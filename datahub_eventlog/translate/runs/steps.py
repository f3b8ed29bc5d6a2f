"""The runs of a run's steps as process instances; a step that never started has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import Datasets
from datahub_eventlog.translate.properties import present, property_texts
from datahub_eventlog.translate.runs.instances import Instance, instance_proposals
from datahub_eventlog.translate.runs.plan import Plan, by_plan_key
from datahub_eventlog.translate.runs.progress import Result, RunProgress, StepProgress
from datahub_eventlog.translate.runs.run import instance_type
from datahub_eventlog.values import Problem, Proposal, RunLog


def step_proposals(
    log: RunLog,
    plan: Plan,
    progress: RunProgress,
    datasets: Mapping[str, Datasets],
    context: Context,
) -> Iterator[Proposal | Problem]:
    """The aspects of every step that was started, skipped, or failed before it could start.

    `datasets` has what each step read and wrote, by its key.
    """
    run = log.run
    steps = [step for step in progress.steps.values() if step.moments]
    ran = by_plan_key(step.key for step in steps)
    for step in steps:
        name = plan.name(step.key)
        upstream = [plan.name(key) for key in plan.upstream_runs(step.key, ran)]
        touched = datasets.get(step.key, Datasets())
        this = Instance(
            urn=urns.step_urn(run, name, context),
            name=urns.step_id(run, name, context),
            type=instance_type(run.tags),
            run_id=run.run_id,
            message=f"{run.run_id}:{step.key}",
            moments=step.moments,
            template=urns.job_urn(run, plan.handle(step.key), context),
            parent=urns.run_urn(run.run_id, context),
            upstream=tuple(urns.step_urn(run, other, context) for other in upstream),
            link=links.run_link(run.run_id, context),
            properties=_properties(step),
            inputs=touched.inputs,
            outputs=touched.outputs,
        )
        yield from instance_proposals(this, context)


def _properties(step: StepProgress) -> dict[str, str]:
    """The course of the step; the names are those of the sensor plugin where it has them."""
    starts = [moment.time for moment in step.moments if moment.result is None]
    end = step.moments[-1].time if step.is_over else None
    facts = {
        "step_key": step.key,
        "attempts": str(step.moments[-1].attempt),
        "start_time": str(starts[0]) if starts else None,
        "end_time": None if end is None else str(end),
    }
    return present({**facts, **_failure(step)})


def _failure(step: StepProgress) -> dict[str, str | None]:
    failed = step.moments[-1].result in {Result.FAILURE, Result.UP_FOR_RETRY}
    if step.failure is None or not failed:
        return {}
    metadata = property_texts(step.failure.metadata)
    return {
        "failure_reason": step.failure.reason,
        "failure_message": step.failure.message or None,
        **{f"failure.{name}": text for name, text in metadata.items()},
    }
