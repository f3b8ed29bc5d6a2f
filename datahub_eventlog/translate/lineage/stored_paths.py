"""The paths that inputs and outputs are stored at, without those that hold a known table.

An asset whose table is known is that table. The path where an I/O manager keeps it is no dataset
beside it.
"""

from __future__ import annotations

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
        self._plan = plan
        self._progress = progress
        self._assets = RunAssets(log, context)

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
        planned = self._plan.steps.get(unresolved(step.key))
        keys = {port.name: port.asset_key for port in planned.outputs} if planned else {}
        return keys.get(output)

    def _taken(self, step: StepProgress, name: str) -> AssetKey | None:
        """The asset that is loaded as the input of that name, which Dagster gives it by default."""
        planned = self._plan.steps.get(unresolved(step.key))
        made = {output.asset_key for output in planned.outputs} if planned else set()
        facts = (self._assets.facts(key) for key in made if key is not None)
        deps = {dep for asset in facts if asset for dep in asset.deps if dep[-1] == name}
        return deps.pop() if len(deps) == 1 else None

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
