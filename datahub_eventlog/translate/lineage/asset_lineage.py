"""What an asset is made of, which table it is, and which datasets it makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.datasets import INPUTS, OUTPUTS, Column
from datahub_eventlog.translate.lineage.asset_details import NAMING_TABLES, details_of
from datahub_eventlog.translate.lineage.declared import datasets_in
from datahub_eventlog.translate.lineage.evidence import evidence_of, winner
from datahub_eventlog.translate.lineage.platforms import own_name, sql_platform, storing_platform
from datahub_eventlog.translate.lineage.queries import (
    QUERY,
    Query,
    QueryLineage,
    query_lineage,
    query_text,
    shape_of,
)
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.values import (
    DATA_VERSION,
    INPUT_VERSION,
    AssetKey,
    Json,
    Materialization,
    Problem,
)

ASPECT = "upstreamLineage"
COLUMN_LINEAGE = "dagster/column_lineage"


@dataclass(frozen=True)
class AssetLineage:
    """The datasets around an asset, by a materialisation and its definition."""

    urn: str
    assets: frozenset[str] = frozenset()
    """The assets that it is made of."""
    tables: frozenset[str] = frozenset()
    """The other datasets that it is made of."""
    dataset: str | None = None
    """The dataset on a data platform that the asset is."""
    downstreams: frozenset[str] = frozenset()
    """The datasets that it makes, the one that it is among them."""
    columns: Mapping[str, frozenset[Column]] = field(default_factory=dict)
    """Of its columns, those that their values come from."""
    query: Query | None = None
    """Its SQL, if that reads or writes tables."""
    unread: str | None = None
    """Why its SQL links it to no table, if it has any SQL and nothing went wrong."""
    queried: frozenset[str] = frozenset()
    """The tables that its SQL reads."""
    written: frozenset[str] = frozenset()
    """The tables that its SQL writes."""
    inputs: frozenset[str] = frozenset()
    """The datasets that are declared as its inputs."""
    outputs: frozenset[str] = frozenset()
    """The datasets that are declared as its outputs."""
    origins: frozenset[str] = frozenset()
    """The tables of upstream assets that Dagster doesn't make."""
    keys: tuple[AssetKey, ...] = ()
    """The assets that it is made of, by their keys."""
    is_known: bool = False
    """What it is made of is known, if only that it is nothing."""
    problems: tuple[Problem, ...] = ()

    @property
    def sibling(self) -> str | None:
        """The same dataset, unless the evidence names the asset itself."""
        return None if self.dataset == self.urn else self.dataset

    @property
    def upstreams(self) -> frozenset[str]:
        """All datasets that it is made of."""
        columns = {table for sources in self.columns.values() for table, _ in sources}
        return (self.assets | self.tables | columns) - {self.urn}

    @property
    def says_something(self) -> bool:
        """Whether anything is known of what it is made of."""
        return self.is_known or bool(self.upstreams)


def asset_lineage(key: AssetKey, asset: Materialization | None, assets: RunAssets) -> AssetLineage:
    """All datasets around an asset; raises `urns.InvalidUrn` if its key makes no urn."""
    return _AssetLineageBuilder(key, asset, assets).lineage()


def shape(asset: Materialization) -> Json:
    """What of a materialisation decides its lineage: equal shapes, equal lineage."""
    metadata = asset.metadata
    named = [name for name in (*NAMING_TABLES, INPUTS, OUTPUTS) if name in metadata]
    texts = tuple(sorted((name, str(metadata[name].value)) for name in named))
    versions = tuple(sorted(tag for tag in asset.tags if tag.startswith(_VERSIONS)))
    query = query_text(metadata)
    columns = metadata.get(COLUMN_LINEAGE)
    return texts, versions, query and shape_of(query), str(columns.value) if columns else None


_VERSIONS = (INPUT_VERSION, DATA_VERSION)


