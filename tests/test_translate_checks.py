from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from catalog import Catalog
from datahub.emitter import mce_builder
from datahub.metadata import schema_classes
from hypothesis import given
from hypothesis import strategies as st
from logs import (
    RUN_ID,
    T0,
    asset_facts,
    asset_key,
    event,
    facts,
    failed,
    log,
    op,
    prefixes,
    ran,
    step,
    succeeded,
    text,
)

from datahub_eventlog.config import Config, Pattern
from datahub_eventlog.metadata import metadata_of
from datahub_eventlog.translate.asset_checks import assertion_urn, check_proposals
from datahub_eventlog.translate.catalog import catalog_proposals, defined_urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import (
    CatalogJob,
    CatalogPart,
    Change,
    CheckFacts,
    CheckKey,
    CodeRepository,
    DbtTest,
    Definitions,
    Evaluation,
    Event,
    Job,
    Metadatum,
    Proposal,
    RunLog,
)

CHECK = CheckKey(("shop", "orders"), "no_nulls")
ORDERS = "urn:li:dataset:(urn:li:dataPlatform:dagster,shop.orders,PROD)"
KNOWN = facts(
    asset_facts(
        "shop/orders",
        checks=(CheckFacts(CHECK, "Every id is there.", blocking=True, metadata={"n": text("1")}),),
    )
)


def evaluated(passed: bool = True, check: CheckKey = CHECK, **more: Any) -> Event:  # noqa: FBT001, FBT002
    return event("ASSET_CHECK_EVALUATION", "orders", Evaluation(check, passed, **more))


def whole_of(*events: Event, **more: Any) -> RunLog:
    return log(*succeeded(*ran("orders", *events)), **more)


def delivered(whole: RunLog, **options: Any) -> Catalog:
    return Catalog().deliver(check_proposals(whole, Context(Config(**options))))


def urn(check: CheckKey = CHECK, **options: Any) -> str:
    return assertion_urn(check, Context(Config(**options)))


def results(catalog: Catalog, check: CheckKey = CHECK) -> list[Mapping[str, Any]]:
    actual = catalog.series.get((urn(check), "assertionRunEvent"), {})
    return sorted(actual.values(), key=lambda each: each["timestampMillis"])


def test_a_check_is_an_assertion_about_its_asset() -> None:
    whole = whole_of(evaluated(), definitions=KNOWN)
    info = delivered(whole, dagster_url="http://ui").of(urn(), "assertionInfo")
    assert info["type"] == "CUSTOM"
    assert info["customAssertion"]["entity"] == ORDERS
    assert info["source"]["type"] == "EXTERNAL"
    assert info["description"] == "Every id is there."
    assert info["externalUrl"] == "http://ui/assets/shop/orders?view=checks&checkDetail=no_nulls"
    properties = {"blocking": "true", "check_name": "no_nulls", "n": "1"}
    assert info["customProperties"].items() >= {"asset_key": "shop/orders", **properties}.items()


def test_the_assertion_depends_on_asset_check_environment_and_instance() -> None:
    every = {
        urn(),
        urn(replace(CHECK, name="other")),
        urn(replace(CHECK, asset_key=("orders",))),
        urn(env="DEV"),
        urn(platform_instance="eu"),
    }
    assert len(every) == 5
    assert urn() == urn(CheckKey(("shop", "orders"), "no_nulls"))


def test_every_evaluation_is_a_result() -> None:
    whole = whole_of(evaluated(), evaluated(passed=False), evaluated())
    evaluations = results(delivered(whole))
    assert [evaluation["result"]["type"] for evaluation in evaluations] == [
        "SUCCESS",
        "FAILURE",
        "SUCCESS",
    ]
    assert {evaluation["asserteeUrn"] for evaluation in evaluations} == {ORDERS}
    assert {evaluation["runId"] for evaluation in evaluations} == {RUN_ID}
    assert [evaluation["timestampMillis"] for evaluation in evaluations] == [
        int(T0 * 1000) + 1000 * offset for offset in (2, 3, 4)
    ]


