from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from catalog import Catalog
from hypothesis import given
from hypothesis import strategies as st
from logs import (
    RUN_ID,
    T0,
    asset_facts,
    asset_key,
    broke,
    declares,
    event,
    facts,
    failed,
    json_of,
    log,
    materialized,
    path_of,
    planned,
    prefixes,
    ran,
    run,
    step,
    succeeded,
    text,
    unmade,
)

from datahub_eventlog.config import Config, Pattern
from datahub_eventlog.translate import translate_runless
from datahub_eventlog.translate.aspects import Proposals
from datahub_eventlog.translate.assets.emitter import asset_proposals
from datahub_eventlog.translate.assets.partitions import partitions_text
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import Datasets
from datahub_eventlog.translate.lineage.asset_ports import AssetDatasets, asset_datasets
from datahub_eventlog.translate.lineage.queries import Query, query_urn
from datahub_eventlog.translate.runs.asset_events import asset_history
from datahub_eventlog.values import (
    AssetFacts,
    CheckKey,
    Definitions,
    Evaluation,
    Event,
    Materialization,
    Metadatum,
    PortFacts,
    RunLog,
    Wiped,
)

TABLE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.orders,PROD)"
KEY = "prod/snowflake/db/s/orders"
"""The key of the asset that is `TABLE`."""


def urn(key: str, env: str = "PROD") -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:dagster,{key.replace('/', '.')},{env})"


def snowflake(name: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:snowflake,{name},PROD)"


def field(dataset: str, column: str) -> str:
    return f"urn:li:schemaField:({dataset},{column})"


def observed(key: str, **more: Any) -> Event:
    return event("ASSET_OBSERVATION", None, Materialization(asset_key(key), **more))


def made(*events: Event, **more: Any) -> RunLog:
    """A successful run of one step with such events."""
    return log(*succeeded(*ran("orders", *events)), **more)


def proposals(whole: RunLog, **options: Any) -> Proposals:
    return asset_proposals(whole, asset_history(whole.events), Context(Config(**options)))


def datasets(whole: RunLog, **options: Any) -> AssetDatasets:
    """What steps and ops read and write, without those that do neither."""
    every = asset_datasets(whole, asset_history(whole.events), Context(Config(**options)))
    return AssetDatasets(
        by_step={name: each for name, each in every.by_step.items() if each != Datasets()},
        by_op={name: each for name, each in every.by_op.items() if each != Datasets()},
    )


def sides(*, inputs: Iterable[str] = (), outputs: Iterable[str] = ()) -> Datasets:
    return Datasets(frozenset(inputs), frozenset(outputs))


def delivered(*wholes: RunLog, **options: Any) -> Catalog:
    catalog = Catalog()
    for whole in wholes:
        catalog.deliver(proposals(whole, **options))
    return catalog


def later(whole: RunLog, seconds: float, run_id: str = "later") -> RunLog:
    """The same events in another run at another time."""
    events = [replace(entry, time=entry.time + seconds) for entry in whole.events]
    return replace(whole, run=replace(whole.run, run_id=run_id), events=events)


def properties(catalog: Catalog, key: str = "orders") -> dict[str, str]:
    actual: dict[str, str] = catalog.of(urn(key), "datasetProperties")["customProperties"]
    return actual


def upstreams(catalog: Catalog, dataset: str) -> list[str]:
    actual = catalog.of(dataset, "upstreamLineage") or {"upstreams": []}
    return [upstream["dataset"] for upstream in actual["upstreams"]]


def column_edges(catalog: Catalog, dataset: str) -> dict[str, list[str]]:
    actual = (catalog.of(dataset, "upstreamLineage") or {}).get("fineGrainedLineages") or []
    return {each["downstreams"][0]: each["upstreams"] for each in actual}


def series(catalog: Catalog, dataset: str, aspect: str = "operation") -> list[dict[str, Any]]:
    actual = catalog.series.get((dataset, aspect), {})
    return sorted(actual.values(), key=lambda each: each["timestampMillis"])


def schema(*names: str) -> Metadatum:
    column: dict[str, Any] = {
        "type": "int",
        "description": None,
        "nullable": True,
        "unique": False,
        "constraints": [],
        "tags": {},
    }
    columns = [{**column, "name": name} for name in names]
    return Metadatum("table_schema", {"columns": columns, "constraints": []})


def column_lineage(**sources: tuple[str, str]) -> Metadatum:
    value = {
        name: [{"asset_key": list(asset_key(key)), "column": column}]
        for name, (key, column) in sources.items()
    }
    return Metadatum("column_lineage", value)


def tags(*upstream: str) -> dict[str, str]:
    """What Dagster notes down about a materialisation of an asset that has a definition."""
    inputs = {f"dagster/input_data_version/{each}": "v" for each in upstream}
    return {"dagster/data_version": "v1", "dagster/code_version": "c1", **inputs}


