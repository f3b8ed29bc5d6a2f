from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from logs import RUN_ID, asset_key, path_of, run, text

from datahub_eventlog.config import Config
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_details import NAMING_TABLES, AssetDetails, details_of
from datahub_eventlog.translate.lineage.evidence import (
    CONVERTER,
    KEY,
    Evidence,
    evidence_of,
    ranked,
    winner,
)
from datahub_eventlog.translate.lineage.platforms import sql_platform
from datahub_eventlog.values import AssetFacts, Materialization, Metadatum

EXPLICIT = "urn:li:dataset:(urn:li:dataPlatform:hive,said.so,DEV)"
CONVERTED = "urn:li:dataset:(urn:li:dataPlatform:kafka,orders,PROD)"


def urn(platform: str, name: str, env: str = "PROD") -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:{platform},{name},{env})"


def details(
    key: str = "orders",
    *kinds: str,
    tags: Mapping[str, str] | None = None,
    partition: str | None = None,
    **metadata: str | Metadatum,
) -> AssetDetails:
    """An asset; metadata names use `__` for what can't stand in a Python name."""
    named = {
        name.replace("dagster__", "dagster/").replace("dbt__", "dagster_dbt/"): value
        for name, value in metadata.items()
    }
    values = {
        name: value if isinstance(value, Metadatum) else text(value)
        for name, value in named.items()
    }
    facts = AssetFacts(asset_key(key), kinds=kinds, tags=tags or {})
    made = Materialization(asset_key(key), partition=partition, metadata=values)
    return details_of(asset_key(key), facts, made, run())


def best_evidence(
    of: AssetDetails, context: Context | None = None, **options: Any
) -> Evidence | None:
    return winner(evidence_of(of, context or Context(Config(**options))))


def dataset(of: AssetDetails, **options: Any) -> str | None:
    evidence = best_evidence(of, **options)
    return evidence.urn if evidence else None


STRONGEST_FIRST = [
    ("datahub_urn", EXPLICIT),
    ("asset_keys_to_dataset_urn_converter", CONVERTED),
    ("asset key", urn("snowflake", "db.s.t")),
    ("dagster/table_name", urn("duckdb", "main.orders")),
    ("dagster/uri", urn("s3", "bucket/orders")),
    ("path", urn("gcs", "other/orders")),
]


def test_each_piece_of_evidence_gives_way_to_every_stronger_one() -> None:
    names: dict[str, Any] = {
        "datahub_urn": EXPLICIT,
        "dagster__table_name": "main.orders",
        "dagster__storage_kind": "duckdb",
        "dagster__uri": "s3://bucket/orders",
        "path": path_of("gs://other/orders"),
    }
    context = Context(platform_urns={("prod", "snowflake", "db", "s", "t"): CONVERTED})
    every = evidence_of(details("prod/snowflake/db/s/t", **names), context)
    assert [(each.source, each.urn) for each in every] == STRONGEST_FIRST
    assert winner(every) == every[0]
    assert winner(every[1:]) == every[1]
    assert winner(()) is None


def test_an_invalid_urn_is_marked_as_wrong_and_the_next_evidence_counts() -> None:
    first, second = evidence_of(
        details(
            datahub_urn="snowflake.orders", dagster__table_name="a.b", dagster__storage_kind="mysql"
        ),
        Context(),
    )
    assert first.is_wrong
    assert first.urn is None
    assert "snowflake.orders" in str(first.reason)
    assert second.urn == urn("mysql", "a.b")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("prod/snowflake/db/schema/t", urn("snowflake", "db.schema.t")),
        ("PROD/snowflake/db/Schema/T", urn("snowflake", "db.Schema.T")),
        ("dev/s3/bucket", urn("s3", "bucket", "DEV")),
        ("raw/jaffle/orders", None),
        ("prod/snowflake", None),
        ("orders", None),
    ],
)
def test_a_long_key_names_a_table_only_if_it_begins_with_an_environment(
    key: str, expected: str | None
) -> None:
    assert dataset(details(key)) == expected


def test_a_key_that_names_no_table_has_a_reason() -> None:
    (evidence,) = evidence_of(details("raw/jaffle/orders"), Context())
    assert evidence == Evidence(
        "asset key", "raw/jaffle/orders", reason="'raw' is none of DataHub's environments"
    )
    assert not evidence.is_wrong


