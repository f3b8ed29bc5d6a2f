"""The platform that stores an asset, and the table's name on it.

Integrations write both in their own ways; DataHub's sources have one for each platform.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.lineage.asset_details import (
    STORAGE_KIND,
    TABLE_NAME,
    TABLE_URI,
    AssetDetails,
)
from datahub_eventlog.translate.lineage.queries import query_text

DELTA_LAKE = "delta-lake"
FILES = frozenset({"file", "s3", "gcs", "abs", "hdfs", "dbfs", "http", "https"})
"""The platforms of files, folders and objects: they have no tables of a database."""

_FILES_OF_DUCKDB = ("duckdb", "ddb", "db")
_SELECT = re.compile(
    r"select\s[^()]*?\sfrom\s+([^\s()]+)(?:\s+where\s.*)?", re.IGNORECASE | re.DOTALL
)
_QUOTES = re.compile(r'["`\[\]]')


@dataclass(frozen=True)
class StoringPlatform:
    """A platform, or why it is unknown."""

    name: str | None
    reason: str | None = None


def storing_platform(details: AssetDetails) -> StoringPlatform:
    """The platform that stores the asset: `dagster/storage_kind`, else the one kind that can."""
    stated = details.storage_kind
    # The kind of dlt's destination, whatever name the user gave it: `dlt.destinations.<kind>`.
    destination = (details.text("destination_type") or "").rpartition(".")[2]
    for kind in (stated, destination):
        if kind and (known := _PLATFORMS.get(_plain(kind))):
            return StoringPlatform(known)
    kinds = {_PLATFORMS[_plain(kind)] for kind in details.kinds if _plain(kind) in _PLATFORMS}
    if len(kinds) == 1:
        return StoringPlatform(kinds.pop())
    if not kinds and details.text(TABLE_URI) and details.is_of_delta_io_manager:
        return StoringPlatform(DELTA_LAKE)
    # Sling and dlt write a connection's name instead: the table's name begins with it.
    name = (details.text(TABLE_NAME) or "").lower()
    if stated and not name.startswith(f"{stated.lower()}."):
        return StoringPlatform(stated.lower())
    if kinds:
        names = ", ".join(sorted(kinds))
        return StoringPlatform(None, f"its kinds name more than one platform: {names}")
    reason = f"no {STORAGE_KIND} or kind tag says on which platform the table is"
    return StoringPlatform(None, reason)


def sql_platform(details: AssetDetails, dataset: str | None) -> str | None:
    """The platform whose SQL the asset's queries are written in, or None if it is unknown.

    `dataset` is the urn of the asset's table, if that is known.
    """
    platform = urns.platform_of(dataset) if dataset else None
    return platform if platform and platform not in FILES else storing_platform(details).name


def table_on(platform: str, details: AssetDetails) -> str:
    """The table's name as DataHub's source for the platform has it."""
    name = _QUOTES.sub("", details.table_name or "")
    if details.text("destination_name") or details.kinds & {"sling", "dlt"}:
        name = _without_connection(name, details)
    if platform == "duckdb":
        name = _without_file(name)
    if platform == "iceberg":
        # The I/O manager begins with its catalog, which its SELECT leaves out, as DataHub does.
        selected = selected_table(details)
        name = selected if selected and name.endswith(f".{selected}") else name
    # DataHub's dbt source does so on whatever platform; of DuckDB it is the only source.
    return name.lower() if details.is_of_dbt or platform == "duckdb" else name


def selected_table(details: AssetDetails) -> str | None:
    """The table of the query with which an I/O manager shows what it wrote: all of one table."""
    query = query_text(details.metadata)
    match = _SELECT.fullmatch(query.strip()) if query else None
    return _QUOTES.sub("", match[1]) if match else None


def own_name(details: AssetDetails) -> str | None:
    """The name by which such a query calls the asset's own table."""
    name, selected = details.table_name, selected_table(details)
    if name is None or selected is None:
        return None
    return selected if f".{_QUOTES.sub('', name)}".endswith(f".{selected}") else None


def _without_connection(name: str, details: AssetDetails) -> str:
    """Sling and dlt begin with the connection's name, and dlt names its schema, not the dataset."""
    first, _, rest = name.partition(".")
    if not rest or first.lower() != (details.storage_kind or "").lower():
        return name
    dataset = details.text("dataset_name")
    return f"{dataset}.{rest.rpartition('.')[2]}" if dataset else rest


def _without_file(name: str) -> str:
    """DuckDB calls a database by its file's name, without folder and extension."""
    plain = re.split(r"[/\\]", name)[-1].removeprefix("md:").replace(":memory:", "memory", 1)
    first, _, rest = plain.partition(".")
    extension, _, table = rest.partition(".")
    return f"{first}.{table}" if extension in _FILES_OF_DUCKDB and table.count(".") else plain


def _plain(kind: str) -> str:
    return re.sub(r"[\s_-]", "", kind.lower())


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

Only what stores tables: a kind such as `python` or `pandas` doesn't say where a table is.
"""