def test_a_failure_has_its_severity_and_a_success_has_none() -> None:
    whole = whole_of(evaluated(passed=False, severity="WARN"), evaluated(passed=False), evaluated())
    actual = [result["result"] for result in results(delivered(whole))]
    has_word = hasattr(schema_classes, "AssertionResultSeverityClass")
    expected = ["LOW", "HIGH", None] if has_word else [None] * 3
    assert [each.get("severity") for each in actual] == expected
    assert [each["nativeResults"]["severity"] for each in actual] == ["WARN", "ERROR", "ERROR"]


def test_a_result_has_its_metadata_partition_and_what_it_judged() -> None:
    evaluation = evaluated(
        passed=False,
        partition="2024-01-01",
        description="3 are missing",
        blocking=True,
        target_run_id="before",
        target_time=T0,
        metadata={"missing": Metadatum("int", 3), "where": Metadatum("json", {"a": [1]})},
    )
    (actual,) = results(delivered(whole_of(evaluation), dagster_url="http://ui"))
    assert actual["partitionSpec"] == {"partition": "2024-01-01", "type": "PARTITION"}
    assert actual["result"]["externalUrl"] == f"http://ui/runs/{RUN_ID}"
    assert actual["result"]["nativeResults"] == {
        "blocking": "true",
        "description": "3 are missing",
        "missing": "3",
        "partition": "2024-01-01",
        "severity": "ERROR",
        "target_materialized_at": "2023-11-14T22:13:20+00:00",
        "target_run_id": "before",
        "where": '{"a": [1]}',
    }


def test_a_check_whose_step_failed_has_an_error() -> None:
    other = CheckKey(("shop", "orders"), "said_something")
    steps = [
        step("orders", check="shop/orders:no_nulls"),
        step("other", check="shop/orders:said_something"),
    ]
    stated = replace(evaluated(check=other), step_key="other")
    whole = log(*failed("orders", message="ValueError: no"), *failed("other", stated), steps=steps)
    catalog = delivered(whole)
    (evaluation,) = results(catalog)
    assert evaluation["result"]["type"] == "ERROR"
    assert evaluation["result"]["error"] == {
        "properties": {"message": "ValueError: no"},
        "type": "UNKNOWN_ERROR",
    }
    assert [result["result"]["type"] for result in results(catalog, other)] == ["SUCCESS"]


def test_a_run_without_the_definition_takes_nothing_away() -> None:
    rich, poor = whole_of(evaluated(), definitions=KNOWN), whole_of(evaluated())
    later = replace(poor, events=[replace(entry, time=entry.time + 99) for entry in poor.events])
    catalog = delivered(rich)
    catalog.deliver(check_proposals(later, Context()))
    assert catalog.of(urn(), "assertionInfo")["description"] == "Every id is there."
    assert delivered(later).of(urn(), "assertionInfo")["description"] == "no_nulls"


def test_checks_of_assets_that_are_left_out_are_left_out() -> None:
    whole = whole_of(evaluated())
    assert delivered(whole, asset_pattern=Pattern(deny=("shop/.*",))).state == {}
    assert delivered(whole, capture_asset_materialization=False).state == {}


def test_without_assets_the_table_of_the_asset_is_judged() -> None:
    check = CheckKey(("prod", "snowflake", "db", "orders"), "c")
    whole = whole_of(evaluated(check=check), evaluated())
    catalog = delivered(whole, emit_assets=False)
    (evaluation,) = results(catalog, check)
    assert evaluation["asserteeUrn"].startswith(
        "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.orders"
    )
    assert results(catalog) == []


def test_the_assertion_belongs_to_the_platform_instance() -> None:
    catalog = delivered(whole_of(evaluated()), platform_instance="eu")
    aspect = catalog.of(urn(platform_instance="eu"), "dataPlatformInstance")
    assert aspect["instance"] == "urn:li:dataPlatformInstance:(urn:li:dataPlatform:dagster,eu)"


def stated(catalog: Catalog, check: CheckKey = CHECK) -> Mapping[str, Any]:
    """What a check asserts, whether or not the installed client has fields for it."""
    info = catalog.of(urn(check), "assertionInfo")
    return {**info["customProperties"], **info["customAssertion"]}


