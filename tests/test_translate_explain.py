"""`explain` tells the reasons that translation had, and can't have others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from catalog import Catalog
from logs import (
    RUN_ID,
    asset_facts,
    asset_key,
    declares,
    facts,
    loaded,
    log,
    materialized,
    path_of,
    ran,
    step,
    succeeded,
    text,
    wrote,
)

from datahub_eventlog.config import Config, Pattern
from datahub_eventlog.translate import translate
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.explain import Explanation, explain
from datahub_eventlog.values import Definitions, Materialization, Metadatum, PortFacts, RunLog

SAID = "urn:li:dataset:(urn:li:dataPlatform:hive,said.so,DEV)"
CONVERTED = "urn:li:dataset:(urn:li:dataPlatform:kafka,orders,PROD)"
SNOWFLAKE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.t,PROD)"
DUCKDB = "urn:li:dataset:(urn:li:dataPlatform:duckdb,main.orders,PROD)"
S3 = "urn:li:dataset:(urn:li:dataPlatform:s3,bucket/orders,PROD)"
PLAIN = {"dagster/table_name": text("db.s.t"), "dagster/storage_kind": text("snowflake")}


def run_of(key: str, definitions: Definitions | None = None, **made: Any) -> RunLog:
    """A run that materialised that asset."""
    name = key.replace("/", "__")
    return log(
        *succeeded(*ran(name, materialized(key, **made))),
        steps=[step(name, asset=key)],
        definitions=definitions,
    )


def explained(of: RunLog, context: Context | None = None) -> Explanation:
    """The reasons for the one asset of the run."""
    ((event, asset),) = (
        (entry, entry.data) for entry in of.events if isinstance(entry.data, Materialization)
    )
    return explain(asset.asset_key, event, asset, of, context or Context())


def verdicts(found: Explanation) -> list[tuple[str, str, str | None]]:
    return [(verdict.source, verdict.state, verdict.urn) for verdict in found.verdicts]


def test_all_evidence_is_listed_the_strongest_first_with_what_won_and_what_lost() -> None:
    key = "prod/snowflake/db/s/t"
    metadata = {
        "datahub_urn": text(SAID),
        "dagster/table_name": text("main.orders"),
        "dagster/storage_kind": text("duckdb"),
        "dagster/uri": text("s3://bucket/orders"),
        "path": path_of(f"s3://bucket/storage/{RUN_ID}/orders"),
    }
    context = Context(platform_urns={asset_key(key): CONVERTED})
    explanation = explained(run_of(key, metadata=metadata), context)
    assert verdicts(explanation) == [
        ("datahub_urn", "found", SAID),
        ("asset_keys_to_dataset_urn_converter", "lost", CONVERTED),
        ("asset key", "lost", SNOWFLAKE),
        ("table_uri", "not found", None),
        ("dagster/table_name", "lost", DUCKDB),
        ("dagster/uri", "lost", S3),
        ("path", "no dataset", None),
    ]
    assert explanation.dataset == SAID
    assert {verdict.reason for verdict in explanation.verdicts if verdict.state == "lost"} == {
        "datahub_urn is stronger"
    }
    assert "between steps" in str(explanation.verdicts[-1].reason)


def test_what_is_absent_has_a_reason() -> None:
    explanation = explained(run_of("orders"))
    assert {verdict.state for verdict in explanation.verdicts} == {"not found"}
    reasons = {verdict.source: verdict.reason for verdict in explanation.verdicts}
    assert reasons == {
        "datahub_urn": "no such text in its metadata",
        "asset_keys_to_dataset_urn_converter": "no converter is configured",
        "asset key": "1 of at least 3 parts: environment/platform/name",
        "dagster/table_name": "no such text in its metadata",
        "dagster/uri": "no such text in its metadata",
        "table_uri": "no such text in its metadata",
        "path": "no such path or URL in its metadata",
    }
    assert explanation.dataset is None
    options = Config(
        asset_keys_to_dataset_urn_converter="shop.urns:convert",
        capture_dataset_from_asset_key=False,
    )
    off = explained(run_of("prod/mysql/a/b"), Context(options))
    reasons = {verdict.source: verdict.reason for verdict in off.verdicts}
    assert reasons["asset key"] == "capture_dataset_from_asset_key is false"
    converter = reasons["asset_keys_to_dataset_urn_converter"]
    assert converter == "shop.urns:convert returned nothing for this key"


def test_evidence_that_is_wrong_has_a_reason_and_a_remark() -> None:
    explanation = explained(run_of("orders", metadata={"datahub_urn": text("orders"), **PLAIN}))
    first = explanation.verdicts[0]
    assert (first.source, first.state, first.found) == ("datahub_urn", "wrong", "orders")
    assert "not a dataset urn" in str(first.reason)
    assert explanation.dataset == SNOWFLAKE
    assert any(remark.startswith("datahub_urn: ") for remark in explanation.remarks)


def test_a_table_without_a_platform_has_a_reason() -> None:
    explanation = explained(run_of("orders", metadata={"dagster/table_name": text("a.b")}))
    (verdict,) = (each for each in explanation.verdicts if each.source == "dagster/table_name")
    assert verdict.state == "no dataset"
    assert "storage_kind" in str(verdict.reason)


def test_each_dataset_that_it_is_made_of_has_its_sources() -> None:
    lineage = {"id": [{"asset_key": ["raw"], "column": "key"}]}
    metadata = {
        **PLAIN,
        **declares(S3),
        **declares(CONVERTED, side="outputs"),
        "Query": text("insert into db.s.t select amount from db.s.raw_orders"),
        "dagster/column_lineage": Metadatum("column_lineage", lineage),
    }
    defined = facts(
        asset_facts("orders", "raw", "lake"),
        asset_facts("lake", is_external=True, metadata={"datahub_urn": text(SAID)}),
    )
    tags = {"dagster/input_data_version/raw": "1", "dagster/input_data_version/noted": "1"}
    explanation = explained(run_of("orders", defined, metadata=metadata, tags=tags))
    dagster = "urn:li:dataset:(urn:li:dataPlatform:dagster,{},PROD)"
    assert {upstream.urn: upstream.sources for upstream in explanation.upstreams} == {
        dagster.format("raw"): (
            "definition",
            "dagster/input_data_version",
            "dagster/column_lineage",
        ),
        dagster.format("lake"): ("definition",),
        dagster.format("noted"): ("dagster/input_data_version",),
        S3: ("datahub.inputs",),
        SAID: ("table of an external asset",),
        SNOWFLAKE.replace("db.s.t", "db.s.raw_orders"): ("Query",),
    }
    assert {downstream.urn: downstream.sources for downstream in explanation.downstreams} == {
        SNOWFLAKE: ("its table", "Query"),
        CONVERTED: ("datahub.outputs",),
    }
    assert explanation.columns["id"] == ((dagster.format("raw"), "key"),)


@pytest.mark.parametrize(
    ("options", "remark"),
    [
        ({"asset_pattern": Pattern(deny=("orders",))}, "asset_pattern leaves it out"),
        ({"capture_asset_materialization": False}, "capture_asset_materialization is false"),
        ({"emit_assets": False}, "the asset is not sent"),
        ({"enable_asset_query_metadata_parsing": False}, "Query: not read"),
        ({}, "its definition is not known"),
    ],
)
def test_what_keeps_it_from_datahub_is_remarked(options: Mapping[str, Any], remark: str) -> None:
    of = run_of("orders", metadata={**PLAIN, "Query": text("select 1 from a.b.c")})
    explanation = explained(of, Context(Config(**options)))
    assert any(remark in each for each in explanation.remarks)


OWN = "it reads only the asset's own table"
DELTA = {
    "dagster/table_name": text("deltalake.public.orders"),
    "table_uri": text("s3://lake/public/orders"),
}
UNREAD: dict[str, tuple[Mapping[str, Metadatum], str, str]] = {
    "its own table": (PLAIN, "SELECT * FROM db.s.t", OWN),
    "its own table, not named whole": (PLAIN, "select a from T where a > 1", OWN),
    "as the I/O manager of Delta Lake": (DELTA, "SELECT * FROM public.orders", OWN),
    "as the I/O manager of DuckDB": (
        {
            "dagster/table_name": text("/data/shop.duckdb.public.orders"),
            "dagster/storage_kind": text("duckdb"),
        },
        "SELECT * FROM public.orders WHERE\nday = 'mon'",
        OWN,
    ),
    "no table": (PLAIN, "select 1", "it names no table"),
    "no platform": (
        {},
        "select 1 from a.b",
        "not read, no dagster/storage_kind or kind tag says on which platform the table is",
    ),
}


@pytest.mark.parametrize("case", UNREAD)
def test_sql_that_links_the_asset_to_nothing_has_one_remark(case: str) -> None:
    metadata, query, expected = UNREAD[case]
    of = run_of("orders", facts(asset_facts("orders")), metadata={**metadata, "Query": text(query)})
    explanation = explained(of)
    assert explanation.remarks == (f"Query: {expected}",)
    assert explanation.upstreams == ()
    sent = [downstream.urn for downstream in explanation.downstreams]
    assert sent == ([explanation.dataset] if explanation.dataset else [])


def test_sql_that_cannot_be_read_has_no_other_cause() -> None:
    of = run_of(
        "orders", facts(asset_facts("orders")), metadata={**PLAIN, "Query": text("selec (")}
    )
    (remark,) = explained(of).remarks
    assert "can't be parsed" in remark


def test_all_datasets_of_its_op_are_listed() -> None:
    stored = (wrote("/data/rest", "other"), loaded("/data/in"), wrote("/data/orders"))
    of = log(
        *succeeded(*ran("make", *stored, materialized("orders", metadata=PLAIN))),
        steps=[step("make", outputs={"result": "orders", "other": None})],
        definitions=Definitions(
            assets={("orders",): asset_facts("orders")},
            ports={"make": PortFacts(inputs={"x": declares(SAID)})},
        ),
    )
    explanation = explained(of)
    file = "urn:li:dataset:(urn:li:dataPlatform:file,/data/{},PROD)"
    assert explanation.op.outputs == {file.format("rest")}
    assert explanation.op.inputs == {file.format("in")}
    assert {upstream.urn for upstream in explanation.upstreams} == {SAID}


KEYS = ("orders", "prod/mysql/shop/orders", "raw/mysql/orders")
METADATA: tuple[Mapping[str, Metadatum], ...] = (
    {},
    {"datahub_urn": text(SAID)},
    {"datahub_urn": text("wrong"), **PLAIN},
    {"path": path_of("s3://bucket/orders")},
    {"dagster/uri": text("gs://bucket/orders"), **declares(S3)},
    {**PLAIN, "Query": text("insert into db.s.t select a from db.s.u")},
)


@pytest.mark.parametrize("emit_assets", [True, False])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("metadata", METADATA)
def test_it_never_disagrees_with_what_is_sent(
    key: str, metadata: Mapping[str, Metadatum], *, emit_assets: bool
) -> None:
    of = run_of(key, facts(asset_facts(key, "raw")), metadata=metadata)
    context = Context(Config(emit_assets=emit_assets))
    explanation = explained(of, context)
    sent = Catalog().deliver(translate(of, context))
    assert explanation.siblings == tuple(
        (sent.of(explanation.urn, "siblings") or {}).get("siblings", ())
    )
    if emit_assets:
        upstreams = sent.of(explanation.urn, "upstreamLineage")["upstreams"]
        assert [upstream.urn for upstream in explanation.upstreams] == [
            upstream["dataset"] for upstream in upstreams
        ]
    if explanation.dataset is not None:
        whole = sent.of(explanation.dataset, "siblings")
        assert whole["siblings"] == [explanation.urn] if emit_assets else whole is None


@pytest.mark.parametrize(
    ("definitions", "cause"),
    [
        (None, "the run was not captured when it started"),
        (facts(asset_facts("other")), "the code of the run does not define it"),
        (facts(is_cut=True), "the definitions were too large to be stored whole"),
    ],
)
def test_an_unknown_definition_has_a_remark(definitions: Definitions | None, cause: str) -> None:
    (remark,) = explained(run_of("orders", definitions)).remarks
    assert remark == f"its definition is not known: {cause}"


def test_an_event_that_belongs_to_no_run_is_explained_too() -> None:
    of = run_of("orders", metadata=PLAIN)
    alone = replace(of, run=replace(of.run, run_id=""), steps=(), job=None)
    explanation = explained(alone)
    assert explanation.remarks == ("its definition is not known: the event belongs to no run",)
    assert (explanation.run_id, explanation.dataset) == ("", SNOWFLAKE)
