from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from catalog import Catalog
from logs import RUN_ID, T0, broke, event, failed, log, materialized, ran, run, step, succeeded

from datahub_eventlog.config import Config
from datahub_eventlog.translate import run_part
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_ports import AssetDatasets
from datahub_eventlog.translate.urns import backfill_urn, flow_urn, run_urn
from datahub_eventlog.values import Event, Failure, RunLog

URN = run_urn(RUN_ID, Context())
PARENT = "7a3f2f3e-9a76-4b6c-8a55-1f0a6a1b2c3d"


def delivered(whole: RunLog, **options: Any) -> Catalog:
    return Catalog().deliver(run_part(whole, AssetDatasets(), Context(Config(**options))))


def properties(whole: RunLog, **options: Any) -> Any:
    return delivered(whole, **options).of(URN, "dataProcessInstanceProperties")


def run_events(whole: RunLog) -> list[Any]:
    actual = delivered(whole).series.get((URN, "dataProcessInstanceRunEvent"), {})
    return sorted(actual.values(), key=lambda each: each["timestampMillis"])


def test_a_run_is_an_instance_of_its_flow() -> None:
    whole = log(*succeeded(*ran("clean")), steps=[step("clean")])
    catalog = delivered(whole, platform_instance="east")
    assert catalog.of(URN, "dataProcessInstanceRelationships") == {
        "parentTemplate": flow_urn(whole.run, Context(Config(platform_instance="east"))),
        "upstreamInstances": [],
    }
    assert catalog.of(URN, "dataPlatformInstance") == {
        "platform": "urn:li:dataPlatform:dagster",
        "instance": "urn:li:dataPlatformInstance:(urn:li:dataPlatform:dagster,east)",
    }
    aspect = catalog.of(URN, "dataProcessInstanceProperties")
    assert aspect["name"] == RUN_ID
    assert aspect["created"]["time"] == int(T0 * 1000)


def test_the_course_of_a_run_is_two_run_events() -> None:
    whole = log(event("RUN_ENQUEUED"), *succeeded(*ran("clean")), steps=[step("clean")])
    start, end = int(T0 * 1000) + 1000, int(T0 * 1000) + 4000
    assert run_events(whole) == [
        {
            "timestampMillis": start,
            "status": "STARTED",
            "attempt": 1,
            "messageId": f"{RUN_ID}:run:1:STARTED",
            "partitionSpec": {"partition": "FULL_TABLE_SNAPSHOT", "type": "FULL_TABLE"},
        },
        {
            "timestampMillis": end,
            "status": "COMPLETE",
            "attempt": 1,
            "messageId": f"{RUN_ID}:run:1:COMPLETE",
            "durationMillis": 3000,
            "partitionSpec": {"partition": "FULL_TABLE_SNAPSHOT", "type": "FULL_TABLE"},
            "result": {"type": "SUCCESS", "nativeResultType": "dagster"},
        },
    ]


@pytest.mark.parametrize(
    ("end", "result", "native"),
    [
        ("RUN_SUCCESS", "SUCCESS", "dagster"),
        ("RUN_FAILURE", "FAILURE", "dagster"),
        ("RUN_CANCELED", "SKIPPED", "CANCELED"),
    ],
)
def test_a_run_ends_as_its_event_does(end: str, result: str, native: str) -> None:
    *_, last = run_events(log(event("RUN_START"), event(end)))
    assert last["result"] == {"type": result, "nativeResultType": native}


def test_a_run_that_goes_on_has_only_started() -> None:
    whole = log(event("RUN_ENQUEUED"), event("RUN_START"), event("STEP_START", "clean"))
    assert [entry["status"] for entry in run_events(whole)] == ["STARTED"]
    assert "end_time" not in properties(whole)["customProperties"]


def test_a_run_that_waits_in_the_queue_is_no_instance_yet() -> None:
    catalog = delivered(log(event("RUN_ENQUEUED"), steps=[step("clean")]))
    assert catalog.urns("dataProcessInstance") == []
    assert len(catalog.urns("dataJob")) == 1


def test_a_run_that_is_canceled_in_the_queue_has_only_an_end() -> None:
    whole = log(event("RUN_ENQUEUED"), event("RUN_CANCELING"), event("RUN_CANCELED"))
    (only,) = run_events(whole)
    assert only["result"]["type"] == "SKIPPED"
    assert "durationMillis" not in only


def test_the_record_ends_a_run_only_if_no_event_does() -> None:
    begun = log(event("RUN_START"), event("STEP_START", "clean"), steps=[step("clean")])
    record = run(status="FAILURE", ended=T0 + 60)
    *_, last = run_events(replace(begun, run=record))
    assert last["timestampMillis"] == int(T0 * 1000) + 60_000
    assert last["result"]["type"] == "FAILURE"

    ended = log(*succeeded(), run=record)
    assert [entry["status"] for entry in run_events(ended)] == ["STARTED", "COMPLETE"]
    assert run_events(ended)[-1]["result"]["type"] == "SUCCESS"

    without_time = replace(begun, run=run(status="CANCELED"))
    assert run_events(without_time)[-1]["timestampMillis"] == int(T0 * 1000) + 1000


def test_a_run_that_goes_on_after_its_end_ends_again() -> None:
    whole = log(event("RUN_START"), event("RUN_FAILURE"), event("RUN_START"), event("RUN_SUCCESS"))
    actual = delivered(whole).events(URN)
    assert actual == [
        ("STARTED", None, 1),
        ("COMPLETE", "FAILURE", 1),
        ("STARTED", None, 2),
        ("COMPLETE", "SUCCESS", 2),
    ]


