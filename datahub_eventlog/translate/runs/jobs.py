"""The structure of a job: the dataFlow, and a dataJob for every op node.

All of it is state as of the run's start. What the job's snapshot says is sent whole; what only
definitions say is added, so that a run without them takes nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datahub.metadata.schema_classes import (
    AzkabanJobTypeClass,
    BrowsePathEntryClass,
    BrowsePathsV2Class,
    DataFlowInfoClass,
    DataJobInfoClass,
    DataPlatformInstanceClass,
    StatusClass,
    SubTypesClass,
)

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.aspects import Aspect, additions, prepared, state
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import INPUTS, OUTPUTS
from datahub_eventlog.translate.properties import json_text, present, property_texts
from datahub_eventlog.translate.runs.plan import OpNode, Plan, handles
from datahub_eventlog.translate.runs.progress import RunProgress
from datahub_eventlog.translate.runs.run import HIDDEN, tag_properties
from datahub_eventlog.values import Job, Metadata, Op, Port, Problem, Proposal, Run, RunLog

FLOW = "Job"
OP = "Op"
ASSET = "Asset"


def flow_proposals(
    log: RunLog, progress: RunProgress, context: Context
) -> Iterator[Proposal | Problem]:
    """The job as a dataFlow; without its snapshot, only that there is one."""
    urn = urns.flow_urn(log.run, context)
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
    ops = {each.handle: each for each in log.job.ops} if log.job else {}
    alike = [prepared(each) for each in _alike(log.run, context)]
    kinds = {each: prepared(SubTypesClass(typeNames=[each])) for each in (OP, ASSET)}
    for handle in handles(log, plan, progress.steps):
        urn = urns.job_urn(log.run, handle, context)
        op = ops.get(handle)
        node = plan.nodes.get(handle)
        own = [_job_info(log.run, op, node, context)] if op else []
        kind = [kinds[ASSET if node.assets else OP]] if node else []
        for aspect in (*own, *kind, *alike):
            yield state(urn, aspect, progress.began, log.run.run_id)
        tags = [*_shown(op.tags if op else ()), *_groups(log, node)]
        yield from additions(urn, tags=tags, run_id=log.run.run_id)


def flow_name(run: Run) -> str:
    """What people call the job: the hidden ones are the assets of their code location."""
    if run.job_name == links.EPHEMERAL_JOB:
        return "Ephemeral asset job"
    if run.job_name.startswith(links.ASSET_JOB):
        code = run.location or run.file
        return f"Assets of {code}" if code else "Assets"
    return run.job_name


def _flow_aspects(log: RunLog, context: Context) -> Iterator[Aspect]:
    if log.job is not None:
        yield _flow_info(log.job, log.run, context)
    yield StatusClass(removed=False)
    yield SubTypesClass(typeNames=[FLOW])
    yield _platform(context)
    module = urns.module_prefix(log.run, context)
    yield _browse_path(context, BrowsePathEntryClass(id=module))


def _flow_info(job: Job, run: Run, context: Context) -> DataFlowInfoClass:
    facts = {"code_location": run.location or run.file, "repository": run.repository}
    properties = {**property_texts(job.metadata), **tag_properties(job.tags), **facts}
    return DataFlowInfoClass(
        name=flow_name(run),
        description=job.description,
        customProperties=present(properties),
        externalUrl=links.job_link(run, context),
        env=context.config.env,
    )


def _alike(run: Run, context: Context) -> Iterator[Aspect]:
    """What all jobs of a flow have in common."""
    yield StatusClass(removed=False)
    yield _platform(context)
    flow = urns.flow_urn(run, context)
    yield _browse_path(context, BrowsePathEntryClass(id=flow, urn=flow))


def _job_info(run: Run, op: Op, node: OpNode | None, context: Context) -> DataJobInfoClass:
    return DataJobInfoClass(
        name=op.handle,
        type=AzkabanJobTypeClass.COMMAND,
        description=op.description,
        customProperties=_op_properties(op),
        externalUrl=_op_link(run, op.handle, node, context),
        env=context.config.env,
    )


def _op_link(run: Run, handle: str, node: OpNode | None, context: Context) -> str | None:
    if node is not None and len(node.assets) == 1:
        return links.asset_link(node.assets[0], context)
    return links.op_link(run, handle, context)


def _op_properties(op: Op) -> dict[str, str]:
    """The facts of an op; inputs and outputs are named as the sensor plugin names them."""
    inputs = {f"input.{each.name}": _port_text(each) for each in op.inputs}
    outputs = {f"output_{each.name}": _port_text(each) for each in op.outputs}
    is_alias = op.name != op.handle.rpartition(".")[2]
    facts = {"op": op.name if is_alias else None, "pool": op.pool}
    return present({**tag_properties(op.tags), **inputs, **outputs, **facts})


def _port_text(port: Port) -> str:
    said = {
        "type": port.type_name,
        "description": port.description,
        "is_required": None if port.is_required else False,
        "is_dynamic": port.is_dynamic or None,
        "metadata": property_texts(_undeclared(port.metadata)) or None,
    }
    return json_text({name: each for name, each in said.items() if each is not None})


def _undeclared(metadata: Metadata) -> Metadata:
    """Without the datasets that it declares: they are lineage."""
    return {name: each for name, each in metadata.items() if name not in {INPUTS, OUTPUTS}}


def _platform(context: Context) -> DataPlatformInstanceClass:
    instance = context.config.platform_instance
    return DataPlatformInstanceClass(
        platform=urns.platform_urn(),
        instance=urns.platform_instance_urn(instance) if instance else None,
    )


def _browse_path(context: Context, *entries: BrowsePathEntryClass) -> BrowsePathsV2Class:
    instance = context.config.platform_instance
    first = urns.platform_instance_urn(instance) if instance else None
    root = [BrowsePathEntryClass(id=first, urn=first)] if first else []
    return BrowsePathsV2Class(path=[*root, *entries])


def _shown(tags: Iterable[str]) -> list[str]:
    return [each for each in tags if not each.startswith(HIDDEN)]


def _groups(log: RunLog, node: OpNode | None) -> Iterator[str]:
    """The tags of the groups of an op's assets, as the sensor plugin writes them."""
    assets = log.definitions.assets if log.definitions else {}
    for key in node.assets if node else ():
        if key in assets and assets[key].group:
            yield f"asset_group:{assets[key].group}"