def test_the_key_can_be_left_out() -> None:
    of = details("prod/snowflake/db/schema/t")
    assert dataset(of, capture_dataset_from_asset_key=False) is None


@pytest.mark.parametrize(
    ("kind", "platform"),
    [
        ("snowflake", "snowflake"),
        ("PostgreSQL", "postgres"),
        ("big_query", "bigquery"),
        ("sql server", "mssql"),
        ("motherduck", "duckdb"),
        ("delta lake", "delta-lake"),
        ("AURORA_POSTGRES_WAREHOUSE", "postgres"),
        ("homegrown", "homegrown"),
    ],
)
def test_a_storage_kind_has_datahubs_name_for_the_platform(kind: str, platform: str) -> None:
    of = details(dagster__table_name="a.b.c", dagster__storage_kind=kind)
    assert dataset(of) == urn(platform, "a.b.c")


def test_the_storage_kind_can_be_a_tag_or_a_kind() -> None:
    names: dict[str, Any] = {"dagster__table_name": "a.b.c"}
    by_tag = details(tags={"dagster/storage_kind": "snowflake"}, **names)
    by_kind_tag = details(tags={"dagster/kind/snowflake": ""}, **names)
    by_kind = details("orders", "python", "Snowflake", **names)
    expected = urn("snowflake", "a.b.c")
    assert [dataset(each) for each in (by_tag, by_kind_tag, by_kind)] == [expected] * 3


def test_kinds_that_say_nothing_of_the_storage_name_no_table() -> None:
    (evidence,) = evidence_of(
        details("orders", "python", "pandas", dagster__table_name="a.b"), Context()
    )
    assert evidence.urn is None
    assert "storage_kind" in str(evidence.reason)


def test_two_kinds_that_store_tables_are_no_evidence_for_either() -> None:
    (evidence,) = evidence_of(
        details("orders", "postgres", "snowflake", dagster__table_name="a.b"), Context()
    )
    assert evidence.urn is None
    assert "postgres, snowflake" in str(evidence.reason)


def test_the_old_name_of_the_table_name_still_counts() -> None:
    of = details(dagster__relation_identifier="a.b", dagster__storage_kind="mysql")
    assert dataset(of) == urn("mysql", "a.b")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop.main.orders", "shop.main.orders"),
        ("/data/Shop.duckdb.main.Orders", "shop.main.orders"),
        ("data/shop.db.main.orders", "shop.main.orders"),
        ("C:\\data\\shop.duckdb.main.orders", "shop.main.orders"),
        ("md:shop.main.orders", "shop.main.orders"),
        (":memory:.main.orders", "memory.main.orders"),
        ("shop.db.orders", "shop.db.orders"),
        ('"shop"."main"."orders"', "shop.main.orders"),
    ],
)
def test_a_table_in_duckdb_goes_by_its_database_and_not_by_its_file(
    name: str, expected: str
) -> None:
    of = details(dagster__table_name=name, dagster__storage_kind="duckdb")
    assert dataset(of) == urn("duckdb", expected)


def test_a_table_of_dbt_is_named_as_datahubs_dbt_source_names_it() -> None:
    of = details(
        "orders",
        "dbt",
        "snowflake",
        dagster__table_name="SHOP.Public.ORDERS",
        dbt__unique_id="model.shop.orders",
    )
    assert dataset(of) == urn("snowflake", "shop.public.orders")


def test_an_ephemeral_model_of_dbt_is_no_table() -> None:
    of = details("orders", "dbt", "snowflake", dagster__table_name="a.b.c")
    ephemeral = {**of.metadata, "dagster-dbt/materialization_type": text("ephemeral")}
    (evidence,) = evidence_of(AssetDetails(of.key, ephemeral, of.tags, of.kinds), Context())
    assert evidence.urn is None
    assert "ephemeral" in str(evidence.reason)


def test_a_table_of_dlt_lies_in_its_dataset() -> None:
    of = details(
        "orders",
        "dlt",
        dagster__table_name="postgres.shop_schema.orders",
        dagster__storage_kind="postgres",
        destination_name="postgres",
        dataset_name="shop",
    )
    assert dataset(of) == urn("postgres", "shop.orders")


