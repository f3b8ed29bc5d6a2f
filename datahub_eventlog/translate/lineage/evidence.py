"""Which dataset of a data platform an asset is: the evidence, the strongest first.

DataHub knows the same table under the urn that its own source for the platform gave it. An asset
is linked to it only where something names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from datahub_eventlog.config import FABRICS
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.paths import NoDataset, dataset_at, paths, place_of
from datahub_eventlog.translate.lineage.queries import query_text
from datahub_eventlog.values import AssetFacts, AssetKey, Materialization, Metadata, Run

DATAHUB_URN = "datahub_urn"
TABLE_NAME = "dagster/table_name"
OLD_TABLE_NAME = "dagster/relation_identifier"
STORAGE_KIND = "dagster/storage_kind"
TABLE_URI = "table_uri"
URI = "dagster/uri"
PATH = "path"
CONVERTER = "asset_keys_to_dataset_urn_converter"
KEY = "asset key"
KIND_TAG = "dagster/kind/"
NAMES = (DATAHUB_URN, TABLE_NAME, OLD_TABLE_NAME, STORAGE_KIND, TABLE_URI, URI, PATH)
"""The metadata that can name an asset's dataset."""


@dataclass(frozen=True)
class Evidence:
    """Something that may name an asset's dataset on a data platform."""

    source: str
    """Where it stands, such as `dagster/table_name` or `asset key`."""
    text: str
    """What stands there."""
    urn: str | None = None
    """The dataset, if it names one."""
    reason: str | None = None
    """Why it names none."""
    is_wrong: bool = False
    """It was meant to name a dataset and can't: a mistake of whoever wrote it."""


@dataclass(frozen=True)
class Subject:
    """The asset whose table is looked for, with all that may name it."""

    key: AssetKey
    metadata: Metadata = field(default_factory=dict)
    """Of its definition, overwritten by that of its materialisation."""
    tags: Mapping[str, str] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()
    run: Run | None = None
    partition: str | None = None

    def text(self, name: str) -> str | None:
        """The metadata of that name, if it is a text that isn't empty."""
        metadatum = self.metadata.get(name)
        if metadatum is None or not isinstance(metadatum.value, str):
            return None
        return metadatum.value.strip() or None

    @property
    def is_of_dbt(self) -> bool:
        """Whether dagster-dbt made the asset."""
        names = any(name.startswith(("dagster_dbt/", "dagster-dbt/")) for name in self.metadata)
        return names or "dbt" in self.kinds


def subject_of(
    key: AssetKey,
    facts: AssetFacts | None,
    materialization: Materialization | None = None,
    run: Run | None = None,
) -> Subject:
    """An asset, by its definition and its materialisation where there are any."""
    declared, tags = (facts.metadata, facts.tags) if facts else ({}, {})
    metadata = {**declared, **(materialization.metadata if materialization else {})}
    tags = {**tags, **(materialization.tags if materialization else {})}
    kinds = {name[len(KIND_TAG) :] for name in tags if name.startswith(KIND_TAG)}
    kinds.update(facts.kinds if facts else ())
    partition = materialization.partition if materialization else None
    return Subject(key, metadata, tags, frozenset(map(str.lower, kinds)), run, partition)


def evidence_of(subject: Subject, context: Context) -> tuple[Evidence, ...]:
    """All evidence of the asset's dataset, the strongest first."""
    return tuple(item for items in ranked(subject, context).values() for item in items)


def ranked(subject: Subject, context: Context) -> Mapping[str, tuple[Evidence, ...]]:
    """The evidence by the place where it stands, the strongest first; most places have none."""
    return {source: tuple(find(subject, context)) for source, find in _SOURCES.items()}


def winner(evidence: tuple[Evidence, ...]) -> Evidence | None:
    """The strongest that names a dataset, if any does."""
    return next((item for item in evidence if item.urn is not None), None)


def dataset_of_key(key: AssetKey, context: Context) -> str | None:
    """The dataset that a long key names by itself, if it does."""
    evidence = winner(tuple(_of_key(Subject(key), context)))
    return evidence.urn if evidence else None


def is_file(dataset: str) -> bool:
    """Whether it is a file, folder or object, and no table of a database."""
    return urns.platform_of(dataset) in _FILES


def selected_table(query: str | None) -> str | None:
    """The table of a query as I/O managers show what they wrote: all of one table."""
    match = _SELECT.fullmatch(query.strip()) if query else None
    return re.sub(r'["`\[\]]', "", match[1]) if match else None


def own_name(subject: Subject) -> str | None:
    """The table's name as the I/O manager has it that shows a query of its own table."""
    name, selected = _name(subject), selected_table(query_text(subject.metadata))
    if name is None or selected is None:
        return None
    name = re.sub(r'["`\[\]]', "", name)
    return selected if f".{name}".endswith(f".{selected}") else None


def why_no_platform(subject: Subject) -> str | None:
    """Why the platform of the asset is unknown, if it is."""
    return _platform(subject).reason


