"""What the steps and ops of a run read and wrote, and how it becomes the jobs' lineage.

A complete run says what an op reads and writes now, and replaces what was known (UPSERT, of the
time of the step's success). Whatever knows less only adds (PATCH), and so takes nothing away:

- the step did not succeed, or did not run: only what its definitions say, those of its assets
  and what they declare;
- a step upstream of it did not succeed in this run (a subset, a retry from failure), so that
  what that one writes is unknown; or an optional output was not yielded this time;
- the definitions are unknown (a backfill of history), and with them what they declare; or the
  op is within a graph of assets, whose inputs another run may cut off.

That an op reads and writes nothing is said only to take back what an earlier run said.
What only adds carries its time as well: it is for nobody who knows a newer whole.

The run of a step is another matter: it wrote what its events say and, where an output was
yielded, what that output declares; it read what it takes by definition, once it has started.

A mapped op is judged when the run has ended: until then nobody knows how many there will be.
If it did not succeed, there may have been more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from datahub.metadata.schema_classes import DataJobInputOutputClass, EdgeClass
from datahub.metadata.urns import DatasetUrn
from datahub.specific.datajob import DataJobPatchBuilder

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import patches, state
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import Datasets
from datahub_eventlog.translate.lineage.asset_ports import AssetDatasets
from datahub_eventlog.translate.lineage.declared import Declared, declared
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
from datahub_eventlog.values import AssetKey, Problem, Proposal, RunLog

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
    nodes: Mapping[str, OpLineage] = field(default_factory=dict)
    """By handle; only those about which there is nothing left to wait for."""
    named: frozenset[str] = frozenset()
    """The datasets that people named, in definitions or by their extractor."""
    problems: tuple[Problem, ...] = ()

    def datasets(self) -> list[str]:
        """The urns of all datasets in it but assets, which have aspects of their own."""
        every = (*self.steps.values(), *(each.datasets for each in self.nodes.values()))
        found = {urn for each in every for urn in each.inputs | each.outputs}
        return sorted(
            urn for urn in found if urn in self.named or urns.platform_of(urn) != urns.PLATFORM
        )


def run_lineage(
    log: RunLog, plan: Plan, progress: RunProgress, assets: AssetDatasets, context: Context
) -> RunLineage:
    """The lineage of a run."""
    return _OpLineageBuilder(log, plan, progress, assets, context).lineage()


def lineage_proposals(
    log: RunLog, lineage: RunLineage, began: float, context: Context
) -> Iterator[Proposal | Problem]:
    """The jobs' input and output, and the keys of the datasets, so that none is a ghost."""
    for handle, node in lineage.nodes.items():
        yield from _node_proposals(urns.job_urn(log.run, handle, context), node, log.run.run_id)
    for urn in lineage.datasets():
        yield state(urn, DatasetUrn.from_string(urn).to_key_aspect(), began, log.run.run_id)
    yield from lineage.problems


def _node_proposals(urn: str, node: OpLineage, run_id: str) -> Iterator[Proposal | Problem]:
    if node.is_complete:
        aspect = DataJobInputOutputClass(
            inputDatasets=[],
            outputDatasets=[],
            inputDatasetEdges=_edges(node.datasets.inputs),
            outputDatasetEdges=_edges(node.datasets.outputs),
            inputDatajobEdges=_edges(node.jobs),
        )
        is_vacant = not (node.datasets.inputs or node.datasets.outputs or node.jobs)
        yield state(urn, aspect, node.time, run_id, is_vacant=is_vacant)
        return
    builder = DataJobPatchBuilder(urn)
    for edge in _edges(node.datasets.inputs):
        builder.add_input_dataset(edge)
    for edge in _edges(node.datasets.outputs):
        builder.add_output_dataset(edge)
    for edge in _edges(node.jobs):
        builder.add_input_datajob(edge)
    yield from patches(builder, run_id, time=node.time)


def _edges(destinations: Iterable[str]) -> list[EdgeClass]:
    return [EdgeClass(destinationUrn=each) for each in sorted(destinations)]


