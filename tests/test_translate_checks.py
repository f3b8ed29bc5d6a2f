from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from catalog import Catalog
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
    prefixes,
    ran,
    step,
    succeeded,
    text,
)

from datahub_eventlog.config import Config, Pattern
from datahub_eventlog.translate.asset_checks import assertion_urn, check_proposals
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CheckFacts, CheckKey, Evaluation, Event, Metadatum, RunLog

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
    assert info["customProperties"] == {
        "asset_key": "shop/orders",
        "blocking": "true",
        "check_name": "no_nulls",
        "n": "1",
    }


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