def text_of(value: Any) -> Any:
    """Nested facts are text where the client has no fields for them."""
    if not isinstance(value, str):
        values = {
            name: each["value"] if isinstance(each, dict) else each for name, each in value.items()
        }
        return json.dumps({name: each for name, each in values.items() if each}, sort_keys=True)
    return value


def check_of(spec: dg.AssetCheckSpec) -> CheckFacts:
    return CheckFacts(
        CheckKey(tuple(spec.asset_key.path), spec.name),
        spec.description,
        metadata=metadata_of(spec.metadata),
    )


def made_by(checks: dg.AssetChecksDefinition | Sequence[dg.AssetChecksDefinition]) -> CheckFacts:
    """The facts of the one check that one of Dagster's factories made."""
    (definition,) = checks if isinstance(checks, Sequence) else [checks]
    (spec,) = definition.check_specs
    return check_of(spec)


def of_check(check: CheckFacts, *events: Event) -> Catalog:
    key = "/".join(check.check.asset_key)
    definitions = facts(asset_facts(key, checks=(check,)))
    return delivered(
        whole_of(*(events or (evaluated(check=check.check),)), definitions=definitions)
    )


def test_a_check_without_more_is_of_the_type_of_its_name() -> None:
    info = stated(delivered(whole_of(evaluated(), definitions=KNOWN)))
    assert info["nativeType"] == "no_nulls"
    assert info.keys().isdisjoint({"operator", "parameters", "field", "fields", "scope"})


@pytest.mark.filterwarnings("ignore:.*is superseded")
def test_a_freshness_check_has_its_parameters() -> None:
    check = made_by(
        dg.build_last_update_freshness_checks(
            assets=["orders"],
            lower_bound_delta=timedelta(hours=1),
            deadline_cron="0 9 * * *",
            timezone="Europe/Berlin",
        )
    )
    info = stated(of_check(check), check.check)
    assert (info["nativeType"], info["operator"]) == ("freshness_check", "_NATIVE_")
    parameters = {
        "deadline_cron": "0 9 * * *",
        "lower_bound_delta_seconds": "3600.0",
        "timezone": "Europe/Berlin",
    }
    assert text_of(info["nativeParameters"]) == json.dumps(parameters)

    event = evaluated(check=check.check, metadata=check.metadata)
    assert stated(delivered(whole_of(event)), check.check)["nativeType"] == "freshness_check"


@pytest.mark.parametrize(
    ("bounds", "operator", "parameters"),
    [
        ({"min_value": 1, "max_value": 2.5}, "BETWEEN", {"maxValue": "2.5", "minValue": "1"}),
        ({"min_value": 1}, "GREATER_THAN_OR_EQUAL_TO", {"value": "1"}),
        ({"min_value": 1, "exclusive_min": True}, "GREATER_THAN", {"value": "1"}),
        ({"max_value": -1e300}, "LESS_THAN_OR_EQUAL_TO", {"value": "-1e+300"}),
        ({"max_value": 0, "exclusive_max": True}, "LESS_THAN", {"value": "0"}),
    ],
)
def test_a_check_of_bounds_has_its_operator_and_bounds(
    bounds: Mapping[str, Any], operator: str, parameters: Mapping[str, str]
) -> None:
    made = dg.build_metadata_bounds_checks(
        assets=["orders"], severity=dg.AssetCheckSeverity.WARN, metadata_key="my rows", **bounds
    )
    check = made_by(made)
    info = stated(of_check(check), check.check)
    assert (info["nativeType"], info["operator"]) == ("metadata_bounds_check", operator)
    assert text_of(info["parameters"]) == json.dumps(parameters)
    native = json.loads(text_of(info["nativeParameters"]))
    assert native == {
        "metadata_key": "my rows",
        **{name: str(value).replace("True", "true") for name, value in bounds.items()},
    }
    assert "scope" not in info


def test_a_check_of_the_number_of_rows_is_one_of_rows() -> None:
    check = made_by(
        dg.build_metadata_bounds_checks(
            assets=["orders"], metadata_key="dagster/row_count", min_value=1
        )
    )
    info = stated(of_check(check), check.check)
    assert (info["scope"], info["aggregation"]) == ("DATASET_ROWS", "ROW_COUNT")


