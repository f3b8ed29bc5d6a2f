from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from catalog import Catalog
from logs import (
    RUN_ID,
    T0,
    asset_facts,
    broke,
    declares,
    event,
    facts,
    failed,
    log,
    materialized,
    op,
    planned,
    prefixes,
    ran,
    run,
    step,
    succeeded,
    text,
    wrote,
    yielded,
)

from datahub_eventlog.config import Config
from datahub_eventlog.translate import run_part, translate
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_ports import AssetDatasets
from datahub_eventlog.translate.urns import asset_urn, job_urn, run_urn, step_urn
from datahub_eventlog.values import Definitions, Event, Failure, PortFacts, RunLog

DYNAMIC = [
    step("gen"),
    step("work[?]", "gen"),
    step("pack[?]", "work[?]"),
    step("collect", "pack[?]"),
]


def delivered(whole: RunLog, **options: Any) -> Catalog:
    return Catalog().deliver(run_part(whole, AssetDatasets(), Context(Config(**options))))


def urn(name: str) -> str:
    return step_urn(run(), name, Context())


def events(whole: RunLog, name: str) -> list[tuple[str, str | None, int]]:
    return delivered(whole).events(urn(name))


def properties(whole: RunLog, name: str) -> Any:
    return delivered(whole).of(urn(name), "dataProcessInstanceProperties")


def test_a_step_run_is_an_instance_of_its_op_and_a_part_of_the_run() -> None:
    whole = log(
        *succeeded(*ran("clean"), *ran("outer.load")),
        steps=[step("clean"), step("outer.load", "clean")],
    )
    catalog = delivered(whole, dagster_url="http://ui")
    assert catalog.of(urn("outer.load"), "dataProcessInstanceRelationships") == {
        "parentTemplate": job_urn(whole.run, "outer.load", Context()),
        "parentInstance": run_urn(RUN_ID, Context()),
        "upstreamInstances": [urn("clean")],
    }
    aspect = catalog.of(urn("outer.load"), "dataProcessInstanceProperties")
    assert aspect == {
        "name": f"{RUN_ID}.shop.defs/outer.load",
        "type": "BATCH_AD_HOC",
        "created": {"time": int(T0 * 1000) + 3000, "actor": "urn:li:corpuser:datahub"},
        "externalUrl": f"http://ui/runs/{RUN_ID}",
        "customProperties": {
            "attempts": "1",
            "end_time": str(T0 + 4),
            "start_time": str(T0 + 3),
            "step_key": "outer.load",
        },
    }


def test_each_attempt_has_its_pair_of_events() -> None:
    whole = log(
        *succeeded(
            event("STEP_START", "clean"),
            event("STEP_UP_FOR_RETRY", "clean", Failure("OSError: busy")),
            event("STEP_RESTARTED", "clean"),
            event("STEP_UP_FOR_RETRY", "clean", Failure("OSError: busy")),
            event("STEP_RESTARTED", "clean"),
            event("STEP_SUCCESS", "clean"),
        ),
        steps=[step("clean")],
    )
    assert events(whole, "clean") == [
        ("STARTED", None, 1),
        ("COMPLETE", "UP_FOR_RETRY", 1),
        ("STARTED", None, 2),
        ("COMPLETE", "UP_FOR_RETRY", 2),
        ("STARTED", None, 3),
        ("COMPLETE", "SUCCESS", 3),
    ]
    series = delivered(whole).series[urn("clean"), "dataProcessInstanceRunEvent"]
    assert [each.get("durationMillis") for each in series.values()] == [
        *(None, 1000),
        *(None, 1000),
        *(None, 1000),
    ]
    stated = properties(whole, "clean")["customProperties"]
    assert stated["attempts"] == "3"
    assert stated["start_time"] == str(T0 + 1)
    assert "failure_message" not in stated


