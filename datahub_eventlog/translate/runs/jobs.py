"""The structure of a job: the dataFlow, and a dataJob for every op node.

All of it is state as of the run's start. What the job's snapshot holds is sent whole. What only
definitions hold is added, so that a run without them takes nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datahub.metadata.schema_classes import (
    AzkabanJobTypeClass,
    BrowsePathEntryClass,
    BrowsePathsV2Class,
    DataFlowInfoClass,
    DataJobInfoClass,
    StatusClass,
    SubTypesClass,
)

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.aspects import Aspect, additions, dagster_platform, prepared, state
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import INPUTS, OUTPUTS
from datahub_eventlog.translate.properties import json_text, present, property_texts
from datahub_eventlog.translate.ranks import ranked_time_alone
from datahub_eventlog.translate.runs.plan import OpNode, Plan, handles
from datahub_eventlog.translate.runs.progress import RunProgress
from datahub_eventlog.translate.runs.run import HIDDEN, tag_properties
from datahub_eventlog.values import Job, Op, Port, Problem, Proposal, Run, RunLog, Trigger

FLOW = "Job"
OP = "Op"
ASSET = "Asset"


def flow_proposals(
    log: RunLog,
    progress: RunProgress,
    context: Context,
    *,
    triggers: Iterable[Trigger] = (),
    info_since: float | None = None,
) -> Iterator[Proposal | Problem]:
    """The job as a dataFlow; without its snapshot, only that it exists.

    A run knows none of the `triggers`. So where there is a catalogue, what the run says of the job
    ranks below.
    """
    urn = urns.flow_urn(log.run, context)
    if log.job is not None:
        info = _flow_info(log.job, log.run, context, triggers)
        since = progress.began if info_since is None else info_since
        if context.has_catalog and log.run.run_id:
            since = ranked_time_alone(since)
        yield state(urn, info, since, log.run.run_id)
    for aspect in _flow_aspects(log, context):
        yield state(urn, aspect, progress.began, log.run.run_id)
    facts = log.definitions
    tags = {**(log.job.tags if log.job else {}), **(facts.job_tags if facts else {})}
    owners = {*(log.job.owners if log.job else ()), *(facts.job_owners if facts else ())}
    yield from additions(urn, tags=_shown(tags), owners=owners, run_id=log.run.run_id)


def job_proposals(
    log: RunLog, plan: Plan, progress: RunProgress, context: Context
) -> Iterator[Proposal | Problem]:
    """The op nodes of the job as dataJobs, also those that did not run."""
    ops = {op.handle: op for op in log.job.ops} if log.job else {}
    assets = log.definitions.assets if log.definitions else {}
    flow = urns.flow_urn(log.run, context)
    path = _browse_path(context, BrowsePathEntryClass(id=flow, urn=flow))
    # Prepared, as all jobs of a flow have them alike.
    shared = [
        prepared(each) for each in (StatusClass(removed=False), dagster_platform(context), path)
    ]
    kinds = {name: prepared(SubTypesClass(typeNames=[name])) for name in (OP, ASSET)}
    for handle in handles(log, plan, progress.steps):
        urn = urns.job_urn(log.run, handle, context)
        op = ops.get(handle)
        node = plan.nodes.get(handle)
        own = [_job_info(log.run, op, node, context)] if op else []
        kind = [kinds[ASSET if node.assets else OP]] if node else []
        for aspect in (*own, *kind, *shared):
            yield state(urn, aspect, progress.began, log.run.run_id)
        tags = _shown(op.tags if op else ())
        for key in node.assets if node else ():
            if key in assets and assets[key].group:
                tags.append(f"asset_group:{assets[key].group}")
        yield from additions(urn, tags=tags, run_id=log.run.run_id)


def flow_name(run: Run) -> str:
    """The job's name for people: a hidden job stands for the assets of its code location."""
    if run.job_name == links.EPHEMERAL_JOB:
        return "Ephemeral asset job"
    if run.job_name.startswith(links.ASSET_JOB):
        code = run.location or run.file
        return f"Assets of {code}" if code else "Assets"
    return run.job_name


