"""What steps read and wrote by their asset events, and what ops read and write by definition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import Datasets
from datahub_eventlog.translate.lineage.asset_lineage import asset_lineage, shape
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.translate.runs.asset_events import OBSERVED, AssetEvent, AssetHistory
from datahub_eventlog.values import AssetKey, Json, Materialization, RunLog, Step

_NOTHING = Datasets()


@dataclass(frozen=True)
class AssetDatasets:
    """The datasets around the assets of a run."""

    by_step: Mapping[str, Datasets] = field(default_factory=dict)
    """What a step read and wrote according to its events, by its key."""
    by_op: Mapping[str, Datasets] = field(default_factory=dict)
    """What an op reads and writes according to the definitions of its assets, by its handle."""


def asset_datasets(log: RunLog, history: AssetHistory, context: Context) -> AssetDatasets:
    """What each step read and wrote, and what its op is defined to, whatever became of the step.

    What a step or op makes is none of its inputs. More events only add datasets.
    """
    if not context.config.capture_asset_materialization:
        return AssetDatasets()
    ports = _AssetPorts(log, history, context)
    by_op: dict[str, Datasets] = {}
    for step in log.steps:
        by_op[step.handle] = by_op.get(step.handle, _NOTHING) | ports.defined(step)
    return AssetDatasets(
        by_step={step: ports.seen(step, events) for step, events in history.by_step.items()},
        by_op={
            handle: Datasets(datasets.inputs - datasets.outputs, datasets.outputs)
            for handle, datasets in by_op.items()
        },
    )


class _AssetPorts:
    """Looks at one step at a time."""

    def __init__(self, log: RunLog, history: AssetHistory, context: Context) -> None:
        self._assets = RunAssets(log, context)
        self._emits = context.config.emit_assets
        self._own = {step.key: {output.asset_key for output in step.outputs} for step in log.steps}
        self._planned = history.planned.keys()

    def seen(self, step: str, events: Iterable[AssetEvent]) -> Datasets:
        """What the step read and wrote according to its events."""
        inputs: set[str] = set()
        outputs: set[str] = set()
        known: set[tuple[AssetKey, Json]] = set()
        for event, asset in events:
            if not self._assets.allows(asset.asset_key):
                continue
            if event.type == OBSERVED:
                datasets = self._observed(step, asset)
            elif self._emits:
                datasets = self._materialized(step, asset)
            elif (of_shape := (asset.asset_key, shape(asset))) in known:
                continue
            else:
                known.add(of_shape)
                datasets = self._tables(step, asset)
            outputs |= datasets.outputs
            inputs |= datasets.inputs - outputs
        return Datasets(frozenset(inputs), frozenset(outputs))

    def defined(self, step: Step) -> Datasets:
        """What the step reads and writes by the definitions of the assets that the plan gives it.

        The table that an asset makes is left out: only a run that made it knows which it is.
        """
        datasets = _NOTHING
        for key in sorted(key for key in self._own[step.key] if key is not None):
            if not self._assets.allows(key):
                continue
            if self._is_never_made(key):
                datasets |= Datasets(inputs=self._stand_ins([key]))
            elif key in self._planned or self._assets.facts(key) is not None:
                upstream = self._assets.upstream(key, None)
                made = self._stand_ins([key] if self._emits else [])
                datasets |= Datasets(self._inputs(step.key, upstream), made)
        return datasets

    def _observed(self, step: str, asset: Materialization) -> Datasets:
        """The plan gives a step what it observes as well as what it makes."""
        key = asset.asset_key
        if self._is_never_made(key) or key not in self._own.get(step, ()):
            return Datasets(inputs=self._stand_ins([key], asset))
        return _NOTHING

    def _materialized(self, step: str, asset: Materialization) -> Datasets:
        upstream = self._assets.upstream(asset.asset_key, asset)
        return Datasets(self._inputs(step, upstream), self._stand_ins([asset.asset_key]))

    def _tables(self, step: str, asset: Materialization) -> Datasets:
        try:
            lineage = asset_lineage(asset.asset_key, asset, self._assets)
        except urns.InvalidUrn:
            return _NOTHING
        return Datasets(lineage.tables | self._inputs(step, lineage.keys), lineage.downstreams)

    def _is_never_made(self, key: AssetKey) -> bool:
        facts = self._assets.facts(key)
        if facts is not None:
            return facts.is_external
        return bool(self._planned) and key not in self._planned

    def _inputs(self, step: str, keys: Sequence[AssetKey]) -> frozenset[str]:
        """The datasets of those assets that the step doesn't make itself."""
        return self._stand_ins(key for key in keys if key not in self._own.get(step, ()))

    def _stand_ins(
        self, keys: Iterable[AssetKey], asset: Materialization | None = None
    ) -> frozenset[str]:
        """The assets' own urns or, where assets are not emitted, those of their tables."""
        find = self._assets.urn if self._emits else (lambda key: self._assets.dataset(key, asset))
        return frozenset(urn for urn in map(find, keys) if urn is not None)