RICH = AssetFacts(
    asset_key("shop/orders"),
    group="sales",
    owners=("ana@shop.io", "team:data"),
    tags={"domain": "retail", "gold": "", "dagster/kind/python": ""},
    kinds=("python", "snowflake"),
    deps=(asset_key("raw"),),
    description="All orders.",
    code_version="c1",
    partitions="Daily, starting 2024-01-01 UTC.",
    automation="eager",
    freshness={"window": 60},
    backfill="single run",
    io_manager="warehouse",
    metadata={
        "team": text("sales"),
        "dagster/code_references": Metadatum(
            "code_references",
            [
                {"url": "https://git/x.py", "label": None},
                {"file": "a.py", "line": 3, "label": None},
            ],
        ),
    },
)


# What an asset is


def test_an_asset_is_a_dataset_of_dagster_with_the_facts_of_its_definition() -> None:
    whole = made(
        materialized("shop/orders", metadata={"rows": Metadatum("int", 3), "team": text("ops")}),
        definitions=facts(RICH),
    )
    catalog = delivered(whole, dagster_url="http://ui")
    this = urn("shop/orders")
    aspect = catalog.of(this, "datasetProperties")
    assert aspect["name"] == "orders"
    assert aspect["description"] == "All orders."
    assert aspect["externalUrl"] == "http://ui/assets/shop/orders"
    assert aspect["customProperties"] == {
        "dagster/asset_key": "shop/orders",
        "dagster/automation_condition": "eager",
        "dagster/backfill_policy": "single run",
        "dagster/code_references": "https://git/x.py, a.py:3",
        "dagster/code_version": "c1",
        "dagster/freshness_policy": '{"window": 60}',
        "dagster/group_name": "sales",
        "dagster/io_manager_key": "warehouse",
        "dagster/kinds": "python, snowflake",
        "dagster/partitions_def": "Daily, starting 2024-01-01 UTC.",
        "rows": "3",
        "team": "ops",
    }
    assert catalog.of(this, "subTypes") == {"typeNames": ["Asset"]}
    assert catalog.of(this, "status") == {"removed": False}
    assert catalog.of(this, "browsePathsV2") == {"path": [{"id": "sales"}, {"id": "shop"}]}
    assert [tag["tag"] for tag in catalog.of(this, "globalTags")["tags"]] == [
        f"urn:li:tag:{each}"
        for each in ("asset_group:sales", "domain:retail", "gold", "kind:python", "kind:snowflake")
    ]
    owners = [owner["owner"] for owner in catalog.of(this, "ownership")["owners"]]
    assert owners == ["urn:li:corpGroup:data", "urn:li:corpuser:ana@shop.io"]
    assert catalog.of(this, "dataPlatformInstance") is None
    assert catalog.problems == set()


def test_an_asset_belongs_to_the_platform_instance_and_environment_of_the_options() -> None:
    catalog = delivered(made(materialized("a")), platform_instance="eu", env="DEV")
    instance = "urn:li:dataPlatformInstance:(urn:li:dataPlatform:dagster,eu)"
    assert catalog.of(urn("a", "DEV"), "dataPlatformInstance") == {
        "platform": "urn:li:dataPlatform:dagster",
        "instance": instance,
    }


def test_metadata_are_plain_strings_and_json() -> None:
    metadata = {
        "number": Metadatum("float", 1.5),
        "flag": Metadatum("bool", True),
        "link": Metadatum("url", "https://x/y"),
        "when": Metadatum("timestamp", T0),
        "other": Metadatum("asset", ["a", "b"]),
        "nested": json_of({"b": [1, None], "a": "ü"}),
        "nothing": Metadatum("null", None),
        "plot": Metadatum("md", "![plot](data:image/png;base64,iVBORw0KGgo=) of all"),
    }
    own = properties(delivered(made(materialized("orders", metadata=metadata))))
    assert own == {
        "dagster/asset_key": "orders",
        "flag": "true",
        "link": "https://x/y",
        "nested": '{"a": "ü", "b": [1, null]}',
        "number": "1.5",
        "other": "a/b",
        "plot": "![plot](data:image/png;base64,…) of all",
        "when": "2023-11-14T22:13:20+00:00",
    }


def test_the_schema_found_by_the_run_is_completed_by_the_definition() -> None:
    declared = schema("id")
    declared.value["columns"][0]["description"] = "The key."
    definition = asset_facts("orders", metadata={"dagster/column_schema": declared})
    metadata = {"dagster/column_schema": schema("id", "day")}
    catalog = delivered(
        made(materialized("orders", metadata=metadata), definitions=facts(definition))
    )
    fields = catalog.of(urn("orders"), "schemaMetadata")["fields"]
    assert [(each["fieldPath"], each.get("description")) for each in fields] == [
        ("id", "The key."),
        ("day", None),
    ]
    assert "dagster/column_schema" not in properties(catalog)
    static = delivered(made(materialized("orders"), definitions=facts(definition)))
    assert static.of(urn("orders"), "schemaMetadata")["platform"] == "urn:li:dataPlatform:dagster"


