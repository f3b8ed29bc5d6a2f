from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest
from catalog import Catalog
from hypothesis import given
from hypothesis import strategies as st
from logs import T0, text

from datahub_eventlog.config import Config
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.queries import (
    Query,
    QueryEntities,
    QueryLineage,
    query_lineage,
    query_text,
    query_urn,
    shape_of,
)
from datahub_eventlog.translate.lineage.sql import Dialect, OfflineResolver, read_script
from datahub_eventlog.values import Metadatum

Names = Mapping[str, set[str]]


def urn(name: str, platform: str = "snowflake", env: str = "PROD") -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:{platform},{name},{env})"


def name_of(dataset: str) -> str:
    return dataset.split(",")[1]


def lineage(
    sql: str, table: str = "db.s.t", platform: str = "snowflake", **options: Any
) -> QueryLineage:
    """What a query of the asset that is that table says."""
    query = Query(sql, platform, urn(table, platform))
    return query_lineage(query, Context(Config(**options)))


def tables(found: QueryLineage) -> tuple[set[str], set[str]]:
    return {name_of(upstream) for upstream in found.upstreams}, {
        name_of(downstream) for downstream in found.downstreams
    }


def columns(found: QueryLineage) -> Names:
    return {
        name: {f"{name_of(table)}.{column}" for table, column in sources}
        for name, sources in found.columns.items()
    }


