"""What is known of the assets of a run beside its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_details import PATH, details_of
from datahub_eventlog.translate.lineage.evidence import Evidence, evidence_of, winner
from datahub_eventlog.values import AssetFacts, AssetKey, Materialization, Metadata, RunLog


class RunAssets:
    """The assets of one run, or of the events that belong to none."""

    def __init__(self, log: RunLog, context: Context) -> None:
        """Take what the run holds beside the events."""
        self.run = log.run
        self.context = context
        self._steps = log.steps
        self._facts = log.definitions.assets if log.definitions else {}
        self._ports = log.definitions.ports if log.definitions else {}

    def facts(self, key: AssetKey) -> AssetFacts | None:
        """The asset's definition, if that is known."""
        return self._facts.get(key)

    def allows(self, key: AssetKey) -> bool:
        """Whether the asset is to be delivered."""
        return self.context.config.asset_pattern.allows("/".join(key))

    def urn(self, key: AssetKey) -> str | None:
        """The dataset that stands for the asset, if its key makes a urn."""
        try:
            return urns.asset_urn(key, self.context)
        except urns.InvalidUrn:
            return None

    def checked(self, key: AssetKey) -> str | None:
        """The dataset that the asset's checks are of: where assets aren't sent, its table."""
        if not self.allows(key):
            return None
        return self.urn(key) if self.context.config.emit_assets else self.dataset(key)

    def upstream(self, key: AssetKey, asset: Materialization | None) -> list[AssetKey]:
        """The assets that it depends on, by its definition and by what Dagster noted down."""
        facts = self.facts(key)
        keys = {*(facts.deps if facts else ()), *(asset.made_of if asset else ())}
        return sorted(upstream for upstream in keys - {key} if self.allows(upstream))

    def dataset(self, key: AssetKey, asset: Materialization | None = None) -> str | None:
        """The dataset on a data platform that the asset is, if there is evidence of one."""
        evidence = self._evidence(key, asset)
        return evidence.urn if evidence else None

    def has_table(self, key: AssetKey, asset: Materialization | None = None) -> bool:
        """Whether there is evidence of its dataset beside the path where it is stored."""
        evidence = self._evidence(key, asset)
        return evidence is not None and evidence.source != PATH

    def ports(self, key: AssetKey) -> Iterator[Metadata]:
        """The metadata of the inputs and outputs of the op that makes this asset alone."""
        for handle in self._makers.get(key, ()):
            ports = self._ports.get(handle)
            yield from (*ports.inputs.values(), *ports.outputs.values()) if ports else ()

    @cached_property
    def datasets(self) -> Mapping[str, str]:
        """The datasets that assets are by their definitions, by their urns in lower case."""
        datasets = (self.dataset(key) for key in sorted(self._facts))
        return {urn.lower(): urn for urn in datasets if urn is not None}

    @cached_property
    def _makers(self) -> Mapping[AssetKey, list[str]]:
        """The handles of the ops that make one asset and no other."""
        makers: dict[AssetKey, list[str]] = {}
        for step in self._steps:
            keys = [output.asset_key for output in step.outputs if output.asset_key is not None]
            if len(keys) == 1:
                makers.setdefault(keys[0], []).append(step.handle)
        return makers

    def _evidence(self, key: AssetKey, asset: Materialization | None) -> Evidence | None:
        details = details_of(key, self.facts(key), asset, self.run)
        return winner(evidence_of(details, self.context))