def test_a_failed_step_has_its_reason() -> None:
    why = Failure("KeyError: 'x'", metadata={"row": text("seven")})
    whole = log(
        *broke(event("STEP_START", "clean"), event("STEP_FAILURE", "clean", why)),
        steps=[step("clean")],
    )
    assert events(whole, "clean")[-1] == ("COMPLETE", "FAILURE", 1)
    stated = properties(whole, "clean")["customProperties"]
    assert stated["failure_message"] == "KeyError: 'x'"
    assert stated["failure.row"] == "seven"


def test_a_step_that_died_before_its_start_has_only_an_end() -> None:
    whole = log(*broke(event("STEP_FAILURE", "clean")), steps=[step("clean")])
    assert events(whole, "clean") == [("COMPLETE", "FAILURE", 1)]


def test_an_attempt_that_died_before_its_start_counts() -> None:
    whole = log(
        *broke(
            event("STEP_START", "clean"),
            event("STEP_UP_FOR_RETRY", "clean"),
            event("STEP_FAILURE", "clean"),
        ),
        steps=[step("clean")],
    )
    assert events(whole, "clean")[-1] == ("COMPLETE", "FAILURE", 2)


def test_a_failure_that_is_logged_twice_is_one_attempt() -> None:
    twice = [event("STEP_FAILURE", "clean")] * 2
    whole = log(*broke(event("STEP_START", "clean"), *twice), steps=[step("clean")])
    assert {attempt for _, _, attempt in events(whole, "clean")} == {1}


def test_a_skipped_step_is_no_orphan() -> None:
    whole = log(
        *succeeded(*ran("branch"), event("STEP_SKIPPED", "left")),
        steps=[step("branch"), step("left", "branch")],
    )
    assert events(whole, "left") == [("COMPLETE", "SKIPPED", 1)]
    relationships = delivered(whole).of(urn("left"), "dataProcessInstanceRelationships")
    assert relationships["parentTemplate"] == job_urn(whole.run, "left", Context())
    assert relationships["upstreamInstances"] == [urn("branch")]


def test_a_step_that_never_started_has_no_instance() -> None:
    whole = log(*broke(*failed("clean")), steps=[step("clean"), step("load", "clean")])
    names = {urn("clean"), run_urn(RUN_ID, Context())}
    assert set(delivered(whole).urns("dataProcessInstance")) == names


@pytest.mark.parametrize(
    ("end", "result", "native"),
    [
        ("RUN_FAILURE", "FAILURE", "dagster"),
        ("RUN_CANCELED", "SKIPPED", "CANCELED"),
        ("RUN_SUCCESS", "SUCCESS", "dagster"),
    ],
)
def test_a_step_in_flight_ends_with_its_run(end: str, result: str, native: str) -> None:
    whole = log(event("RUN_START"), event("STEP_START", "clean"), event(end), steps=[step("clean")])
    series = delivered(whole).series[urn("clean"), "dataProcessInstanceRunEvent"]
    last = list(series.values())[-1]
    assert last["result"] == {"type": result, "nativeResultType": native}
    assert last["timestampMillis"] == int(T0 * 1000) + 2000


def test_events_of_a_zombie_after_the_end_are_newer_state() -> None:
    whole = log(
        event("RUN_START"),
        event("STEP_START", "clean"),
        event("RUN_FAILURE"),
        event("STEP_SUCCESS", "clean"),
        event("STEP_START", "load"),
        event("STEP_SUCCESS", "load"),
        steps=[step("clean"), step("load", "clean")],
    )
    assert events(whole, "clean") == [
        ("STARTED", None, 1),
        ("COMPLETE", "FAILURE", 1),
        ("COMPLETE", "SUCCESS", 1),
    ]
    assert events(whole, "load")[-1] == ("COMPLETE", "SUCCESS", 1)


