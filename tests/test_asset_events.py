"""What real runs say of assets beside their data: checks, partitions, observations, failures."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from catalog import edges, unordered
from deployment import sqlite_yaml
from instances import configured
from receiver import Receiver
from redelivery import DataHub

from datahub_eventlog.config import Config
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.asset_checks import assertion_urn
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CheckKey

if TYPE_CHECKING:
    from dagster import AssetCheckEvaluation  # Dagster 1.10 does not export it
else:
    from dagster._core.events import AssetCheckEvaluation

MODEL_TABLE = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.model,PROD)"
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
def up() -> None: ...


@dg.asset(deps=[up], description="The model.", metadata={"datahub.outputs": [MODEL_TABLE]})
def model() -> None:
    raise ValueError("no")


@dg.asset(deps=[model], description="The report.")
def report() -> None: ...


@dg.multi_asset(
    specs=[
        dg.AssetSpec("stage", deps=["seed"]),
        dg.AssetSpec("facts", deps=["stage"]),
        dg.AssetSpec(
            "mart",
            deps=["facts"],
            description="All sales.",
            owners=["team:shop"],
            group_name="sales",
            kinds={"postgres"},
            metadata={
                "layer": "gold",
                "dagster/table_name": "shop.mart",
                "dagster/column_schema": dg.TableSchema([dg.TableColumn("id", "int")]),
            },
        ),
        dg.AssetSpec("report_of_mart", deps=["mart"]),
    ],
)
def build() -> Iterator[dg.MaterializeResult[None]]:
    """As dbt does: models one after the other in one step, until one fails."""
    yield dg.MaterializeResult("stage")
    raise ValueError("no")


@dg.multi_asset(
    specs=[dg.AssetSpec("half", deps=["seed"]), dg.AssetSpec("other_half", deps=["seed"])],
    retry_policy=dg.RetryPolicy(max_retries=1),
)
def stubborn(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    if context.retry_number == 0:
        yield dg.MaterializeResult("half")
    raise ValueError("no")


@dg.asset(
    partitions_def=dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-03-01"),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def by_day() -> None: ...


@dg.op
def log_many(context: dg.OpExecutionContext) -> None:
    for number in range(300):
        context.log_event(dg.AssetMaterialization("parts", partition=f"k{number}"))


@dg.job
def many() -> None:
    log_many()


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


ASSETS: list[Any] = [
    *(orders, invoices, daily, counted, outside),
    *(up, model, report, build, stubborn, by_day),
]
REPOSITORY = dg.Definitions(
    ASSETS,
    asset_checks=[paid, fresh],
    jobs=[
        dg.define_asset_job("sell", [orders, invoices]),
        dg.define_asset_job("check", dg.AssetSelection.checks(fresh)),
        dg.define_asset_job("failing", [up, model, report]),
        dg.define_asset_job("dbt", [build]),
        dg.define_asset_job("stubborn", [stubborn]),
        dg.define_asset_job("days", [by_day]),
        many,
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
        actual = self.receiver.timeseries(urn, name)
        return sorted(actual, key=lambda each: each["timestampMillis"])


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
    assert [result["type"] for result in results] == ["FAILURE", "FAILURE"]
    assert [result["nativeResults"]["severity"] for result in results] == ["ERROR", "WARN"]
    native = results[0]["nativeResults"]
    assert native["unpaid"] == "2"
    assert native["target_run_id"] == run_id
    info = scenery.receiver.aspect(check("paid"), "assertionInfo") or {}
    assert info["description"] == "Is each paid?"
    assert info["customProperties"]["blocking"] == "true"
    assert info["customProperties"]["of"] == "shop"
    (unmade,) = scenery.series(asset("invoices"), "operation")
    assert unmade["customProperties"]["reason"] == "UPSTREAM_FAILED_TO_MATERIALIZE"


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
    assert [event["result"]["type"] for event in events] == ["FAILURE", "FAILURE", "SUCCESS"]
    native = [event["result"]["nativeResults"] for event in events]
    assert [each.get("target_run_id") for each in native[:2]] == [made, made]
    assert native[2]["by"] == "hand"
    assert [event["runId"] for event in events[:2]] == [made, own]
    assert scenery.receiver.aspect(check("fresh"), "assertionInfo") == info


def test_a_range_of_partitions_in_one_run_is_one_operation_of_one_asset(scenery: Scenery) -> None:
    tags = {
        "dagster/asset_partition_range_start": "mon",
        "dagster/asset_partition_range_end": "wed",
    }
    scenery.run("range", tags=tags)
    (operation,) = scenery.series(asset("daily"), "operation")
    assert operation["partitionSpec"]["partition"] == "3 partitions: mon, tue, wed"
    assert operation["customProperties"]["partitions"] == "mon, tue, wed"
    assert scenery.receiver.entities("dataset") == [asset("daily")]


def test_each_partition_has_its_own_operation_and_row_count(scenery: Scenery) -> None:
    for day in ("mon", "tue"):
        scenery.run("one", partition_key=day)
    operations = scenery.series(asset("counted"), "operation")
    profiles = scenery.series(asset("counted"), "datasetProfile")
    for actual in (operations, profiles):
        assert [each["partitionSpec"]["partition"] for each in actual] == ["mon", "tue"]
    assert [profile["rowCount"] for profile in profiles] == [3, 3]


def failures(scenery: Scenery, *names: str) -> dict[str, tuple[str, str]]:
    """The reasons and messages of the assets' failures, whose latest updates they leave alone."""
    found = {}
    for name in names:
        for operation in scenery.series(asset(name), "operation"):
            if operation.get("customOperationType") == "MATERIALIZATION_FAILED":
                assert operation["lastUpdatedTimestamp"] == 0
                own = operation["customProperties"]
                found[name] = own["reason"], own["message"]
    return found