def _flow_aspects(log: RunLog, context: Context) -> Iterator[Aspect]:
    yield StatusClass(removed=False)
    yield SubTypesClass(typeNames=[FLOW])
    yield dagster_platform(context)
    module = urns.module_prefix(log.run, context)
    yield _browse_path(context, BrowsePathEntryClass(id=module))


def _flow_info(
    job: Job, run: Run, context: Context, triggers: Iterable[Trigger]
) -> DataFlowInfoClass:
    facts = {
        "code_location": run.location or run.file,
        "repository": run.repository,
        **_trigger_texts(triggers),
    }
    properties = {**property_texts(job.metadata), **tag_properties(job.tags), **facts}
    return DataFlowInfoClass(
        name=flow_name(run),
        description=job.description,
        customProperties=present(properties),
        externalUrl=links.job_link(run, context),
        env=context.config.env,
    )


def _trigger_texts(triggers: Iterable[Trigger]) -> dict[str, str]:
    """Schedules such as `daily: 0 6 * * * Europe/Berlin, running`, and sensors alike."""
    texts: dict[str, list[str]] = {}
    for trigger in sorted(triggers, key=lambda trigger: trigger.name):
        name = "schedules" if trigger.kind == "schedule" else "sensors"
        times = f"{' | '.join(trigger.cron)} {trigger.timezone or 'UTC'}"
        what = times if trigger.cron else f"{trigger.kind.replace('_', ' ')} sensor"
        status = "running" if trigger.is_running else "stopped"
        texts.setdefault(name, []).append(f"{trigger.name}: {what}, {status}")
    return {name: "; ".join(lines) for name, lines in texts.items()}


def _job_info(run: Run, op: Op, node: OpNode | None, context: Context) -> DataJobInfoClass:
    if node is not None and len(node.assets) == 1:
        link = links.asset_link(node.assets[0], context)
    else:
        link = links.op_link(run, op.handle, context)
    return DataJobInfoClass(
        name=op.handle,
        type=AzkabanJobTypeClass.COMMAND,
        description=op.description,
        customProperties=_op_properties(op),
        externalUrl=link,
        env=context.config.env,
    )


def _op_properties(op: Op) -> dict[str, str]:
    """The facts of an op; inputs and outputs are named as the sensor plugin names them."""
    inputs = {f"input.{port.name}": _port_text(port) for port in op.inputs}
    outputs = {f"output_{port.name}": _port_text(port) for port in op.outputs}
    is_alias = op.name != op.handle.rpartition(".")[2]
    facts = {"op": op.name if is_alias else None, "pool": op.pool}
    return present({**tag_properties(op.tags), **inputs, **outputs, **facts})


def _port_text(port: Port) -> str:
    # Datasets that the port declares are lineage, and no facts of it.
    metadata = {
        name: value for name, value in port.metadata.items() if name not in {INPUTS, OUTPUTS}
    }
    facts = {
        "type": port.type_name,
        "description": port.description,
        "is_required": None if port.is_required else False,
        "is_dynamic": port.is_dynamic or None,
        "metadata": property_texts(metadata) or None,
    }
    return json_text({name: fact for name, fact in facts.items() if fact is not None})


def _browse_path(context: Context, *entries: BrowsePathEntryClass) -> BrowsePathsV2Class:
    instance = context.config.platform_instance
    first = urns.platform_instance_urn(instance) if instance else None
    root = [BrowsePathEntryClass(id=first, urn=first)] if first else []
    return BrowsePathsV2Class(path=[*root, *entries])


def _shown(tags: Iterable[str]) -> list[str]:
    return [tag for tag in tags if not tag.startswith(HIDDEN)]