def test_a_check_of_columns_is_one_of_the_schema() -> None:
    check = made_by(dg.build_column_schema_change_checks(assets=["orders"]))
    info = stated(of_check(check), check.check)
    assert info["nativeType"] == "column_schema_change"
    assert (info["scope"], info["aggregation"]) == ("DATASET_SCHEMA", "COLUMNS")


@pytest.mark.parametrize("passed", [True, False])
def test_the_value_that_was_compared_with_bounds_is_in_the_result(passed: bool) -> None:  # noqa: FBT001
    @dg.asset
    def orders() -> Any:
        return dg.MaterializeResult(metadata={"n": 5 if passed else 0})

    checks = dg.build_metadata_bounds_checks(assets=[orders], metadata_key="n", min_value=1)
    result = dg.materialize([orders, *checks])
    (done,) = result.get_asset_check_evaluations()
    key = CheckKey(("orders",), "n_bounds_check")
    event = evaluated(done.passed, key, description=done.description)
    (actual,) = results(delivered(whole_of(event)), key)
    assert actual["result"]["actualAggValue"] == (5 if passed else 0)
    assert actual["result"]["nativeResults"]["description"] == done.description


def test_counts_are_in_the_result_where_metadata_names_them() -> None:
    counts = {"dagster/row_count": 9, "dagster_dbt/failed_row_count": 2, "n": 1}
    event = evaluated(metadata={name: Metadatum("int", n) for name, n in counts.items()})
    (actual,) = results(delivered(whole_of(event)))
    assert actual["result"]["rowCount"] == 9
    assert actual["result"]["unexpectedCount"] == 2
    assert "missingCount" not in actual["result"]


UNIQUE = DbtTest(
    "test.shop.unique_orders_id.1",
    "unique_orders_id",
    "unique",
    {"column_name": "id", "model": "{{ get_where_subquery(ref('orders')) }}"},
    "model.shop.orders",
    dataset="DB.Main.Orders",
    severity="ERROR",
)
TABLE = "urn:li:dataset:(urn:li:dataPlatform:duckdb,db.main.orders,PROD)"
ASSET = asset_facts("shop/orders", metadata={"datahub_urn": text(TABLE)})
DBT_CHECK = CheckKey(("shop", "orders"), "unique_orders_id")
BY_DBT = {
    "unique_id": text("test.shop.unique_orders_id.1"),
    "invocation_id": text("i"),
    "status": text("pass"),
}


def dbt_urn(name: str = UNIQUE.unique_id, **more: str) -> str:
    guid = mce_builder.datahub_guid({"platform": "dbt", "name": name, **more})
    return mce_builder.make_assertion_urn(guid)


def dbt_facts(test: DbtTest = UNIQUE) -> Definitions:
    check = CheckFacts(DBT_CHECK, blocking=True, dbt=test, is_of_dbt=True)
    return facts(replace(ASSET, checks=(check,)))


def of_dbt(test: DbtTest = UNIQUE, event: Event | None = None, **options: Any) -> Catalog:
    event = event or evaluated(check=DBT_CHECK, metadata=BY_DBT)
    return delivered(whole_of(event, definitions=dbt_facts(test)), **options)


def test_a_test_of_dbt_is_the_assertion_that_datahubs_dbt_source_makes() -> None:
    catalog = of_dbt()
    assert catalog.urns("assertion") == [dbt_urn()]
    info = catalog.of(dbt_urn(), "assertionInfo")
    assert info["customAssertion"]["type"] == "dbt"
    assert info["customAssertion"]["entity"] == TABLE
    assert info["customAssertion"]["field"] == f"urn:li:schemaField:({TABLE},id)"
    own = {**info["customProperties"], **info["customAssertion"]}
    assert own["nativeType"] == "unique_orders_id"
    assert (own["operator"], own["aggregation"]) == ("EQUAL_TO", "UNIQUE_PROPOTION")
    assert own["dbt_unique_id"] == UNIQUE.unique_id
    assert own["dbt_test_upstream_unique_id"] == "model.shop.orders"
    assert own["check_name"] == "unique_orders_id"
    platform = catalog.of(dbt_urn(), "dataPlatformInstance")
    assert platform == {"platform": "urn:li:dataPlatform:dbt"}
    ((_, event),) = catalog.series[dbt_urn(), "assertionRunEvent"].items()
    assert (event["asserteeUrn"], event["runId"]) == (TABLE, RUN_ID)


