"""What the steps of a run read and wrote by their asset events, and their ops by definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_lineage import RunAssets, asset_lineage, shape
from datahub_eventlog.translate.runs.asset_events import FAILED, OBSERVED, AssetHistory
from datahub_eventlog.values import AssetKey, Event, Json, Materialization, RunLog, Step


@dataclass(frozen=True)
class Ports:
    """The urns of datasets, sorted by what they belong to."""

    inputs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What a step read, by its key."""
    outputs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What it wrote."""
    takes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What an op reads by the definitions of its assets, by its handle."""
    makes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What it writes by them."""


def ports_of(log: RunLog, history: AssetHistory, context: Context) -> Ports:
    """What each step read and wrote, and what its op takes and makes whatever became of the step.

    What it makes itself is none of its inputs. What the events until now say stays true.
    """
    fold = _Fold(log, history, context)
    for event in log.events:
        fold.add(event)
    for step in log.steps:
        fold.define(step)
    return Ports(*map(_frozen, (fold.inputs, fold.outputs, fold.takes, fold.makes)))


class _Fold:
    """Takes the events in their order."""

    def __init__(self, log: RunLog, history: AssetHistory, context: Context) -> None:
        self._assets = RunAssets(log, context)
        self._emits = context.config.emit_assets
        self._shapes: set[Json] = set()
        self.inputs: dict[str, set[str]] = {}
        self.outputs: dict[str, set[str]] = {}
        self.takes: dict[str, set[str]] = {}
        self.makes: dict[str, set[str]] = {}
        self._own = {each.key: {output.asset_key for output in each.outputs} for each in log.steps}
        self._planned = history.planned.keys()

    def add(self, event: Event) -> None:
        asset = event.data
        if event.type == FAILED or not isinstance(asset, Materialization):
            return
        if event.step_key is not None and self._assets.allows(asset.asset_key):
            self._add(event.type, event.step_key, asset)

    def define(self, step: Step) -> None:
        """Take the assets that the plan gives to a step."""
        for key in sorted(each for each in self._own[step.key] if each is not None):
            if not self._assets.allows(key):
                continue
            if self._is_never_made(key):
                _put(self.takes, step.handle, self._stand_in(key, None))
            elif key in self._planned or self._assets.facts(key) is not None:
                self._define(step, key)
        read, made = (each.get(step.handle, set()) for each in (self.takes, self.makes))
        read -= made

    def _define(self, step: Step, key: AssetKey) -> None:
        # Which table an asset makes is what the event says of a run that made it.
        if self._emits:
            _put(self.makes, step.handle, self._stand_in(key, None))
        for each in self._assets.upstream(key, None):
            if each not in self._own[step.key]:
                _put(self.takes, step.handle, self._stand_in(each, None))

    def _add(self, kind: str, step: str, asset: Materialization) -> None:
        key = asset.asset_key
        if kind == OBSERVED:
            self._add_observed(step, key, asset)
        elif self._emits:
            _put(self.outputs, step, self._assets.urn(key))
            for each in self._assets.upstream(key, asset):
                self._add_input(step, each, None)
        elif (step, key, shape(asset)) not in self._shapes:
            self._shapes.add((step, key, shape(asset)))
            self._add_tables(step, asset)

    def _add_input(self, step: str, key: AssetKey, asset: Materialization | None) -> None:
        if key not in self._own.get(step, ()):
            self._add_read(step, self._stand_in(key, asset))

    def _add_observed(self, step: str, key: AssetKey, asset: Materialization) -> None:
        """In the plan of a step, what it observes stands as what it makes does."""
        if self._is_never_made(key):
            self._add_read(step, self._stand_in(key, asset))
        else:
            self._add_input(step, key, asset)

    def _is_never_made(self, key: AssetKey) -> bool:
        facts = self._assets.facts(key)
        if facts is not None:
            return facts.is_external
        return bool(self._planned) and key not in self._planned

    def _add_read(self, step: str, urn: str | None) -> None:
        if urn not in self.outputs.get(step, ()):
            _put(self.inputs, step, urn)

    def _stand_in(self, key: AssetKey, asset: Materialization | None) -> str | None:
        """The asset's own urn or, where assets are not to be emitted, that of its table."""
        return self._assets.urn(key) if self._emits else self._assets.dataset(key, asset)

    def _add_tables(self, step: str, asset: Materialization) -> None:
        try:
            lineage = asset_lineage(asset.asset_key, asset, self._assets)
        except urns.InvalidUrn:
            return
        for table in lineage.downstreams:
            _put(self.outputs, step, table)
        for table in lineage.tables:
            self._add_read(step, table)
        for key in lineage.keys:
            self._add_input(step, key, None)


def _put(ports: dict[str, set[str]], name: str, urn: str | None) -> None:
    if urn is not None:
        ports.setdefault(name, set()).add(urn)


def _frozen(ports: Mapping[str, set[str]]) -> Mapping[str, frozenset[str]]:
    return {name: frozenset(each) for name, each in sorted(ports.items())}