def test_nothing_that_was_shown_is_taken_back() -> None:
    whole = log(
        event("RUN_START"),
        *ran("clean"),
        event("STEP_START", "load"),
        event("STEP_UP_FOR_RETRY", "load"),
        event("RUN_CANCELED"),
        event("STEP_RESTARTED", "load"),
        event("STEP_FAILURE", "load"),
        event("RUN_START"),
        event("RUN_SUCCESS"),
        steps=[step("clean"), step("load", "clean")],
    )
    shown = delivered(whole).series
    for part in prefixes(whole):
        for place, documents in delivered(part).series.items():
            assert documents.items() <= shown[place].items()


def test_mapped_steps_are_instances_of_one_op() -> None:
    keys = [f"{name}[{key}]" for name in ("work", "pack") for key in ("a", "b")]
    whole = log(
        *succeeded(*ran("gen"), *(each for key in keys for each in ran(key)), *ran("collect")),
        steps=DYNAMIC,
    )
    catalog = delivered(whole)
    assert len(catalog.urns("dataJob")) == 4

    def related(name: str) -> Any:
        return catalog.of(urn(name), "dataProcessInstanceRelationships")

    assert related("work[a]")["parentTemplate"] == job_urn(whole.run, "work", Context())
    assert related("work[a]")["upstreamInstances"] == [urn("gen")]
    assert related("pack[b]")["upstreamInstances"] == [urn("work[b]")]
    assert related("collect")["upstreamInstances"] == sorted([urn("pack[a]"), urn("pack[b]")])


def test_without_the_plan_a_step_still_belongs_to_its_op() -> None:
    whole = log(*succeeded(*ran("outer.work[a]")), ops=[])
    related = delivered(whole).of(urn("outer.work[a]"), "dataProcessInstanceRelationships")
    assert related["parentTemplate"] == job_urn(whole.run, "outer.work", Context())
    assert related["upstreamInstances"] == []


def test_a_step_has_what_it_wrote_even_if_it_failed() -> None:
    whole = log(*broke(*failed("clean", wrote("s3://b/part"))), steps=[step("clean")])
    outputs = delivered(whole).of(urn("clean"), "dataProcessInstanceOutput")
    assert outputs == {"outputs": ["urn:li:dataset:(urn:li:dataPlatform:s3,b/part,PROD)"]}
    assert delivered(whole).of(urn("clean"), "dataProcessInstanceInput") is None


# What a step run read and wrote

READ, ONCE, SEED, MODEL, OTHER = (
    *(f"urn:li:dataset:(urn:li:dataPlatform:s3,b/{name},PROD)" for name in ("read", "once")),
    *(asset_urn((name,), Context()) for name in ("seed", "model", "other")),
)
ASSETS = facts(
    asset_facts("model", "seed", metadata=declares(ONCE, side="outputs")),
    asset_facts("other", "seed"),
    ports={"build": PortFacts(inputs={"x": declares(READ)})},
)


def build(*events: Event, optional: bool = False, **more: Any) -> tuple[list[str], list[str]]:
    """The sides of the run of the step `build`, which makes two assets of a third."""
    outputs = {"model": "model", "other": "other"}
    ports = [f"{output}?" if optional else output for output in outputs]
    whole = log(
        *(planned(output) for output in outputs),
        *events,
        steps=[step("build", outputs=outputs)],
        ops=[op("build", outputs=ports)],
        definitions=ASSETS,
    )
    return sides(whole, "build", **more)


def sides(whole: RunLog, name: str, **more: Any) -> tuple[list[str], list[str]]:
    catalog = Catalog().deliver(translate(whole, Context(**more)))
    inputs = catalog.of(urn(name), "dataProcessInstanceInput") or {"inputs": []}
    outputs = catalog.of(urn(name), "dataProcessInstanceOutput") or {"outputs": []}
    return inputs["inputs"], outputs["outputs"]


START, MADE = event("STEP_START", "build"), materialized("model")
TRIED = (START, event("STEP_UP_FOR_RETRY", "build"))
AGAIN = event("STEP_RESTARTED", "build")


