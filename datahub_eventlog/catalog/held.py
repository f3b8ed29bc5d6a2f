"""What DataHub holds of the assets of a catalogue, as another catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from datahub_eventlog import error_text
from datahub_eventlog.catalog.document import Catalogue, CatalogueAsset, CatalogueColumn
from datahub_eventlog.catalog.impact import batches
from datahub_eventlog.errors import DataHubEventLogError

if TYPE_CHECKING:
    from datahub.ingestion.graph.client import DataHubGraph

BATCH = 100
"""Assets that are asked for at once."""
ASPECTS = ("datasetProperties", "schemaMetadata", "upstreamLineage", "status")


def held(head: Catalogue, graph: DataHubGraph) -> Catalogue:
    """What DataHub holds of the assets of `head`.

    No other asset is read: DataHub does not say which code location an asset is from. Raises
    `DataHubEventLogError` if DataHub does not answer.
    """
    assets: dict[str, CatalogueAsset] = {}
    for batch in batches(sorted(head.assets), BATCH):
        try:
            answer = graph.get_entities("dataset", batch, list(ASPECTS))
        except Exception as error:
            reason = error_text.describe(error)
            raise DataHubEventLogError(f"DataHub could not be asked: {reason}") from error
        for urn in batch:
            aspects = {name: value for name, (value, _) in answer.get(urn, {}).items()}
            if _exists(aspects):
                assets[urn] = _asset(head.assets[urn], aspects)
    return Catalogue(assets, is_of_datahub=True)


def _exists(aspects: Mapping[str, Any]) -> bool:
    """Whether anything was delivered of it, beside that somebody's lineage names it."""
    status = aspects.get("status")
    return bool(aspects) and not (status and status.removed)


def _asset(known: CatalogueAsset, aspects: Mapping[str, Any]) -> CatalogueAsset:
    properties, lineage = aspects.get("datasetProperties"), aspects.get("upstreamLineage")
    return CatalogueAsset(
        key=known.key,
        urn=known.urn,
        location=known.location,
        # Runs add descriptions where the definition has none.
        description=(properties.description or None) if properties and known.description else None,
        columns=_columns(known, aspects.get("schemaMetadata")),
        upstream=tuple(upstream.dataset for upstream in lineage.upstreams) if lineage else (),
    )


def _columns(known: CatalogueAsset, schema: Any) -> tuple[CatalogueColumn, ...] | None:
    if schema is None:
        return None
    described = {column.name for column in known.columns or () if column.description}
    return tuple(
        CatalogueColumn(
            field.fieldPath,
            field.nativeDataType,
            (field.description or None) if field.fieldPath in described else None,
            bool(field.nullable),
        )
        for field in schema.fields
    )
