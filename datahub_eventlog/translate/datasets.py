"""The datasets that a step or op reads and writes, and the metadata that declares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

INPUTS = "datahub.inputs"
OUTPUTS = "datahub.outputs"
"""Metadata of In, Out, AssetIn, AssetOut and @asset, both names on each: one urn or a list."""

Column: TypeAlias = tuple[str, str]
"""A dataset's urn and one of its columns."""


@dataclass(frozen=True)
class Datasets:
    """The urns of what a step or op reads and writes."""

    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()

    def __or__(self, other: Datasets) -> Datasets:
        return Datasets(self.inputs | other.inputs, self.outputs | other.outputs)