def test_no_aspect_is_sent_empty() -> None:
    catalog = delivered(made(materialized("orders")), made(materialized("orders")))
    for aspect in ("schemaMetadata", "ownership", "globalTags", "siblings", "upstreamLineage"):
        assert catalog.of(urn("orders"), aspect) is None
    assert catalog.of(urn("orders"), "datasetProperties").get("description") is None


def test_a_run_that_does_not_know_the_definition_takes_nothing_away() -> None:
    event_ = materialized("shop/orders", metadata={"rows": Metadatum("int", 3)}, tags=tags("raw"))
    rich = made(event_, definitions=facts(RICH))
    alone, after = delivered(rich), delivered(rich, later(made(event_), 100))
    this = urn("shop/orders")
    assert {place: value for place, value in after.state.items() if place[0] == this} == {
        place: value for place, value in alone.state.items() if place[0] == this
    }
    before = delivered(made(event_), later(rich, 100))
    assert before.of(this, "datasetProperties") == alone.of(this, "datasetProperties")


def test_columns_and_lineage_of_a_known_definition_stay_when_it_is_not_known() -> None:
    declared = schema("id")
    declared.value["columns"][0]["description"] = "The key."
    stated = {"dagster/column_schema": declared, **declares(TABLE)}
    actual = {"dagster/column_schema": schema("id", "amount")}
    event_ = materialized("orders", metadata=actual, tags=tags("raw"))
    known = made(event_, definitions=facts(asset_facts("orders", "raw", metadata=stated)))
    unknown = made(event_)
    for wholes in ((known, later(unknown, 100)), (unknown, later(known, 100))):
        catalog = delivered(*wholes)
        key, amount = catalog.of(urn("orders"), "schemaMetadata")["fields"]
        assert (key["description"], amount["fieldPath"]) == ("The key.", "amount")
        assert upstreams(catalog, urn("orders")) == [urn("raw"), TABLE]


def test_of_runs_that_know_no_definition_the_newest_counts() -> None:
    def asset(rows: int) -> RunLog:
        return made(materialized("orders", metadata={"rows": Metadatum("int", rows)}))

    old, new = asset(1), later(asset(2), 100)
    assert properties(delivered(old, new))["rows"] == "2"
    assert properties(delivered(new, old))["rows"] == "2"


def test_assets_that_the_pattern_denies_are_left_out_everywhere() -> None:
    whole = made(
        materialized("private/a", tags=tags("raw")),
        materialized("b", tags=tags("private/a", "raw")),
        definitions=facts(asset_facts("b", "private/a")),
    )
    pattern = Pattern(deny=("private/",))
    catalog = delivered(whole, asset_pattern=pattern)
    assert catalog.urns("dataset") == [urn("b")]
    assert upstreams(catalog, urn("b")) == [urn("raw")]
    assert datasets(whole, asset_pattern=pattern).by_step == {
        "orders": sides(inputs=[urn("raw")], outputs=[urn("b")])
    }


def test_assets_can_be_left_out_altogether() -> None:
    whole = made(materialized("a"), observed("b"))
    assert list(proposals(whole, capture_asset_materialization=False)) == []
    assert datasets(whole, capture_asset_materialization=False) == AssetDatasets()


def test_a_key_that_makes_no_urn_is_a_problem_and_costs_only_itself() -> None:
    catalog = delivered(made(materialized("x" * 600), materialized("good", tags=tags("y" * 600))))
    assert catalog.urns("dataset") == [urn("good")]
    assert {(problem.urn, problem.aspect) for problem in catalog.problems} == {
        ("x" * 600, "datasetKey"),
        (urn("good"), "upstreamLineage"),
    }


# Lineage


def test_lineage_comes_from_definition_and_from_what_dagster_noted_down() -> None:
    whole = made(
        materialized("orders", tags=tags("raw/a", "orders")),
        definitions=facts(asset_facts("orders", "raw/b", "orders")),
    )
    assert upstreams(delivered(whole), urn("orders")) == [urn("raw/a"), urn("raw/b")]
    by_tags_alone = made(materialized("orders", tags=tags("raw/a")))
    assert upstreams(delivered(by_tags_alone), urn("orders")) == [urn("raw/a")]


def test_lineage_that_has_changed_replaces_the_old_and_an_older_run_changes_nothing() -> None:
    def depends_on(*deps: str) -> RunLog:
        return made(materialized("orders"), definitions=facts(asset_facts("orders", *deps)))

    old, new = depends_on("a", "b"), later(depends_on("b", "c"), 100)
    expected = [urn("b"), urn("c")]
    assert upstreams(delivered(old, new), urn("orders")) == expected
    assert upstreams(delivered(new, old), urn("orders")) == expected
    none = later(depends_on(), 200)
    assert upstreams(delivered(old, new, none), urn("orders")) == []


def test_a_run_that_did_not_materialise_the_asset_keeps_its_lineage() -> None:
    definitions = facts(asset_facts("orders", "raw"))
    good = made(materialized("orders"), definitions=definitions)
    steps = [step("orders", asset="orders")]
    bad = later(
        log(planned("orders"), *broke(*failed("orders")), steps=steps, definitions=definitions), 9
    )
    assert upstreams(delivered(good, bad), urn("orders")) == [urn("raw")]


