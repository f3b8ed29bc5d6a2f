"""Runs that a real daemon launches, each in one of the ways that there are, as they arrive.

The links that arrive with them are held against the routes of Dagster's own web interface: it
answers any path, and only its routes tell whether there is a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dagster_webserver
import pytest
from deployment import Deployment, eventually, sqlite_yaml
from receiver import Receiver

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context

URL = "https://dagster.example.com/team"
CODE = """
import dagster as dg

days = dg.StaticPartitionsDefinition(["mon", "tue"])


@dg.op
def work():
    pass


@dg.graph
def inner():
    work()


@dg.graph
def outer():
    inner()


@dg.job(executor_def=dg.in_process_executor)
def nightly():
    work()


@dg.job(executor_def=dg.in_process_executor)
def nested():
    outer()


@dg.schedule(job=nightly, cron_schedule="* * * * *",
             default_status=dg.DefaultScheduleStatus.RUNNING)
def every_minute():
    return dg.RunRequest(tags={"team": "shop"})


@dg.sensor(job=nightly, minimum_interval_seconds=1,
           default_status=dg.DefaultSensorStatus.RUNNING)
def watcher():
    return dg.RunRequest(run_key="once", tags={"file": "a.csv", "team": "shop"})


@dg.asset(key=["shop", "orders"], partitions_def=days, group_name="landing")
def raw():
    pass


@dg.asset(automation_condition=dg.AutomationCondition.missing()
          & ~dg.AutomationCondition.in_progress())
def derived():
    pass


