"""The paths that inputs and outputs are stored at, without those that hold a known table.

An asset whose table is known is that table. The path where an I/O manager keeps it is no dataset
beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property

from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.paths import paths
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.translate.runs.plan import Plan, unresolved
from datahub_eventlog.translate.runs.progress import RunProgress, StepProgress
from datahub_eventlog.values import AssetKey, Materialization, RunLog


class StoredPaths:
    """Where the steps of a run loaded and stored what is no asset with a table."""

    def __init__(self, log: RunLog, plan: Plan, progress: RunProgress, context: Context) -> None:
        """Take the run."""
        self._log = log
        self._progress = progress
        self._assets = RunAssets(log, context)
        self._outputs = {
            step.key: {output.name: output.asset_key for output in step.outputs}
            for step in plan.steps.values()
        }
        self._deps: dict[str, Mapping[str, AssetKey]] = {}  # both by the plan's keys

    def wrote(self, step: StepProgress) -> set[str]:
        """Where the step stored."""
        return {
            path
            for stored in step.stored
            if not self._is_table(self._made(step, stored.output))
            for path in paths(stored.metadata)
        }

    def read(self, step: StepProgress) -> set[str]:
        """Where the step loaded."""
        return {
            path
            for loaded in step.loaded
            if not self._is_table(self._taken(step, loaded.input))
            for path in paths(loaded.metadata)
            if path not in self._paths_of_tables
        }

    def _made(self, step: StepProgress, output: str) -> AssetKey | None:
        return self._outputs.get(unresolved(step.key), {}).get(output)

    def _taken(self, step: StepProgress, name: str) -> AssetKey | None:
        """The asset that is loaded as the input of that name, which Dagster gives it by default."""
        key = unresolved(step.key)
        if key not in self._deps:
            self._deps[key] = self._deps_by_name(key)
        return self._deps[key].get(name)

    def _deps_by_name(self, key: str) -> Mapping[str, AssetKey]:
        """What the assets of a step depend on, by the names that belong to one of them alone."""
        made = {asset for asset in self._outputs.get(key, {}).values() if asset is not None}
        deps = {dep for asset in map(self._assets.facts, made) if asset for dep in asset.deps}
        count = Counter(dep[-1] for dep in deps)
        return {dep[-1]: dep for dep in deps if count[dep[-1]] == 1}

    def _is_table(self, key: AssetKey | None) -> bool:
        if key is None or not self._assets.context.config.capture_asset_materialization:
            return False
        if not self._assets.allows(key):
            return False
        if key not in self._tables:
            self._tables[key] = self._assets.has_table(key)
        return self._tables[key]

    @cached_property
    def _tables(self) -> dict[AssetKey, bool]:
        """Whether the table is known, of each asset that the run's events name.

        By the newest event of a type: what loads an asset may observe it, and names no table then.
        """
        newest = {
            (event.data.asset_key, event.type): event.data
            for event in self._log.events
            if isinstance(event.data, Materialization)
        }
        known: dict[AssetKey, bool] = {}
        for (key, _), asset in newest.items():
            known[key] = known.get(key, False) or self._assets.has_table(key, asset)
        return known

    @cached_property
    def _paths_of_tables(self) -> frozenset[str]:
        """Where the run itself stored assets that are tables."""
        return frozenset(
            path
            for step in self._progress.steps.values()
            for stored in step.stored
            if self._is_table(self._made(step, stored.output))
            for path in paths(stored.metadata)
        )