def sql_platform(subject: Subject, platform_dataset: str | None) -> str | None:
    """The platform whose SQL the asset's queries are written in, or None if it is unknown."""
    platform = urns.platform_of(platform_dataset) if platform_dataset else None
    if platform_dataset is not None and not is_file(platform_dataset):
        return platform
    return _platform(subject).name


def _explicit(subject: Subject, _context: Context) -> Iterator[Evidence]:
    if text := subject.text(DATAHUB_URN):
        yield _named(DATAHUB_URN, text, partial(urns.checked_dataset_urn, text))


def _converted(subject: Subject, context: Context) -> Iterator[Evidence]:
    if text := context.platform_urns.get(subject.key):
        make = partial(urns.checked_dataset_urn, text)
        yield _named(CONVERTER, "/".join(subject.key), make)


def _of_key(subject: Subject, context: Context) -> Iterator[Evidence]:
    if not context.config.capture_dataset_from_asset_key or len(subject.key) < LONG_KEY:
        return
    env, platform, *name = subject.key
    text = "/".join(subject.key)
    if env.upper() not in FABRICS:
        yield Evidence(KEY, text, reason=f"{env!r} is none of DataHub's environments")
        return
    make = partial(urns.platform_dataset_urn, platform, ".".join(name), context, env=env.upper())
    yield _named(KEY, text, make)


def _of_table_uri(subject: Subject, context: Context) -> Iterator[Evidence]:
    uri = subject.text(TABLE_URI)
    if uri is None:
        return
    platform = _platform(subject)
    if platform.name == DELTA_LAKE:
        yield _named(TABLE_URI, uri, partial(_at, uri, subject, context))
    else:
        other = f"it names tables of {DELTA_LAKE}, and this is one of {platform.name}"
        yield Evidence(TABLE_URI, uri, reason=other if platform.name else platform.reason)


def _of_table_name(subject: Subject, context: Context) -> Iterator[Evidence]:
    name = _name(subject)
    if name is None:
        return
    platform = _platform(subject)
    if subject.text("dagster-dbt/materialization_type") == "ephemeral":
        yield Evidence(TABLE_NAME, name, reason="an ephemeral dbt model is no table")
    elif platform.name is None:
        yield Evidence(TABLE_NAME, name, reason=platform.reason)
    elif platform.name == DELTA_LAKE and _is_of_delta_io_manager(name):
        yield Evidence(TABLE_NAME, name, reason=_CONSTANT)
    else:
        table = _table(name, platform.name, subject)
        make = partial(urns.platform_dataset_urn, platform.name, table, context)
        yield _named(TABLE_NAME, f"{name} in {platform.name}", make)


def _of_uri(subject: Subject, context: Context) -> Iterator[Evidence]:
    uri = subject.text(URI)
    if uri is None:
        return
    named = _named(URI, uri, partial(_at, uri, subject, context))
    if named.urn is not None and urns.platform_of(named.urn) not in {*_FILES, DELTA_LAKE}:
        named = Evidence(URI, uri, reason="it is no file, folder or object")
    yield named


def _of_path(subject: Subject, context: Context) -> Iterator[Evidence]:
    metadatum = subject.metadata.get(PATH)
    for path in paths({PATH: metadatum} if metadatum else {}):
        yield _named(PATH, path, partial(_at, path, subject, context))


def _at(path: str, subject: Subject, context: Context) -> str:
    """The dataset at a path; of a table of Delta Lake, as DataHub's source for it has it."""
    if _platform(subject).name != DELTA_LAKE:
        return dataset_at(path, subject.run, context, subject.partition)
    _, name = place_of(path, subject.run, context, subject.partition)
    return urns.platform_dataset_urn(DELTA_LAKE, name.strip("/"), context)


_SOURCES: Mapping[str, Callable[[Subject, Context], Iterator[Evidence]]] = {
    DATAHUB_URN: _explicit,
    CONVERTER: _converted,
    KEY: _of_key,
    TABLE_URI: _of_table_uri,
    TABLE_NAME: _of_table_name,
    URI: _of_uri,
    PATH: _of_path,
}
"""Where the evidence stands, the strongest first."""


def _named(source: str, text: str, make: Callable[[], str]) -> Evidence:
    try:
        return Evidence(source, text, make())
    except NoDataset as error:
        return Evidence(source, text, reason=str(error))
    except urns.InvalidUrn as error:
        return Evidence(source, text, reason=str(error), is_wrong=True)


@dataclass(frozen=True)
class _Platform:
    name: str | None
    reason: str | None = None


def _platform(subject: Subject) -> _Platform:
    """The platform that stores the asset: `dagster/storage_kind`, else the one kind that can."""
    stated = subject.text(STORAGE_KIND) or subject.tags.get(STORAGE_KIND)
    # The kind of dlt's destination, whatever name the user gave it: `dlt.destinations.<kind>`.
    destination = (subject.text("destination_type") or "").rpartition(".")[2]
    for kind in (stated, destination):
        if kind and (known := _PLATFORMS.get(_plain(kind))):
            return _Platform(known)
    kinds = {_PLATFORMS[_plain(kind)] for kind in subject.kinds if _plain(kind) in _PLATFORMS}
    if len(kinds) == 1:
        return _Platform(kinds.pop())
    if not kinds and subject.text(TABLE_URI) and _is_of_delta_io_manager(_name(subject) or ""):
        return _Platform(DELTA_LAKE)
    if stated and not _is_connection(stated, subject):
        return _Platform(stated.lower())
    if kinds:
        return _Platform(None, f"its kinds name more than one platform: {', '.join(sorted(kinds))}")
    return _Platform(None, f"no {STORAGE_KIND} or kind tag says on which platform the table is")


