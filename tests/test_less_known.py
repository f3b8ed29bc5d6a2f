"""Runs of which nobody took the definitions: old ones, and those of an older package."""

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

TABLE = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.orders,PROD)"
ORDERS = "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)"
DECLARED = dg.TableSchema([dg.TableColumn("id", "?", description="The key.")])
FOUND = dg.TableSchema([dg.TableColumn("id", "BIGINT"), dg.TableColumn("amount", "DOUBLE")])


@dg.asset(
    deps=["raw"],
    group_name="sales",
    owners=["ana@shop.io"],
    tags={"domain": "retail"},
    kinds={"snowflake"},
    description="All orders.",
    code_version="1",
    metadata={
        "dagster/table_name": "db.shop.orders",
        "dagster/column_schema": DECLARED,
        "datahub.inputs": [TABLE],
    },
)
def orders() -> Any:
    return dg.MaterializeResult(metadata={"dagster/column_schema": FOUND, "rows": 3})


@dg.asset_check(asset=orders, description="Are there any?", blocking=True)
def some() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


JOB = dg.define_asset_job("daily", [orders], description="Each morning.", tags={"team": "shop"})


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[dg.DagsterInstance, list[str]]]:
    defs = dg.Definitions([orders], asset_checks=[some], jobs=[JOB])
    job = defs.get_repository_def().get_job("daily")
    storage = sqlite_yaml({"dispatch": "off"})
    with configured(tmp_path_factory.mktemp("home"), **storage) as instance:
        ids = [job.execute_in_process(instance=instance).run_id for _ in range(2)]
        yield instance, ids


def known(receiver: Receiver) -> dict[str, Any]:
    """What DataHub has, without the runs themselves and what happened."""
    happened = {"operation", "assertionRunEvent"}
    return {
        urn: {name: value for name, value in aspects.items() if name not in happened}
        for urn, aspects in receiver.state().items()
        if not urn.startswith("urn:li:dataProcessInstance:")
    }


def test_a_run_of_unknown_definitions_takes_nothing_away_before_or_after_one_that_knows_them(
    runs: tuple[dg.DagsterInstance, list[str]], tmp_path: Path
) -> None:
    instance, (first, second) = runs
    with DataHub(instance, tmp_path / "after.db", Config()) as datahub:
        datahub.deliver(first)
        before = known(datahub.receiver)
        datahub.deliver(second, knows=False)
        assert known(datahub.receiver) == before
    assert {"ownership", "globalTags", "siblings", "schemaMetadata"} <= before[ORDERS].keys()
    upstreams = before[ORDERS]["upstreamLineage"]["upstreams"]
    assert TABLE in [each["dataset"] for each in upstreams]
    with DataHub(instance, tmp_path / "before.db", Config()) as datahub:
        datahub.deliver(first, knows=False)
        less = known(datahub.receiver)
        datahub.deliver(second)
        assert known(datahub.receiver) == before
    assert "ownership" not in less[ORDERS]