automation = dg.AutomationConditionSensorDefinition(
    "automation", target=[derived], minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
defs = dg.Definitions(
    assets=[raw, derived], jobs=[nightly, nested], schedules=[every_minute],
    sensors=[watcher, automation], executor=dg.in_process_executor,
)
"""
LOCATION = "shop & co"
BACKFILL = """
mutation { launchPartitionBackfill(backfillParams: {
  assetSelection: [{path: ["shop", "orders"]}], partitionNames: ["mon", "tue"]
}) { __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
EXISTING = """
query($job: PipelineSelector!, $handle: String!, $run: ID!, $asset: AssetKeyInput!) {
  pipelineOrError(params: $job) {
    __typename ... on Pipeline { solidHandle(handleID: $handle) { handleID } }
  }
  runOrError(runId: $run) { __typename }
  assetOrError(assetKey: $asset) { __typename }
}
"""


@dataclass(frozen=True)
class Launch:
    """How a run is launched, and what its record in DataHub says of it."""

    tag: tuple[str, str | None]
    """A tag that only such runs have, and its value if any will not do."""
    trigger: str
    kind: str = "BATCH_SCHEDULED"
    properties: Mapping[str, str] = field(default_factory=dict)

    def made(self, tags: Mapping[str, str]) -> bool:
        name, value = self.tag
        return name in tags and value in (None, tags[name])


LAUNCHES = {
    "schedule": Launch(
        ("dagster/schedule_name", "every_minute"),
        "schedule",
        properties={"schedule_name": "every_minute", "tags.team": "shop"},
    ),
    "sensor": Launch(
        ("dagster/run_key", "once"),
        "sensor",
        properties={
            "sensor_name": "watcher",
            "tags.file": "a.csv",
            "tags.team": "shop",
            "tags.dagster/run_key": "once",
        },
    ),
    "backfill": Launch(
        ("dagster/partition", "mon"),
        "backfill",
        properties={"partition": "mon", "tags.dagster/partition": "mon"},
    ),
    "automation": Launch(
        ("dagster/from_automation_condition", None),
        "automation",
        properties={"sensor_name": "automation", "tags.dagster/from_automation_condition": "true"},
    ),
    "manual": Launch(("by", "hand"), "manual", kind="BATCH_AD_HOC", properties={"tags.by": "hand"}),
}


@dataclass(frozen=True)
class Launched:
    """One run of each kind, delivered."""

    runs: Mapping[str, str]
    backfill: str
    deployment: Deployment
    state: Mapping[str, Mapping[str, Any]]

    def properties(self, how: str) -> Mapping[str, Any]:
        urn = urns.run_urn(self.runs[how], Context())
        found: Mapping[str, Any] = self.state[urn]["dataProcessInstanceProperties"]
        return found

    @cached_property
    def links(self) -> Mapping[str, str]:
        """Of each entity that has one, the path within Dagster's web interface."""
        found = {}
        for urn, aspects in self.state.items():
            for aspect in aspects.values():
                if isinstance(aspect, dict) and (link := aspect.get("externalUrl")):
                    assert link.startswith(f"{URL}/")
                    found[urn] = urlsplit(link).path.removeprefix("/team")
        return found


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    folder = tmp_path_factory.mktemp("launched")
    file = folder / "code.py"
    file.write_text(CODE)
    with Receiver() as receiver:
        datahub = {
            "datahub_client_config": {"server": receiver.url},
            "dagster_url": URL,
            "poll_interval": 0.2,
        }
        deployment = Deployment(folder / "home", sqlite_yaml(datahub))
        try:
            deployment.dev({LOCATION: file})
            runs = {"manual": deployment.launch(LOCATION, "nested", by="hand")}
            answer = deployment.graphql(BACKFILL)["launchPartitionBackfill"]
            for how in LAUNCHES.keys() - runs.keys():
                found = partial(_run, deployment, LAUNCHES[how])
                runs[how] = eventually(
                    found, f"a run by {how}: {deployment.log('dev.log')[-2000:]}"
                )
            for run_id in runs.values():
                eventually(partial(_has_ended, receiver, run_id), f"run {run_id} arrives")
            backfill = urns.backfill_urn(answer["backfillId"], Context())
            arrived = partial(receiver.timeseries, backfill, "dataProcessInstanceRunEvent")
            eventually(arrived, "the backfill arrives")
            yield Launched(runs, answer["backfillId"], deployment, receiver.state())
        finally:
            deployment.stop()


def _run(deployment: Deployment, launch: Launch) -> str | None:
    with deployment.instance() as instance:
        return next((run.run_id for run in instance.get_runs() if launch.made(run.tags)), None)


def _has_ended(receiver: Receiver, run_id: str) -> bool:
    events = receiver.timeseries(urns.run_urn(run_id, Context()), "dataProcessInstanceRunEvent")
    return any(event["status"] == "COMPLETE" for event in events)


@pytest.mark.parametrize("how", LAUNCHES)
def test_a_run_says_what_launched_it_with_its_tags_one_by_one(launched: Launched, how: str) -> None:
    expected = LAUNCHES[how]
    aspect = launched.properties(how)

    assert aspect["type"] == expected.kind
    properties = aspect["customProperties"]
    assert properties["trigger"] == expected.trigger
    assert {name: properties.get(name) for name in expected.properties} == expected.properties
    if how == "backfill":
        assert properties["backfill_id"] == launched.backfill
    assert not [name for name in properties if name.startswith("tags..dagster")]
    assert "tags" not in properties


def test_the_hidden_job_of_assets_goes_by_its_location(launched: Launched) -> None:
    names = {
        aspects["dataFlowInfo"]["name"]
        for aspects in launched.state.values()
        if "dataFlowInfo" in aspects
    }
    assert names == {"nightly", "nested", f"Assets of {LOCATION}"}


def test_each_partition_of_a_backfill_is_a_run_of_one_asset(launched: Launched) -> None:
    urn = "urn:li:dataset:(urn:li:dataPlatform:dagster,shop.orders,PROD)"
    partitions = {each["partitionSpec"]["partition"] for each in launched.state[urn]["operation"]}
    assert "mon" in partitions
    assert partitions <= {"mon", "tue"}


def test_a_backfill_is_above_its_runs_with_its_partitions(launched: Launched) -> None:
    backfill = urns.backfill_urn(launched.backfill, Context())
    run = launched.state[urns.run_urn(launched.runs["backfill"], Context())]
    assert run["dataProcessInstanceRelationships"]["parentInstance"] == backfill
    stated = launched.state[backfill]["dataProcessInstanceProperties"]["customProperties"]
    assert (stated["partitions"], stated["assets"]) == ("2", "shop/orders")


# ------------------------------------------------------------------------------------------- links


def _routes() -> set[str]:
    """The patterns of the web interface's routes, as they stand in its scripts."""
    scripts = Path(dagster_webserver.__file__).parent / "webapp" / "build" / "_next"
    found: set[str] = set()
    for script in scripts.rglob("*.js"):
        for patterns in re.findall(r'\bpath:(\[[^\]]*\]|"[^"]*")', script.read_text()):
            found.update(
                each for each in re.findall(r'"([^"]*)"', patterns) if each.startswith("/")
            )
    return found - {"/locations/:repoPath/*", "/locations/:repoPath/", "/locations/:repoPath"}


def _matches(route: str, path: str) -> bool:
    """Whether a path is the route's: `:name` stands for one part, what is in brackets is one."""
    pattern = re.sub(r":\w+", "[^/]+", route)
    return re.fullmatch(pattern, path) is not None


PAGES = {
    "dataFlow": {"/locations/:repoPath/jobs/(/?.*)", "/locations/:repoPath/assets"},
    "dataJob": {"/locations/:repoPath/jobs/(/?.*)", "/assets(/?.*)"},
    "dataProcessInstance": {"/runs/:runId", "/runs/b/:backfillId"},
    "dataset": {"/assets(/?.*)"},
}


def test_every_link_is_a_page_of_dagsters_web_interface(launched: Launched) -> None:
    routes = _routes()
    assert set().union(*PAGES.values()) <= routes
    assert {urn.split(":")[2] for urn in launched.links} == set(PAGES)
    for urn, path in launched.links.items():
        pages = PAGES[urn.split(":")[2]]
        assert [each for each in pages if _matches(each, path)], (urn, path)


def test_every_link_is_about_its_own_entity(launched: Launched) -> None:
    flow = f"urn:li:dataFlow:(dagster,{LOCATION}/{{}},PROD)"
    nested = flow.format("nested")
    parts = {
        urn: [unquote(each) for each in path.split("/")[1:]] for urn, path in launched.links.items()
    }
    _, location, _, job, *handle = parts[f"urn:li:dataJob:({nested},{LOCATION}/outer.inner.work)"]
    _, run_id = parts[urns.run_urn(launched.runs["manual"], Context())]
    _, *key = parts["urn:li:dataset:(urn:li:dataPlatform:dagster,shop.orders,PROD)"]

    assert parts[nested] == ["locations", LOCATION, "jobs", "nested"]
    assert parts[flow.format("__ASSET_JOB")] == ["locations", LOCATION, "assets"]
    found = launched.deployment.graphql(
        EXISTING,
        job={
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
            "pipelineName": job,
        },
        handle=".".join(handle),
        run=run_id,
        asset={"path": key},
    )
    assert found == {
        "pipelineOrError": {
            "__typename": "Pipeline",
            "solidHandle": {"handleID": "outer.inner.work"},
        },
        "runOrError": {"__typename": "Run"},
        "assetOrError": {"__typename": "Asset"},
    }