def test_a_test_of_several_nodes_is_an_assertion_on_each() -> None:
    assert of_dbt(replace(UNIQUE, upstreams=2)).urns("assertion") == [
        dbt_urn(on_dbt_upstream="model.shop.orders")
    ]


def test_an_instance_of_dbt_tells_tests_apart() -> None:
    catalog = of_dbt(platform_instance_map={"dbt": "eu"})
    (actual,) = catalog.urns("assertion")
    assert actual == dbt_urn(instance="eu")
    instance = "urn:li:dataPlatformInstance:(urn:li:dataPlatform:dbt,eu)"
    assert catalog.of(actual, "dataPlatformInstance")["instance"] == instance


def test_a_test_is_of_dbts_dataset_if_that_is_wanted() -> None:
    catalog = of_dbt(use_dbt_datasets=True, platform_instance_map={"dbt": "eu"})
    (actual,) = catalog.urns("assertion")
    entity = catalog.of(actual, "assertionInfo")["customAssertion"]["entity"]
    assert entity == "urn:li:dataset:(urn:li:dataPlatform:dbt,eu.db.main.orders,PROD)"
    unknown = of_dbt(replace(UNIQUE, dataset=None), use_dbt_datasets=True)
    info = unknown.of(dbt_urn(), "assertionInfo")
    assert info["customAssertion"]["entity"] == TABLE


def test_what_datahubs_dbt_source_wrote_is_left_as_it_is() -> None:
    whole = whole_of(evaluated(check=DBT_CHECK, metadata=BY_DBT), definitions=dbt_facts())
    sent = [item for item in check_proposals(whole, Context()) if isinstance(item, Proposal)]
    changes = {item.aspect: item.change for item in sent}
    assert changes == {
        "assertionInfo": Change.CREATE,
        "dataPlatformInstance": Change.CREATE,
        "assertionRunEvent": Change.UPSERT,
    }


@pytest.mark.parametrize(
    ("status", "passed", "severity", "expected"),
    [
        ("pass", True, "ERROR", ("SUCCESS", None)),
        ("warn", False, "WARN", ("FAILURE", "LOW")),
        ("fail", False, "ERROR", ("FAILURE", "HIGH")),
        ("error", False, "ERROR", ("ERROR", None)),
        ("skipped", False, "ERROR", ("ERROR", None)),
    ],
)
def test_the_result_of_a_test_is_dbts(
    status: str,
    passed: bool,  # noqa: FBT001
    severity: str,
    expected: tuple[str, str | None],
) -> None:
    metadata = {**BY_DBT, "status": text(status)}
    event = evaluated(passed, DBT_CHECK, severity=severity, metadata=metadata)
    ((_, actual),) = of_dbt(event=event).series[dbt_urn(), "assertionRunEvent"].items()
    kind, severity_word = expected
    if not hasattr(schema_classes, "AssertionResultSeverityClass"):
        severity_word = None
    result = actual["result"]
    assert (result["type"], result.get("severity")) == (kind, severity_word)
    assert result["nativeResults"]["status"] == status


@pytest.mark.parametrize(
    ("name", "unique_id", "is_dbts"),
    [
        ("unique_orders_id", "test.shop.unique_orders_id.1", True),
        ("not_null_orders_id", "test.shop.not_null_orders_id.1", True),
        ("unique_orders", "test.shop.unique_orders", False),
        ("unique_in_orders_id", "test.shop.unique_in_orders_id.1", False),
        ("relationships_orders_id__id__ref_a_", "test.shop.relationships_orders.1", False),
        ("unique_orders_id", "model.shop.unique_orders_id.1", False),
    ],
)
def test_of_an_event_alone_a_test_is_known_if_it_can_depend_on_one_node_only(
    name: str,
    unique_id: str,
    is_dbts: bool,  # noqa: FBT001
) -> None:
    check = replace(DBT_CHECK, name=name)
    event = evaluated(check=check, metadata={**BY_DBT, "unique_id": text(unique_id)})
    expected = dbt_urn(unique_id) if is_dbts else urn(check)
    assert delivered(whole_of(event)).urns("assertion") == [expected]
    # An older package knows the id by the definition.
    metadata = {"dagster_dbt/unique_id": text(unique_id)}
    old = facts(asset_facts("shop/orders", checks=(CheckFacts(check, metadata=metadata),)))
    catalog = delivered(whole_of(evaluated(check=check), definitions=old))
    assert catalog.urns("assertion") == [expected]


