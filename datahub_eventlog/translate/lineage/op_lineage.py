"""What the steps and ops of a run read and wrote, and the lineage of its jobs.

A complete run knows all that an op reads and writes. Its lineage replaces what was known: an
UPSERT with the time of the step's success. A run that knows less only adds (PATCH), and so takes
nothing away:

- The step did not succeed, or did not run. Then only the definitions of its assets count, and the
  datasets that it declares.
- A step upstream of it did not succeed in this run (a subset, a retry from failure), so what that
  step writes is unknown. Or an optional output was not yielded this time.
- The definitions are unknown (a backfill of history), and with them what they declare. Or the op
  is within a graph of assets, whose inputs another run may cut off.

That an op reads and writes nothing is sent only to take back what an earlier run sent. A PATCH
carries its time as well: it is dropped where a newer whole was sent.

The run of a step is judged by itself. It wrote what its events name and, where an output was
yielded, what that output declares. It read what it takes by definition, once it has started.

A mapped op is judged when the run has ended: until then the number of its steps is unknown. If
the run did not succeed, there may have been more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from datahub.metadata.schema_classes import DataJobInputOutputClass, EdgeClass
from datahub.metadata.urns import DatasetUrn
from datahub.specific.datajob import DataJobPatchBuilder

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import Proposals, patches, state
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import Datasets
from datahub_eventlog.translate.lineage.asset_ports import AssetDatasets
from datahub_eventlog.translate.lineage.declared import Declared, declared_datasets
from datahub_eventlog.translate.lineage.paths import dataset_of_path
from datahub_eventlog.translate.lineage.stored_paths import StoredPaths
from datahub_eventlog.translate.runs.plan import (
    OpNode,
    Plan,
    by_plan_key,
    handles,
    is_mapped,
    unresolved,
)
from datahub_eventlog.translate.runs.progress import RunProgress, StepProgress
from datahub_eventlog.values import AssetKey, Problem, RunLog

ASPECT = "dataJobInputOutput"


@dataclass(frozen=True)
class OpLineage:
    """The lineage of an op node, as far as this run knows it."""

    datasets: Datasets
    jobs: frozenset[str] = frozenset()
    """The dataJobs that it takes from, if they are to be connected."""
    time: float = 0.0
    """When the op succeeded, failing that ended, failing that the run began."""
    is_complete: bool = False
    """The run knows all of its lineage; otherwise it can only add."""


@dataclass(frozen=True)
class RunLineage:
    """What the steps of a run read and wrote."""

    steps: Mapping[str, Datasets] = field(default_factory=dict)
    """By the keys of those that ran."""
    ops: Mapping[str, OpLineage] = field(default_factory=dict)
    """By handle; only those of which nothing more is to be expected."""
    named: frozenset[str] = frozenset()
    """The datasets that people named, in definitions or by their extractor."""
    problems: tuple[Problem, ...] = ()

    def datasets(self) -> list[str]:
        """The urns of all datasets in it but assets, which have aspects of their own."""
        every = (*self.steps.values(), *(op.datasets for op in self.ops.values()))
        dataset_urns = {urn for datasets in every for urn in datasets.inputs | datasets.outputs}
        return sorted(
            urn
            for urn in dataset_urns
            if urn in self.named or urns.platform_of(urn) != urns.PLATFORM
        )


def run_lineage(
    log: RunLog, plan: Plan, progress: RunProgress, assets: AssetDatasets, context: Context
) -> RunLineage:
    """The lineage of a run."""
    return _OpLineageBuilder(log, plan, progress, assets, context).lineage()


def lineage_proposals(
    log: RunLog, lineage: RunLineage, began: float, context: Context
) -> Proposals:
    """The jobs' input and output, and the keys of the datasets, so that each of them exists."""
    for handle, op in lineage.ops.items():
        yield from _op_proposals(urns.job_urn(log.run, handle, context), op, log.run.run_id)
    for urn in lineage.datasets():
        yield state(urn, DatasetUrn.from_string(urn).to_key_aspect(), began, log.run.run_id)
    yield from lineage.problems


def _op_proposals(urn: str, op: OpLineage, run_id: str) -> Proposals:
    inputs, outputs, jobs = map(_edges, (op.datasets.inputs, op.datasets.outputs, op.jobs))
    if op.is_complete:
        aspect = DataJobInputOutputClass(
            inputDatasets=[],
            outputDatasets=[],
            inputDatasetEdges=inputs,
            outputDatasetEdges=outputs,
            inputDatajobEdges=jobs,
        )
        is_vacant = not (inputs or outputs or jobs)
        yield state(urn, aspect, op.time, run_id, is_vacant=is_vacant)
        return
    builder = DataJobPatchBuilder(urn)
    for edge in inputs:
        builder.add_input_dataset(edge)
    for edge in outputs:
        builder.add_output_dataset(edge)
    for edge in jobs:
        builder.add_input_datajob(edge)
    yield from patches(builder, run_id, time=op.time)