def test_what_a_run_failed_to_make_is_an_operation_with_the_reason(scenery: Scenery) -> None:
    scenery.run("failing")
    assert failures(scenery, "up", "model", "report") == {
        "model": ("FAILED_TO_MATERIALIZE", "ValueError: no"),
        "report": ("UPSTREAM_FAILED_TO_MATERIALIZE", "Step model failed: ValueError: no"),
    }


def test_an_observation_is_an_operation_with_the_version_of_the_data(scenery: Scenery) -> None:
    scenery.run("look")
    (operation,) = scenery.series(asset("outside"), "operation")
    assert operation["customOperationType"] == "OBSERVATION"
    assert operation["customProperties"]["data_version"] == "v7"


def test_a_range_of_days_is_one_label(scenery: Scenery) -> None:
    tags = {
        "dagster/asset_partition_range_start": "2024-01-30",
        "dagster/asset_partition_range_end": "2024-02-02",
    }
    scenery.run("days", tags=tags)
    (operation,) = scenery.series(asset("by_day"), "operation")
    assert operation["partitionSpec"]["partition"] == "2024-01-30...2024-02-02"
    assert operation["customProperties"]["partition_count"] == "4"


def test_many_partitions_of_one_op_are_counted_and_only_some_named(scenery: Scenery) -> None:
    scenery.run("many")
    (operation,) = scenery.series(asset("parts"), "operation")
    assert operation["partitionSpec"]["partition"] == "300 partitions: k0, k1, k2, ..."
    assert operation["customProperties"]["partitions"] == "300 partitions: k0, k1, k2, ..."


# Steps and assets that came to nothing


def ports(scenery: Scenery, run_id: str, name: str) -> tuple[list[str], list[str]]:
    """What the run of a step read and wrote."""
    step = urns.instance_urn(f"{run_id}.prod/{name}", Context())
    inputs = scenery.receiver.aspect(step, "dataProcessInstanceInput") or {"inputs": []}
    outputs = scenery.receiver.aspect(step, "dataProcessInstanceOutput") or {"outputs": []}
    return inputs["inputs"], outputs["outputs"]


def op_edges(scenery: Scenery, job: str, name: str) -> tuple[list[str], list[str]]:
    flow = f"urn:li:dataFlow:(dagster,prod/{job},PROD)"
    actual = scenery.receiver.aspect(f"urn:li:dataJob:({flow},prod/{name})", "dataJobInputOutput")
    return edges(actual, "inputDataset"), edges(actual, "outputDataset")