def test_the_name_of_a_node_is_dbts() -> None:
    check = CheckKey(("renamed",), "unique_orders_v2_id")
    node = asset_facts("renamed", metadata={"dagster_dbt/unique_id": text("model.shop.orders.v2")})
    event = evaluated(check=check, metadata=BY_DBT)
    assert delivered(whole_of(event)).urns("assertion") == [urn(check)]
    catalog = delivered(whole_of(event, definitions=facts(node)))
    assert catalog.urns("assertion") == [dbt_urn()]


def test_the_metadata_of_others_makes_no_test_of_dbt() -> None:
    event = evaluated(check=DBT_CHECK, metadata={"unique_id": BY_DBT["unique_id"]})
    assert delivered(whole_of(event)).urns("assertion") == [urn(DBT_CHECK)]


@pytest.mark.parametrize("is_catalogued", [True, False])
def test_a_test_that_dbt_did_not_get_to_is_no_second_assertion(is_catalogued: bool) -> None:  # noqa: FBT001
    steps = [step("dbt", check="shop/orders:unique_orders_id")]
    whole = log(*failed("dbt"), steps=steps)
    assert delivered(whole).urns("assertion") == [urn(DBT_CHECK)]
    if is_catalogued:
        check = CheckFacts(DBT_CHECK, is_of_dbt=True)
        whole = replace(whole, definitions=facts(replace(ASSET, checks=(check,))))
    else:
        job = Job("sales", ops=(replace(op("dbt"), tags={"dagster_dbt/select": "fqn:*"}),))
        whole = replace(whole, job=job)
    assert delivered(whole).urns("assertion") == []
    known = replace(whole, definitions=dbt_facts())
    ((_, event),) = delivered(known).series[dbt_urn(), "assertionRunEvent"].items()
    assert event["result"]["type"] == "ERROR"


def test_the_catalogue_leaves_tests_of_dbt_to_runs() -> None:
    checks = (CheckFacts(CHECK), CheckFacts(DBT_CHECK, is_of_dbt=True))
    job = CatalogJob(Job("checks"), assets=(replace(ASSET, checks=checks),))
    part = CatalogPart(CodeRepository("shop", "repository"), jobs=(job,))
    catalog = Catalog().deliver(catalog_proposals(part, T0, Context()))
    assert catalog.urns("assertion") == [urn()]
    assert [each for each in defined_urns(part, Context()) if "assertion" in each] == [urn()]


OUTCOMES = st.lists(
    st.builds(
        evaluated,
        passed=st.booleans(),
        check=st.sampled_from([CHECK, CheckKey(asset_key("a"), "b")]),
        severity=st.sampled_from(["WARN", "ERROR"]),
        partition=st.sampled_from([None, "p"]),
    ),
    max_size=5,
)


@given(OUTCOMES, st.booleans())
def test_what_is_sent_while_a_run_goes_on_ends_in_what_the_whole_says(
    events: list[Event],
    is_known: bool,  # noqa: FBT001
) -> None:
    definitions = KNOWN if is_known else None
    steps = [step("orders", check="shop/orders:no_nulls")]
    whole = log(*failed("orders", *events), steps=steps, definitions=definitions)
    bit_by_bit = Catalog()
    for part in prefixes(whole):
        bit_by_bit.deliver(check_proposals(part, Context()))
    at_once = delivered(whole)
    assert (bit_by_bit.state, bit_by_bit.series) == (at_once.state, at_once.series)
    again = delivered(whole).deliver(check_proposals(whole, Context()))
    assert (again.state, again.series) == (at_once.state, at_once.series)
