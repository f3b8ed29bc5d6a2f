"""The steps of a job's whole plan, made from its snapshot without planning it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from datahub_eventlog.catalog.asset_nodes import output_name
from datahub_eventlog.dagster_internals import DependencyStructureSnapshot, JobSnap
from datahub_eventlog.values import CheckKey, Step, StepOutput


def steps_of_job(
    snapshot: JobSnap, assets: Iterable[Any], checks: Iterable[Any]
) -> tuple[Step, ...]:
    """A step for each op node, in the order of their handles, which are their keys.

    `assets` and `checks` are the snapshots of the job's assets and checks.
    """
    definitions = _Definitions(snapshot.node_defs_snapshot)
    job = _Level(definitions, snapshot.dep_structure_snapshot)
    steps = {step.handle: step for step in job.steps({})}
    known = {
        **dict(_check_outputs(job, checks)),
        **dict(_asset_outputs(steps, definitions.names, assets)),
    }
    return tuple(_with_outputs(steps[handle], known) for handle in sorted(steps))


class _Output(NamedTuple):
    """An output of a node."""

    handle: str
    name: str


class _Definitions:
    """The definitions of a job's nodes, and the name of that of each op node."""

    def __init__(self, snapshot: Any) -> None:
        self.ops = {op.name: op for op in snapshot.op_def_snaps}
        self.graphs = {graph.name: graph for graph in snapshot.graph_def_snaps}
        self.names: dict[str, str] = {}


class _Level:
    """The nodes of the job, or those of a graph in it."""

    def __init__(
        self, definitions: _Definitions, structure: DependencyStructureSnapshot, prefix: str = ""
    ) -> None:
        self._definitions = definitions
        self._prefix = prefix
        self._nodes = {node.node_name: node for node in structure.node_invocation_snaps}
        self._graphs = {
            name: definitions.graphs[node.node_def_name]
            for name, node in self._nodes.items()
            if node.node_def_name in definitions.graphs
        }
        self._inner = {
            name: _Level(definitions, graph.dep_structure_snapshot, f"{prefix}{name}.")
            for name, graph in self._graphs.items()
        }

    def steps(self, outer: Mapping[tuple[str, str], AbstractSet[str]]) -> Iterator[Step]:
        """The steps of all op nodes, at any depth.

        `outer` has the handles that the inputs of nodes get from outside of the graph.
        """
        for name, node in self._nodes.items():
            upstream = {
                source.input_name: {
                    self.source(output.node_name, output.output_name).handle
                    for output in source.upstream_output_snaps
                }
                | outer.get((name, source.input_name), set())
                for source in node.input_dep_snaps
            }
            if name in self._graphs:
                yield from self._inner[name].steps(_mapped(self._graphs[name], upstream))
            else:
                yield self._step(name, node.node_def_name, set().union(*upstream.values()))

    def source(self, node: str, output: str) -> _Output:
        """The op's output that the output of a node is."""
        if node not in self._graphs:
            return _Output(f"{self._prefix}{node}", output)
        inner = next(
            mapping
            for mapping in self._graphs[node].output_mapping_snaps
            if mapping.external_output_name == output
        )
        return self._inner[node].source(inner.mapped_node_name, inner.mapped_output_name)

    def outputs(self) -> Iterator[_Output]:
        """The outputs of this level's nodes themselves."""
        for name in self._nodes:
            for output in self._output_names(name):
                yield _Output(name, output)

    def _output_names(self, node: str) -> Iterator[str]:
        definition = self._definitions.ops.get(self._nodes[node].node_def_name)
        for output in (definition or self._graphs[node]).output_def_snaps:
            yield output.name

    def _step(self, name: str, definition: str, upstream: set[str]) -> Step:
        handle = f"{self._prefix}{name}"
        self._definitions.names[handle] = definition
        return Step(
            key=handle,
            handle=handle,
            upstream=tuple(sorted(upstream)),
            outputs=tuple(StepOutput(output) for output in sorted(self._output_names(name))),
        )


def _mapped(
    graph: Any, upstream: Mapping[str, AbstractSet[str]]
) -> Mapping[tuple[str, str], AbstractSet[str]]:
    """What the inputs of a graph's nodes get by the graph's own inputs."""
    mapped: dict[tuple[str, str], set[str]] = defaultdict(set)
    for mapping in graph.input_mapping_snaps:
        handles = upstream.get(mapping.external_input_name, set())
        mapped[mapping.mapped_node_name, mapping.mapped_input_name].update(handles)
    return mapped


def _asset_outputs(
    steps: Mapping[str, Step], definitions: Mapping[str, str], assets: Iterable[Any]
) -> Iterator[tuple[_Output, StepOutput]]:
    """The outputs that are assets."""
    by_definition: dict[str, list[str]] = defaultdict(list)
    for handle, definition in definitions.items():
        by_definition[definition].append(handle)
    taken: set[_Output] = set()
    for asset in assets:
        last = _last(steps, asset.op_names)
        if last is None or definitions[last] != asset.node_definition_name:
            # The snapshot has the node's name in one of the asset's jobs; in others, where the
            # definition is used once less or more, the name can be another.
            last = next(
                (
                    handle
                    for handle in by_definition.get(asset.node_definition_name, ())
                    if _Output(handle, asset.output_name) not in taken
                ),
                None,
            )
        if last is not None:
            output = _Output(last, asset.output_name)
            taken.add(output)
            yield output, StepOutput(output.name, asset_key=tuple(asset.asset_key.path))


def _last(steps: Mapping[str, Step], handles: Iterable[str]) -> str | None:
    """The step that makes an asset, of those that take part in it."""
    present = {handle for handle in handles if handle in steps}
    before = {handle for step in present for handle in steps[step].upstream}
    rest = sorted(present - before)
    return rest[0] if len(rest) == 1 else None


def _check_outputs(job: _Level, checks: Iterable[Any]) -> Iterator[tuple[_Output, StepOutput]]:
    """The outputs that are checks: Dagster names them, or the node of a single one, after it."""
    keys = {output_name(check): check for check in checks}
    for output in job.outputs():
        check = keys.get(output.name) or keys.get(output.handle)
        if check is not None:
            source = job.source(*output)
            key = CheckKey(tuple(check.asset_key.path), check.name)
            yield source, StepOutput(source.name, check=key)


def _with_outputs(step: Step, known: Mapping[_Output, StepOutput]) -> Step:
    outputs = tuple(known.get(_Output(step.handle, output.name), output) for output in step.outputs)
    return dataclasses.replace(step, outputs=outputs)
