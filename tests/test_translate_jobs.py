from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from catalog import Catalog
from logs import asset_facts, facts, log, op, ran, run, step, succeeded, text

from datahub_eventlog.config import Config
from datahub_eventlog.translate import run_part
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_ports import AssetDatasets
from datahub_eventlog.translate.urns import flow_urn, job_urn
from datahub_eventlog.values import Definitions, Job, Metadatum, Op, Port, Problem, RunLog

UI = "http://dagster:3000"


def delivered(whole: RunLog, **options: Any) -> Catalog:
    return Catalog().deliver(run_part(whole, AssetDatasets(), Context(Config(**options))))


def of_flow(whole: RunLog, aspect: str = "dataFlowInfo", **options: Any) -> Any:
    urn = flow_urn(whole.run, Context(Config(**options)))
    return delivered(whole, **options).of(urn, aspect)


def of_job(whole: RunLog, handle: str, aspect: str = "dataJobInfo", **options: Any) -> Any:
    urn = job_urn(whole.run, handle, Context(Config(**options)))
    return delivered(whole, **options).of(urn, aspect)


def test_a_job_is_a_flow_with_its_facts() -> None:
    job = Job(
        "sales",
        description="Counts what was sold.",
        tags={"team": "finance", ".dagster/hidden": "x"},
        metadata={"limit": Metadatum("int", 3), "doc": text("see there")},
    )
    assert of_flow(log(job=job)) == {
        "name": "sales",
        "description": "Counts what was sold.",
        "customProperties": {
            "code_location": "shop",
            "doc": "see there",
            "limit": "3",
            "repository": "__repository__",
            "tags.team": "finance",
        },
        "env": "PROD",
    }
    assert of_flow(log(job=job), "subTypes") == {"typeNames": ["Job"]}
    assert of_flow(log(job=job), "status") == {"removed": False}
    assert of_flow(log(job=job), "dataPlatformInstance") == {
        "platform": "urn:li:dataPlatform:dagster"
    }


def test_tags_and_owners_are_added_and_never_sent_empty() -> None:
    job = Job("sales", tags={"team": "finance", ".dagster/hidden": "x"}, owners=("ann@shop.com",))
    definitions = Definitions(job_owners=("team:data",), job_tags={"since": "2020"})
    whole = log(job=job, definitions=definitions)
    catalog = Catalog()
    here = Context()
    urn = flow_urn(whole.run, here)
    catalog.state[urn, "globalTags"] = {"tags": [{"tag": "urn:li:tag:by hand"}]}
    catalog.deliver(run_part(whole, AssetDatasets(), here)).deliver(
        run_part(whole, AssetDatasets(), here)
    )

    tags = [tag["tag"] for tag in catalog.of(urn, "globalTags")["tags"]]
    assert tags == ["urn:li:tag:by hand", "urn:li:tag:since", "urn:li:tag:team"]
    owners = [owner["owner"] for owner in catalog.of(urn, "ownership")["owners"]]
    assert owners == ["urn:li:corpGroup:data", "urn:li:corpuser:ann@shop.com"]

    plain = log(steps=[step("clean")])
    aspects = {aspect for _, aspect in delivered(plain).state}
    assert not aspects & {"globalTags", "ownership"}


def test_a_tag_that_datahub_cannot_take_costs_only_itself() -> None:
    whole = log(job=Job("sales", tags={"x" * 600: "", "team": ""}))
    catalog = delivered(whole)
    urn = flow_urn(whole.run, Context())
    assert [tag["tag"] for tag in catalog.of(urn, "globalTags")["tags"]] == ["urn:li:tag:team"]
    assert [(problem.urn, problem.aspect) for problem in catalog.problems] == [(urn, "globalTags")]


def test_every_op_node_is_a_job_whether_it_ran_or_not() -> None:
    whole = log(
        *succeeded(*ran("clean")),
        ops=[op("clean"), op("outer.inner.pack"), op("never")],
        steps=[step("clean")],
    )
    catalog = delivered(whole)
    urns = [job_urn(whole.run, each, Context()) for each in ("clean", "never", "outer.inner.pack")]
    assert catalog.urns("dataJob") == urns
    infos = [catalog.of(urn, "dataJobInfo") for urn in urns]
    assert [info["name"] for info in infos] == ["clean", "never", "outer.inner.pack"]
    assert all(info["type"] == {"string": "COMMAND"} for info in infos)


def test_an_op_has_its_facts_as_plain_strings() -> None:
    stated = {"n": Metadatum("int", 2), "datahub.outputs": text("a dataset, told as lineage")}
    described = Op(
        handle="again",
        name="clean",
        description="Cleans.",
        tags={"dagster/compute_kind": "sql"},
        inputs=(Port("rows", "DataFrame", "all of them", is_required=False),),
        outputs=(Port("result", is_dynamic=True, metadata=stated),),
        pool="db",
    )
    info = of_job(log(ops=[described]), "again")
    assert info["description"] == "Cleans."
    properties = info["customProperties"]
    assert json.loads(properties.pop("input.rows")) == {
        "type": "DataFrame",
        "description": "all of them",
        "is_required": False,
    }
    assert json.loads(properties.pop("output_result")) == {
        "type": "Any",
        "is_dynamic": True,
        "metadata": {"n": "2"},
    }
    assert properties == {"op": "clean", "pool": "db", "tags.dagster/compute_kind": "sql"}