LOADED: dict[str, tuple[tuple[str, ...], dict[str, Any], str | None]] = {
    "dlt into a destination of its own name": (
        ("dlt", "warehouse"),
        {
            "dagster__table_name": "warehouse.github_source.issues",
            "dagster__storage_kind": "warehouse",
            "dagster__column_schema": Metadatum("table_schema", {"columns": [], "constraints": []}),
            "destination_name": "warehouse",
            "destination_type": "dlt.destinations.snowflake",
            "dataset_name": "github",
            "first_run": Metadatum("bool", False),
            "rows_loaded": Metadatum("int", 3),
        },
        urn("snowflake", "github.issues"),
    ),
    "dlt into files": (
        ("dlt", "filesystem"),
        {
            "dagster__table_name": "filesystem.github_source.issues",
            "dagster__storage_kind": "filesystem",
            "destination_name": "filesystem",
            "destination_type": "dlt.destinations.filesystem",
            "dataset_name": "github",
        },
        None,
    ),
    "Sling by a connection named as its platform": (
        ("sling",),
        {
            "dagster__table_name": "DUCKDB.main.issues",
            "dagster__storage_kind": "DUCKDB",
            "stream_name": "public.issues",
            "elapsed_time": Metadatum("float", 1.5),
        },
        urn("duckdb", "main.issues"),
    ),
    "Fivetran into BigQuery": (
        ("fivetran", "big_query"),
        {
            "dagster__table_name": "shop.github.issues",
            "dagster__storage_kind": "big_query",
            "connector_url": Metadatum("url", "https://fivetran.com/dashboard/connectors/github/c"),
            "dagster-fivetran/destination_schema_name": "github",
        },
        urn("bigquery", "shop.github.issues"),
    ),
    "Fivetran into Postgres": (
        ("fivetran", "postgres_rds_warehouse"),
        {
            "dagster__table_name": "shop.github.issues",
            "dagster__storage_kind": "postgres_rds_warehouse",
        },
        urn("postgres", "shop.github.issues"),
    ),
}


@pytest.mark.parametrize("kind", LOADED)
def test_what_the_libraries_that_load_data_write_names_the_table(kind: str) -> None:
    kinds, metadata, expected = LOADED[kind]
    assert dataset(details("github/issues", *kinds, **metadata)) == expected


def test_the_connection_of_sling_is_no_part_of_a_tables_name() -> None:
    names: dict[str, Any] = {
        "dagster__table_name": "MY_PG.public.orders",
        "dagster__storage_kind": "MY_PG",
    }
    assert dataset(details("orders", "sling", "postgres", **names)) == urn(
        "postgres", "public.orders"
    )
    assert dataset(details("orders", "sling", **names)) is None


def test_the_platform_instance_and_lower_case_are_as_in_datahubs_own_sources() -> None:
    of = details(dagster__table_name="DB.S.T", dagster__storage_kind="snowflake")
    assert dataset(of) == urn("snowflake", "DB.S.T")
    assert dataset(of, convert_urns_to_lowercase=True) == urn("snowflake", "db.s.t")
    instance = {"snowflake": "eu"}
    assert dataset(of, platform_instance_map=instance) == urn("snowflake", "eu.DB.S.T")
    by_key = details("prod/snowflake/db/s/t")
    assert dataset(by_key, platform_instance_map=instance) == urn("snowflake", "eu.db.s.t")


def test_the_environment_is_that_of_the_options_unless_the_key_names_it() -> None:
    of = details(dagster__table_name="a.b", dagster__storage_kind="mysql")
    assert dataset(of, env="QA") == urn("mysql", "a.b", "QA")
    assert dataset(details("dev/mysql/a/b"), env="QA") == urn("mysql", "a.b", "DEV")


def test_a_uri_is_a_file_or_an_object_and_no_database() -> None:
    assert dataset(details(dagster__uri="s3a://bucket/orders/")) == urn("s3", "bucket/orders")
    (evidence,) = evidence_of(details(dagster__uri="postgres://me:secret@host/shop"), Context())
    assert evidence.urn is None