def test_the_table_that_an_asset_is_gets_an_edge_beside_those_it_has() -> None:
    catalog = delivered(made(materialized(KEY)))
    there = {"upstreams": [{"dataset": snowflake("db.s.raw"), "type": "VIEW"}]}
    catalog.state[TABLE, "upstreamLineage"] = json.loads(json.dumps(there))
    catalog.deliver(proposals(later(made(materialized(KEY)), 9)))
    assert upstreams(catalog, TABLE) == [snowflake("db.s.raw"), urn(KEY)]
    assert catalog.of(TABLE, "siblings") == {"siblings": [urn(KEY)], "primary": False}
    assert catalog.of(urn(KEY), "siblings") == {"siblings": [TABLE], "primary": False}
    assert {aspect for this, aspect in catalog.state if this == TABLE} == {
        "upstreamLineage",
        "siblings",
    }


def test_assets_that_are_the_same_table_share_one_proposal() -> None:
    same = {"datahub_urn": text(TABLE)}
    whole = made(materialized("a", metadata=same), materialized("b", metadata=same))
    assert upstreams(delivered(whole), TABLE) == [urn("a"), urn("b")]


def test_an_external_asset_leads_to_the_table_that_it_is() -> None:
    external = asset_facts(
        "raw", is_external=True, metadata={"datahub_urn": text(snowflake("db.raw"))}
    )
    internal = asset_facts("made", metadata={"datahub_urn": text(snowflake("db.made"))})
    definitions = facts(asset_facts("orders", "raw", "made"), external, internal)
    catalog = delivered(made(materialized("orders"), definitions=definitions))
    assert upstreams(catalog, urn("orders")) == [
        urn("made"),
        urn("raw"),
        snowflake("db.raw"),
    ]
    assert catalog.urns("dataset") == [urn("orders")]


def test_column_lineage_is_on_the_asset_and_on_its_table() -> None:
    metadata = {
        "dagster/column_lineage": column_lineage(total=("raw", "price"), id=("other", "id")),
        "datahub_urn": text(TABLE),
    }
    catalog = delivered(made(materialized("orders", metadata=metadata)))
    this = urn("orders")
    assert column_edges(catalog, this) == {
        field(this, "id"): [field(urn("other"), "id")],
        field(this, "total"): [field(urn("raw"), "price")],
    }
    assert upstreams(catalog, this) == [urn("other"), urn("raw")]
    assert column_edges(catalog, TABLE) == {
        field(TABLE, "id"): [field(this, "id")],
        field(TABLE, "total"): [field(this, "total")],
    }
    assert "dagster/column_lineage" not in properties(catalog)


def test_sql_gives_lineage_of_tables_and_columns() -> None:
    sql = "INSERT INTO orders SELECT r.price AS total FROM raw r"
    catalog = delivered(made(materialized(KEY, metadata={"Query": text(sql)})))
    this, raw = urn(KEY), snowflake("db.s.raw")
    assert upstreams(catalog, this) == [raw]
    assert upstreams(catalog, TABLE) == [this]
    assert column_edges(catalog, this) == {field(this, "total"): [field(raw, "price")]}
    assert catalog.of(raw, "datasetKey")["name"] == "db.s.raw"
    assert catalog.urns("query") == []


def test_sql_can_be_left_unread() -> None:
    whole = made(materialized(KEY, metadata={"Query": text("SELECT a FROM raw")}))
    catalog = delivered(whole, enable_asset_query_metadata_parsing=False)
    assert upstreams(catalog, urn(KEY)) == []


def test_sql_that_cannot_be_read_is_a_problem_and_costs_only_itself() -> None:
    metadata = {"Query": text("SELECT FROM ((")}
    catalog = delivered(made(materialized(KEY, metadata=metadata, tags=tags("raw"))))
    assert upstreams(catalog, urn(KEY)) == [urn("raw")]
    (problem,) = catalog.problems
    assert (problem.urn, problem.aspect) == (urn(KEY), "upstreamLineage")
    assert problem.reason.startswith("Query: it can't be parsed")


def test_the_query_of_an_io_manager_makes_no_lineage() -> None:
    metadata = {
        "Query": text("SELECT * FROM shop.main.orders"),
        "dagster/table_name": text("/data/shop.duckdb.main.orders"),
        "dagster/storage_kind": text("duckdb"),
    }
    catalog = delivered(made(materialized("orders", metadata=metadata)))
    assert catalog.of(urn("orders"), "upstreamLineage") is None
    table = "urn:li:dataset:(urn:li:dataPlatform:duckdb,shop.main.orders,PROD)"
    assert upstreams(catalog, table) == [urn("orders")]


