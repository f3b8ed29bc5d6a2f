"""Functions of the user's raise, hang or kill the process that delivers."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deployment import Deployment, sqlite_yaml
from receiver import Receiver

from datahub_eventlog.ledger.tables import runs
from faults.scene import TOKEN, Scene, deliver_all, other_ops, two_ops

USERS_CODE = """
import threading

def raising(context, generator, graph):
    raise ValueError("a bad day")

def hanging(context, generator, graph):
    threading.Event().wait()

def raising_for_key(parts):
    raise ValueError("a bad day")
"""


@pytest.mark.parametrize(
    ("option", "function", "reason"),
    [
        ("asset_lineage_extractor", "raising", "a bad day"),
        ("asset_lineage_extractor", "hanging", "did not return within 0.2 s"),
        ("asset_keys_to_dataset_urn_converter", "raising_for_key", "a bad day"),
    ],
)
def test_a_bad_function_of_the_users_costs_only_its_own_facts(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    function: str,
    reason: str,
) -> None:
    @dg.asset
    def stock() -> None:
        pass

    tmp_path.joinpath("users_code_of_faults.py").write_text(USERS_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    functions: dict[str, Any] = {option: f"users_code_of_faults:{function}"}
    config = scene.config(**functions)
    run_id = dg.materialize([stock], instance=scene.instance).run_id
    with scene.dispatcher(config, deadline=timedelta(seconds=0.2)) as dispatcher:
        deliver_all(dispatcher, scene)

    assert scene.is_delivered(run_id)
    assert any(reason in each.reason for each in scene.ledger.reports.status().rejected)
    scene.assert_true()


DEADLY = """
import os, signal
from pathlib import Path

def kill(context, generator, graph):
    if context.dagster_run.job_name == "other_ops":
        with Path(__file__).with_name("killed").open("a") as killed:
            killed.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return {}
"""


def test_a_run_that_kills_whoever_delivers_it_parks_and_holds_nothing_up(
    home: Deployment, receiver: Receiver, tmp_path: Path
) -> None:
    tmp_path.joinpath("deadly_code.py").write_text(DEADLY)
    client = {"server": receiver.url, "token": TOKEN}
    home.write(
        sqlite_yaml(
            {
                "dispatch": "worker",
                "max_attempts": 2,
                "asset_lineage_extractor": "deadly_code:kill",
                "datahub_client_config": client,
            }
        )
    )
    home.environment = {"PYTHONPATH": str(tmp_path)}
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        deadly, good = scene.run(other_ops), scene.run(two_ops)
        for _ in range(2):
            assert home.cli("worker", "--until-empty", check=False).returncode == -signal.SIGKILL
            assert scene.ledger.runs.state(deadly) == "leased"
            _end_leases(scene)
        home.cli("worker", "--until-empty")
        (parked,) = scene.ledger.reports.status().parked
        assert parked.run_id == deadly
        assert "out of memory" in parked.error
        assert scene.is_delivered(good)
        assert tmp_path.joinpath("killed").read_text() == "xx"

        assert scene.ledger.runs.revive() == 1
        with scene.dispatcher() as other:
            deliver_all(other, scene)
        assert scene.is_delivered(deadly, good)
        scene.assert_true()


def _end_leases(scene: Scene) -> None:
    with scene.ledger.database._connect() as connection:
        connection.execute(runs.update().where(runs.c.state == "leased").values(due=0.0))
        connection.commit()