def test_a_failed_step_read_its_inputs_and_wrote_nothing_and_its_op_keeps_its_edges(
    scenery: Scenery,
) -> None:
    run_id = scenery.run("failing")
    assert ports(scenery, run_id, "up") == ([], [asset("up")])
    assert ports(scenery, run_id, "model") == ([asset("up")], [])
    step = urns.instance_urn(f"{run_id}.prod/model", Context())
    *_, end = scenery.series(step, "dataProcessInstanceRunEvent")
    assert end["result"]["type"] == "FAILURE"
    never = urns.instance_urn(f"{run_id}.prod/report", Context())
    assert never not in scenery.receiver.entities("dataProcessInstance")
    assert op_edges(scenery, "failing", "model") == ([asset("up")], [asset("model"), MODEL_TABLE])
    assert op_edges(scenery, "failing", "report") == ([asset("model")], [asset("report")])
    (operation,) = scenery.series(asset("model"), "operation")
    assert operation["customOperationType"] == "MATERIALIZATION_FAILED"


def test_a_step_that_made_some_of_its_assets_before_it_failed_wrote_those(
    scenery: Scenery,
) -> None:
    run_id = scenery.run("dbt")
    assert ports(scenery, run_id, "build") == ([asset("seed")], [asset("stage")])
    names = ["facts", "mart", "report_of_mart", "stage"]
    assert op_edges(scenery, "dbt", "build") == ([asset("seed")], [asset(name) for name in names])


def test_a_step_that_is_tried_again_wrote_what_any_try_wrote(scenery: Scenery) -> None:
    run_id = scenery.run("stubborn")
    assert ports(scenery, run_id, "stubborn") == ([asset("seed")], [asset("half")])


def test_assets_that_a_run_did_not_get_to_make_have_what_their_definitions_say(
    scenery: Scenery,
) -> None:
    scenery.run("dbt")
    facts = scenery.receiver.state()[asset("mart")]
    properties = facts["datasetProperties"]
    assert (properties["name"], properties["description"]) == ("mart", "All sales.")
    assert properties["customProperties"] == {
        "dagster/asset_key": "mart",
        "dagster/group_name": "sales",
        "dagster/kinds": "postgres",
        "dagster/table_name": "shop.mart",
        "layer": "gold",
    }
    (column,) = facts["schemaMetadata"]["fields"]
    assert (column["fieldPath"], column["nativeDataType"]) == ("id", "int")
    assert [upstream["dataset"] for upstream in facts["upstreamLineage"]["upstreams"]] == [
        asset("facts")
    ]
    assert [owner["owner"] for owner in facts["ownership"]["owners"]] == ["urn:li:corpGroup:shop"]
    assert "urn:li:tag:asset_group:sales" in str(facts["globalTags"])
    assert facts["browsePathsV2"]["path"] == [{"id": "sales"}]
    (table,) = facts["siblings"]["siblings"]
    assert table == MODEL_TABLE.replace("shop.model", "shop.mart")
    assert table not in scenery.receiver.state()
    assert failures(scenery, "mart").keys() == {"mart"}
    for name in ("facts", "report_of_mart"):
        actual = scenery.receiver.aspect(asset(name), "datasetProperties") or {}
        assert actual["name"] == name


def test_an_asset_whose_step_never_began_has_the_facts_of_its_definition(scenery: Scenery) -> None:
    scenery.run("failing")
    for name in ("model", "report"):
        properties = scenery.receiver.aspect(asset(name), "datasetProperties") or {}
        assert properties["description"] == f"The {name}."


GROWING_TABLE = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.growing,PROD)"


def grow(
    instance: dg.DagsterInstance, version: str, *, fails: bool = False, **metadata: str
) -> str:
    """A run of an asset whose definition says things of which a run says something else."""
    columns = [dg.TableColumn("id", "int", description=f"The id, {version}.")]
    declared = {"source": f"planned, {version}", "dagster/column_schema": dg.TableSchema(columns)}

    @dg.asset(
        deps=["seed"],
        description=f"Growing, {version}.",
        metadata={**declared, f"only_{version}": "yes", **metadata},
    )
    def growing() -> dg.MaterializeResult[None]:
        if fails:
            raise dg.Failure("on purpose")
        there = dg.TableSchema([*columns, dg.TableColumn("day", "date")])
        metadata: dict[str, Any] = {
            "source": f"real, {version}",
            "rows": 3,
            "dagster/column_schema": there,
            "Query": "INSERT INTO shop.growing SELECT id FROM shop.raw",
            "datahub_urn": GROWING_TABLE,
        }
        return dg.MaterializeResult(metadata=metadata)

    return dg.materialize([growing], instance=instance, raise_on_error=False).run_id


