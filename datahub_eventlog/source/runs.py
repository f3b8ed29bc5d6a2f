"""Run records, job snapshots and plan snapshots as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any

from dagster import DagsterRun

from datahub_eventlog.dagster_internals import (
    DependencyStructureSnapshot,
    ExecutionPlanSnapshot,
    RunRecord,
    remote_origin,
)
from datahub_eventlog.metadata import metadata_of
from datahub_eventlog.values import CheckKey, Job, Op, Port, Run, Step, StepOutput


def run_of(record: RunRecord) -> Run:
    """The run of a record, its origins flattened."""
    run = record.dagster_run
    location, repository = _origin(run)
    code = run.job_code_origin
    module, file = code_of(None if code is None else code.repository_origin.code_pointer)
    selection = run.resolved_op_selection
    return Run(
        run_id=run.run_id,
        job_name=run.job_name,
        status=run.status.value,
        tags=dict(run.tags),
        run_config=run.run_config,
        root_run_id=run.root_run_id,
        parent_run_id=run.parent_run_id,
        location=location,
        repository=repository,
        module=module,
        file=file,
        op_selection=None if selection is None else tuple(sorted(selection)),
        created=seconds(record.create_timestamp),
        ended=record.end_time,
        job_snapshot_id=run.job_snapshot_id,
        plan_snapshot_id=run.execution_plan_snapshot_id,
        has_repository_load_data=bool(run.has_repository_load_data),
    )


def seconds(moment: datetime) -> float:
    """Epoch seconds; the times of records are UTC, on some databases without saying so."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _origin(run: DagsterRun) -> tuple[str | None, str | None]:
    """The names of the code location and the repository, where the run has a remote origin."""
    origin = remote_origin(run)
    if origin is None:
        return None, None
    repository = origin.repository_origin
    return repository.code_location_origin.location_name, repository.repository_name


def code_of(pointer: Any) -> tuple[str | None, str | None]:
    """The module, and the name of the file, that a code pointer loads definitions from."""
    file = getattr(pointer, "python_file", None)
    return getattr(pointer, "module", None), PurePath(file).name if file else None


def job_of(snapshot: Any) -> Job:
    """The job of a `JobSnap` (it has had another name in other Dagster versions)."""
    return Job(
        name=snapshot.name,
        description=snapshot.description,
        tags=_strings(snapshot.tags),
        metadata=metadata_of(snapshot.metadata),
        owners=tuple(getattr(snapshot, "owners", None) or ()),
        ops=tuple(sorted(_ops(snapshot), key=lambda op: op.handle)),
        # Not always on the run's record: `execute_in_process` leaves it out.
        is_part=bool(getattr(snapshot.lineage_snapshot, "resolved_op_selection", None)),
    )


def _ops(snapshot: Any) -> Iterator[Op]:
    definitions = snapshot.node_defs_snapshot
    ops = {snap.name: snap for snap in definitions.op_def_snaps}
    graphs = {snap.name: snap.dep_structure_snapshot for snap in definitions.graph_def_snaps}
    types = snapshot.dagster_type_namespace_snapshot.all_dagster_type_snaps_by_key
    yield from _nodes(snapshot.dep_structure_snapshot, "", ops, graphs, types)


def _nodes(
    structure: DependencyStructureSnapshot,
    prefix: str,
    ops: Mapping[str, Any],
    graphs: Mapping[str, DependencyStructureSnapshot],
    types: Mapping[str, Any],
) -> Iterator[Op]:
    for node in structure.node_invocation_snaps:
        handle = f"{prefix}{node.node_name}"
        if node.node_def_name in graphs:
            inner = graphs[node.node_def_name]
            yield from _nodes(inner, f"{handle}.", ops, graphs, types)
        elif node.node_def_name in ops:
            yield _op(handle, ops[node.node_def_name], types)


def _op(handle: str, snap: Any, types: Mapping[str, Any]) -> Op:
    return Op(
        handle=handle,
        name=snap.name,
        description=snap.description,
        tags=_strings(snap.tags),
        inputs=tuple(_port(port, types) for port in snap.input_def_snaps),
        outputs=tuple(_port(port, types) for port in snap.output_def_snaps),
        pool=getattr(snap, "pool", None),
    )


def _port(snap: Any, types: Mapping[str, Any]) -> Port:
    known = types.get(snap.dagster_type_key)
    return Port(
        name=snap.name,
        type_name=known.display_name if known else snap.dagster_type_key,
        description=snap.description,
        metadata=metadata_of(snap.metadata),
        is_required=getattr(snap, "is_required", True),
        is_dynamic=getattr(snap, "is_dynamic", False),
    )


def _strings(tags: Mapping[str, Any]) -> Mapping[str, str]:
    return {str(name): str(value) for name, value in tags.items()}


def steps_of(plan: ExecutionPlanSnapshot) -> tuple[Step, ...]:
    """The steps of a plan, in the order of their keys."""
    return tuple(sorted((_step(snap) for snap in plan.steps), key=lambda step: step.key))


def _step(snap: Any) -> Step:
    upstream = {
        handle.step_key for source in snap.inputs for handle in source.upstream_output_handles
    }
    return Step(
        key=snap.key,
        handle=snap.node_handle_id,
        upstream=tuple(sorted(upstream)),
        outputs=tuple(_output(output) for output in snap.outputs),
    )


def _output(snap: Any) -> StepOutput:
    properties = snap.properties
    if properties is None:
        return StepOutput(snap.name)
    check = getattr(properties, "asset_check_key", None)
    key = properties.asset_key
    return StepOutput(
        name=snap.name,
        asset_key=tuple(key.path) if key else None,
        check=CheckKey(tuple(check.asset_key.path), check.name) if check else None,
    )
