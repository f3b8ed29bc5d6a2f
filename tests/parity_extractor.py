"""The extractor of the sensor plugin's documentation, for the plugin and for us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster import DagsterEventType, RunStatusSensorContext
from datahub.metadata.urns import DatasetUrn
from datahub_dagster_plugin.client.dagster_generator import DatasetLineage as PluginLineage

from datahub_eventlog import DatasetLineage

SOURCE = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.public.orders,PROD)"


def ours(context: RunStatusSensorContext, generator: Any, graph: Any) -> Mapping[str, Any]:
    return _extract(DatasetLineage, context, generator, graph)


def theirs(context: RunStatusSensorContext, generator: Any, graph: Any) -> Mapping[str, Any]:
    return _extract(PluginLineage, context, generator, graph)


def _extract(
    lineage: Any, context: RunStatusSensorContext, generator: Any, graph: Any
) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    kinds = {DagsterEventType.ASSET_MATERIALIZATION}
    for log in context.instance.all_logs(context.dagster_run.run_id, kinds):
        materialization = log.asset_materialization
        if materialization is None or log.step_key is None:
            continue
        urn = generator.emit_asset(
            graph,
            materialization.asset_key.path,
            materialization.description,
            {key: str(value.value) for key, value in materialization.metadata.items()},
            downstreams=set(),
            upstreams={SOURCE},
        )
        found[log.step_key] = lineage({DatasetUrn.from_string(SOURCE)}, {urn})
    return found


def by_tags(context: RunStatusSensorContext, generator: Any, graph: Any) -> Mapping[str, Any]:
    """Emits what the run's tag says of each asset, and returns nothing."""
    run = context.dagster_run
    for log in context.instance.all_logs(run.run_id, {DagsterEventType.ASSET_MATERIALIZATION}):
        materialization = log.asset_materialization
        assert materialization is not None
        rows = {"rows": run.tags["rows"]}
        generator.emit_asset(graph, materialization.asset_key.path, None, rows, upstreams={SOURCE})
    return {}


def convert(key: Sequence[str]) -> DatasetUrn | None:
    return DatasetUrn("snowflake", ".".join(key), "PROD") if key[0] == "warehouse" else None
