from __future__ import annotations

from typing import Any

import pytest
from datahub.api.entities.datajob import DataFlow, DataJob
from datahub.api.entities.dataprocess.dataprocess_instance import DataProcessInstance
from datahub.emitter.mce_builder import datahub_guid
from hypothesis import given
from hypothesis import strategies as st
from logs import RUN_ID, run
from receiver_schemas import check_urn

from datahub_eventlog.config import Config
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context


def context(*, is_cloud: bool = False, deployment: str | None = None, **options: Any) -> Context:
    return Context(Config(**options), is_cloud=is_cloud, deployment=deployment)


@pytest.mark.parametrize(
    ("options", "of_run", "prefix"),
    [
        ({}, {}, "shop.defs"),
        ({}, {"module": None}, "shop"),
        ({}, {"module": None, "location": None}, "prod"),
        ({}, {"module": None, "location": None, "file": "x.py"}, "x.py"),
        ({}, {"module": None, "file": "x.py"}, "shop"),
        ({"is_cloud": True}, {"module": None, "location": None, "file": "x.py"}, "prod/x.py"),
        ({"branch": "dev"}, {"module": None, "location": None}, "dev"),
        ({"is_cloud": True}, {}, "prod/shop.defs"),
        ({"is_cloud": True, "deployment": "stage"}, {}, "stage/shop.defs"),
        ({"is_cloud": True, "deployment": "stage", "branch": "dev"}, {}, "dev/shop.defs"),
        ({"is_cloud": True}, {"module": None, "location": None}, "prod"),
        ({"urn_prefix": "prod"}, {}, "prod"),
        ({"urn_prefix": "x", "is_cloud": True, "deployment": "stage"}, {}, "x"),
    ],
)
def test_a_flow_is_named_after_its_module_or_what_overrides_it(
    options: dict[str, Any], of_run: dict[str, Any], prefix: str
) -> None:
    assert urns.module_prefix(run(**of_run), context(**options)) == prefix


def test_the_option_is_cloud_wins_over_the_environment() -> None:
    here = Context(Config(is_cloud=False), is_cloud=True, deployment="stage")
    assert urns.module_prefix(run(), here) == "shop.defs"


@pytest.mark.parametrize("instance", [None, "east"])
def test_flows_jobs_and_runs_have_the_urns_of_datahubs_own_entities(instance: str | None) -> None:
    here = context(platform_instance=instance, env="TEST")
    flow = DataFlow(
        orchestrator="dagster", id="shop.defs/sales", env="TEST", platform_instance=instance
    )
    job = DataJob(id="shop.defs/clean", flow_urn=flow.urn)
    of_run = DataProcessInstance.from_dataflow(flow, RUN_ID)
    of_step = DataProcessInstance.from_datajob(job, f"{RUN_ID}.{job.id}")

    assert urns.flow_urn(run(), here) == str(flow.urn)
    assert urns.job_urn(run(), "clean", here) == str(job.urn)
    assert urns.run_urn(RUN_ID, here) == str(of_run.urn)
    assert urns.step_urn(run(), "clean", here) == str(of_step.urn)


def test_a_guid_is_datahubs_own() -> None:
    bag = {"b": "ü", "a": "1", "none": None}
    assert urns.guid(bag) == datahub_guid({"a": "1", "b": "ü"})


def test_an_asset_is_a_dataset_of_dagster_without_a_platform_instance() -> None:
    here = context(platform_instance="east", env="DEV")
    expected = "urn:li:dataset:(urn:li:dataPlatform:dagster,raw.orders,DEV)"
    assert urns.asset_urn(("raw", "orders"), here) == expected


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=3).map(tuple))
def test_any_asset_key_makes_a_urn_that_datahub_takes_or_a_fault(key: tuple[str, ...]) -> None:
    try:
        urn = urns.asset_urn(key, Context())
    except urns.InvalidUrn:
        return
    assert check_urn(urn, "") == "dataset"


@given(st.text())
def test_any_tag_and_owner_make_a_urn_that_datahub_takes_or_a_fault(name: str) -> None:
    for convert, kinds in ((urns.tag_urn, {"tag"}), (urns.owner_urn, {"corpuser", "corpGroup"})):
        try:
            urn = convert(name)
        except urns.InvalidUrn:
            continue
        assert check_urn(urn, "") in kinds


def test_an_owner_is_a_user_and_a_team_a_group() -> None:
    assert urns.owner_urn("ann@shop.com") == "urn:li:corpuser:ann@shop.com"
    assert urns.owner_urn("team:data") == "urn:li:corpGroup:data"


def test_a_platform_dataset_lands_on_what_datahubs_own_source_made() -> None:
    here = context(platform_instance_map={"snowflake": "eu"}, convert_urns_to_lowercase=True)
    expected = "urn:li:dataset:(urn:li:dataPlatform:snowflake,eu.db.orders,PROD)"
    assert urns.platform_dataset_urn("snowflake", "DB.Orders", here) == expected
    assert urns.platform_of(expected) == "snowflake"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("orders", "is not a dataset urn"),
        (None, "is not a dataset urn"),
        ("urn:li:tag:x", "is not a dataset urn"),
        ("urn:li:dataset:(urn:li:dataPlatform:s3,a,b)", "no environment"),
        (f"urn:li:dataset:(urn:li:dataPlatform:s3,{'a' * 500},PROD)", "longer than"),
    ],
)
def test_what_is_no_dataset_urn_is_told(text: object, why: str) -> None:
    with pytest.raises(urns.InvalidUrn, match=why):
        urns.checked_dataset_urn(text)


def test_white_space_around_a_urn_is_forgiven() -> None:
    urn = "urn:li:dataset:(urn:li:dataPlatform:s3,a,PROD)"
    assert urns.checked_dataset_urn(f" {urn}\n") == urn


@given(st.text(max_size=600))
def test_the_length_of_a_urn_is_that_of_its_encoded_bytes(name: str) -> None:
    urn = f"urn:li:tag:{name}"
    try:
        check_urn(f"{urn}.", "")
        is_refused = False
    except Exception as error:  # noqa: BLE001 - a Flaw, or what encoding raises
        is_refused = "longer" in str(error)
    assert urns.is_too_long(f"{urn}.") or not is_refused
