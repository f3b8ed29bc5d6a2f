"""What an asset is made of, and which tables are made by it.

The asset's own upstreamLineage is sent whole, as of the materialisation, so that what has really
changed replaces the old. That it is made of nothing is said only to take back what was said. To
the tables of data platforms, of which DataHub's own sources speak as well, an edge is only added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

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

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import patches
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import INPUTS, OUTPUTS
from datahub_eventlog.translate.lineage.evidence import (
    NAMES,
    PATH,
    Evidence,
    evidence_of,
    own_name,
    sql_platform,
    subject_of,
    why_no_platform,
    winner,
)
from datahub_eventlog.translate.lineage.queries import (
    QUERY,
    Query,
    QueryLineage,
    query_lineage,
    query_text,
    query_urn,
    shape_of,
)
from datahub_eventlog.values import (
    DATA_VERSION,
    INPUT_VERSION,
    AssetFacts,
    AssetKey,
    Json,
    Materialization,
    Metadata,
    Problem,
    Proposal,
    RunLog,
)

ASPECT = "upstreamLineage"
COLUMN_LINEAGE = "dagster/column_lineage"
NOTED = (INPUT_VERSION, DATA_VERSION)
DECLARED = (INPUTS, OUTPUTS)

Column: TypeAlias = tuple[str, str]
"""A dataset's urn and one of its columns."""


@dataclass(frozen=True)
class AssetLineage:
    """The datasets around an asset, as a materialisation and its definition say."""

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
    """Its SQL, if that says anything of tables."""
    unread: str | None = None
    """Why its SQL says nothing of tables, if it has any and nothing went wrong."""
    queried: frozenset[str] = frozenset()
    """The tables that its SQL reads."""
    written: frozenset[str] = frozenset()
    """The tables that its SQL writes."""
    inputs: frozenset[str] = frozenset()
    """The datasets that are declared as its inputs."""
    outputs: frozenset[str] = frozenset()
    """The datasets that are declared as its outputs."""
    origins: frozenset[str] = frozenset()
    """The tables that upstream assets are which Dagster doesn't make."""
    keys: tuple[AssetKey, ...] = ()
    """The assets that it is made of, by their keys."""
    is_known: bool = False
    """Something says what it is made of, be it of nothing."""
    problems: tuple[Problem, ...] = ()

    @property
    def upstreams(self) -> frozenset[str]:
        """All datasets that it is made of."""
        columns = {table for each in self.columns.values() for table, _ in each}
        return (self.assets | self.tables | columns) - {self.urn}

    @property
    def says_something(self) -> bool:
        """Whether anything is known of what it is made of."""
        return self.is_known or bool(self.upstreams)


class RunAssets:
    """What is known of the assets of one run, or of the events that belong to none."""

    def __init__(self, log: RunLog, context: Context) -> None:
        """Take what there is beside the events."""
        self.run = log.run
        self.context = context
        self._steps = log.steps
        self._facts = log.definitions.assets if log.definitions else {}
        self._ports = log.definitions.ports if log.definitions else {}

    def facts(self, key: AssetKey) -> AssetFacts | None:
        """What the asset's definition says, if that is known."""
        return self._facts.get(key)

    def allows(self, key: AssetKey) -> bool:
        """Whether the asset is to be delivered."""
        return self.context.config.asset_pattern.allows("/".join(key))

    def upstream(self, key: AssetKey, asset: Materialization | None) -> list[AssetKey]:
        """The assets that it depends on, by its definition and by what Dagster noted down."""
        facts = self.facts(key)
        keys = set(facts.deps if facts else ())
        keys.update(asset.made_of if asset else ())
        return sorted(each for each in keys - {key} if self.allows(each))

    def dataset(self, key: AssetKey, asset: Materialization | None = None) -> str | None:
        """The dataset on a data platform that the asset is, if anything says so."""
        found = self._evidence(key, asset)
        return found.urn if found else None

    def has_table(self, key: AssetKey, asset: Materialization | None = None) -> bool:
        """Whether its dataset is known by more than the path that it is at."""
        found = self._evidence(key, asset)
        return found is not None and found.source != PATH

    def _evidence(self, key: AssetKey, asset: Materialization | None) -> Evidence | None:
        subject = subject_of(key, self.facts(key), asset, self.run)
        return winner(evidence_of(subject, self.context))

    def urn(self, key: AssetKey) -> str | None:
        """The dataset that stands for the asset, if its key makes a urn."""
        try:
            return urns.asset_urn(key, self.context)
        except urns.InvalidUrn:
            return None

    def ports(self, key: AssetKey) -> Iterator[Metadata]:
        """The metadata of the inputs and outputs of the op that makes this asset alone."""
        for handle in self._makers.get(key, ()):
            ports = self._ports.get(handle)
            yield from (*ports.inputs.values(), *ports.outputs.values()) if ports else ()

    @cached_property
    def _makers(self) -> Mapping[AssetKey, list[str]]:
        """The handles of the ops that make one asset and no other."""
        found: dict[AssetKey, list[str]] = {}
        for step in self._steps:
            keys = [each.asset_key for each in step.outputs if each.asset_key is not None]
            if len(keys) == 1:
                found.setdefault(keys[0], []).append(step.handle)
        return found

    @cached_property
    def known(self) -> Mapping[str, str]:
        """The datasets that assets are, by their urns in lower case."""
        found = (self.dataset(key) for key in sorted(self._facts))
        return {each.lower(): each for each in found if each is not None}


