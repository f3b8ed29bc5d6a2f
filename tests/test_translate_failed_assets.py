"""Planned assets that a run did not make, as operations of the assets."""

from dataclasses import replace
from typing import Any

import pytest
from catalog import Catalog, unordered
from hypothesis import given
from hypothesis import strategies as st
from logs import (
    RUN_ID,
    T0,
    asset_facts,
    broke,
    event,
    facts,
    failed,
    log,
    materialized,
    planned,
    prefixes,
    ran,
    run,
    step,
    succeeded,
    unmade,
)

from datahub_eventlog.config import Config, Pattern
from datahub_eventlog.translate import translate
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import Event, Failure, RunLog

CHAIN = [step("raw", asset="raw"), step("clean", "raw", asset="clean")]
CHAIN.append(step("report", "clean", asset="report"))
PLANNED = [planned(key) for key in ("raw", "clean", "report")]
CANCELED = event("RUN_CANCELED", None, Failure("somebody wanted it so"))


def urn(key: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:dagster,{key},PROD)"


def delivered(*wholes: RunLog, **options: Any) -> Catalog:
    catalog = Catalog()
    for whole in wholes:
        catalog.deliver(translate(whole, Context(Config(**options))))
    return catalog


def failures(catalog: Catalog) -> dict[str, Any]:
    """The operations of failures, by the name of the asset."""
    found = {}
    for (this, aspect), series in catalog.series.items():
        for each in series.values():
            if aspect == "operation" and each["operationType"] == "CUSTOM":
                assert this not in found
                found[this.split(",")[1]] = each
    return found


def properties(*events: Event, **more: Any) -> dict[str, dict[str, str]]:
    more = {"steps": CHAIN, **more}
    catalog = delivered(log(*events, **more))
    return {name: each["customProperties"] for name, each in failures(catalog).items()}


def reasons(*events: Event, **more: Any) -> dict[str, str]:
    return {name: each["reason"] for name, each in properties(*events, **more).items()}


def test_an_asset_whose_step_failed_has_an_operation() -> None:
    whole = log(*PLANNED[:1], *broke(*failed("raw", message="ValueError: no")), steps=CHAIN[:1])
    assert failures(delivered(whole)) == {
        "raw": {
            "timestampMillis": int(T0 * 1000) + 3000,
            "lastUpdatedTimestamp": 0,
            "operationType": "CUSTOM",
            "customOperationType": "MATERIALIZATION_FAILED",
            "sourceType": "DATA_PROCESS",
            "partitionSpec": {"type": "FULL_TABLE", "partition": "FULL_TABLE_SNAPSHOT"},
            "messageId": f"{RUN_ID}:raw:failed",
            "customProperties": {
                "message": "ValueError: no",
                "reason": "FAILED_TO_MATERIALIZE",
                "run_id": RUN_ID,
                "step_key": "raw",
                "upstream_failed": "false",
            },
        }
    }


def test_what_never_ran_failed_with_the_nearest_step_upstream() -> None:
    found = properties(*PLANNED, *broke(*ran("raw", materialized("raw")), *failed("clean")))
    assert sorted(found) == ["clean", "report"]
    assert found["report"] == {
        "message": "Step clean failed: ValueError: no",
        "reason": "UPSTREAM_FAILED_TO_MATERIALIZE",
        "run_id": RUN_ID,
        "step_key": "report",
        "upstream_failed": "true",
    }


def test_what_was_going_on_when_the_run_died_has_failed() -> None:
    found = properties(*PLANNED[:2], *broke(event("STEP_START", "raw"), message="it was killed"))
    assert found["raw"]["reason"] == "FAILED_TO_MATERIALIZE"
    assert found["raw"]["message"] == "it was killed"
    assert found["clean"]["reason"] == "UPSTREAM_FAILED_TO_MATERIALIZE"


def test_a_run_that_could_not_begin_failed_for_itself() -> None:
    found = properties(*PLANNED, event("RUN_FAILURE", None, Failure("no such resource")))
    assert {each["reason"] for each in found.values()} == {"FAILED_TO_MATERIALIZE"}
    assert {each["message"] for each in found.values()} == {"no such resource"}


def test_what_a_canceled_run_did_not_make_was_terminated() -> None:
    canceling = event("RUN_CANCELING")
    assert reasons(
        *PLANNED,
        event("RUN_START"),
        event("STEP_START", "raw"),
        canceling,
        *failed("raw"),
        CANCELED,
    ) == dict.fromkeys(["raw", "clean", "report"], "RUN_TERMINATED")
    assert reasons(*PLANNED[:1], CANCELED) == {"raw": "RUN_TERMINATED"}