def test_queries_are_entities_if_the_options_say_so() -> None:
    sql = "INSERT INTO orders SELECT price FROM raw"
    whole = made(materialized(KEY, metadata={"Query": text(sql)}))
    catalog = delivered(whole, emit_queries=True)
    this = query_urn(Query(sql, "snowflake"))
    subjects = [subject["entity"] for subject in catalog.of(this, "querySubjects")["subjects"]]
    assert subjects == [TABLE, snowflake("db.s.raw")]
    (edge,) = catalog.of(urn(KEY), "upstreamLineage")["upstreams"]
    assert edge["query"] == this


def test_declared_datasets_are_lineage() -> None:
    inputs = declares(snowflake("a"), "no urn")
    outputs = declares(snowflake("b"), side="outputs")
    definition = asset_facts("orders", metadata={**inputs, **outputs})
    catalog = delivered(made(materialized("orders"), definitions=facts(definition)))
    assert upstreams(catalog, urn("orders")) == [snowflake("a")]
    assert upstreams(catalog, snowflake("b")) == [urn("orders")]
    assert catalog.of(snowflake("b"), "siblings") is None
    (problem,) = catalog.problems
    assert problem.reason.startswith("datahub.inputs: 'no urn'")


def test_datasets_that_inputs_declare_are_lineage_of_the_asset_that_the_op_makes_alone() -> None:
    ports = {"orders": PortFacts(inputs={"raw": declares(snowflake("a"))})}
    alone = made(
        materialized("orders"),
        steps=[step("orders", asset="orders")],
        definitions=Definitions(ports=ports),
    )
    assert upstreams(delivered(alone), urn("orders")) == [snowflake("a")]
    several = replace(alone, steps=(step("orders", outputs={"x": "orders", "y": "other"}),))
    assert upstreams(delivered(several), urn("orders")) == []


def test_an_invalid_datahub_urn_is_a_problem_and_the_next_evidence_counts() -> None:
    catalog = delivered(made(materialized(KEY, metadata={"datahub_urn": text("nonsense")})))
    assert upstreams(catalog, TABLE) == [urn(KEY)]
    (problem,) = catalog.problems
    assert problem.reason.startswith("datahub_urn: 'nonsense'")


@pytest.mark.parametrize("asked", [True, False])
def test_dependencies_get_their_keys_if_the_options_say_so(asked: bool) -> None:  # noqa: FBT001
    whole = made(materialized(KEY, tags=tags("raw")))
    catalog = delivered(whole, materialize_dependencies=asked)
    keys = [this for this, aspect in catalog.state if aspect == "datasetKey"]
    assert sorted(keys) == ([urn("raw"), TABLE] if asked else [])


# What steps read and write


def test_a_step_writes_its_assets_and_reads_what_they_are_made_of() -> None:
    whole = log(
        *succeeded(
            *ran("one", materialized("a", tags=tags("raw")), materialized("b", tags=tags("a"))),
            *ran("two", observed("seen")),
        )
    )
    assert datasets(whole).by_step == {
        "one": sides(inputs=[urn("raw")], outputs=[urn("a"), urn("b")]),
        "two": sides(inputs=[urn("seen")]),
    }


def test_assets_of_a_failed_run_are_there_though_no_step_wrote_them() -> None:
    steps = [step("orders", asset="orders"), step("later", "orders", asset="later")]
    whole = log(planned("orders"), planned("later"), *broke(*failed("orders")), steps=steps)
    actual = datasets(whole)
    assert actual.by_step == {}
    assert {name: each.outputs for name, each in actual.by_op.items()} == {
        "orders": {urn("orders")},
        "later": {urn("later")},
    }
    catalog = Catalog().deliver(proposals(whole))
    assert {this for this, _ in catalog.state} == {urn("orders"), urn("later")}
    assert {aspect for _, aspect in catalog.state} == {"status", "subTypes"}


def test_an_asset_that_dagster_reports_as_failed_exists() -> None:
    whole = log(*broke(*failed("orders", unmade("orders"))))
    assert datasets(whole).by_step == {}
    catalog = Catalog().deliver(proposals(whole))
    assert catalog.of(urn("orders"), "status") == {"removed": False}


def test_without_assets_a_failed_op_takes_tables_and_makes_none_by_definition() -> None:
    upstream = "prod/snowflake/db/s/customers"
    whole = log(
        planned(KEY),
        *broke(*failed("orders")),
        steps=[step("orders", asset=KEY)],
        definitions=facts(asset_facts(KEY, upstream)),
    )
    actual = datasets(whole, emit_assets=False)
    assert actual.by_step == {}
    assert actual.by_op == {"orders": sides(inputs=[snowflake("db.s.customers")])}


def test_without_assets_steps_read_and_write_their_tables() -> None:
    upstream = "prod/snowflake/db/s/customers"
    metadata = {"Query": text("INSERT INTO orders SELECT a FROM raw")}
    whole = made(
        materialized(KEY, metadata=metadata, tags=tags(upstream)),
        materialized("nowhere"),
        observed("prod/snowflake/db/s/seen"),
    )
    tables = {snowflake(f"db.s.{each}") for each in ("raw", "customers", "seen")}
    actual = datasets(whole, emit_assets=False)
    assert actual.by_step == {"orders": sides(inputs=tables, outputs=[TABLE])}
    catalog = Catalog().deliver(proposals(whole, emit_assets=False))
    assert {aspect for _, aspect in catalog.state} == {"datasetKey"}
    assert catalog.series == {}