def asset_lineage(key: AssetKey, asset: Materialization | None, assets: RunAssets) -> AssetLineage:
    """All datasets around an asset; raises `urns.InvalidUrn` if its key makes no urn."""
    return _AssetLineageBuilder(key, asset, assets).lineage()


def shape(asset: Materialization) -> Json:
    """What of a materialisation decides its lineage: equal shapes, equal lineage."""
    found = {name: asset.metadata[name] for name in (*NAMES, *DECLARED) if name in asset.metadata}
    named = tuple(sorted((name, str(each.value)) for name, each in found.items()))
    inputs = tuple(sorted(each for each in asset.tags if each.startswith(NOTED)))
    text = query_text(asset.metadata)
    columns = asset.metadata.get(COLUMN_LINEAGE)
    return named, inputs, text and shape_of(text), str(columns.value) if columns else None


def upstream_lineage(lineage: AssetLineage, *, with_query: bool) -> UpstreamLineageClass:
    """The asset's own aspect."""
    urn = query_urn(lineage.query) if with_query and lineage.query else None
    return UpstreamLineageClass(
        upstreams=[
            _upstream(each, urn if each in lineage.queried else None)
            for each in sorted(lineage.upstreams)
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
        """Take those of an asset; with its columns to the table that it is."""
        self._since = max(self._since, time)
        for table in lineage.downstreams:
            self._tables.setdefault(table, set()).add(lineage.urn)
        if lineage.dataset in lineage.downstreams:
            columns = {(lineage.urn, name) for name in lineage.columns}
            self._columns.setdefault(lineage.dataset, set()).update(columns)
        self.add_sibling(lineage.urn, lineage.dataset, time)

    def add_sibling(self, asset: str, dataset: str | None, time: float) -> None:
        """Take that an asset is a table."""
        self._since = max(self._since, time)
        if dataset is not None and dataset != asset:
            self._siblings.setdefault(dataset, set()).add(asset)

    def proposals(self, run_id: str) -> Iterator[Proposal | Problem]:
        """Additions to what the tables' own sources say."""
        for table in sorted(self._tables.keys() | self._siblings.keys()):
            builder = DatasetPatch(table)
            for asset in sorted(self._tables.get(table, ())):
                builder.add_upstream_lineage(_upstream(asset))
            for asset, column in sorted(self._columns.get(table, ())):
                builder.add_column(asset, column)
            for asset in sorted(self._siblings.get(table, ())):
                builder.add_twin(asset)
            yield from patches(builder, run_id, time=self._since)


class DatasetPatch(DatasetPatchBuilder):
    """What is added to a dataset; in words that every version of the client has."""

    def add_column(self, asset: str, column: str) -> None:
        """A column that comes from the asset's column of the same name."""
        self.add_column_edge((asset, column), (self.urn, column))

    def add_column_edge(self, source: Column, target: Column) -> None:
        """A column that comes from another."""
        path = ("fineGrainedLineages", "NONE", _field(*target), "NONE", _field(*source))
        self._add_patch(ASPECT, "add", path=path, value={"confidenceScore": 1.0})

    def add_twin(self, asset: str) -> None:
        """The asset that is this table; which of them is primary is left as it is."""
        self._add_patch("siblings", "add", path=("siblings", asset), value=asset)


class _AssetLineageBuilder:
    """Puts together what speaks of one asset."""

    def __init__(self, key: AssetKey, asset: Materialization | None, assets: RunAssets) -> None:
        self._key = key
        self._asset = asset
        self._assets = assets
        self._context = assets.context
        self._urn = urns.asset_urn(key, assets.context)
        self._subject = subject_of(key, assets.facts(key), asset, assets.run)
        self._problems: list[Problem] = []

    def lineage(self) -> AssetLineage:
        dataset = self._dataset()
        query = self._query(dataset)
        read = self._read(query)
        keys = self._assets.upstream(self._key, self._asset)
        inputs, outputs = self._declared(INPUTS), self._declared(OUTPUTS)
        origins = self._origins(keys)
        made = read.downstreams | outputs | ({dataset} if dataset else set())
        return AssetLineage(
            urn=self._urn,
            assets=self._urns(keys),
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
            keys=tuple(keys),
            is_known=self._is_known(),
            problems=tuple(self._problems),
        )

    def _dataset(self) -> str | None:
        evidence = evidence_of(self._subject, self._context)
        for each in evidence:
            if each.is_wrong:
                self._problem(f"{each.source}: {each.reason}")
        found = winner(evidence)
        return found.urn if found else None

    def _query(self, dataset: str | None) -> Query | None:
        if not self._context.config.enable_asset_query_metadata_parsing:
            return None
        text = query_text(self._asset.metadata if self._asset else {})
        platform = sql_platform(self._subject, dataset) if text else None
        if text is None or platform is None:
            return None
        return Query(text, platform, dataset, self._assets.known, own_name(self._subject))

    def _unread(self, query: Query | None, read: QueryLineage) -> str | None:
        if query is not None or query_text(self._asset.metadata if self._asset else {}) is None:
            return read.reason
        if not self._context.config.enable_asset_query_metadata_parsing:
            return "not read, enable_asset_query_metadata_parsing is false"
        return f"not read, {why_no_platform(self._subject)}"

    def _read(self, query: Query | None) -> QueryLineage:
        if query is None:
            return QueryLineage()
        read = query_lineage(query, self._context)
        for fault in read.faults:
            self._problem(f"{QUERY}: {fault}")
        return read

    def _declared(self, name: str) -> frozenset[str]:
        """The datasets that metadata name as `datahub.inputs` or `.outputs` of the asset."""
        places = (self._subject.metadata, *self._assets.ports(self._key))
        values = [each[name].value for each in places if name in each]
        texts = [text for each in values for text in (each if isinstance(each, list) else [each])]
        checked = (self._valid(urns.checked_dataset_urn, each, name) for each in texts)
        return frozenset(each for each in checked if each is not None)

    def _origins(self, keys: Iterable[AssetKey]) -> frozenset[str]:
        """The tables that assets are which Dagster doesn't make: nothing else leads to them."""
        external = (key for key in keys if (each := self._assets.facts(key)) and each.is_external)
        found = (self._assets.dataset(key) for key in external)
        return frozenset(each for each in found if each is not None)

    def _columns(self) -> Mapping[str, frozenset[Column]]:
        found = self._subject.metadata.get(COLUMN_LINEAGE)
        if found is None or found.kind != "column_lineage":
            return {}
        return {name: frozenset(self._sources(each)) for name, each in found.value.items()}

    def _sources(self, sources: Iterable[Json]) -> Iterator[Column]:
        for source in sources:
            key = tuple(source["asset_key"])
            for urn in self._urns([key] if key != self._key and self._assets.allows(key) else []):
                yield urn, source["column"]

    def _urns(self, keys: Iterable[AssetKey]) -> frozenset[str]:
        found = (self._valid(self._urn_of, key, "upstream asset") for key in keys)
        return frozenset(each for each in found if each is not None)

    def _urn_of(self, key: AssetKey) -> str:
        return urns.asset_urn(key, self._context)

    def _valid(self, make: Callable[[Json], str], of: Json, where: str) -> str | None:
        try:
            return make(of)
        except urns.InvalidUrn as error:
            self._problem(f"{where}: {error}")
            return None

    def _problem(self, reason: str) -> None:
        problem = Problem(self._urn, ASPECT, reason)
        if problem not in self._problems:
            self._problems.append(problem)

    def _is_known(self) -> bool:
        """Whether the definition is known, or Dagster noted down what went into the asset."""
        tags = self._asset.tags if self._asset else {}
        return self._assets.facts(self._key) is not None or DATA_VERSION in tags


def _union(
    one: Mapping[str, frozenset[Column]], other: Mapping[str, frozenset[Column]]
) -> Mapping[str, frozenset[Column]]:
    names = {*one, *other}
    found = {name: one.get(name, frozenset()) | other.get(name, frozenset()) for name in names}
    return {name: each for name, each in found.items() if each}


def _upstream(urn: str, query: str | None = None) -> UpstreamClass:
    return UpstreamClass(dataset=urn, type=DatasetLineageTypeClass.TRANSFORMED, query=query)


def _column_edge(urn: str, column: str, sources: Iterable[Column]) -> FineGrainedLineageClass:
    return FineGrainedLineageClass(
        upstreamType=FineGrainedLineageUpstreamTypeClass.FIELD_SET,
        upstreams=sorted(_field(*each) for each in sources),
        downstreamType=FineGrainedLineageDownstreamTypeClass.FIELD,
        downstreams=[_field(urn, column)],
        confidenceScore=1.0,
    )


def _field(urn: str, column: str) -> str:
    return SchemaFieldUrn(urn, column).urn()