def test_nothing_failed_where_a_run_is_to_be_judged_by_its_record() -> None:
    queued = log(*PLANNED[:1], steps=CHAIN, run=run(status="QUEUED"))
    assert failures(delivered(queued)) == {}
    ended = log(*PLANNED[:1], steps=CHAIN, run=run(status="CANCELED", ended=T0 + 60))
    (operation,) = failures(delivered(ended)).values()
    assert operation["customProperties"]["reason"] == "RUN_TERMINATED"
    assert operation["timestampMillis"] == int(T0 * 1000) + 60_000


@pytest.mark.parametrize(
    "events",
    [
        succeeded(*ran("raw")),
        succeeded(event("STEP_SKIPPED", "raw")),
        broke(*ran("raw"), *failed("other")),
        broke(event("STEP_SKIPPED", "raw"), *failed("other")),
        broke(*failed("raw", materialized("raw"))),
        broke(event("STEP_START", "raw"), *failed("raw", materialized("raw"))),
        broke(*failed("other"), unmade("raw", is_failure=False)),
        (event("RUN_START"), event("STEP_START", "raw"), event("STEP_UP_FOR_RETRY", "raw")),
    ],
    ids=str,
)
def test_what_was_left_out_or_made_or_may_yet_be_made_has_not_failed(
    events: tuple[Event, ...],
) -> None:
    before_the_end = [each for each in events if each.type == "ASSET_FAILED_TO_MATERIALIZE"]
    rest = [each for each in events if each.type != "ASSET_FAILED_TO_MATERIALIZE"]
    assert properties(*PLANNED[:1], *before_the_end, *rest) == {}


def test_a_later_attempt_that_makes_it_leaves_no_failure() -> None:
    retried = (event("STEP_START", "raw"), event("STEP_UP_FOR_RETRY", "raw", Failure("once")))
    again = (event("STEP_RESTARTED", "raw"), replace(materialized("raw"), step_key="raw"))
    end = event("STEP_SUCCESS", "raw")
    assert properties(*PLANNED[:1], *succeeded(*retried, *again, end)) == {}


def test_what_failed_stays_failed_when_another_step_makes_it_later() -> None:
    whole = log(
        *PLANNED[:1], *broke(*failed("raw"), *ran("other", materialized("raw"))), steps=CHAIN
    )
    parts = [*prefixes(whole)]
    assert list(failures(delivered(*parts))) == list(failures(delivered(whole))) == ["raw"]


def partition(*events: Event, **more: Any) -> tuple[str, str, str]:
    (operation,) = failures(delivered(log(*events, steps=CHAIN, **more))).values()
    own = operation["customProperties"]
    return operation["partitionSpec"]["partition"], own["partitions"], own["partition_count"]


def test_only_the_partitions_that_were_not_made_are_named() -> None:
    keys = [planned("raw", f"k{number}") for number in range(3)]
    one = materialized("raw", partition="k1")
    assert partition(*keys, *broke(*failed("raw", one))) == (
        "2 partitions: k0, k2",
        "k0, k2",
        "2",
    )
    made = [materialized("raw", partition=f"k{number}") for number in range(3)]
    assert properties(*keys, *broke(*failed("raw", *made))) == {}


def test_a_range_that_was_not_made_at_all_is_named_as_it_was_asked_for() -> None:
    days = [f"2024-01-0{day}" for day in range(1, 4)]
    ends = {
        "dagster/asset_partition_range_start": days[0],
        "dagster/asset_partition_range_end": days[-1],
    }
    events = [*(planned("raw", day) for day in days), *broke(*failed("raw"))]
    named = partition(*events, run=run(tags=ends))
    assert named == ("2024-01-01...2024-01-03", ", ".join(days), "3")


def test_dagsters_own_event_says_more() -> None:
    own = unmade("raw", "p", reason="UNKNOWN", description="Out of quota.", will_retry=True)
    whole = log(planned("raw", "p"), *broke(*failed("raw")), own, steps=CHAIN)
    (operation,) = failures(delivered(whole)).values()
    assert operation["customProperties"] == {
        "message": "Out of quota.",
        "partition_count": "1",
        "partitions": "p",
        "reason": "UNKNOWN",
        "run_id": RUN_ID,
        "step_key": "raw",
        "upstream_failed": "false",
        "will_retry": "true",
    }