class _AssetLineageBuilder:
    """Asks everything that names datasets around one asset."""

    def __init__(self, key: AssetKey, asset: Materialization | None, assets: RunAssets) -> None:
        self._key = key
        self._metadata = asset.metadata if asset else {}
        self._tags = asset.tags if asset else {}
        self._assets = assets
        self._context = assets.context
        self._urn = urns.asset_urn(key, assets.context)
        self._details = details_of(key, assets.facts(key), asset, assets.run)
        self._keys = assets.upstream(key, asset)
        self._problems: list[Problem] = []

    def lineage(self) -> AssetLineage:
        dataset = self._dataset()
        query = self._query(dataset)
        read = query_lineage(query, self._context) if query else QueryLineage()
        for fault in read.faults:
            self._add_problem(f"{QUERY}: {fault}")
        inputs, outputs = self._declared(INPUTS), self._declared(OUTPUTS)
        origins = self._origins()
        made = read.downstreams | outputs | ({dataset} if dataset else set())
        return AssetLineage(
            urn=self._urn,
            assets=self._urns(self._keys),
            tables=(read.upstreams | inputs | origins) - made,
            dataset=dataset,
            downstreams=made - {self._urn},
            columns=_union(read.columns, self._columns()),
            query=query if read.upstreams or read.downstreams else None,
            unread=self._unread(query, read),
            queried=read.upstreams,
            written=read.downstreams,
            inputs=inputs,
            outputs=outputs,
            origins=origins,
            keys=tuple(self._keys),
            is_known=self._assets.facts(self._key) is not None or DATA_VERSION in self._tags,
            problems=tuple(self._problems),
        )

    def _dataset(self) -> str | None:
        """The table that the asset is, by the strongest evidence."""
        evidence = evidence_of(self._details, self._context)
        for item in evidence:
            if item.is_wrong:
                self._add_problem(f"{item.source}: {item.reason}")
        best = winner(evidence)
        return best.urn if best else None

    def _query(self, dataset: str | None) -> Query | None:
        if not self._context.config.enable_asset_query_metadata_parsing:
            return None
        text = query_text(self._metadata)
        platform = sql_platform(self._details, dataset) if text else None
        if text is None or platform is None:
            return None
        return Query(text, platform, dataset, self._assets.datasets, own_name(self._details))

    def _unread(self, query: Query | None, read: QueryLineage) -> str | None:
        if query is not None or query_text(self._metadata) is None:
            return read.reason
        if not self._context.config.enable_asset_query_metadata_parsing:
            return "not read, enable_asset_query_metadata_parsing is false"
        return f"not read, {storing_platform(self._details).reason}"

    def _declared(self, name: str) -> frozenset[str]:
        """The datasets that metadata name as `datahub.inputs` or `.outputs` of the asset."""
        places = (self._details.metadata, *self._assets.ports(self._key))
        faults: list[str] = []
        found = {urn for metadata in places for urn in datasets_in(metadata, name, faults)}
        for fault in faults:
            self._add_problem(fault)
        return frozenset(found)

    def _origins(self) -> frozenset[str]:
        """The tables of upstream assets that Dagster doesn't make: nothing else leads to them."""
        facts = (self._assets.facts(key) for key in self._keys)
        tables = (self._assets.dataset(asset.key) for asset in facts if asset and asset.is_external)
        return frozenset(urn for urn in tables if urn is not None)

    def _columns(self) -> Mapping[str, frozenset[Column]]:
        columns = self._details.metadata.get(COLUMN_LINEAGE)
        if columns is None or columns.kind != "column_lineage":
            return {}
        return {name: frozenset(self._sources(deps)) for name, deps in columns.value.items()}

    def _sources(self, deps: Iterable[Json]) -> Iterator[Column]:
        for dep in deps:
            key = tuple(dep["asset_key"])
            for urn in self._urns([key] if key != self._key and self._assets.allows(key) else []):
                yield urn, dep["column"]

    def _urns(self, keys: Iterable[AssetKey]) -> frozenset[str]:
        found = set()
        for key in keys:
            try:
                found.add(urns.asset_urn(key, self._context))
            except urns.InvalidUrn as error:
                self._add_problem(f"upstream asset: {error}")
        return frozenset(found)

    def _add_problem(self, reason: str) -> None:
        problem = Problem(self._urn, ASPECT, reason)
        if problem not in self._problems:
            self._problems.append(problem)


def _union(
    one: Mapping[str, frozenset[Column]], other: Mapping[str, frozenset[Column]]
) -> Mapping[str, frozenset[Column]]:
    columns = {
        name: one.get(name, frozenset()) | other.get(name, frozenset()) for name in {*one, *other}
    }
    return {name: sources for name, sources in columns.items() if sources}
