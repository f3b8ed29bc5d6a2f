"""The real dagster-dbt on DuckDB, beside DataHub's own dbt ingestion of the same project.

`make dbt` runs it in a virtual environment of its own.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.remote_representation.handle import RepositoryHandle
from datahub.emitter import mcp, rest_emitter
from datahub.metadata import schema_classes
from deployment import sqlite_yaml
from instances import configured
from receiver import Receiver
from redelivery import DataHub

from datahub_eventlog.catalog.asset_nodes import AssetNodes
from datahub_eventlog.config import Config
from datahub_eventlog.translate.asset_checks import assertion_urn
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CheckKey

dagster_dbt = pytest.importorskip("dagster_dbt", reason="dagster-dbt is not installed: `make dbt`")
duckdb = pytest.importorskip("duckdb", reason="dbt-duckdb is not installed: `make dbt`")
pipeline = pytest.importorskip("datahub.ingestion.run.pipeline")

pytestmark = pytest.mark.dbt

PROJECT = Path(__file__).parent / "dbt_shop"
TABLE = r"urn:li:dataset:\(urn:li:dataPlatform:duckdb,[^)]*\)"
CONTACTS = """
CREATE SCHEMA crm;
CREATE TABLE crm."Contacts" AS SELECT 1 AS id, 'ana@shop.io' AS email
"""


def asset(name: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:dagster,{name},PROD)"


def table(name: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:duckdb,{name},PROD)"


CUSTOMERS = asset("Marts.customers")
REVENUE = asset("Marts.revenue")
ORDERS = asset("stg_orders")
TABLES = {
    asset("Raw.raw_orders"): table("shop.main_raw.raw_orders"),
    ORDERS: table("shop.main.stg_orders"),
    CUSTOMERS: table("shop.main_marts.customer_facts"),
    REVENUE: table("shop.main_marts.revenue"),
}
SOURCE = table("shop.crm.contacts")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The project with its database, and a manifest of it."""
    directory = Path(shutil.copytree(PROJECT, tmp_path_factory.mktemp("dbt") / "shop"))
    database = str(directory / "Shop.duckdb")
    with duckdb.connect(database) as connection:
        connection.execute(CONTACTS)
    with pytest.MonkeyPatch.context() as environment:
        # dbt is a program beside this Python, and its telemetry stays off.
        environment.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        environment.setenv("SHOP_DATABASE", database)
        environment.setenv("DO_NOT_TRACK", "1")
        made = dagster_dbt.DbtProject(directory, profiles_dir=directory)
        made.preparer.prepare(made)
        yield made


@dataclass(frozen=True)
class ShopRun:
    """A run of `dbt build`, and the instance that has it."""

    run_id: str
    instance: dg.DagsterInstance


@pytest.fixture(scope="module")
def run(project: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopRun]:
    """`dbt build` in Dagster, with the columns fetched."""
    resource = dagster_dbt.DbtCliResource(project_dir=project)

    def shop(context: dg.AssetExecutionContext) -> Iterator[Any]:
        built = resource.cli(["build"], context=context).stream()
        yield from built.fetch_row_counts().fetch_column_metadata()

    assets = dagster_dbt.dbt_assets(manifest=project.manifest_path, project=project)(shop)
    home = tmp_path_factory.mktemp("home")
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        yield ShopRun(dg.materialize([assets], instance=instance).run_id, instance)


@contextmanager
def delivered(
    run: ShopRun, directory: Path, *, knows: bool = True, **options: Any
) -> Iterator[Receiver]:
    """DataHub after the run was delivered to it alone."""
    with DataHub(run.instance, directory / "ledger.db", Config(**options)) as datahub:
        datahub.deliver(run.run_id, knows=knows)
        yield datahub.receiver