def test_an_op_that_makes_an_asset_is_called_so_and_tagged_with_its_group() -> None:
    whole = log(
        steps=[step("raw__orders", asset="raw/orders"), step("mail")],
        definitions=facts(asset_facts("raw/orders", group="landing")),
    )
    assert of_job(whole, "raw__orders", "subTypes") == {"typeNames": ["Asset"]}
    assert of_job(whole, "mail", "subTypes") == {"typeNames": ["Op"]}
    tags = of_job(whole, "raw__orders", "globalTags")["tags"]
    assert [tag["tag"] for tag in tags] == ["urn:li:tag:asset_group:landing"]


def test_a_run_without_the_ops_plan_does_not_say_of_what_kind_it_is() -> None:
    assert of_job(log(ops=[op("mail")]), "mail", "subTypes") is None


def test_without_the_snapshot_what_is_known_of_a_job_stays() -> None:
    whole = replace(log(*succeeded(*ran("clean")), steps=[step("clean")]), job=None)
    catalog = delivered(whole)
    flow, job = flow_urn(whole.run, Context()), job_urn(whole.run, "clean", Context())
    assert catalog.of(flow, "dataFlowInfo") is None
    assert catalog.of(job, "dataJobInfo") is None
    assert catalog.of(flow, "status") == catalog.of(job, "status") == {"removed": False}


def test_structure_is_as_of_the_start_of_the_run() -> None:
    whole = log(*succeeded(*ran("clean")), steps=[step("clean")])
    states = [
        each
        for each in run_part(whole, AssetDatasets(), Context())
        if not isinstance(each, Problem)
    ]
    times = {state.time for state in states if state.aspect in {"dataFlowInfo", "dataJobInfo"}}
    assert times == {whole.events[0].time}


def test_a_platform_instance_is_sent_and_browsed_by() -> None:
    whole = log(steps=[step("clean")])
    urn = "urn:li:dataPlatformInstance:(urn:li:dataPlatform:dagster,east)"
    flow = flow_urn(whole.run, Context(Config(platform_instance="east")))
    instance = of_flow(whole, "dataPlatformInstance", platform_instance="east")
    assert instance == {"platform": "urn:li:dataPlatform:dagster", "instance": urn}
    path = of_job(whole, "clean", "browsePathsV2", platform_instance="east")
    assert path == {"path": [{"id": urn, "urn": urn}, {"id": flow, "urn": flow}]}
    assert of_flow(whole, "browsePathsV2") == {"path": [{"id": "shop.defs"}]}


@pytest.mark.parametrize(
    ("job", "location", "name"),
    [
        ("daily__sync", "shop", "daily__sync"),
        ("__ASSET_JOB", "shop", "Assets of shop"),
        ("__ASSET_JOB_1", None, "Assets"),
        ("__ephemeral_asset_job__", None, "Ephemeral asset job"),
    ],
)
def test_names_are_whole_and_hidden_jobs_have_names_for_people(
    job: str, location: str | None, name: str
) -> None:
    whole = log(run=run(job_name=job, location=location))
    assert of_flow(whole)["name"] == name


@pytest.mark.parametrize(
    ("of_run", "options", "link"),
    [
        ({}, {}, "/locations/shop/jobs/sales"),
        ({"repository": "main"}, {}, "/locations/main@shop/jobs/sales"),
        ({"location": "a/b c.py"}, {}, "/locations/a%2Fb%20c.py/jobs/sales"),
        ({"location": None}, {}, "/guess/sales"),
        ({"job_name": "__ASSET_JOB"}, {}, "/locations/shop/assets"),
        ({"job_name": "__ASSET_JOB", "location": None}, {}, "/assets"),
        ({"job_name": "__ephemeral_asset_job__"}, {}, None),
        ({}, {"is_cloud": True, "branch": "dev"}, "/dev/locations/shop/jobs/sales"),
    ],
)
def test_a_flow_links_to_a_page_that_dagster_has(
    of_run: dict[str, Any], options: dict[str, Any], link: str | None
) -> None:
    info = of_flow(log(run=run(**of_run)), dagster_url=UI, **options)
    assert info.get("externalUrl") == (None if link is None else UI + link)


def test_a_deployment_that_is_in_the_url_already_is_not_added() -> None:
    info = of_flow(log(), dagster_url=f"{UI}/dev", is_cloud=True, branch="dev")
    assert info["externalUrl"] == f"{UI}/dev/locations/shop/jobs/sales"


def test_an_op_links_to_itself_in_its_job_and_an_asset_to_its_own_page() -> None:
    planned = [step("outer.pack"), step("raw__orders", asset="raw/or ders")]
    info = of_job(log(steps=planned), "outer.pack", dagster_url=UI)
    assert info["externalUrl"] == f"{UI}/locations/shop/jobs/sales/outer/pack"
    info = of_job(log(steps=planned), "raw__orders", dagster_url=UI)
    assert info["externalUrl"] == f"{UI}/assets/raw/or%20ders"
    hidden = log(steps=[step("pack")], run=run(job_name="__ASSET_JOB"))
    info = of_job(hidden, "pack", dagster_url=UI)
    assert info["externalUrl"] == f"{UI}/locations/shop/assets"
    assert of_job(hidden, "pack").get("externalUrl") is None


def test_a_urn_that_is_too_long_costs_only_its_entity() -> None:
    whole = log(ops=[op("x" * 500), op("clean")])
    catalog = delivered(whole)
    assert catalog.urns("dataJob") == [job_urn(whole.run, "clean", Context())]
    assert {problem.urn for problem in catalog.problems} == {
        job_urn(whole.run, "x" * 500, Context())
    }
