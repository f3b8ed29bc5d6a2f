"""The real dagster-dbt on DuckDB, beside DataHub's own dbt ingestion of the same project.

`make dbt` runs it in a virtual environment of its own.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deployment import sqlite_yaml
from instances import configured
from receiver import Receiver
from redelivery import DataHub

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


@pytest.fixture(scope="module")
def receiver(project: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """DataHub after `dbt build` ran in Dagster, with the columns fetched."""
    resource = dagster_dbt.DbtCliResource(project_dir=project)

    def shop(context: dg.AssetExecutionContext) -> Iterator[Any]:
        built = resource.cli(["build"], context=context).stream()
        yield from built.fetch_row_counts().fetch_column_metadata()

    assets = dagster_dbt.dbt_assets(manifest=project.manifest_path, project=project)(shop)
    home = tmp_path_factory.mktemp("home")
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        run_id = dg.materialize([assets], instance=instance).run_id
        with DataHub(
            instance, tmp_path_factory.mktemp("ledger") / "ledger.db", Config()
        ) as datahub:
            datahub.deliver(run_id)
            yield datahub.receiver


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


def tables_of_datahub(project: Any, path: Path) -> set[str]:
    """The tables that DataHub's own dbt source speaks of, given the project's manifest."""
    (path / "catalog.json").write_text(json.dumps({"metadata": {}, "nodes": {}, "sources": {}}))
    source = {
        "manifest_path": str(project.manifest_path),
        "catalog_path": str(path / "catalog.json"),
        "target_platform": "duckdb",
        "write_semantics": "OVERRIDE",  # needs no DataHub to read from
    }
    sink = {"filename": str(path / "dbt.json")}
    recipe = {
        "source": {"type": "dbt", "config": source},
        "sink": {"type": "file", "config": sink},
    }
    ingestion = pipeline.Pipeline.create(recipe, report_to=None)
    ingestion.run()
    ingestion.raise_from_status()
    return set(re.findall(TABLE, (path / "dbt.json").read_text()))


def test_an_asset_of_dbt_is_the_table_that_datahubs_dbt_ingestion_knows(
    receiver: Receiver, project: Any, tmp_path: Path
) -> None:
    found = {each: aspect(receiver, each, "siblings")["siblings"] for each in TABLES}
    assert found == {each: [urn] for each, urn in TABLES.items()}
    ours = {urn for urn in receiver.entities("dataset") if re.fullmatch(TABLE, urn)}
    assert ours == set(TABLES.values())
    assert tables_of_datahub(project, tmp_path) == {*ours, SOURCE}


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


def test_a_dbt_test_is_an_assertion_with_its_severity(receiver: Receiver) -> None:
    names = {"unique_stg_orders_order_id": "SUCCESS"}
    names["accepted_values_stg_orders_state__paid"] = "FAILURE"
    for name, result in names.items():
        urn = assertion_urn(CheckKey(("stg_orders",), name), Context())
        assert aspect(receiver, urn, "assertionInfo")["customAssertion"]["entity"] == ORDERS
        (event,) = receiver.timeseries(urn, "assertionRunEvent")
        assert event["result"]["type"] == result
    native = event["result"]["nativeResults"]
    assert (native["severity"], native["dagster_dbt/failed_row_count"]) == ("WARN", "1")