@pytest.mark.parametrize(
    "events",
    [
        broke(*failed("build")),
        (event("RUN_START"), START),
        (event("RUN_START"), START, event("RUN_FAILURE")),
        (event("RUN_START"), START, event("RUN_CANCELED")),
        (event("RUN_START"), *TRIED),
        broke(*TRIED, AGAIN, event("STEP_FAILURE", "build")),
        (event("RUN_START"), *TRIED, event("RUN_CANCELED")),
    ],
    ids=["failed", "going on", "killed", "canceled", "to be tried again", "again", "given up"],
)
def test_a_step_that_began_read_its_inputs_and_wrote_nothing_yet(events: Any) -> None:
    assert build(*events) == ([SEED, READ], [])


@pytest.mark.parametrize(
    "events",
    [
        broke(event("STEP_FAILURE", "build")),
        succeeded(event("STEP_SKIPPED", "build")),
        (event("RUN_ENQUEUED"), event("RUN_CANCELED")),
    ],
    ids=["died before its start", "skipped", "canceled in the queue"],
)
def test_a_step_that_never_began_read_nothing(events: Any) -> None:
    assert build(*events) == ([], [])


@pytest.mark.parametrize(
    "events",
    [
        broke(*failed("build", MADE)),
        (event("RUN_START"), START, replace(MADE, step_key="build")),
        (event("RUN_START"), START, replace(MADE, step_key="build"), event("RUN_FAILURE")),
        broke(
            START,
            replace(MADE, step_key="build"),
            event("STEP_UP_FOR_RETRY", "build"),
            AGAIN,
            event("STEP_FAILURE", "build"),
        ),
    ],
    ids=["failed", "going on", "killed", "made at the first try"],
)
def test_a_step_wrote_what_it_made_before_it_failed_and_what_that_declares(events: Any) -> None:
    assert build(*events) == ([SEED, READ], [MODEL, ONCE])


def test_a_step_that_succeeded_wrote_what_it_had_to_whatever_its_events_say() -> None:
    assert build(*succeeded(*ran("build"))) == ([SEED, READ], [ONCE])
    made = ran("build", materialized("other"))
    assert build(*succeeded(*made), optional=True) == ([SEED, READ], [OTHER])


def test_a_step_that_failed_read_what_ops_upstream_wrote() -> None:
    steps = [step("load"), step("pack", "load")]
    whole = log(*broke(*ran("load", wrote("s3://b/once")), *failed("pack")), steps=steps)
    assert sides(whole, "pack") == ([ONCE], [])
    died = log(
        *broke(*ran("load", wrote("s3://b/once")), event("STEP_FAILURE", "pack")), steps=steps
    )
    assert sides(died, "pack") == ([], [])


def test_a_mapped_step_that_failed_read_what_its_op_takes() -> None:
    declared = Definitions(
        ports={
            "work": PortFacts(
                inputs={"x": declares(READ)}, outputs={"result": declares(ONCE, side="outputs")}
            )
        }
    )
    whole = log(
        *broke(*ran("gen"), *ran("work[a]", yielded()), *failed("work[b]")),
        steps=DYNAMIC,
        definitions=declared,
    )
    assert sides(whole, "work[a]") == ([READ], [ONCE])
    assert sides(whole, "work[b]") == ([READ], [])


def test_a_step_that_failed_wrote_nothing_that_the_extractor_returns() -> None:
    lineages = {"build": (frozenset({OTHER}), frozenset({ONCE}))}
    assert build(*broke(*failed("build")), lineages=lineages) == ([OTHER, SEED, READ], [])
    done = build(*succeeded(*ran("build")), lineages=lineages)
    assert done == ([OTHER, SEED, READ], [ONCE])


def test_a_check_that_failed_read_its_asset() -> None:
    whole = log(*broke(*failed("check")), steps=[step("check", check="model:is_new")])
    assert sides(whole, "check") == ([MODEL], [])