KINDS: Mapping[str, tuple[str, set[str], set[str], Names]] = {
    "create table as select": (
        "CREATE TABLE db.s.t AS SELECT o.id, o.price * o.n AS total FROM db.s.orders o",
        {"db.s.orders"},
        {"db.s.t"},
        {"id": {"db.s.orders.id"}, "total": {"db.s.orders.price", "db.s.orders.n"}},
    ),
    "create view": (
        "CREATE VIEW t AS SELECT a FROM x UNION ALL SELECT b FROM y",
        {"db.s.x", "db.s.y"},
        {"db.s.t"},
        {"a": {"db.s.x.a", "db.s.y.b"}},
    ),
    "insert": (
        "INSERT INTO t SELECT x.a, y.b FROM x JOIN other.y ON x.i = y.i",
        {"db.s.x", "db.other.y"},
        {"db.s.t"},
        {"a": {"db.s.x.a"}, "b": {"db.other.y.b"}},
    ),
    "insert that names its columns": (
        "INSERT INTO t (p, q) SELECT a, b FROM x",
        {"db.s.x"},
        {"db.s.t"},
        {"p": {"db.s.x.a"}, "q": {"db.s.x.b"}},
    ),
    "insert of values": ("INSERT INTO t VALUES (1, 2)", set(), {"db.s.t"}, {}),
    "merge": (
        (
            "MERGE INTO t USING x ON t.id = x.id WHEN MATCHED THEN UPDATE SET t.v = x.v + t.v "
            "WHEN NOT MATCHED THEN INSERT (id, v) VALUES (x.id, x.w)"
        ),
        {"db.s.x"},
        {"db.s.t"},
        {"id": {"db.s.x.id"}, "v": {"db.s.x.v", "db.s.x.w"}},
    ),
    "merge of a subquery": (
        (
            "MERGE INTO t USING (SELECT id, max(v) AS m FROM x GROUP BY id) s ON t.id = s.id "
            "WHEN MATCHED THEN UPDATE SET v = s.m"
        ),
        {"db.s.x"},
        {"db.s.t"},
        {"v": {"db.s.x.v"}},
    ),
    "update": (
        "UPDATE t SET v = x.v FROM x WHERE x.id = t.id",
        {"db.s.x"},
        {"db.s.t"},
        {"v": {"db.s.x.v"}},
    ),
    "delete": ("DELETE FROM t WHERE id IN (SELECT id FROM x)", set(), {"db.s.t"}, {}),
    "plain select": (
        "WITH q AS (SELECT a AS k FROM x) SELECT k FROM q",
        {"db.s.x"},
        set(),
        {"k": {"db.s.x.a"}},
    ),
    "select of the own table": ("SELECT * FROM DB.S.T", set(), set(), {}),
    "insert from the own table": ("INSERT INTO t SELECT a FROM t", set(), {"db.s.t"}, {}),
    "no query": ("", set(), set(), {}),
    "only a comment": ("-- INSERT INTO t SELECT 1 FROM x", set(), set(), {}),
    "statements without lineage": (
        "BEGIN; SET a = 1; DROP TABLE x; GRANT SELECT ON x TO y; COMMIT",
        set(),
        set(),
        {},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_statement_gives_its_tables_and_columns(kind: str) -> None:
    sql, upstreams, downstreams, expected = KINDS[kind]
    actual = lineage(sql)
    assert actual.faults == ()
    assert tables(actual) == (upstreams, downstreams)
    assert columns(actual) == expected


SCRIPTS: Mapping[str, tuple[str, set[str], set[str], Names]] = {
    "temporary tables are seen through": (
        "CREATE TEMP TABLE tmp AS SELECT a, b FROM x; INSERT INTO t SELECT a, b + 1 AS c FROM tmp;",
        {"db.s.x"},
        {"db.s.t"},
        {"a": {"db.s.x.a"}, "c": {"db.s.x.b"}},
    ),
    "a table that is written first is no upstream": (
        "CREATE TABLE s1 AS SELECT id FROM x; CREATE TABLE t AS SELECT s1.id, y.v FROM s1, y",
        {"db.s.x", "db.s.y"},
        {"db.s.s1", "db.s.t"},
        {"id": {"db.s.x.id"}, "v": {"db.s.y.v"}},
    ),
    "what comes after a semicolon in a string is no statement": (
        "INSERT INTO t SELECT a, ';' AS x FROM x; -- the end;\n",
        {"db.s.x"},
        {"db.s.t"},
        {"a": {"db.s.x.a"}},
    ),
    "selects are read together": (
        "SELECT a FROM x; SELECT b FROM y",
        {"db.s.x", "db.s.y"},
        set(),
        {"a": {"db.s.x.a"}, "b": {"db.s.y.b"}},
    ),
    "USE says where a table is": (
        "USE SCHEMA raw.shop; INSERT INTO db.s.t SELECT a FROM x; USE WAREHOUSE big",
        {"raw.shop.x"},
        {"db.s.t"},
        {"a": {"raw.shop.x.a"}},
    ),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_the_statements_of_a_script_are_read_together(case: str) -> None:
    sql, upstreams, downstreams, expected = SCRIPTS[case]
    actual = lineage(sql)
    assert actual.faults == ()
    assert tables(actual) == (upstreams, downstreams)
    assert columns(actual) == expected


DIALECTS = {
    "bigquery": (
        "CREATE OR REPLACE TABLE `p.d.T` AS SELECT x.a FROM `p.d.Src` x",
        "p.d.T",
        {"p.d.Src"},
    ),
    "postgres": (
        "INSERT INTO t SELECT a::int FROM x ON CONFLICT (a) DO NOTHING",
        "db.public.t",
        {"db.public.x"},
    ),
    "redshift": ("INSERT INTO t SELECT a FROM x", "db.public.t", {"db.public.x"}),
    "duckdb": ("CREATE OR REPLACE TABLE t AS FROM x", "db.main.t", {"db.main.x"}),
    "mysql": ("INSERT INTO t SELECT a FROM other.x", "db.t", {"other.x"}),
    "mssql": (
        "SELECT TOP 5 a INTO #tmp FROM x; INSERT INTO t SELECT a FROM #tmp",
        "db.dbo.t",
        {"db.dbo.x"},
    ),
    "databricks": (
        "INSERT OVERWRITE TABLE t SELECT a FROM x",
        "main.s.t",
        {"main.s.x"},
    ),
    "athena": ("INSERT INTO t SELECT a FROM x", "db.t", {"db.x"}),
    "oracle": ("INSERT INTO t SELECT a FROM x", "s.t", {"s.x"}),
    "clickhouse": ("INSERT INTO t SELECT a FROM x", "db.t", {"db.x"}),
    "homegrown": ("INSERT INTO t SELECT a FROM x", "db.s.t", {"db.s.x"}),
}


@pytest.mark.parametrize("platform", DIALECTS)
def test_a_query_is_read_in_the_dialect_of_its_platform(platform: str) -> None:
    sql, table, upstreams = DIALECTS[platform]
    actual = lineage(sql, table, platform)
    assert actual.faults == ()
    assert tables(actual) == (upstreams, {table})


def test_the_merge_of_a_dialect_without_prefixes_takes_its_values_from_the_source() -> None:
    sql = """MERGE `p.d.t` T USING `p.d.s` S ON T.id = S.id
        WHEN NOT MATCHED THEN INSERT (id, v) VALUES (id, v)"""
    assert columns(lineage(sql, "p.d.t", "bigquery")) == {"id": {"p.d.s.id"}, "v": {"p.d.s.v"}}
    whole = "MERGE `p.d.t` T USING `p.d.s` S ON FALSE WHEN NOT MATCHED THEN INSERT ROW"
    assert columns(lineage(whole, "p.d.t", "bigquery")) == {}


def test_a_file_that_duckdb_reads_is_the_file() -> None:
    actual = lineage(
        "CREATE TABLE t AS SELECT * FROM 's3://Bucket/Orders.parquet'", "d.m.t", "duckdb"
    )
    assert actual.upstreams == {urn("Bucket/Orders.parquet", "s3")}
    assert lineage("SELECT * FROM 'orders.csv'", "d.m.t", "duckdb").upstreams == set()


def test_a_statement_that_cannot_be_parsed_is_a_fault_and_costs_only_itself() -> None:
    actual = lineage("SELECT FROM WHERE (; INSERT INTO t SELECT a FROM x; CALL refresh()")
    assert tables(actual) == ({"db.s.x"}, {"db.s.t"})
    (fault,) = actual.faults
    assert fault.startswith("statement 1: it can't be parsed at line 1")


@pytest.mark.parametrize(
    "sql", ["SELECT 'secret FROM x", "CREATE STRANGE secret AS SELECT ) secret"]
)
def test_a_fault_never_shows_the_sql(sql: str) -> None:
    (fault,) = lineage(sql).faults
    assert "secret" not in fault


@given(st.text(alphabet="SELECTINOFRM tx.,;()'\"*=1\n-", max_size=60))
def test_no_text_makes_the_reading_raise(sql: str) -> None:
    once = read_script(sql, Dialect("snowflake", "PROD", None, "db", "s"))
    assert once == read_script(sql, Dialect("snowflake", "PROD", None, "db", "s"))


def test_tables_have_the_environment_and_the_platform_instance_of_the_asset() -> None:
    own = urn("EU.db.s.t", "snowflake", "DEV")
    context = Context(Config(platform_instance_map={"snowflake": "EU"}))
    actual = query_lineage(Query("SELECT a FROM x", "snowflake", own), context)
    assert actual.upstreams == {urn("EU.db.s.x", "snowflake", "DEV")}


def test_tables_that_assets_are_go_by_the_names_that_these_have() -> None:
    known = {urn("DB.S.Orders").lower(): urn("DB.S.Orders")}
    query = Query("INSERT INTO T SELECT a FROM orders", "snowflake", urn("DB.S.T"), known)
    actual = query_lineage(query, Context())
    assert actual.upstreams == {urn("DB.S.Orders")}
    assert actual.downstreams == {urn("DB.S.T")}
    assert columns(actual) == {"a": {"DB.S.Orders.a"}}


def test_names_become_lower_case_where_the_options_say_so() -> None:
    sql = "CREATE TABLE `P.D.T` AS SELECT x.a FROM `P.D.Src` x"
    actual = lineage(sql, "p.d.t", "bigquery", convert_urns_to_lowercase=True)
    assert tables(actual) == ({"p.d.src"}, {"p.d.t"})


def test_a_query_whose_asset_is_no_table_still_has_its_tables() -> None:
    actual = query_lineage(Query("INSERT INTO a.b.t SELECT c FROM a.b.x", "snowflake"), Context())
    assert tables(actual) == ({"a.b.x"}, {"a.b.t"})
    assert columns(actual) == {"c": {"a.b.x.c"}}


def test_the_resolver_of_the_target_is_asked_for_by_platform() -> None:
    asked: list[str] = []

    class Resolver(OfflineResolver):
        def resolve_table(self, table: Any) -> tuple[str, None]:
            asked.append(table.table.lower())
            return super().resolve_table(table)

    def find(platform: str, env: str, _instance: str | None) -> Resolver | None:
        return Resolver(Dialect(platform, env)) if platform == "snowflake" else None

    context = Context(resolver=find)
    query_lineage(Query("SELECT a FROM only_here", "snowflake", urn("db.s.t")), context)
    query_lineage(Query("SELECT a FROM not_there", "postgres", urn("a.b.t", "postgres")), context)
    assert asked == ["only_here"]


def test_the_sql_is_taken_from_text_and_from_a_code_block() -> None:
    assert query_text({"Query": text(" SELECT 1 ")}) == " SELECT 1 "
    block = "```sql\nSELECT 1\n```\n"
    assert query_text({"Query": Metadatum("md", block)}) == "SELECT 1\n"
    assert query_text({"Query": text("  ")}) is None
    assert query_text({"Query": Metadatum("json", ["SELECT 1"])}) is None
    assert query_text({}) is None


def test_queries_that_differ_in_literals_only_have_one_shape() -> None:
    one = shape_of("SELECT a FROM t WHERE day = '2024-01-01' AND n > 5")
    assert one == shape_of("SELECT a FROM t WHERE day = '2024-01-02' AND n > 7.5")
    assert one != shape_of("SELECT a FROM t2 WHERE day = '2024-01-01' AND n > 5")


def test_a_query_has_the_urn_that_the_sensor_plugin_gives_it() -> None:
    sql = "INSERT INTO t SELECT a FROM x"
    expected = f"urn:li:query:dagster_{hashlib.sha256(sql.encode()).hexdigest()}"
    assert query_urn(Query(sql, "snowflake")) == expected


def test_a_query_is_an_entity_with_the_tables_it_is_about() -> None:
    query = Query("SELECT a FROM x", "snowflake")
    subjects = {urn("db.s.x"), urn("db.s.a")}
    queries = QueryEntities()
    queries.add(query, [urn("db.s.x")], T0 - 1)
    queries.add(query, [urn("db.s.a")], T0)
    catalog = Catalog().deliver(queries.proposals("run"))
    this = query_urn(query)
    properties = catalog.of(this, "queryProperties")
    assert properties["statement"] == {"value": "SELECT a FROM x", "language": "SQL"}
    assert properties["source"] == "SYSTEM"
    assert properties["created"]["time"] == int(T0 * 1000)
    assert [
        subject["entity"] for subject in catalog.of(this, "querySubjects")["subjects"]
    ] == sorted(subjects)
    assert catalog.of(this, "subTypes") == {"typeNames": ["Query"]}
    platform = catalog.of(this, "dataPlatformInstance")["platform"]
    assert platform == "urn:li:dataPlatform:snowflake"