# Operations and profiles


def test_a_materialisation_is_an_operation() -> None:
    asset = materialized("orders", tags={**tags(), "mine": "yes"}, description="Nightly.")
    (operation,) = series(delivered(made(asset)), urn("orders"))
    moment = int(T0 * 1000) + 2000
    assert operation["operationType"] == "UPDATE"
    assert (operation["timestampMillis"], operation["lastUpdatedTimestamp"]) == (moment, moment)
    assert operation["messageId"] == f"{RUN_ID}:orders:materialized"
    assert operation["partitionSpec"]["type"] == "FULL_TABLE"
    assert operation["customProperties"] == {
        "code_version": "c1",
        "data_version": "v1",
        "description": "Nightly.",
        "run_id": RUN_ID,
        "step_key": "orders",
        "tags.mine": "yes",
    }


def test_a_code_version_that_nobody_gave_is_not_shown() -> None:
    whole = made(materialized("orders", tags={"dagster/code_version": RUN_ID}))
    (operation,) = series(delivered(whole), urn("orders"))
    assert "code_version" not in operation["customProperties"]


def test_all_partitions_of_a_run_are_one_operation_and_one_state() -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 32)]
    events = [materialized("orders", partition=day) for day in days]
    items = list(proposals(made(*events)))
    catalog = Catalog().deliver(items)
    (operation,) = series(catalog, urn("orders"))
    assert operation["partitionSpec"] == {
        "partition": "2024-01-01...2024-01-31",
        "type": "PARTITION",
    }
    assert operation["lastUpdatedTimestamp"] - operation["timestampMillis"] == 30_000
    assert operation["customProperties"]["partition_count"] == "31"
    assert operation["customProperties"]["partitions"] == ", ".join(days)
    assert len(items) == 5


def partition(catalog: Catalog) -> str:
    (operation,) = series(catalog, urn("a"))
    name: str = operation["partitionSpec"]["partition"]
    return name


def test_a_partition_is_named_at_once_and_a_range_of_time_as_planned() -> None:
    day = "2024-01-01"
    live = log(planned("a", day), event("RUN_START"), materialized("a", partition=day))
    assert partition(delivered(live)) == day
    ends = {
        "dagster/asset_partition_range_start": day,
        "dagster/asset_partition_range_end": "2024-01-03",
    }
    of_range = replace(live, run=run(tags=ends))
    assert partition(delivered(of_range)) == "2024-01-01...2024-01-03"


def test_a_range_of_what_is_no_time_is_sent_when_its_step_is_over() -> None:
    ends = {"dagster/asset_partition_range_start": "x", "dagster/asset_partition_range_end": "z"}
    parts = [materialized("a", partition=each) for each in "xqz"]
    live = log(event("STEP_START", "s"), replace(parts[0], step_key="s"), run=run(tags=ends))
    assert series(delivered(live), urn("a")) == []
    over = log(*ran("s", *parts), run=run(tags=ends))
    assert partition(delivered(over)) == "3 partitions: q, x, z"


def test_partitions_that_nobody_planned_are_sent_when_their_step_is_over() -> None:
    going_on = log(
        event("STEP_START", "s"), replace(materialized("a", partition="x"), step_key="s")
    )
    assert series(delivered(going_on), urn("a")) == []
    over = log(*ran("s", materialized("a", partition="x"), materialized("a", partition="y")))
    assert partition(delivered(over)) == "2 partitions: x, y"


@pytest.mark.parametrize(
    ("names", "definition", "expected"),
    [
        (["2024-01-31", "2024-02-01"], None, "2024-01-31...2024-02-01"),
        (["2024-01-01", "2024-01-03"], None, "2 partitions: 2024-01-01, 2024-01-03"),
        (["2024-01-01", "2024-01-08"], "Weekly, starting", "2024-01-01...2024-01-08"),
        (["2024-01-01", "2024-01-08"], "Daily, starting", "2 partitions: 2024-01-01, 2024-01-08"),
        (["2024-12-01", "2025-01-01"], "Monthly, starting", "2024-12-01...2025-01-01"),
        (["2024-01-31", "2024-02-29"], "Monthly, of", "2 partitions: 2024-01-31, 2024-02-29"),
        (["2024-01-01-23:00", "2024-01-02-00:00"], None, "2024-01-01-23:00...2024-01-02-00:00"),
        (["2024-01-01", "2024-01-02"], "Static: all", "2 partitions: 2024-01-01, 2024-01-02"),
        (["2024-01-01", "2024-01-02"], "0 0 * * 1, as", "2 partitions: 2024-01-01, 2024-01-02"),
        (["9999-12-31", "9999-12-30"], None, "9999-12-30...9999-12-31"),
        (["9999-12-31", "0001-01-01"], None, "2 partitions: 0001-01-01, 9999-12-31"),
        ([f"k{number}" for number in range(1000)], None, "1,000 partitions: k0, k1, k2, ..."),
        (["1" * 5000, "2", "010", "9"], None, "4 partitions: 2, 9, 010, ..."),
        (["1" * 5000, "2"], None, f"2 partitions: 2, {'1' * 5000}"),
        (["²", "1", "x10", "x9"], None, "4 partitions: 1, x9, x10, ..."),
    ],
)
def test_only_time_without_a_gap_is_a_range(
    names: list[str], definition: str | None, expected: str
) -> None:
    assert partitions_text(names, definition) == expected