def grown(scenery: Scenery) -> Any:
    return unordered(scenery.receiver.state()[asset("growing")])


def test_a_definition_never_takes_away_what_a_run_has_sent(scenery: Scenery) -> None:
    scenery.datahub.deliver(grow(scenery.instance, "one"))
    before = grown(scenery)
    scenery.datahub.deliver(grow(scenery.instance, "two", fails=True))
    after = grown(scenery)
    assert after["datasetProperties"]["description"] == "Growing, two."
    texts = after["datasetProperties"]["customProperties"]
    assert (texts["source"], texts["rows"]) == ("real, one", "3")
    kept = {"schemaMetadata", "upstreamLineage", "siblings"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert max(each["lastUpdatedTimestamp"] for each in after["operation"]) == max(
        each["lastUpdatedTimestamp"] for each in before["operation"]
    )


def test_a_table_that_only_a_definition_names_is_left_alone(scenery: Scenery) -> None:
    defined = GROWING_TABLE.replace("shop.growing", "shop.defined")
    scenery.datahub.deliver(grow(scenery.instance, "one", datahub_urn=defined))
    before = scenery.receiver.state()
    failed = grow(scenery.instance, "two", fails=True, datahub_urn=defined)
    scenery.datahub.deliver(failed)
    after = scenery.receiver.state()
    assert defined not in after
    assert asset("growing") in str(after[GROWING_TABLE]["upstreamLineage"])
    assert after[GROWING_TABLE] == before[GROWING_TABLE]
    assert after[asset("growing")]["siblings"] == before[asset("growing")]["siblings"]


def test_in_whatever_order_they_arrive_a_definition_and_a_run_end_the_same(
    tmp_path: Path,
) -> None:
    states = []
    with configured(tmp_path, **sqlite_yaml({"dispatch": "off"})) as instance:
        runs = [
            grow(instance, "one", fails=True),
            grow(instance, "two"),
            grow(instance, "three", fails=True),
        ]
        for number, order in enumerate(itertools.permutations(runs)):
            with DataHub(instance, tmp_path / f"ledger-{number}", Config()) as datahub:
                for run_id in order:
                    datahub.deliver(run_id)
                states.append(unordered(datahub.receiver.state()[asset("growing")]))
    assert states == states[:1] * 6
    properties = states[0]["datasetProperties"]
    assert properties["description"] == "Growing, three."
    assert properties["customProperties"]["source"] == "real, two"
    assert "only_one" not in properties["customProperties"]


def test_of_definitions_of_what_no_run_made_the_newest_counts(scenery: Scenery) -> None:
    old, new = (grow(scenery.instance, each, fails=True) for each in ("one", "two"))
    scenery.datahub.deliver(new)
    scenery.datahub.deliver(old)
    properties = grown(scenery)["datasetProperties"]
    assert properties["description"] == "Growing, two."
    assert properties["customProperties"]["source"] == "planned, two"
    assert "only_one" not in properties["customProperties"]


def test_a_definition_adds_to_a_run_that_did_not_know_it(tmp_path: Path) -> None:
    states = []
    with configured(tmp_path, **sqlite_yaml({"dispatch": "off"})) as instance:
        old, failed = grow(instance, "one"), grow(instance, "two", fails=True)
        for number, order in enumerate(itertools.permutations([old, failed])):
            with DataHub(instance, tmp_path / f"ledger-{number}", Config()) as datahub:
                for run_id in order:
                    datahub.deliver(run_id, knows=run_id != old)
                states.append(unordered(datahub.receiver.state()[asset("growing")]))
    assert states[0] == states[1]
    properties = states[0]["datasetProperties"]
    assert properties["description"] == "Growing, two."
    assert properties["customProperties"]["rows"] == "3"
    assert properties["customProperties"]["only_two"] == "yes"
    fields = [field["fieldPath"] for field in states[0]["schemaMetadata"]["fields"]]
    assert sorted(fields) == ["day", "id"]
    upstreams = [upstream["dataset"] for upstream in states[0]["upstreamLineage"]["upstreams"]]
    assert asset("seed") in upstreams
    assert MODEL_TABLE.replace("shop.model", "shop.raw") in upstreams
