"""The SQL in an asset's `Query` metadata: its lineage, and the query as an entity.

DataHub's parser is loaded only when there is SQL to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datahub.metadata.schema_classes import (
    AuditStampClass,
    DataPlatformInstanceClass,
    QueryLanguageClass,
    QueryPropertiesClass,
    QuerySourceClass,
    QueryStatementClass,
    QuerySubjectClass,
    QuerySubjectsClass,
    SubTypesClass,
)
from datahub.metadata.urns import DatasetUrn, QueryUrn

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import Aspect, state
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.paths import dataset_of_path
from datahub_eventlog.translate.runs.instances import milliseconds
from datahub_eventlog.values import Metadata, Problem, Proposal

if TYPE_CHECKING:
    from datahub_eventlog.translate.lineage.sql import Dialect, Script

QUERY = "Query"
_ACTOR = "urn:li:corpuser:_ingestion"
_FENCED = re.compile(r"\s*```(?:sql)?\s*\n(.*?)```\s*", re.DOTALL | re.IGNORECASE)
_LITERAL = re.compile(r"'[^']*'|\b\d+(?:\.\d+)?\b")


@dataclass(frozen=True)
class Query:
    """A query of an asset, and what is known about where it runs."""

    text: str
    platform: str
    dataset: str | None = None
    """The urn of the asset's dataset on the platform."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Datasets that assets are, by their urns in lower case: SQL ignores case."""
    own: str | None = None
    """The name of the asset's own table in the query, if that differs from its dataset's."""


@dataclass(frozen=True)
class QueryLineage:
    """What a query reads and writes."""

    upstreams: frozenset[str] = frozenset()
    downstreams: frozenset[str] = frozenset()
    columns: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    """Of the asset's columns, the datasets' columns that they come from."""
    faults: tuple[str, ...] = ()
    reason: str | None = None
    """Why it links the asset to no dataset, if nothing went wrong."""


def query_text(metadata: Metadata) -> str | None:
    """The asset's SQL, if its metadata holds any; a Markdown code block counts as its content."""
    metadatum = metadata.get(QUERY)
    if metadatum is None or metadatum.kind not in ("text", "md"):
        return None
    fenced = _FENCED.fullmatch(metadatum.value)
    text: str = fenced[1] if fenced else metadatum.value
    return text if text.strip() else None


def shape_of(text: str) -> str:
    """The query without its literals: queries of one shape have the same lineage."""
    return _LITERAL.sub("?", text)


def query_urn(query: Query) -> str:
    """The query entity, named as the sensor plugin names it."""
    from datahub_eventlog.translate.lineage.sql import fingerprint

    name = fingerprint(query.text, urns.platform_urn(query.platform))
    return QueryUrn(f"dagster_{name}").urn()


def query_lineage(query: Query, context: Context) -> QueryLineage:
    """What the query reads and writes, of tables and columns.

    A query that only reads the asset's own table, as I/O managers write it, has no upstream.
    """
    from datahub_eventlog.translate.lineage.sql import read_script

    dialect = _dialect(query, context)
    find = context.resolver
    resolver = find and find(dialect.platform, dialect.env, dialect.platform_instance)
    return _TableNamer(query, context).lineage(read_script(query.text, dialect, resolver))


class QueryEntities:
    """The queries of a run, with all datasets that each is about."""

    def __init__(self) -> None:
        """Begin with none."""
        self._queries: dict[tuple[str, str], tuple[set[str], list[float]]] = {}

    def add(self, query: Query, subjects: Iterable[str], time: float) -> None:
        """Take a query; assets may have the same one."""
        place = (query.text, query.platform)
        datasets, times = self._queries.setdefault(place, (set(), []))
        datasets.update(subjects)
        times.append(time)

    def proposals(self, run_id: str) -> Iterator[Proposal | Problem]:
        """The queries as entities of their own."""
        for (text, platform), (subjects, times) in self._queries.items():
            urn = query_urn(Query(text, platform))
            for aspect in _aspects(text, platform, subjects, max(times)):
                yield state(urn, aspect, max(times), run_id)