def test_row_counts_are_profiles_of_the_table_and_of_each_partition() -> None:
    def rows(partition: str, count: int, total: int) -> Event:
        metadata = {
            "dagster/partition_row_count": Metadatum("int", count),
            "dagster/row_count": Metadatum("int", total),
            "dagster/column_schema": schema("a", "b"),
        }
        return materialized("orders", partition=partition, metadata=metadata)

    operations = series(
        delivered(made(rows("x", 1, 10), rows("y", 2, 12), rows("x", 3, 14))),
        urn("orders"),
        "datasetProfile",
    )
    spec = [
        (operation["partitionSpec"]["partition"], operation["rowCount"]) for operation in operations
    ]
    assert sorted(spec) == [("FULL_TABLE_SNAPSHOT", 14), ("x", 3), ("y", 2)]
    assert {operation["columnCount"] for operation in operations} == {2}


@pytest.mark.parametrize("value", [text("many"), Metadatum("int", -1), json_of([1])])
def test_a_row_count_that_is_none_makes_no_profile(value: Metadatum) -> None:
    whole = made(materialized("orders", metadata={"dagster/row_count": value}))
    assert series(delivered(whole), urn("orders"), "datasetProfile") == []


def test_an_observation_is_an_operation_with_its_data_version() -> None:
    metadata = {
        "dagster/row_count": Metadatum("int", 7),
        "dagster/last_updated_timestamp": Metadatum("timestamp", T0 - 60),
        "note": text("seen"),
    }
    catalog = delivered(
        made(observed("raw", metadata=metadata, tags={"dagster/data_version": "v7"}))
    )
    (operation,) = series(catalog, urn("raw"))
    assert operation["customOperationType"] == "OBSERVATION"
    assert operation["lastUpdatedTimestamp"] == int(T0 * 1000) - 60_000
    assert operation["customProperties"]["data_version"] == "v7"
    assert operation["customProperties"]["note"] == "seen"
    (profile,) = series(catalog, urn("raw"), "datasetProfile")
    assert profile["rowCount"] == 7
    assert properties(catalog, "raw")["note"] == "seen"


def test_the_observation_of_an_asset_that_dagster_makes_leaves_its_properties() -> None:
    definitions = facts(asset_facts("orders", description="All orders."))
    whole = made(materialized("orders", metadata={"a": text("1")}), definitions=definitions)
    seen = later(made(observed("orders", metadata={"b": text("2")}), definitions=definitions), 9)
    assert "b" not in properties(delivered(whole, seen))
    assert properties(delivered(whole, seen)) == properties(delivered(seen, whole))
    both = made(
        materialized("x", metadata={"a": text("1")}), observed("x", metadata={"b": text("2")})
    )
    assert "b" not in properties(delivered(both), "x")


def test_an_observation_knows_less_than_a_materialisation() -> None:
    whole = made(materialized("x", metadata={"a": text("1")}))
    seen = later(made(observed("x", metadata={"b": text("2")})), 9)
    assert properties(delivered(whole, seen), "x") == properties(delivered(seen, whole), "x")
    assert "b" not in properties(delivered(whole, seen), "x")
    assert "b" in properties(delivered(seen), "x")


def test_an_observed_external_asset_has_the_facts_of_its_definition() -> None:
    definition = asset_facts(KEY, is_external=True, description="From the shop.")
    catalog = delivered(made(observed(KEY), definitions=facts(definition)))
    assert catalog.of(urn(KEY), "datasetProperties")["description"] == "From the shop."
    assert catalog.of(TABLE, "siblings")["siblings"] == [urn(KEY)]
    assert upstreams(catalog, TABLE) == []


# Events of no run


def runless(*events: Event, **options: Any) -> Catalog:
    placed = log(*events).events
    return Catalog().deliver(translate_runless(placed, None, Context(Config(**options))))


def test_reports_that_belong_to_no_run_are_sent_one_by_one() -> None:
    catalog = runless(
        materialized("a", partition="x"),
        materialized("a", partition="y", metadata={"n": Metadatum("int", 2)}),
        observed("b"),
        event("ASSET_CHECK_EVALUATION", None, Evaluation(CheckKey(("a",), "c"), passed=True)),
    )
    operations = series(catalog, urn("a"))
    assert [operation["partitionSpec"]["partition"] for operation in operations] == ["x", "y"]
    assert [operation["messageId"] for operation in operations] == [
        "1:a:materialized",
        "2:a:materialized",
    ]
    assert properties(catalog, "a")["n"] == "2"
    assert len(series(catalog, urn("b"))) == 1
    assert len(catalog.urns("assertion")) == 1


