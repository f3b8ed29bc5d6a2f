"""The main path with real parts: `dagster dev`, two code locations, a receiver for DataHub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import locations
import pytest
from deployment import Deployment, eventually, postgres_yaml, sqlite_yaml
from receiver import Receiver

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context

TOKEN = "hush"
QUICK = {"poll_interval": 0.2, "touch_interval": 1}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def deployment(
    request: pytest.FixtureRequest, tmp_path: Path, receiver: Receiver
) -> Iterator[Deployment]:
    datahub = {"datahub_client_config": {"server": {"env": "GMS"}, "token": {"env": "TOKEN"}}}
    if request.param == "postgres":
        storage = postgres_yaml(request.getfixturevalue("postgres_url"), {**datahub, **QUICK})
    else:
        storage = sqlite_yaml({**datahub, **QUICK})
    environment = {"GMS": receiver.url, "TOKEN": "hush"}
    deployment = Deployment(tmp_path / "home", storage, environment)
    yield deployment
    deployment.stop()


def _run_state(receiver: Receiver, run_id: str) -> list[Any]:
    return receiver.timeseries(urns.run_urn(run_id, Context()), "dataProcessInstanceRunEvent")


def _has_ended(receiver: Receiver, run_id: str) -> bool:
    return any(each["status"] == "COMPLETE" for each in _run_state(receiver, run_id))


def _result(receiver: Receiver, run_id: str) -> str:
    ends = [each for each in _run_state(receiver, run_id) if each["status"] == "COMPLETE"]
    (end,) = ends
    result: str = end["result"]["type"]
    return result


def _aspect(receiver: Receiver, urn: str, name: str) -> Any:
    return receiver.aspect(urn, name)


def test_what_is_run_in_dagster_dev_arrives_by_itself(
    deployment: Deployment, receiver: Receiver, tmp_path: Path
) -> None:
    deployment.dev(locations.write(tmp_path / "code"))

    runs = {
        "SUCCESS": deployment.launch("ops", "two_ops"),
        "FAILURE": deployment.launch("ops", "failing"),
    }
    chain = deployment.launch("assets", "chain", **{"dagster/partition": "mon"})
    canceled = deployment.launch("ops", "waiting")
    started = deployment.home / "started"
    eventually(lambda: started.exists() or list(tmp_path.rglob("started")), "the op runs")
    deployment.terminate(canceled)

    for run_id in (*runs.values(), chain, canceled):
        eventually(partial(_has_ended, receiver, run_id), f"run {run_id} arrives")
    assert {result: _result(receiver, run_id) for result, run_id in runs.items()} == {
        "SUCCESS": "SUCCESS",
        "FAILURE": "FAILURE",
    }
    assert _result(receiver, canceled) == "SKIPPED"
    flow = "urn:li:dataFlow:(dagster,ops/two_ops,PROD)"
    load = _aspect(receiver, f"urn:li:dataJob:({flow},ops/load)", "dataJobInputOutput")
    extract = _aspect(receiver, f"urn:li:dataJob:({flow},ops/extract)", "dataJobInputOutput")
    assert [each["destinationUrn"] for each in load["inputDatasetEdges"]] == [
        "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.orders,PROD)"
    ]
    assert [each["destinationUrn"] for each in extract["outputDatasetEdges"]] == [
        "urn:li:dataset:(urn:li:dataPlatform:snowflake,dwh.revenue,PROD)"
    ]
    refined = "urn:li:dataset:(urn:li:dataPlatform:dagster,refined,PROD)"
    upstream = _aspect(receiver, refined, "upstreamLineage")["upstreams"]
    assert [each["dataset"] for each in upstream] == [
        "urn:li:dataset:(urn:li:dataPlatform:dagster,raw,PROD)"
    ]
    log = deployment.log("dev.log")
    assert log.count("Emitting metadata...") >= 4
    assert "hush" not in log
    found = deployment.status()
    assert found["runs"]["delivered"] == 4
    assert (found["rejected"], found["parked"]) == ([], [])
    assert len(found["dispatchers"]) == 1
    assert json.loads(deployment.cli("check", "--json").stdout)
