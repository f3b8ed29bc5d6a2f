"""How an asset's lineage is written: its own upstreamLineage, and additions to its tables.

The asset's own aspect is sent whole, as of the materialisation, so that what has really changed
replaces the old. That it is made of nothing is sent only to take back what was sent before. To the
tables of data platforms, which DataHub's own sources describe as well, an edge is only added.
"""

from __future__ import annotations

from collections.abc import Iterable

from datahub.metadata.schema_classes import (
    DatasetLineageTypeClass,
    FineGrainedLineageClass,
    FineGrainedLineageDownstreamTypeClass,
    FineGrainedLineageUpstreamTypeClass,
    UpstreamClass,
    UpstreamLineageClass,
)
from datahub.metadata.urns import SchemaFieldUrn
from datahub.specific.dataset import DatasetPatchBuilder

from datahub_eventlog.translate.aspects import Proposals, patches
from datahub_eventlog.translate.datasets import Column
from datahub_eventlog.translate.lineage.asset_lineage import ASPECT, AssetLineage
from datahub_eventlog.translate.lineage.queries import query_urn


def upstream_lineage(lineage: AssetLineage, *, with_query: bool) -> UpstreamLineageClass:
    """The asset's own aspect."""
    query = query_urn(lineage.query) if with_query and lineage.query else None
    return UpstreamLineageClass(
        upstreams=[
            _upstream(urn, query if urn in lineage.queried else None)
            for urn in sorted(lineage.upstreams)
        ],
        fineGrainedLineages=[
            _column_edge(lineage.urn, name, sources)
            for name, sources in sorted(lineage.columns.items())
        ]
        or None,
    )


def upstream_additions(lineage: AssetLineage) -> DatasetPatch:
    """The same as additions to what the asset has."""
    builder = DatasetPatch(lineage.urn)
    for urn in sorted(lineage.upstreams):
        builder.add_upstream_lineage(_upstream(urn))
    for name, sources in sorted(lineage.columns.items()):
        for source in sorted(sources):
            builder.add_column_edge(source, (lineage.urn, name))
    return builder


class TableEdges:
    """The edges from assets to the tables that they make, of a whole run."""

    def __init__(self) -> None:
        """Begin with none."""
        self._since = 0.0
        self._tables: dict[str, set[str]] = {}
        self._columns: dict[str, set[Column]] = {}
        self._siblings: dict[str, set[str]] = {}

    def add(self, lineage: AssetLineage, time: float) -> None:
        """Take those of an asset; to the table that it is, with its columns."""
        self._since = max(self._since, time)
        for table in lineage.downstreams:
            self._tables.setdefault(table, set()).add(lineage.urn)
        if lineage.dataset in lineage.downstreams:
            columns = {(lineage.urn, name) for name in lineage.columns}
            self._columns.setdefault(lineage.dataset, set()).update(columns)
        self.add_sibling(lineage, time)

    def add_sibling(self, lineage: AssetLineage, time: float) -> None:
        """Take that an asset is a table."""
        self._since = max(self._since, time)
        if lineage.sibling is not None:
            self._siblings.setdefault(lineage.sibling, set()).add(lineage.urn)

    def proposals(self, run_id: str) -> Proposals:
        """Additions to the aspects of the tables, which belong to their own sources."""
        for table in sorted(self._tables.keys() | self._siblings.keys()):
            builder = DatasetPatch(table)
            for asset in sorted(self._tables.get(table, ())):
                builder.add_upstream_lineage(_upstream(asset))
            for asset, column in sorted(self._columns.get(table, ())):
                builder.add_column_edge((asset, column), (table, column))
            for asset in sorted(self._siblings.get(table, ())):
                builder.add_asset_sibling(asset)
            yield from patches(builder, run_id, time=self._since)


class DatasetPatch(DatasetPatchBuilder):
    """Additions to a dataset that not every supported version of the client has methods for."""

    def add_column_edge(self, source: Column, target: Column) -> None:
        """A column that comes from another."""
        path = ("fineGrainedLineages", "NONE", _field(*target), "NONE", _field(*source))
        self._add_patch(ASPECT, "add", path=path, value={"confidenceScore": 1.0})

    def add_asset_sibling(self, asset: str) -> None:
        """The asset that is this table; which of them is primary is left as it is."""
        self._add_patch("siblings", "add", path=("siblings", asset), value=asset)


def _upstream(urn: str, query: str | None = None) -> UpstreamClass:
    return UpstreamClass(dataset=urn, type=DatasetLineageTypeClass.TRANSFORMED, query=query)


def _column_edge(urn: str, column: str, sources: Iterable[Column]) -> FineGrainedLineageClass:
    return FineGrainedLineageClass(
        upstreamType=FineGrainedLineageUpstreamTypeClass.FIELD_SET,
        upstreams=sorted(_field(*source) for source in sources),
        downstreamType=FineGrainedLineageDownstreamTypeClass.FIELD,
        downstreams=[_field(urn, column)],
        confidenceScore=1.0,
    )


def _field(urn: str, column: str) -> str:
    return SchemaFieldUrn(urn, column).urn()