def test_a_wiped_asset_is_removed_if_the_options_say_so() -> None:
    def wiped(key: str, *partitions: str) -> Event:
        return event("ASSET_WIPED", None, Wiped(asset_key(key), partitions or None))

    events = [materialized("a"), wiped("a"), wiped("b"), materialized("b"), wiped("c", "x")]
    catalog = runless(*events, remove_wiped_assets=True)
    assert catalog.of(urn("a"), "status") == {"removed": True}
    assert catalog.of(urn("b"), "status") == {"removed": False}
    assert catalog.of(urn("c"), "status") is None
    kept = runless(*events)
    assert kept.of(urn("a"), "status") == {"removed": False}
    denied = runless(*events, remove_wiped_assets=True, asset_pattern=Pattern(deny=("a",)))
    assert denied.of(urn("a"), "status") is None


# Whatever happens


KEYS = ["a", "x/b", KEY]
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "dagster/row_count": st.builds(Metadatum, st.just("int"), st.integers(0, 9)),
        "dagster/partition_row_count": st.builds(Metadatum, st.just("int"), st.integers(0, 9)),
        "dagster/column_lineage": st.just(column_lineage(c=("x/b", "d"))),
        "datahub_urn": st.sampled_from([text(TABLE), text("wrong")]),
        "path": st.sampled_from([path_of("s3://b/1"), path_of("s3://b/2")]),
        "Query": st.sampled_from(
            [text("SELECT c FROM u1"), text("INSERT INTO w SELECT d FROM u2")]
        ),
        "n": st.sampled_from([text("1"), text("2")]),
    },
)


@st.composite
def asset_events(draw: st.DrawFn) -> Event:
    make = draw(st.sampled_from([materialized, observed]))
    key = draw(st.sampled_from(KEYS))
    partition = draw(st.sampled_from([None, "p", "q"]))
    noted = draw(st.sampled_from([{}, tags("raw"), tags("a", "raw")]))
    made: Event = make(key, partition=partition, metadata=draw(METADATA), tags=noted)
    return made


@st.composite
def run_logs(draw: st.DrawFn) -> RunLog:
    steps = [step(f"s{index}", asset=key) for index, key in enumerate(KEYS)]
    events: list[Event] = [planned(each) for each in draw(st.sets(st.sampled_from(KEYS)))]
    for planned_step in steps:
        how = draw(st.sampled_from([ran, failed]))
        events += how(planned_step.key, *draw(st.lists(asset_events(), max_size=3)))
    end = draw(st.sampled_from([succeeded, broke]))
    known = draw(st.sampled_from([None, Definitions(), facts(asset_facts("a", "raw", group="g"))]))
    whole = log(*end(*events), steps=steps, definitions=known)
    skews = st.sampled_from([0.0, 0.0, 0.0, -2.5, 1.0])
    skewed = [replace(entry, time=entry.time + draw(skews)) for entry in whole.events]
    return replace(whole, events=tuple(skewed))


def outcome(items: Iterable[RunLog], **options: Any) -> tuple[Any, ...]:
    catalog = delivered(*items, **options)
    return normal(catalog.state), catalog.series, catalog.problems


def normal(value: Any) -> Any:
    """With sorted lists: additions from several deliveries keep no order."""
    if isinstance(value, dict):
        return {name: normal(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted((normal(each) for each in value), key=json.dumps)
    return value


@given(run_logs(), st.booleans())
def test_what_is_sent_while_a_run_goes_on_ends_in_what_the_whole_sends(
    whole: RunLog,
    removes: bool,  # noqa: FBT001
) -> None:
    at_once = outcome([whole], remove_wiped_assets=removes)
    assert outcome([*prefixes(whole), whole], remove_wiped_assets=removes) == at_once


@given(run_logs(), st.booleans())
def test_a_run_translated_twice_is_equal_and_changes_nothing(
    whole: RunLog,
    emits: bool,  # noqa: FBT001
) -> None:
    options = {"emit_assets": emits, "emit_queries": True, "materialize_dependencies": True}
    assert list(proposals(whole, **options)) == list(proposals(whole, **options))
    assert datasets(whole, **options) == datasets(whole, **options)
    assert outcome([whole, whole], **options) == outcome([whole], **options)


@given(st.lists(run_logs(), min_size=2, max_size=3), st.randoms())
def test_runs_in_any_order_end_in_what_they_say_in_theirs(
    wholes: list[RunLog], random: Random
) -> None:
    runs = [later(each, index * 1000, f"run {index}") for index, each in enumerate(wholes)]
    shuffled = random.sample(runs, len(runs))
    assert outcome(shuffled) == outcome(runs)