def _edges(destinations: Iterable[str]) -> list[EdgeClass]:
    return [EdgeClass(destinationUrn=urn) for urn in sorted(destinations)]


class _OpLineageBuilder:
    """Puts together what is known of each step, then of each op node."""

    def __init__(
        self,
        log: RunLog,
        plan: Plan,
        progress: RunProgress,
        assets: AssetDatasets,
        context: Context,
    ) -> None:
        self._log = log
        self._plan = plan
        self._progress = progress
        self._assets = assets
        self._context = context
        self._ran = by_plan_key(progress.steps)
        self._ops = {op.handle: op for op in log.job.ops} if log.job else {}
        self._stored_paths = StoredPaths(log, plan, progress, context)
        self._faults: set[tuple[str, str]] = set()
        self._named: set[str] = set()
        self._own = {key: self._own_datasets(step) for key, step in progress.steps.items()}
        self._datasets = {key: self._with_upstream(key) for key in self._own}

    def lineage(self) -> RunLineage:
        keys: dict[str, list[str]] = {}
        for key in self._own:
            keys.setdefault(self._plan.handle(key), []).append(key)
        steps: dict[str, Datasets] = {}
        ops: dict[str, OpLineage] = {}
        for handle in handles(self._log, self._plan, self._own):
            declared = self._declared(handle)
            defined = self._defined(handle)
            ran = [self._progress.steps[key] for key in keys.get(handle, ())]
            for step in ran:
                inputs = declared.inputs | defined.inputs if step.has_started else frozenset()
                outputs = declared.outputs_of(self._yielded(step, declared))
                steps[step.key] = self._datasets[step.key] | Datasets(inputs, outputs)
            if self._is_settled(ran):
                always = defined | Datasets(declared.inputs, declared.outputs)
                ops[handle] = self._op(handle, ran, always)
        problems = tuple(
            Problem(urns.job_urn(self._log.run, handle, self._context), ASPECT, reason)
            for handle, reason in sorted(self._faults)
        )
        return RunLineage(steps, ops, frozenset(self._named), problems)

    def _own_datasets(self, step: StepProgress) -> Datasets:
        """The datasets of a step by its own events and the user's extractor."""
        handle = self._plan.handle(step.key)
        datasets = self._assets.by_step.get(step.key, Datasets())
        if self._context.config.capture_input_output:
            read, wrote = self._stored_paths.read(step), self._stored_paths.wrote(step)
            datasets |= Datasets(self._at(read, handle), self._at(wrote, handle))
        for name in {step.key, unresolved(step.key), handle} & self._context.lineages.keys():
            inputs, outputs = (
                self._urns(urns.checked_dataset_urn, texts, "asset_lineage_extractor", handle)
                for texts in self._context.lineages[name]
            )
            self._named |= inputs | outputs
            datasets |= Datasets(
                inputs if step.has_started else frozenset(),
                outputs if step.has_succeeded else frozenset(),
            )
        return datasets

    def _with_upstream(self, key: str) -> Datasets:
        """A step's own datasets, and what it takes from the steps upstream of it.

        An asset's own events name what its definition depends on: the step upstream may make
        other assets as well, and may be no part of this run.
        """
        own = self._own[key]
        node = self._plan.nodes.get(self._plan.handle(key))
        if not self._progress.steps[key].has_started:
            return own
        if node and self._are_assets_datasets and self._dependencies(node) is not None:
            return own
        upstream = self._plan.upstream_runs(key, self._ran)
        return own | Datasets(
            frozenset(urn for step in upstream for urn in self._own[step].outputs)
        )

    def _declared(self, handle: str) -> Declared:
        declared = declared_datasets(self._log, self._plan, handle, self._ops.get(handle))
        self._faults.update((handle, fault) for fault in declared.faults)
        self._named |= declared.inputs | declared.outputs
        return declared

    def _defined(self, handle: str) -> Datasets:
        """What the op takes and makes by the definitions of its assets, and of its checks."""
        defined = self._assets.by_op.get(handle, Datasets())
        node = self._plan.nodes.get(handle)
        if node is None or not self._are_assets_datasets:
            return defined
        pattern = self._context.config.asset_pattern
        keys = {check.asset_key for check in node.checks} - set(node.assets)
        checked = sorted(key for key in keys if pattern.allows("/".join(key)))
        to_urn = partial(urns.asset_urn, context=self._context)
        return defined | Datasets(self._urns(to_urn, checked, "asset check", handle))

    def _is_settled(self, ran: Sequence[StepProgress]) -> bool:
        """Whether nothing more is to be expected of an op node in this run."""
        if self._progress.has_ended:
            return True
        return bool(ran) and all(step.is_over and not is_mapped(step.key) for step in ran)

    def _op(self, handle: str, ran: Sequence[StepProgress], always: Datasets) -> OpLineage:
        node = self._plan.nodes.get(handle, OpNode(handle))
        good = [step for step in ran if step.succeeded is not None]
        datasets = always
        for step in good:
            datasets |= self._datasets[step.key]
        # Of a mapped op, only the success of the run proves that all of its steps ran.
        may_be_more = any(is_mapped(step.key) for step in ran) and not self._progress.has_succeeded
        ran_whole = bool(ran) and len(good) == len(ran) and not may_be_more
        ends = [step.moments[-1].time for step in good or ran if step.moments]
        return OpLineage(
            datasets=datasets,
            jobs=self._upstream_jobs(node),
            time=max(ends, default=self._progress.began),
            is_complete=ran_whole and self._is_complete(node, ran),
        )

    def _upstream_jobs(self, node: OpNode) -> frozenset[str]:
        if not self._context.config.connect_ops_to_ops:
            return frozenset()
        upstream = {self._plan.handle(key) for key in node.upstream}
        jobs = (urns.job_urn(self._log.run, handle, self._context) for handle in upstream)
        return frozenset(urn for urn in jobs if not urns.is_too_long(urn))

    def _is_complete(self, node: OpNode, ran: Sequence[StepProgress]) -> bool:
        """Whether a run in which the whole op succeeded knows all of its lineage."""
        definitions, job = self._log.definitions, self._log.job
        if definitions is None or definitions.is_cut or not self._has_yielded_everything(node, ran):
            return False
        if not node.assets and not node.checks:
            # Ops that other ops take from may have been left out of the run.
            is_selected = self._log.run.op_selection or (job is not None and job.is_part)
            return not (is_selected or self._made_here) and self._knows_upstream(node)
        deps = self._dependencies(node)
        if deps is None:
            return False
        return self._are_assets_datasets or (deps <= self._made_here and self._knows_upstream(node))

    def _has_yielded_everything(self, node: OpNode, ran: Sequence[StepProgress]) -> bool:
        """Whether every optional output was yielded: each can have datasets of its own."""
        op = self._ops.get(node.handle)
        if op is None:
            return False
        yielded = {name for step in ran for name in self._stored(step, node)}
        yielded |= {output.name for step in node.steps for output in step.outputs if output.check}
        return all(output.is_required or output.name in yielded for output in op.outputs)

    def _yielded(self, step: StepProgress, declared: Declared) -> frozenset[str | None]:
        """The outputs that the step yielded; None stands for all that belongs to no output.

        One that succeeded yielded all that are required, and did what its inputs declare.
        """
        handle = self._plan.handle(step.key)
        stored = self._stored(step, self._plan.nodes.get(handle, OpNode(handle)))
        if not step.has_succeeded:
            return stored
        op = self._ops.get(handle)
        optional = {output.name for output in (op.outputs if op else ()) if not output.is_required}
        return stored | (declared.written.keys() - optional)

    def _stored(self, step: StepProgress, node: OpNode) -> frozenset[str]:
        """The outputs that the step yielded according to its events."""
        outputs = [output for planned in node.steps for output in planned.outputs]
        made = {output.name for output in outputs if output.asset_key in step.assets}
        return frozenset(made | {stored.output for stored in step.stored})

    def _knows_upstream(self, node: OpNode) -> bool:
        """Whether every step that the op takes from succeeded in this run."""
        if not node.steps:
            return False
        steps = self._progress.steps
        upstream = [self._ran.get(key, frozenset()) for key in node.upstream]
        return all(
            keys and all(steps[key].succeeded is not None for key in keys) for keys in upstream
        )

    def _dependencies(self, node: OpNode) -> frozenset[AssetKey] | None:
        """The assets that the op's own assets and checks depend on; None if that is unknown."""
        if not node.assets and not node.checks:
            return None
        facts = self._log.definitions.assets if self._log.definitions else {}
        if any(key not in facts for key in node.assets):
            return None
        deps = {dep for key in node.assets for dep in facts[key].deps}
        return frozenset(deps | {check.asset_key for check in node.checks}) - set(node.assets)

    @property
    def _are_assets_datasets(self) -> bool:
        config = self._context.config
        return config.capture_asset_materialization and config.emit_assets

    @cached_property
    def _made_here(self) -> frozenset[AssetKey]:
        return frozenset(key for node in self._plan.nodes.values() for key in node.assets)

    def _at(self, paths: Iterable[str], handle: str) -> frozenset[str]:
        """The datasets at those paths."""
        node = self._plan.nodes.get(handle)
        # Where an asset is made or checked, one dataset has all partitions.
        is_of_asset = node is not None and (node.assets or node.checks)
        to_urn = partial(
            dataset_of_path,
            run=self._log.run,
            context=self._context,
            partition=self._log.run.tags.get("dagster/partition") if is_of_asset else None,
        )
        return self._urns(to_urn, paths, f"path of {handle}", handle)

    def _urns(
        self, to_urn: Callable[[Any], str | None], sources: Iterable[Any], origin: str, handle: str
    ) -> frozenset[str]:
        """The urns of what names datasets; each source that makes none is a fault of its own."""
        converted = set()
        for source in sources:
            try:
                converted.add(to_urn(source))
            except urns.InvalidUrn as error:
                self._faults.add((handle, f"{origin}: {error}"))
        return frozenset(urn for urn in converted if urn is not None)