def _aspects(text: str, platform: str, subjects: Iterable[str], time: float) -> Iterator[Aspect]:
    stamp = AuditStampClass(time=milliseconds(time), actor=_ACTOR)
    yield QueryPropertiesClass(
        statement=QueryStatementClass(value=text, language=QueryLanguageClass.SQL),
        source=QuerySourceClass.SYSTEM,
        created=stamp,
        lastModified=stamp,
    )
    yield QuerySubjectsClass([QuerySubjectClass(entity=urn) for urn in sorted(subjects)])
    yield DataPlatformInstanceClass(platform=urns.platform_urn(platform))
    yield SubTypesClass(typeNames=["Query"])


class _TableNamer:
    """Gives the tables of a script the urns by which DataHub's sources know them."""

    def __init__(self, query: Query, context: Context) -> None:
        self._query = query
        self._context = context
        self._known = dict(query.known)
        if query.dataset is not None:
            self._known[query.dataset.lower()] = query.dataset

    def lineage(self, script: Script) -> QueryLineage:
        downstreams = self._named(script.downstreams)
        upstreams = self._named(script.upstreams) - downstreams - {self._query.dataset}
        columns = self._columns(script)
        return QueryLineage(
            upstreams=upstreams,
            downstreams=downstreams,
            columns={name: sources for name, sources in columns.items() if sources},
            faults=script.faults,
            reason=None if upstreams or downstreams else self._reason(script),
        )

    def _reason(self, script: Script) -> str | None:
        if script.faults:
            return None
        if not script.upstreams:
            return "it names no table"
        if any(self._is_own(table) or self._is_shown(table) for table in script.upstreams):
            return "it reads only the asset's own table"
        return "what it reads is no dataset"

    def _is_shown(self, table: str) -> bool:
        """Whether it is the asset itself, in the query by which an I/O manager shows its table."""
        if self._query.own is None or urns.platform_of(table) != self._query.platform:
            return False
        name = DatasetUrn.from_string(table).name
        return name.lower().endswith(self._query.own.lower())

    def _columns(self, script: Script) -> Mapping[str, frozenset[tuple[str, str]]]:
        """The asset's columns: those of its own dataset, else of the only one written or read."""
        columns = next(
            (sources for table, sources in script.columns.items() if self._is_own(table)), None
        )
        if columns is None and len(script.columns) == 1 and len(script.downstreams) <= 1:
            columns = next(iter(script.columns.values()))
        return {
            name: frozenset(
                (urn, column)
                for table, column in sources
                if (urn := self._name(table)) not in (None, self._query.dataset)
            )
            for name, sources in (columns or {}).items()
        }

    def _is_own(self, table: str | None) -> bool:
        dataset = self._query.dataset
        return table is not None and dataset is not None and self._name(table) == dataset

    def _named(self, tables: Iterable[str]) -> frozenset[str]:
        dataset_urns = (self._name(table) for table in tables)
        return frozenset(urn for urn in dataset_urns if urn is not None)

    def _name(self, table: str) -> str | None:
        """The dataset's urn as DataHub's sources write it; None for what is no dataset."""
        if self._is_shown(table):
            return self._query.dataset
        if urns.platform_of(table) != self._query.platform:
            return self._file(table)
        if table.lower() in self._known:
            return self._known[table.lower()]
        if self._context.config.convert_urns_to_lowercase:
            parts = DatasetUrn.from_string(table)
            table = DatasetUrn(self._query.platform, parts.name.lower(), parts.env).urn()
        try:
            return urns.checked_dataset_urn(table)
        except urns.InvalidUrn:
            return None

    def _file(self, table: str) -> str | None:
        """A file that the SQL reads by its path, which the parser has put into lower case."""
        name = DatasetUrn.from_string(table).name
        written = re.search(re.escape(name), self._query.text, re.IGNORECASE)
        path = written[0] if written else name
        if "://" not in path and not path.startswith("/"):
            return None
        try:
            return dataset_of_path(path, None, self._context)
        except urns.InvalidUrn:
            return None


def _dialect(query: Query, context: Context) -> Dialect:
    from datahub_eventlog.translate.lineage.sql import Dialect

    instance = context.config.platform_instance_map.get(query.platform)
    if query.dataset is None or urns.platform_of(query.dataset) != query.platform:
        return Dialect(query.platform, context.config.env, instance)
    own = DatasetUrn.from_string(query.dataset)
    name = own.name.removeprefix(f"{instance}.") if instance else own.name
    database, schema = ([None, None, *name.split(".")[:-1]])[-2:]
    return Dialect(query.platform, own.env, instance, database, schema)
