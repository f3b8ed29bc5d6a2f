"""What real runs say of assets beside their data: checks, partitions, observations, failures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from deployment import sqlite_yaml
from instances import configured
from receiver import Receiver
from redelivery import DataHub

from datahub_eventlog.config import Config
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.checks import assertion_urn
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CheckKey

if TYPE_CHECKING:
    from dagster import AssetCheckEvaluation  # Dagster 1.10 does not export it
else:
    from dagster._core.events import AssetCheckEvaluation

DAYS = dg.StaticPartitionsDefinition(["fri", "mon", "tue", "wed"])


@dg.asset
def orders() -> Any:
    return dg.MaterializeResult(metadata={"dagster/row_count": 3})


@dg.asset_check(asset=orders, blocking=True, description="Is each paid?", metadata={"of": "shop"})
def paid() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, metadata={"unpaid": 2})


@dg.asset_check(asset=orders)
def fresh() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)


@dg.asset(deps=[orders])
def invoices() -> None: ...


@dg.asset
def broken() -> None:
    raise ValueError("no")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def daily() -> None: ...


@dg.asset(partitions_def=DAYS)
def counted(context: dg.AssetExecutionContext) -> Any:
    return dg.MaterializeResult(
        metadata={"dagster/partition_row_count": len(context.partition_key)}
    )


@dg.observable_source_asset
def outside() -> dg.DataVersion:
    return dg.DataVersion("v7")


ASSETS: list[Any] = [orders, invoices, broken, daily, counted, outside]
REPOSITORY = dg.Definitions(
    ASSETS,
    asset_checks=[paid, fresh],
    jobs=[
        dg.define_asset_job("sell", [orders, invoices]),
        dg.define_asset_job("check", dg.AssetSelection.checks(fresh)),
        dg.define_asset_job("failing", [broken]),
        dg.define_asset_job("range", [daily]),
        dg.define_asset_job("one", [counted]),
        dg.define_asset_job("look", dg.AssetSelection.assets(outside.key)),
    ],
).get_repository_def()


class Scenery:
    """An instance whose runs are delivered one by one."""

    def __init__(self, instance: dg.DagsterInstance, datahub: DataHub) -> None:
        self.instance = instance
        self.datahub = datahub

    @property
    def receiver(self) -> Receiver:
        return self.datahub.receiver

    def run(self, job: str, **options: Any) -> str:
        done = REPOSITORY.get_job(job).execute_in_process(
            instance=self.instance, raise_on_error=False, **options
        )
        self.datahub.deliver(done.run_id)
        return done.run_id

    def series(self, urn: str, name: str) -> list[Any]:
        found = self.receiver.timeseries(urn, name)
        return sorted(found, key=lambda each: each["timestampMillis"])


@pytest.fixture
def scenery(tmp_path: Path) -> Iterator[Scenery]:
    with (
        configured(tmp_path, **sqlite_yaml({"dispatch": "off"})) as instance,
        DataHub(instance, tmp_path / "ledger.db", Config()) as datahub,
    ):
        yield Scenery(instance, datahub)


def asset(name: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:dagster,{name},PROD)"


def check(name: str) -> str:
    return assertion_urn(CheckKey(("orders",), name), Context())


def test_a_blocking_check_and_a_warning_are_assertions_of_what_they_judged(
    scenery: Scenery,
) -> None:
    run_id = scenery.run("sell")
    (blocked,) = scenery.series(check("paid"), "assertionRunEvent")
    (warned,) = scenery.series(check("fresh"), "assertionRunEvent")
    results = [each["result"] for each in (blocked, warned)]
    assert [each["type"] for each in results] == ["FAILURE", "FAILURE"]
    assert [each["nativeResults"]["severity"] for each in results] == ["ERROR", "WARN"]
    native = results[0]["nativeResults"]
    assert native["unpaid"] == "2"
    assert native["target_run_id"] == run_id
    info = scenery.receiver.aspect(check("paid"), "assertionInfo") or {}
    assert info["description"] == "Is each paid?"
    assert info["customProperties"]["blocking"] == "true"
    assert info["customProperties"]["of"] == "shop"
    assert asset("invoices") not in scenery.receiver.entities("dataset")


def test_a_check_in_a_run_of_its_own_and_one_without_a_run_add_their_results(
    scenery: Scenery,
) -> None:
    made = scenery.run("sell")
    info = scenery.receiver.aspect(check("fresh"), "assertionInfo")
    own = scenery.run("check")
    by_hand = AssetCheckEvaluation(orders.key, "fresh", passed=True, metadata={"by": "hand"})
    scenery.instance.report_runless_asset_event(by_hand)
    scenery.datahub.deliver_runless()
    events = scenery.series(check("fresh"), "assertionRunEvent")
    assert [each["result"]["type"] for each in events] == ["FAILURE", "FAILURE", "SUCCESS"]
    native = [each["result"]["nativeResults"] for each in events]
    assert [each.get("target_run_id") for each in native[:2]] == [made, made]
    assert native[2]["by"] == "hand"
    assert [each["runId"] for each in events[:2]] == [made, own]
    assert scenery.receiver.aspect(check("fresh"), "assertionInfo") == info


def test_a_range_of_partitions_in_one_run_is_one_operation_of_one_asset(scenery: Scenery) -> None:
    tags = {
        "dagster/asset_partition_range_start": "mon",
        "dagster/asset_partition_range_end": "wed",
    }
    scenery.run("range", tags=tags)
    (operation,) = scenery.series(asset("daily"), "operation")
    assert operation["partitionSpec"]["partition"] == "mon...wed"
    assert operation["customProperties"]["partitions"] == "mon, tue, wed"
    assert scenery.receiver.entities("dataset") == [asset("daily")]


def test_each_partition_has_its_own_operation_and_row_count(scenery: Scenery) -> None:
    for day in ("mon", "tue"):
        scenery.run("one", partition_key=day)
    operations = scenery.series(asset("counted"), "operation")
    profiles = scenery.series(asset("counted"), "datasetProfile")
    for found in (operations, profiles):
        assert [each["partitionSpec"]["partition"] for each in found] == ["mon", "tue"]
    assert [each["rowCount"] for each in profiles] == [3, 3]


def test_an_observation_is_an_operation_with_the_version_of_the_data(scenery: Scenery) -> None:
    scenery.run("look")
    (operation,) = scenery.series(asset("outside"), "operation")
    assert operation["customOperationType"] == "OBSERVATION"
    assert operation["customProperties"]["data_version"] == "v7"


def test_a_failed_materialisation_is_a_failed_run_of_an_asset_that_is_there(
    scenery: Scenery,
) -> None:
    run_id = scenery.run("failing")
    step = urns.instance_urn(f"{run_id}.prod/broken", Context())
    output = scenery.receiver.aspect(step, "dataProcessInstanceOutput") or {}
    assert asset("broken") in json.dumps(output)
    *_, end = scenery.series(step, "dataProcessInstanceRunEvent")
    assert end["result"]["type"] == "FAILURE"
    assert (scenery.receiver.aspect(asset("broken"), "status") or {})["removed"] is False
    assert scenery.series(asset("broken"), "operation") == []