def _name(subject: Subject) -> str | None:
    return subject.text(TABLE_NAME) or subject.text(OLD_TABLE_NAME)


def _is_of_delta_io_manager(name: str) -> bool:
    return name.lower().startswith("deltalake.")


def _is_connection(stated: str, subject: Subject) -> bool:
    """Whether the storage kind is a connection of Sling or dlt: the table's name begins with it."""
    name = subject.text(TABLE_NAME) or ""
    return name.lower().startswith(f"{stated.lower()}.")


def _table(name: str, platform: str, subject: Subject) -> str:
    """The name as DataHub's source for the platform has it, of what integrations write."""
    plain = re.sub(r'["`\[\]]', "", name)
    if subject.text("destination_name") or subject.kinds & {"sling", "dlt"}:
        plain = _without_connection(plain, subject)
    if platform == "duckdb":
        plain = _without_file(plain)
    if platform == "iceberg":
        plain = _without_catalog(plain, subject)
    # DataHub's dbt source does so on whatever platform; of DuckDB it is the only source.
    return plain.lower() if subject.is_of_dbt or platform == "duckdb" else plain


def _without_connection(name: str, subject: Subject) -> str:
    """Sling and dlt begin with the connection's name, and dlt names its schema, not the dataset."""
    connection = subject.text(STORAGE_KIND) or subject.tags.get(STORAGE_KIND, "")
    first, _, rest = name.partition(".")
    if not rest or first.lower() != connection.lower():
        return name
    dataset = subject.text("dataset_name")
    return f"{dataset}.{rest.rpartition('.')[2]}" if dataset else rest


def _without_file(name: str) -> str:
    """DuckDB calls a database by its file's name, without folder and extension."""
    plain = re.split(r"[/\\]", name)[-1].removeprefix("md:").replace(":memory:", "memory", 1)
    first, _, rest = plain.partition(".")
    extension, _, table = rest.partition(".")
    return f"{first}.{table}" if extension in _EXTENSIONS and table.count(".") else plain


def _without_catalog(name: str, subject: Subject) -> str:
    """The I/O manager begins with its catalog, which its SELECT leaves out, as DataHub does."""
    selected = selected_table(query_text(subject.metadata))
    return selected if selected and name.endswith(f".{selected}") else name


_SELECT = re.compile(
    r"select\s[^()]*?\sfrom\s+([^\s()]+)(?:\s+where\s.*)?", re.IGNORECASE | re.DOTALL
)


def _plain(kind: str) -> str:
    return re.sub(r"[\s_-]", "", kind.lower())


DELTA_LAKE = "delta-lake"
_CONSTANT = (
    "the I/O manager writes `deltalake` for every database: a table of Delta Lake is named by its"
    f" location, see {TABLE_URI}"
)
LONG_KEY = 3
"""The parts that a key needs to name a dataset: environment, platform, name."""
_EXTENSIONS = ("duckdb", "ddb", "db")
_FILES = frozenset({"file", "s3", "gcs", "abs", "hdfs", "dbfs", "http", "https"})

_PLATFORMS: Mapping[str, str] = {
    **{
        name: name
        for name in (
            *("athena", "bigquery", "cassandra", "clickhouse", "cockroachdb", "databricks", "db2"),
            *("doris", "dremio", "druid", "duckdb", "dynamodb", "elasticsearch", "glue", "hana"),
            *("hive", "iceberg", "mariadb", "mongodb", "mssql", "mysql", "oracle", "postgres"),
            *("presto", "redshift", "snowflake", "sqlite", "starrocks", "teradata", "trino"),
            *("vertica",),
        )
    },
    **dict.fromkeys(("postgresql", "pg", "timescaledb"), "postgres"),
    **dict.fromkeys(
        ("postgreswarehouse", "postgresrdswarehouse", "aurorapostgreswarehouse"), "postgres"
    ),
    **dict.fromkeys(("mysqlwarehouse", "mysqlrdswarehouse", "auroramysqlwarehouse"), "mysql"),
    **dict.fromkeys(("sqlserver", "azuresql", "azuresqldatabase", "sqlserverwarehouse"), "mssql"),
    **dict.fromkeys(("synapse", "azuresqldatawarehouse"), "mssql"),
    **dict.fromkeys(("delta", "deltalake"), DELTA_LAKE),
    "googlebigquery": "bigquery",
    "motherduck": "duckdb",
    "sqlite3": "sqlite",
}
"""DataHub's platforms by the names that Dagster's kinds and integrations have for them.

Only what stores tables: a kind such as `python` or `pandas` says nothing of where a table is.
"""