def test_scratch_space_of_dagster_is_no_table() -> None:
    context = Context(scratch=("/home/dagster/storage",))
    (evidence,) = evidence_of(details(path=path_of("/home/dagster/storage/orders")), context)
    assert evidence.urn is None
    assert not evidence.is_wrong
    (evidence,) = evidence_of(details(path=path_of(f"s3://b/{RUN_ID}/x")), Context())
    assert evidence.urn is None


@pytest.mark.parametrize(
    ("path", "partition", "expected"),
    [
        ("s3://b/orders/2024-01-01", "2024-01-01", "b/orders"),
        ("s3://b/orders/2024-01-01.parquet", "2024-01-01", "b/orders"),
        ("s3://b/orders/eu/2024-01-01", "eu|2024-01-01", "b/orders"),
        ("s3://b/orders", "2024-01-01", "b/orders"),
        ("s3://b/orders/2024-01-01", None, "b/orders/2024-01-01"),
        ("s3://b/orders/2023-12-31.csv", "2024-01-01", "b/orders"),
        ("s3://b/orders/tue", "mon", "b/orders/tue"),
    ],
)
def test_the_partitions_of_an_asset_lie_in_one_dataset(
    path: str, partition: str | None, expected: str
) -> None:
    assert dataset(details(partition=partition, path=path_of(path))) == urn("s3", expected)


ONE_FILE = {
    "the date is in the file's name": ("/data/orders_2026-11-26.csv", "2026-11-26"),
    "without its separators": ("s3://b/orders/orders-20261126.parquet", "2026-11-26"),
    "the other files of the folder are of other assets": (
        "/data/2026-11-26/orders.csv",
        "2026-11-26",
    ),
    "of a name": ("/data/orders-eu.csv", "eu"),
    "of two dimensions": ("/data/eu/orders_2026-11-26.csv", "eu|2026-11-26"),
    "at the top": ("/2026-11-26.csv", "2026-11-26"),
}


@pytest.mark.parametrize("case", ONE_FILE)
@pytest.mark.parametrize("name", ["path", "dagster__uri"])
def test_the_file_of_one_partition_is_not_the_table(case: str, name: str) -> None:
    path, partition = ONE_FILE[case]
    metadata: dict[str, Any] = {name: path_of(path)}
    (evidence,) = evidence_of(details(partition=partition, **metadata), Context())
    assert (evidence.urn, evidence.is_wrong) == (None, False)
    assert "one partition's" in str(evidence.reason)


@pytest.mark.parametrize(
    ("path", "partition", "expected"),
    [
        ("/data/orders/date=2026-11-26/part-0.parquet", "2026-11-26", "/data/orders"),
        ("/data/orders/date=2026-11-26/region=eu/0.parquet", "2026-11-26|eu", "/data/orders"),
        ("/data/orders/year=2026/month=11/day=26/0.parquet", "2026-11-26", "/data/orders"),
        ("/data/orders/2026/11/26", "2026-11-26", "/data/orders"),
        ("/data/orders/2026-11-26/eu.csv", "eu|2026-11-26", "/data/orders"),
        ("C:\\data\\orders\\2026-11-26.csv", "2026-11-26", "C:\\data\\orders"),
        ("/data/business.csv", "us", "/data/business.csv"),
        ("/data/v2/orders", "2", "/data/v2/orders"),
    ],
)
def test_the_folder_of_the_partitions_is_the_table(
    path: str, partition: str, expected: str
) -> None:
    assert dataset(details(partition=partition, path=path_of(path))) == urn("file", expected)


def test_a_partition_that_a_bucket_is_called_after_is_no_part_of_the_path() -> None:
    of = details(partition="us", path=path_of("s3://shop-us/orders"))
    assert dataset(of) == urn("s3", "shop-us/orders")


@pytest.mark.parametrize("name", ["path", "dagster__uri"])
def test_a_relative_path_names_nothing(name: str) -> None:
    metadata: dict[str, Any] = {name: path_of("data/silver/orders")}
    (evidence,) = evidence_of(details(**metadata), Context())
    assert evidence.urn is None
    assert "relative" in str(evidence.reason)