@pytest.fixture(scope="module")
def receiver(run: ShopRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """DataHub after the run was delivered."""
    with delivered(run, tmp_path_factory.mktemp("ledger")) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def ingested(
    run: ShopRun, project: Any, tmp_path_factory: pytest.TempPathFactory
) -> Sequence[Mapping[str, Any]]:
    """What DataHub's own dbt source sends, given the project's manifest and the run's results."""
    return ingestion_of(run, project, tmp_path_factory.mktemp("dbt_source"))


def aspect(receiver: Receiver, urn: str, name: str) -> Any:
    found = receiver.aspect(urn, name)
    assert found is not None, f"no {name} of {urn}"
    return found


def upstreams(receiver: Receiver, urn: str) -> set[str]:
    return {each["dataset"] for each in aspect(receiver, urn, "upstreamLineage")["upstreams"]}


def columns(receiver: Receiver, urn: str) -> dict[str, list[str]]:
    found = aspect(receiver, urn, "upstreamLineage")["fineGrainedLineages"]
    return {each["downstreams"][0]: each["upstreams"] for each in found}


def field(urn: str, name: str) -> str:
    return f"urn:li:schemaField:({urn},{name})"


def ingestion_of(
    run: ShopRun, project: Any, path: Path, **options: Any
) -> Sequence[Mapping[str, Any]]:
    (path / "catalog.json").write_text(json.dumps({"metadata": {}, "nodes": {}, "sources": {}}))
    (results,) = Path(project.project_dir).glob(f"target/*-{run.run_id[:7]}-*/run_results.json")
    source = {
        "manifest_path": str(project.manifest_path),
        "catalog_path": str(path / "catalog.json"),
        "run_results_paths": [str(results)],
        "target_platform": "duckdb",
        "write_semantics": "OVERRIDE",  # needs no DataHub to read from
        **options,
    }
    sink = {"filename": str(path / "dbt.json")}
    recipe = {
        "source": {"type": "dbt", "config": source},
        "sink": {"type": "file", "config": sink},
    }
    ingestion = pipeline.Pipeline.create(recipe, report_to=None)
    ingestion.run()
    ingestion.raise_from_status()
    sent: Sequence[Mapping[str, Any]] = json.loads((path / "dbt.json").read_text())
    return sent


def assertions(
    sent: Sequence[Mapping[str, Any]], name: str = "assertionInfo"
) -> dict[str, Mapping[str, Any]]:
    """The aspects of assertions that DataHub's dbt source sends."""
    return {
        item["entityUrn"]: item["aspect"]["json"] for item in sent if item.get("aspectName") == name
    }


def test_an_asset_of_dbt_is_the_table_that_datahubs_dbt_ingestion_knows(
    receiver: Receiver, ingested: Sequence[Mapping[str, Any]]
) -> None:
    found = {each: aspect(receiver, each, "siblings")["siblings"] for each in TABLES}
    assert found == {each: [urn] for each, urn in TABLES.items()}
    ours = {urn for urn in receiver.entities("dataset") if re.fullmatch(TABLE, urn)}
    assert ours == set(TABLES.values())
    assert set(re.findall(TABLE, json.dumps(ingested))) == {*ours, SOURCE}


def test_lineage_goes_past_ephemeral_models_and_begins_at_the_sources_table(
    receiver: Receiver,
) -> None:
    assert upstreams(receiver, CUSTOMERS) == {asset("crm.Contacts"), SOURCE, ORDERS}
    assert upstreams(receiver, table("shop.main_marts.customer_facts")) == {CUSTOMERS}
    assert upstreams(receiver, REVENUE) == {ORDERS}


def test_column_lineage_is_on_the_asset_and_on_its_table(receiver: Receiver) -> None:
    assert columns(receiver, REVENUE) == {
        field(REVENUE, "customer_id"): [field(ORDERS, "customer_id")],
        field(REVENUE, "total"): [field(ORDERS, "amount")],
    }
    assert columns(receiver, TABLES[REVENUE]) == {
        field(TABLES[REVENUE], name): [field(REVENUE, name)] for name in ("customer_id", "total")
    }


def test_the_columns_found_in_the_database_are_described_as_in_the_project(
    receiver: Receiver,
) -> None:
    found = {
        each["fieldPath"]: each for each in aspect(receiver, ORDERS, "schemaMetadata")["fields"]
    }
    assert list(found) == ["order_id", "customer_id", "amount", "state"]
    assert found["order_id"]["nativeDataType"] == "INTEGER"
    assert found["order_id"]["description"] == "The number on the invoice."
    assert found["order_id"]["globalTags"] == {"tags": [{"tag": "urn:li:tag:key"}]}
    assert "description" not in found["state"]


def test_a_model_has_its_dbt_facts_owner_rows_and_sql(receiver: Receiver) -> None:
    properties = aspect(receiver, CUSTOMERS, "datasetProperties")
    assert properties["customProperties"]["dagster_dbt/unique_id"] == "model.shop.customers"
    assert properties["customProperties"]["dagster-dbt/materialization_type"] == "table"
    assert properties["customProperties"]["dagster/table_name"] == "Shop.main_Marts.Customer_Facts"
    assert "join" in properties["description"]
    (owner,) = aspect(receiver, CUSTOMERS, "ownership")["owners"]
    assert owner["owner"] == "urn:li:corpuser:ana@shop.io"
    (profile,) = receiver.timeseries(CUSTOMERS, "datasetProfile")
    assert (profile["rowCount"], profile["columnCount"]) == (2, 2)


TESTS = {
    "accepted_values_stg_orders_state__paid": "FAILURE",
    "nobody_is_paid": "SUCCESS",
    "not_null_stg_orders_order_id": "SUCCESS",
    "relationships_revenue_customer_id__customer_id__ref_customers_": "SUCCESS",
    "relationships_revenue_customer_id__customer_id__ref_paid_orders_": "SUCCESS",
    "unique_stg_orders_order_id": "SUCCESS",
}


def our_assertions(receiver: Receiver) -> dict[str, Mapping[str, Any]]:
    return {
        urn: aspect(receiver, urn, "assertionInfo")
        for urn in sorted(receiver.entities("assertion"))
    }


def test_a_dbt_test_is_the_assertion_of_datahubs_dbt_source(
    run: ShopRun, ingested: Sequence[Mapping[str, Any]], tmp_path: Path
) -> None:
    theirs = assertions(ingested)
    with delivered(run, tmp_path, use_dbt_datasets=True) as receiver:
        ours = our_assertions(receiver)
        names = {info["customProperties"]["check_name"]: urn for urn, info in ours.items()}
        assert names.keys() == TESTS.keys()
        for name, urn in names.items():
            expected = dict(theirs[urn]["customAssertion"])
            if name.startswith("relationships"):
                del expected["parameters"]  # are said to be the set `null`
            assert ours[urn]["customAssertion"] == expected
            assert ours[urn]["type"] == theirs[urn]["type"]
            assert ours[urn].get("description") == theirs[urn].get("description")
            properties = theirs[urn]["customProperties"]
            for key in ("dbt_unique_id", "dbt_test_upstream_unique_id"):
                assert ours[urn]["customProperties"][key] == properties[key]
            ours_of = aspect(receiver, urn, "dataPlatformInstance")
            assert ours_of == assertions(ingested, "dataPlatformInstance")[urn]
            (event,) = receiver.timeseries(urn, "assertionRunEvent")
            result = assertions(ingested, "assertionRunEvent")[urn]
            assert event["result"]["type"] == TESTS[name]
            # To DataHub's dbt source a warning is a success, unless it is told otherwise.
            assert result["result"]["type"] == "SUCCESS"
            assert event["asserteeUrn"] == result["asserteeUrn"]
            assert event["runId"] == run.run_id
            native = event["result"]["nativeResults"]
            assert native["invocation_id"] == result["runId"]


def test_a_test_of_several_nodes_is_the_assertion_on_the_node_that_dagster_checks(
    receiver: Receiver, ingested: Sequence[Mapping[str, Any]]
) -> None:
    ours = our_assertions(receiver)
    (urn,) = [urn for urn, info in ours.items() if "ref_customers_" in json.dumps(info)]
    related = ours[urn]["customProperties"]
    on = {
        info["customProperties"]["dbt_test_upstream_unique_id"]: theirs
        for theirs, info in assertions(ingested).items()
        if info["customProperties"]["dbt_unique_id"] == related["dbt_unique_id"]
    }
    assert on.keys() == {"model.shop.revenue", "model.shop.customers"}
    assert on["model.shop.revenue"] == urn
    assert ours[urn]["customAssertion"]["logic"] == (
        "revenue.customer_id referential integrity to customers.customer_id"
    )


def test_a_dbt_test_is_of_the_assets_table(receiver: Receiver) -> None:
    names = {}
    for urn, info in our_assertions(receiver).items():
        name = info["customProperties"]["check_name"]
        names[name] = info["customAssertion"]["entity"]
        (event,) = receiver.timeseries(urn, "assertionRunEvent")
        assert event["asserteeUrn"] == names[name]
        if name == "accepted_values_stg_orders_state__paid":
            native = event["result"]["nativeResults"]
            assert (native["severity"], native["status"]) == ("WARN", "warn")
            assert event["result"]["unexpectedCount"] == 1
            assert info["customAssertion"]["fields"] == [field(TABLES[ORDERS], "state")]
    assert set(names.values()) == {TABLES[ORDERS], TABLES[REVENUE]}
    assert names.keys() == TESTS.keys()


def test_an_instance_of_dbt_is_part_of_the_assertion(
    run: ShopRun, project: Any, tmp_path: Path
) -> None:
    theirs = assertions(ingestion_of(run, project, tmp_path, platform_instance="eu"))
    options: Any = {"platform_instance_map": {"dbt": "eu"}, "use_dbt_datasets": True}
    with delivered(run, tmp_path, **options) as receiver:
        for urn, info in our_assertions(receiver).items():
            entity = theirs[urn]["customAssertion"]["entity"]
            assert info["customAssertion"]["entity"] == entity
            assert "eu.shop." in entity


def test_without_definitions_only_dbts_own_tests_of_columns_are_its_assertions(
    run: ShopRun, receiver: Receiver, tmp_path: Path
) -> None:
    known = our_assertions(receiver)
    with delivered(run, tmp_path, knows=False) as poor:
        ours = our_assertions(poor)
    shared = {ours[urn]["customProperties"]["check_name"] for urn in ours.keys() & known.keys()}
    assert shared == {name for name in TESTS if name.startswith(("accepted", "not_null", "unique"))}
    own = {
        info["customProperties"]["check_name"]: urn
        for urn, info in ours.items()
        if urn not in known
    }
    assert own.keys() == TESTS.keys() - shared
    key = CheckKey(("stg_orders",), "nobody_is_paid")
    assert own["nobody_is_paid"] == assertion_urn(key, Context())


def test_whoever_comes_second_leaves_the_assertion_of_datahubs_dbt_source(
    run: ShopRun, ingested: Sequence[Mapping[str, Any]], tmp_path: Path
) -> None:
    theirs = assertions(ingested)
    with DataHub(run.instance, tmp_path / "ledger.db", Config()) as datahub:
        emitter = rest_emitter.DatahubRestEmitter(datahub.receiver.url)
        for urn, info in theirs.items():
            emitter.emit_mcp(
                mcp.MetadataChangeProposalWrapper(
                    entityUrn=urn, aspect=schema_classes.AssertionInfoClass.from_obj(dict(info))
                )
            )
        before = {urn: datahub.receiver.aspect(urn, "assertionInfo") for urn in theirs}
        datahub.deliver(run.run_id)
        assert {urn: datahub.receiver.aspect(urn, "assertionInfo") for urn in theirs} == before
        assert set(datahub.receiver.entities("assertion")) == theirs.keys()


def test_the_catalogue_leaves_tests_of_dbt_to_runs_and_knows_other_checks(
    project: Any, run: ShopRun
) -> None:
    def shop() -> Iterator[Any]:
        yield from ()

    assets = dagster_dbt.dbt_assets(manifest=project.manifest_path, project=project)(shop)

    @dg.asset_check(asset=dg.AssetKey("stg_orders"))
    def our_own() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    definitions = dg.Definitions([assets], asset_checks=[our_own])
    snapshot = RepositorySnap.from_def(definitions.get_repository_def())
    # Dagster 1.10 takes the instance, later ones its `auto_materialize_use_sensors`.
    instance: Any = run.instance
    nodes = AssetNodes(RemoteRepository(snapshot, RepositoryHandle.for_test(), instance))
    checks = {check.check.name: check.is_of_dbt for check in nodes.facts(("stg_orders",)).checks}
    assert checks == {
        "accepted_values_stg_orders_state__paid": True,
        "nobody_is_paid": True,
        "not_null_stg_orders_order_id": True,
        "our_own": False,
        "unique_stg_orders_order_id": True,
    }
