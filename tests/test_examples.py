"""The examples, run as their first lines say, and what they deliver."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from deployment import DEADLINE, Deployment

FOLDER = Path(__file__).parent.parent / "examples"
FLOW = "urn:li:dataFlow:(dagster,op_job.py/{},PROD)"


def dataset(platform: str, name: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:{platform},{name},PROD)"


class Delivered:
    """What an example's run left in its file."""

    def __init__(self, proposals: list[dict[str, Any]]) -> None:
        self._proposals = proposals

    def aspect(self, urn: str, name: str) -> Any:
        """The value of the last proposal for that aspect."""
        found = [
            each["aspect"]["json"]
            for each in self._proposals
            if (each["entityUrn"], each["aspectName"]) == (urn, name)
        ]
        assert found, f"{urn} {name} is not among {sorted(self.urns())}"
        return found[-1]

    def urns(self) -> set[str]:
        return {each["entityUrn"] for each in self._proposals}

    def upstream(self, urn: str) -> set[str]:
        return {each["dataset"] for each in self.aspect(urn, "upstreamLineage")["upstreams"]}


def commands(file: str) -> list[list[str]]:
    """The commands in an example's docstring, as words."""
    lines = (FOLDER / file).read_text().split('"""')[1].splitlines()
    return [line.split() for line in lines if line.startswith("    ")]


@pytest.fixture
def home(tmp_path: Path) -> Deployment:
    folder = tmp_path / "home"
    shutil.copytree(FOLDER, folder / "examples")
    environment = {
        "METADATA_FOLDER": str(folder / "metadata"),
        "DATAHUB_EVENTLOG_EXIT_TIMEOUT": str(DEADLINE),  # for a run that delivers itself
    }
    deployment = Deployment(folder, {}, environment)
    shutil.copy(FOLDER / "dagster.yaml", folder)
    return deployment


def run(home: Deployment, file: str) -> Delivered:
    """Do what the example's docstring says, and read what arrived."""
    environment = dict(home.environment)
    for words in commands(file):
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            environment[name] = value
        else:
            home.environment = environment
            home.run(*(each.strip("'") for each in words))
    (written,) = (home.home / "metadata").glob("*.json")
    assert home.status()["rejected"] == []
    return Delivered(json.loads(written.read_text()))


@pytest.mark.long
def test_the_job_of_ops_says_what_it_reads_and_writes(home: Deployment) -> None:
    found = run(home, "op_job.py")
    flow = FLOW.format("load_revenue")
    assert found.aspect(flow, "dataFlowInfo")["description"] == "Yesterday's orders, added up."
    read = found.aspect(f"urn:li:dataJob:({flow},op_job.py/read_orders)", "dataJobInputOutput")
    write = found.aspect(f"urn:li:dataJob:({flow},op_job.py/write_revenue)", "dataJobInputOutput")
    assert [each["destinationUrn"] for each in read["inputDatasetEdges"]] == [
        dataset("postgres", "shop.public.orders")
    ]
    assert [each["destinationUrn"] for each in write["outputDatasetEdges"]] == [
        dataset("snowflake", "dwh.marts.revenue")
    ]


def test_the_assets_have_everything_that_their_example_promises(home: Deployment) -> None:
    found = run(home, "assets.py")
    orders, revenue = dataset("dagster", "orders"), dataset("dagster", "revenue")
    assert [each["fieldPath"] for each in found.aspect(orders, "schemaMetadata")["fields"]] == [
        "id",
        "amount",
    ]
    owners = json.dumps(found.aspect(orders, "ownership"))  # a patch: they are added
    assert "urn:li:corpGroup:data" in owners
    assert "urn:li:corpuser:ada@example.com" in owners
    assert found.aspect(orders, "datasetProfile")["rowCount"] == 3
    assert orders in found.upstream(revenue)
    assert found.upstream(dataset("dagster", "report")) == {revenue}
    (sibling,) = found.aspect(orders, "siblings")["siblings"]
    assert sibling == dataset("snowflake", "dwh.raw.orders")
    columns = found.aspect(revenue, "upstreamLineage")["fineGrainedLineages"]
    assert any("amount" in up for each in columns for up in each["upstreams"])
    (job,) = {urn for urn in found.urns() if urn.endswith("/orders)")}
    edges = found.aspect(job, "dataJobInputOutput")["inputDatasetEdges"]
    assert dataset("s3", "acme-landing/orders") in {each["destinationUrn"] for each in edges}
    (check,) = {urn for urn in found.urns() if urn.startswith("urn:li:assertion:")}
    assert found.aspect(check, "assertionRunEvent")["result"]["type"] == "SUCCESS"


@pytest.mark.long
def test_the_extractors_lineage_arrives(home: Deployment) -> None:
    found = run(home, "lineage_extractor.py")
    (job,) = {urn for urn in found.urns() if urn.endswith("/invoices)")}
    edges = found.aspect(job, "dataJobInputOutput")
    assert {each["destinationUrn"] for each in edges["inputDatasetEdges"]} == {
        dataset("mysql", "billing.invoices"),
        dataset("mysql", "billing.customers"),
    }
    assert dataset("dagster", "invoices") in {
        each["destinationUrn"] for each in edges["outputDatasetEdges"]
    }


@pytest.mark.long
def test_the_converter_names_the_tables(home: Deployment) -> None:
    found = run(home, "urn_converter.py")
    table = dataset("bigquery", "acme-dwh.sales.orders")
    assert found.aspect(dataset("dagster", "warehouse.sales.orders"), "siblings")["siblings"] == [
        table
    ]
    assert not any("bigquery" in urn and "numbers" in urn for urn in found.urns())
    assert dataset("dagster", "scratch.numbers") in found.urns()


def test_every_example_is_run_by_a_test() -> None:
    tested = Path(__file__).read_text()
    files = [each.name for each in FOLDER.glob("*.py")]
    assert files
    assert [each for each in files if f'run(home, "{each}")' not in tested] == []