def test_dagsters_own_event_is_enough() -> None:
    own = unmade("raw", "p", reason="UPSTREAM_FAILED_TO_MATERIALIZE")
    (found,) = properties(event("RUN_START"), own, event("RUN_FAILURE"), steps=()).values()
    assert (found["partitions"], found["upstream_failed"]) == ("p", "true")


def test_a_run_that_will_be_retried_says_so() -> None:
    tags = {"dagster/will_retry": "true"}
    (found,) = properties(*PLANNED[:1], *broke(*failed("raw")), run=run(tags=tags)).values()
    assert found["will_retry"] == "true"


def test_a_mapped_step_fails_for_the_asset_of_its_plan() -> None:
    steps = [step("work[?]", asset="raw")]
    assert reasons(*PLANNED[:1], *broke(*failed("work[a]")), steps=steps) == {
        "raw": "FAILED_TO_MATERIALIZE"
    }


def test_without_a_plan_the_step_is_known_from_the_planned_event() -> None:
    events = [replace(PLANNED[0], step_key="raw"), *broke(*failed("raw"))]
    assert properties(*events, steps=())["raw"]["step_key"] == "raw"


@pytest.mark.parametrize(
    "options",
    [
        {"emit_assets": False},
        {"capture_asset_materialization": False},
        {"asset_pattern": Pattern(deny=("raw",))},
    ],
)
def test_what_is_not_sent_of_assets_is_not_sent_of_their_failures(options: dict[str, Any]) -> None:
    whole = log(*PLANNED[:1], *broke(*failed("raw")), steps=CHAIN[:1])
    assert failures(delivered(whole, **options)) == {}


def test_a_key_that_makes_no_urn_costs_only_itself() -> None:
    steps = [step("raw", asset="raw"), step("long", asset="x" * 600)]
    events = [planned("raw"), planned("x" * 600), *broke(*failed("raw"), *failed("long"))]
    assert reasons(*events, steps=steps) == {"raw": "FAILED_TO_MATERIALIZE"}


@st.composite
def run_logs(draw: st.DrawFn) -> RunLog:
    """Runs in which anything happens to three assets, in one or two partitions."""
    keys = ["raw", "clean", "report"]
    choices: list[list[str | None]] = [[None], ["p", "q"]]
    partitions = draw(st.sampled_from(choices))
    events: list[Event] = [planned(key, name) for key in keys for name in partitions]
    for key in keys:
        names = draw(st.lists(st.sampled_from(partitions), max_size=2))
        inner = [materialized(draw(st.sampled_from(keys)), partition=name) for name in names]
        course = draw(
            st.sampled_from(
                [
                    *([ran(key, *inner), failed(key, *inner)]),
                    (),
                    (event("STEP_START", key), *inner),
                    (event("STEP_SKIPPED", key),),
                    (event("STEP_UP_FOR_RETRY", key), *failed(key, *inner)),
                    (*failed(key), *ran(key, *inner)),
                    (event("RUN_CANCELING"), *failed(key)),
                ]
            )
        )
        events += course
    end = draw(st.sampled_from([event("RUN_SUCCESS"), event("RUN_FAILURE"), CANCELED]))
    whole = [*events, end]
    reported = st.builds(
        unmade,
        st.sampled_from(keys),
        st.sampled_from(partitions),
        is_failure=st.booleans(),
        reason=st.sampled_from([None, "UNKNOWN"]),
        will_retry=st.sampled_from([None, True]),
    )
    for own in draw(st.lists(reported, max_size=2)):
        whole.insert(draw(st.integers(0, len(whole))), own)
    daily = facts(asset_facts("raw", partitions="Static"))
    return log(*whole, steps=CHAIN, definitions=draw(st.sampled_from([None, daily])))


@given(run_logs())
def test_what_is_sent_while_a_run_goes_on_is_never_taken_back(whole: RunLog) -> None:
    at_once = failures(delivered(whole))
    assert failures(delivered(*prefixes(whole), whole)) == at_once
    shown: dict[str, Any] = {}
    for part in prefixes(whole):
        now = failures(delivered(part))
        assert shown.keys() <= now.keys()
        for name, before in shown.items():
            for field in ("timestampMillis", "partitionSpec", "messageId"):
                assert before[field] == now[name][field]
        shown = now


@given(run_logs())
def test_a_run_that_is_translated_twice_has_the_same_failures(whole: RunLog) -> None:
    assert unordered(delivered(whole).series) == unordered(delivered(whole, whole).series)
