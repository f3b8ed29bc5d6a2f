"""Datasets that definitions declare in metadata: `datahub.inputs` and `datahub.outputs`.

On In, Out, AssetIn, AssetOut and @asset, both names everywhere; a list of urns or one urn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.plan import Plan
from datahub_eventlog.values import Metadata, Metadatum, Op, PortFacts, RunLog

INPUTS = "datahub.inputs"
OUTPUTS = "datahub.outputs"

_NO_PORTS = PortFacts()


@dataclass(frozen=True)
class Declared:
    """What an op node's definitions say it reads and writes, whether it ran or not."""

    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()
    """What was written there but is no dataset urn, and why."""


def declared(log: RunLog, plan: Plan, handle: str, op: Op | None) -> Declared:
    """The declarations on an op node, its inputs and outputs, and the assets it produces."""
    metadata = list(_metadata(log, plan, handle, op))
    faults: list[str] = []
    inputs = frozenset(urn for each in metadata for urn in _datasets(each, INPUTS, faults))
    outputs = frozenset(urn for each in metadata for urn in _datasets(each, OUTPUTS, faults))
    return Declared(inputs, outputs, tuple(sorted(set(faults))))


def _metadata(log: RunLog, plan: Plan, handle: str, op: Op | None) -> Iterator[Metadata]:
    for port in (*op.inputs, *op.outputs) if op else ():
        yield port.metadata
    if log.definitions is None:
        return
    ports = log.definitions.ports.get(handle, _NO_PORTS)
    yield from (*ports.inputs.values(), *ports.outputs.values())
    node = plan.nodes.get(handle)
    for key in node.assets if node else ():
        facts = log.definitions.assets.get(key)
        if facts is not None:
            yield facts.metadata


def _datasets(metadata: Mapping[str, Metadatum], name: str, faults: list[str]) -> Iterator[str]:
    if name not in metadata:
        return
    value = metadata[name].value
    for text in value if isinstance(value, list) else [value]:
        try:
            yield urns.checked_dataset_urn(text)
        except urns.InvalidUrn as error:
            faults.append(f"{name}: {error}")