def delta(
    uri: str, *kinds: str, name: str = "deltalake.public.orders", **more: Any
) -> AssetDetails:
    """What the I/O managers of dagster-deltalake write of an asset."""
    query = "SELECT * FROM public.orders"
    return details("orders", *kinds, table_uri=uri, dagster__table_name=name, Query=query, **more)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://lake/silver/public/orders", "lake/silver/public/orders"),
        ("s3a://lake/silver/public/orders/", "lake/silver/public/orders"),
        ("gs://lake/silver/public/orders", "lake/silver/public/orders"),
        ("abfss://lake@shop.dfs.core.windows.net/public/orders", "lake/public/orders"),
        ("/data/silver/public/orders", "data/silver/public/orders"),
        ("file:///data/silver/public/orders", "data/silver/public/orders"),
    ],
)
@pytest.mark.parametrize("kinds", [(), ("polars",), ("deltalake",), ("delta", "python")])
def test_a_table_of_delta_lake_is_named_by_where_it_is_as_datahubs_source_does(
    uri: str, expected: str, kinds: tuple[str, ...]
) -> None:
    assert dataset(delta(uri, *kinds)) == urn("delta-lake", expected)


def test_the_name_that_the_i_o_manager_of_delta_lake_makes_up_names_no_table() -> None:
    relative = delta("data/silver/public/orders", "deltalake")
    uri, name = evidence_of(relative, Context())
    assert (uri.source, uri.urn, name.source, name.urn) == (
        *("table_uri", None),
        *("dagster/table_name", None),
    )
    assert "relative" in str(uri.reason)
    assert "named by its location" in str(name.reason)
    partition = delta("s3://lake/public/orders", partition="2026-11-26")
    assert dataset(partition) == urn("delta-lake", "lake/public/orders")


def test_a_table_uri_of_another_platform_gives_way_to_the_tables_name() -> None:
    of = delta("s3://lake/orders", "databricks", name="main.public.orders")
    assert dataset(of) == urn("databricks", "main.public.orders")
    (uri, _) = evidence_of(of, Context())
    assert uri.reason == "it names tables of delta-lake, and this is one of databricks"
    (uri,) = evidence_of(details(table_uri="s3://lake/orders"), Context())
    assert "on which platform" in str(uri.reason)


@pytest.mark.parametrize("name", ["path", "dagster__uri"])
def test_the_path_of_an_asset_in_delta_lake_is_that_of_its_table(name: str) -> None:
    metadata: dict[str, Any] = {name: path_of("s3://lake/orders")}
    of = details("orders", "deltalake", **metadata)
    assert dataset(of) == urn("delta-lake", "lake/orders")
    assert dataset(of, platform_instance_map={"delta-lake": "eu"}) == urn(
        "delta-lake", "eu.lake/orders"
    )


@pytest.mark.parametrize("where", ["", " WHERE\nday >= '2026-11-26 00:00:00'"])
def test_the_catalog_of_an_i_o_manager_of_iceberg_is_no_part_of_the_name(where: str) -> None:
    named: dict[str, Any] = {"dagster__table_name": "lake.shop.orders"}
    shown = details("orders", "iceberg", Query=f"SELECT a, b FROM shop.orders{where}", **named)
    assert dataset(shown) == urn("iceberg", "shop.orders")
    assert dataset(details("orders", "iceberg", **named)) == urn("iceberg", "lake.shop.orders")


def test_the_materialisation_counts_more_than_the_definition() -> None:
    facts = AssetFacts(("a",), metadata={"datahub_urn": text(CONVERTED)})
    made = Materialization(("a",), metadata={"datahub_urn": text(EXPLICIT)})
    assert dataset(details_of(("a",), facts, made)) == EXPLICIT
    assert dataset(details_of(("a",), facts)) == CONVERTED
    assert dataset(details_of(("a",), None)) is None


def test_the_language_of_the_sql_is_that_of_the_platform() -> None:
    assert sql_platform(details(), urn("snowflake", "a.b.c")) == "snowflake"
    assert sql_platform(details("orders", "trino"), urn("s3", "bucket/orders")) == "trino"
    assert sql_platform(details("orders", "duckdb"), None) == "duckdb"
    assert sql_platform(details(), None) is None


def test_a_change_of_any_metadata_that_is_evidence_changes_the_assets_lineage() -> None:
    metadata = set(ranked(details(), Context())) - {CONVERTER, KEY}
    assert metadata <= set(NAMING_TABLES)