def test_the_facts_of_a_run_are_plain_strings() -> None:
    whole = log(
        event("RUN_ENQUEUED"),
        event("RUN_STARTING"),
        *broke(*ran("clean", materialized("orders")), *failed("load"), message="KeyError: 'x'"),
        steps=[step("clean"), step("load")],
        run=run(
            tags={
                "team": "finance",
                "dagster/partition": "2024-01-01",
                ".dagster/grpc_info": "{}",
            },
            root_run_id=PARENT,
            parent_run_id=PARENT,
            has_repository_load_data=True,
        ),
    )
    assert properties(whole)["customProperties"] == {
        "code_location": "shop",
        "end_time": str(T0 + 8),
        "enqueued_time": str(T0),
        "execution_plan_snapshot_id": "plan-snapshot",
        "failure_message": "KeyError: 'x'",
        "failure_reason": "STEP_FAILURE",
        "has_repository_load_data": "True",
        "job_snapshot_id": "job-snapshot",
        "launch_time": str(T0 + 1),
        "materializations": "1",
        "expectations": "0",
        "parent_run_id": PARENT,
        "partition": "2024-01-01",
        "root_run_id": PARENT,
        "start_time": str(T0 + 2),
        "steps_failed": "1",
        "steps_succeeded": "1",
        "tags.dagster/partition": "2024-01-01",
        "tags.team": "finance",
        "trigger": "manual",
    }


@pytest.mark.parametrize(
    ("tags", "trigger", "kind"),
    [
        ({}, "manual", "BATCH_AD_HOC"),
        ({"dagster/schedule_name": "daily"}, "schedule", "BATCH_SCHEDULED"),
        ({"dagster/sensor_name": "files"}, "sensor", "BATCH_SCHEDULED"),
        ({"dagster/backfill": "abc"}, "backfill", "BATCH_SCHEDULED"),
        ({"dagster/retry_number": "1"}, "retry", "BATCH_SCHEDULED"),
        (
            {
                "dagster/from_automation_condition": "true",
                "dagster/sensor_name": "default_automation_condition_sensor",
                "dagster/backfill": "abc",
            },
            "automation",
            "BATCH_SCHEDULED",
        ),
    ],
)
def test_the_trigger_of_a_run_is_sent(tags: dict[str, str], trigger: str, kind: str) -> None:
    own = properties(log(*succeeded(), run=run(tags=tags)))
    assert own["customProperties"]["trigger"] == trigger
    assert own["type"] == kind


def test_names_of_schedule_sensor_and_backfill_are_sent() -> None:
    tags = {
        "dagster/schedule_name": "daily",
        "dagster/sensor_name": "files",
        "dagster/backfill": "abc",
        ".dagster/scheduled_execution_time": "2024-01-01T00:00:00+00:00",
    }
    stated = properties(log(*succeeded(), run=run(tags=tags)))["customProperties"]
    assert stated["schedule_name"] == "daily"
    assert stated["sensor_name"] == "files"
    assert stated["backfill_id"] == "abc"
    assert stated["scheduled_execution_time"] == "2024-01-01T00:00:00+00:00"


def test_a_canceled_run_did_not_fail() -> None:
    canceled = event("RUN_CANCELED", None, Failure("somebody wanted it so"))
    stated = properties(log(event("RUN_START"), canceled))["customProperties"]
    assert not {"failure_reason", "failure_message"} & stated.keys()


def test_a_run_that_executes_another_again_follows_it() -> None:
    whole = log(*succeeded(), run=run(parent_run_id=PARENT, root_run_id=PARENT))
    relationships = delivered(whole).of(URN, "dataProcessInstanceRelationships")
    assert relationships["upstreamInstances"] == [run_urn(PARENT, Context())]
    assert "parentInstance" not in relationships


def test_a_run_of_a_backfill_belongs_to_it() -> None:
    whole = log(*succeeded(), run=run(tags={"dagster/backfill": "abc"}, parent_run_id=PARENT))
    relationships = delivered(whole).of(URN, "dataProcessInstanceRelationships")
    assert relationships["parentInstance"] == backfill_urn("abc", Context())
    assert relationships["upstreamInstances"] == [run_urn(PARENT, Context())]


@pytest.mark.parametrize(
    ("options", "link"),
    [
        ({}, None),
        ({"dagster_url": "http://ui"}, f"http://ui/runs/{RUN_ID}"),
        (
            {"dagster_url": "http://ui", "is_cloud": True, "branch": "dev"},
            f"http://ui/dev/runs/{RUN_ID}",
        ),
    ],
)
def test_a_run_links_to_its_page(options: dict[str, Any], link: str | None) -> None:
    assert properties(log(*succeeded()), **options).get("externalUrl") == link


def test_events_of_one_millisecond_stay_apart() -> None:
    start = Event(1, "RUN_START", T0)
    assert len(run_events(log(start, Event(2, "RUN_SUCCESS", T0)))) == 2


def test_a_runs_times_are_exact_to_what_dagster_keeps_of_them() -> None:
    """Else they would be a millisecond before those that Dagster, or the plugin, shows."""
    whole = log(Event(1, "RUN_START", T0 + 0.3479998), Event(2, "RUN_SUCCESS", T0 + 1))
    assert run_events(whole)[0]["timestampMillis"] == int(T0 * 1000) + 348
    assert properties(whole)["created"]["time"] == int(T0 * 1000) + 348
    assert properties(whole)["customProperties"]["start_time"] == str(T0 + 0.348)
