"""The runs of a backfill together, as an instance above theirs."""

from dataclasses import replace
from typing import Any

import pytest
from catalog import Catalog
from logs import RUN_ID, T0, run

from datahub_eventlog.config import Config, Pattern
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.runs.backfill import LISTED_ASSETS, backfill_proposals
from datahub_eventlog.translate.urns import backfill_urn, flow_urn, run_urn
from datahub_eventlog.values import Backfill

URN = backfill_urn("kxmzqwvb", Context())
OF_JOB = Backfill(
    "kxmzqwvb",
    "REQUESTED",
    T0,
    title="Last week",
    description="The source was wrong.",
    tags={"team": "shop", ".dagster/hidden": "x"},
    job_name="sales",
    partitions=7,
    partitions_succeeded=4,
    partitions_failed=1,
    runs=6,
    run=run(),
)
OF_ASSETS = replace(OF_JOB, job_name=None, assets=(("a", "b"), ("c",)))
GONE = Backfill("kxmzqwvb", runs=2, run=run(created=T0 + 5))


def delivered(*backfills: Backfill, **options: Any) -> Catalog:
    catalog = Catalog()
    for backfill in backfills:
        catalog.deliver(backfill_proposals(backfill, Context(Config(**options))))
    return catalog


def properties(backfill: Backfill, **options: Any) -> Any:
    return delivered(backfill, **options).of(URN, "dataProcessInstanceProperties")


def relationships(backfill: Backfill) -> Any:
    return delivered(backfill).of(URN, "dataProcessInstanceRelationships")


def test_a_backfill_is_an_instance_of_its_own() -> None:
    assert URN not in {run_urn("kxmzqwvb", Context()), run_urn(RUN_ID, Context())}
    assert properties(OF_JOB) == {
        "name": "Last week",
        "created": {"time": int(T0 * 1000), "actor": "urn:li:corpuser:datahub"},
        "type": "BATCH_AD_HOC",
        "customProperties": {
            "backfill_id": "kxmzqwvb",
            "description": "The source was wrong.",
            "job": "sales",
            "partitions": "7",
            "partitions_failed": "1",
            "partitions_succeeded": "4",
            "runs": "6",
            "start_time": str(T0),
            "status": "REQUESTED",
            "tags.team": "shop",
            "title": "Last week",
            "trigger": "manual",
        },
    }


def test_a_backfill_of_a_job_is_one_of_its_flow_and_that_of_assets_is_not() -> None:
    flow = flow_urn(run(), Context())
    assert relationships(OF_JOB) == {"parentTemplate": flow, "upstreamInstances": []}
    assert relationships(OF_ASSETS) == {"upstreamInstances": []}
    assert relationships(replace(OF_JOB, run=None)) == {"upstreamInstances": []}


def test_a_backfill_names_the_assets_that_are_delivered() -> None:
    stated = properties(OF_ASSETS)["customProperties"]
    assert (stated["assets"], stated["asset_count"]) == ("a/b, c", "2")
    stated = properties(OF_ASSETS, asset_pattern=Pattern(deny=("c",)))["customProperties"]
    assert (stated["assets"], stated["asset_count"]) == ("a/b", "1")
    many = replace(OF_JOB, assets=tuple((str(number),) for number in range(LISTED_ASSETS + 1)))
    stated = properties(many)["customProperties"]
    assert "assets" not in stated
    assert stated["asset_count"] == str(LISTED_ASSETS + 1)


def test_a_backfill_that_dagster_launched_itself_is_scheduled() -> None:
    own = replace(OF_ASSETS, tags={"dagster/from_automation_condition": "true"})
    assert properties(own)["type"] == "BATCH_SCHEDULED"
    assert properties(own)["customProperties"]["trigger"] == "automation"


def test_a_backfill_links_to_its_page() -> None:
    linked = properties(OF_JOB, dagster_url="http://ui")
    assert linked["externalUrl"] == "http://ui/runs/b/kxmzqwvb"


def test_a_backfill_that_goes_on_has_started() -> None:
    assert delivered(OF_JOB, OF_JOB).events(URN) == [("STARTED", None, 1)]
    assert delivered(replace(OF_JOB, status="CANCELING")).events(URN) == [("STARTED", None, 1)]


@pytest.mark.parametrize(
    ("status", "result", "native"),
    [
        ("COMPLETED", "SUCCESS", "dagster"),
        ("COMPLETED_SUCCESS", "SUCCESS", "dagster"),
        ("COMPLETED_FAILED", "FAILURE", "dagster"),
        ("FAILED", "FAILURE", "dagster"),
        ("CANCELED", "SKIPPED", "CANCELED"),
    ],
)
def test_a_backfill_ends_as_dagster_says(status: str, result: str, native: str) -> None:
    over = replace(OF_JOB, status=status, ended=T0 + 60, error="no such partition set")
    assert over.has_ended
    catalog = delivered(OF_JOB, over, over)
    assert catalog.events(URN) == [("STARTED", None, 1), ("COMPLETE", result, 1)]
    end = max(
        catalog.series[URN, "dataProcessInstanceRunEvent"].values(),
        key=lambda each: each["timestampMillis"],
    )
    assert end["result"] == {"type": result, "nativeResultType": native}
    assert end["durationMillis"] == 60_000
    assert end["messageId"] == "backfill:kxmzqwvb:1:COMPLETE"
    stated = catalog.of(URN, "dataProcessInstanceProperties")["customProperties"]
    assert stated["failure_message"] == "no such partition set"


def test_of_a_backfill_without_a_record_its_id_and_its_runs_are_known() -> None:
    catalog = delivered(GONE)
    stated = catalog.of(URN, "dataProcessInstanceProperties")
    assert stated["name"] == "kxmzqwvb"
    assert stated["created"]["time"] == int(T0 * 1000) + 5000
    assert stated["customProperties"] == {
        "backfill_id": "kxmzqwvb",
        "runs": "2",
        "trigger": "manual",
    }
    assert catalog.events(URN) == []