def _union(every: Sequence[Datasets]) -> Datasets:
    inputs = frozenset().union(*(each.inputs for each in every))
    return Datasets(inputs, frozenset().union(*(each.outputs for each in every)))


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
        self._ops = {each.handle: each for each in log.job.ops} if log.job else {}
        self._storage = StoredPaths(log, plan, progress, context)
        self._faults: set[tuple[str, str]] = set()
        self._named: set[str] = set()
        self._own = {key: self._own_datasets(each) for key, each in progress.steps.items()}
        self._found = {key: self._found_datasets(key) for key in self._own}

    def lineage(self) -> RunLineage:
        keys = self._keys_by_handle()
        steps: dict[str, Datasets] = {}
        nodes: dict[str, OpLineage] = {}
        for handle in handles(self._log, self._plan, self._own):
            said = self._declared(handle)
            defined = self._defined(handle)
            ran = [self._progress.steps[key] for key in keys.get(handle, ())]
            for step in ran:
                inputs = said.inputs | defined.inputs if step.has_started else frozenset()
                outputs = said.outputs_of(self._yielded(step, said))
                steps[step.key] = self._found[step.key] | Datasets(inputs, outputs)
            if self._is_settled(ran):
                always = defined | Datasets(said.inputs, said.outputs)
                nodes[handle] = self._node(handle, ran, always)
        return RunLineage(steps, nodes, frozenset(self._named), self._problems())

    def _keys_by_handle(self) -> Mapping[str, list[str]]:
        grouped: dict[str, list[str]] = {}
        for key in self._own:
            grouped.setdefault(self._plan.handle(key), []).append(key)
        return grouped

    def _problems(self) -> tuple[Problem, ...]:
        return tuple(
            Problem(urns.job_urn(self._log.run, handle, self._context), ASPECT, reason)
            for handle, reason in sorted(self._faults)
        )

    def _is_settled(self, ran: Sequence[StepProgress]) -> bool:
        """Whether nothing more is to be expected of an op node in this run."""
        if self._progress.has_ended:
            return True
        return bool(ran) and all(each.is_over and not is_mapped(each.key) for each in ran)

    def _node(self, handle: str, ran: Sequence[StepProgress], always: Datasets) -> OpLineage:
        good = [each for each in ran if each.succeeded is not None]
        datasets = _union([always, *(self._found[each.key] for each in good)])
        node = self._plan.nodes.get(handle, OpNode(handle))
        is_complete = self._is_all(ran, good) and self._is_complete(node, ran)
        ends = [each.moments[-1].time for each in good or ran if each.moments]
        time = max(ends, default=self._progress.began)
        return OpLineage(datasets, self._jobs(node), time, is_complete)

    def _is_all(self, ran: Sequence[StepProgress], good: Sequence[StepProgress]) -> bool:
        """Whether the whole op ran and succeeded; of a mapped one only the run's success tells."""
        may_be_more = any(is_mapped(each.key) for each in ran) and not self._progress.has_succeeded
        return bool(ran) and len(good) == len(ran) and not may_be_more

    def _jobs(self, node: OpNode) -> frozenset[str]:
        if not self._context.config.connect_ops_to_ops:
            return frozenset()
        upstream = {self._plan.handle(key) for key in node.upstream}
        jobs = (urns.job_urn(self._log.run, each, self._context) for each in upstream)
        return frozenset(each for each in jobs if not urns.is_too_long(each))

    def _is_complete(self, node: OpNode, ran: Sequence[StepProgress]) -> bool:
        """Whether a run in which the whole op succeeded knows all of its lineage."""
        definitions = self._log.definitions
        if definitions is None or definitions.is_cut or not self._has_yielded_everything(node, ran):
            return False
        if not node.assets and not node.checks:
            return not self._is_part and self._knows_upstream(node)
        deps = self._dependencies(node)
        if deps is None:
            return False
        return self._are_assets_datasets or (deps <= self._made_here and self._knows_upstream(node))

    def _has_yielded_everything(self, node: OpNode, ran: Sequence[StepProgress]) -> bool:
        """Whether no optional output stayed away, with datasets that belong to it."""
        op = self._ops.get(node.handle)
        if op is None:
            return False
        yielded = {name for each in ran for name in self._stored(each, node)}
        yielded |= {each.name for step in node.steps for each in step.outputs if each.check}
        return all(each.is_required or each.name in yielded for each in op.outputs)

    def _stored(self, step: StepProgress, node: OpNode) -> frozenset[str]:
        """The outputs of which an event says that the step yielded them."""
        outputs = [each for one in node.steps for each in one.outputs]
        made = {output.name for output in outputs if output.asset_key in step.assets}
        return frozenset(made | {stored.output for stored in step.stored})

    def _yielded(self, step: StepProgress, said: Declared) -> frozenset[str | None]:
        """The outputs that the step yielded; under None all that belongs to none of them.

        One that succeeded yielded all that are required, and did what its inputs declare.
        """
        handle = self._plan.handle(step.key)
        stored = self._stored(step, self._plan.nodes.get(handle, OpNode(handle)))
        if not step.has_succeeded:
            return stored
        op = self._ops.get(handle)
        optional = {each.name for each in (op.outputs if op else ()) if not each.is_required}
        return stored | (said.written.keys() - optional)

    def _knows_upstream(self, node: OpNode) -> bool:
        """Whether every step that the op takes from succeeded in this run."""
        if not node.steps:
            return False
        runs = [self._ran.get(key, frozenset()) for key in node.upstream]
        succeeded = self._progress.steps
        return all(
            each and all(succeeded[key].succeeded is not None for key in each) for each in runs
        )

    @property
    def _are_assets_datasets(self) -> bool:
        config = self._context.config
        return config.capture_asset_materialization and config.emit_assets

    @property
    def _is_part(self) -> bool:
        """Whether ops that others take from may have been left out."""
        job = self._log.job
        is_selected = self._log.run.op_selection or (job is not None and job.is_part)
        return bool(is_selected or self._made_here)

    @cached_property
    def _made_here(self) -> frozenset[AssetKey]:
        return frozenset(key for node in self._plan.nodes.values() for key in node.assets)

    def _dependencies(self, node: OpNode) -> frozenset[AssetKey] | None:
        """The assets that the op's own assets and checks depend on; None if that is unknown."""
        if not node.assets and not node.checks:
            return None
        facts = self._log.definitions.assets if self._log.definitions else {}
        if any(key not in facts for key in node.assets):
            return None
        deps = {dep for key in node.assets for dep in facts[key].deps}
        return frozenset(deps | {each.asset_key for each in node.checks}) - set(node.assets)

    def _found_datasets(self, key: str) -> Datasets:
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
            frozenset(urn for each in upstream for urn in self._own[each].outputs)
        )

    def _checked_assets(self, node: OpNode) -> frozenset[str]:
        keys = {each.asset_key for each in node.checks} - set(node.assets)
        pattern = self._context.config.asset_pattern
        allowed = sorted(each for each in keys if pattern.allows("/".join(each)))
        located = partial(urns.asset_urn, context=self._context)
        return self._urns(located, allowed, "asset check", node.handle)

    def _declared(self, handle: str) -> Declared:
        said = declared(self._log, self._plan, handle, self._ops.get(handle))
        self._faults.update((handle, fault) for fault in said.faults)
        self._named |= said.inputs | said.outputs
        return said

    def _defined(self, handle: str) -> Datasets:
        """What the op takes and makes by the definitions of its assets, and of its checks."""
        defined = self._assets.by_op.get(handle, Datasets())
        node = self._plan.nodes.get(handle)
        if node is None or not self._are_assets_datasets:
            return defined
        return defined | Datasets(self._checked_assets(node))

    def _own_datasets(self, step: StepProgress) -> Datasets:
        """What a step's own events and the user's extractor say of it."""
        handle = self._plan.handle(step.key)
        found = self._assets.by_step.get(step.key, Datasets())
        if self._context.config.capture_input_output:
            read, wrote = self._storage.read(step), self._storage.wrote(step)
            found |= Datasets(self._at(read, handle), self._at(wrote, handle))
        for name in {step.key, unresolved(step.key), handle} & self._context.lineages.keys():
            inputs, outputs = (self._checked(each, handle) for each in self._context.lineages[name])
            found |= Datasets(
                inputs if step.has_started else frozenset(),
                outputs if step.has_succeeded else frozenset(),
            )
        return found

    def _at(self, paths: Iterable[str], handle: str) -> frozenset[str]:
        located = partial(
            dataset_of_path,
            run=self._log.run,
            context=self._context,
            partition=self._partition(handle),
        )
        return self._urns(located, paths, f"path of {handle}", handle)

    def _partition(self, handle: str) -> str | None:
        """The run's, where an asset is made or checked: that is one dataset with its partitions."""
        node = self._plan.nodes.get(handle)
        is_of_asset = node is not None and (node.assets or node.checks)
        return self._log.run.tags.get("dagster/partition") if is_of_asset else None

    def _checked(self, texts: Iterable[str], handle: str) -> frozenset[str]:
        found = self._urns(urns.checked_dataset_urn, texts, "asset_lineage_extractor", handle)
        self._named |= found
        return found

    def _urns(
        self, convert: Callable[[Any], str | None], told: Iterable[Any], origin: str, handle: str
    ) -> frozenset[str]:
        """The urns of what was told; each that makes none is a fault of its own."""
        found = set()
        for each in told:
            try:
                found.add(convert(each))
            except urns.InvalidUrn as error:
                self._faults.add((handle, f"{origin}: {error}"))
        return frozenset(each for each in found if each is not None)
