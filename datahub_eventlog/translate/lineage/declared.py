"""Datasets that definitions declare in metadata: `datahub.inputs` and `datahub.outputs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.datasets import INPUTS, OUTPUTS
from datahub_eventlog.translate.runs.plan import Plan
from datahub_eventlog.values import Metadata, Op, PortFacts, RunLog

_NO_PORTS = PortFacts()


@dataclass(frozen=True)
class Declared:
    """What an op node reads and writes by its definitions, whether it ran or not."""

    inputs: frozenset[str] = frozenset()
    written: Mapping[str | None, frozenset[str]] = field(default_factory=dict)
    """What it writes, by the op's output that declares it; under None what its inputs declare."""
    faults: tuple[str, ...] = ()
    """What was written there but is no dataset urn, and why."""

    @property
    def outputs(self) -> frozenset[str]:
        """All that it writes."""
        return frozenset().union(*self.written.values())

    def outputs_of(self, names: Iterable[str | None]) -> frozenset[str]:
        """What it writes with these outputs."""
        return frozenset().union(*(self.written.get(name, frozenset()) for name in names))


def declared_datasets(log: RunLog, plan: Plan, handle: str, op: Op | None) -> Declared:
    """The declarations on an op node, its inputs and outputs, and the assets it produces."""
    inputs: set[str] = set()
    written: dict[str | None, frozenset[str]] = {}
    faults: list[str] = []
    for output, metadata in _metadata(log, plan, handle, op):
        inputs.update(datasets_in(metadata, INPUTS, faults))
        datasets = frozenset(datasets_in(metadata, OUTPUTS, faults))
        written[output] = written.get(output, frozenset()) | datasets
    return Declared(frozenset(inputs), written, tuple(sorted(set(faults))))


def datasets_in(metadata: Metadata, name: str, faults: list[str]) -> Iterator[str]:
    """The datasets that metadata declare under that name; what is none is added to the faults."""
    if name not in metadata:
        return
    value = metadata[name].value
    for text in value if isinstance(value, list) else [value]:
        try:
            yield urns.checked_dataset_urn(text)
        except urns.InvalidUrn as error:
            faults.append(f"{name}: {error}")


def _metadata(
    log: RunLog, plan: Plan, handle: str, op: Op | None
) -> Iterator[tuple[str | None, Metadata]]:
    """All metadata of the op, with the name of the output that they belong to."""
    if op is not None:
        yield from ((None, port.metadata) for port in op.inputs)
        yield from ((port.name, port.metadata) for port in op.outputs)
    if log.definitions is None:
        return
    ports = log.definitions.ports.get(handle, _NO_PORTS)
    yield from ((None, metadata) for metadata in ports.inputs.values())
    yield from ports.outputs.items()
    node = plan.nodes.get(handle)
    for output in (output for step in (node.steps if node else ()) for output in step.outputs):
        facts = log.definitions.assets.get(output.asset_key) if output.asset_key else None
        if facts is not None:
            yield output.name, facts.metadata
