"""The catalogue as users have it: from the daemon, from workers, and by hand."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from deployment import Deployment, eventually, free_port, postgres_yaml, sqlite_yaml
from receiver import Receiver

RELOAD = """
mutation($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }
"""
SHOP = """
import dagster as dg

@dg.asset(group_name="sales", owners=["team:shop"])
def orders() -> None: ...

@dg.asset(deps=[orders])
def totals() -> None: ...

@dg.op
def look() -> None: ...

@dg.job
def looking() -> None:
    look()

nightly = dg.ScheduleDefinition("nightly", job=looking, cron_schedule="0 1 * * *")
ASSETS = [orders, totals, dg.AssetSpec("raw", description="As it came.")]
defs = dg.Definitions(assets=ASSETS, jobs=[looking], schedules=[nightly])
"""
WITHOUT_TOTALS = SHOP.replace("[orders, totals, ", "[orders, ")
TOTALS = "urn:li:dataset:(urn:li:dataPlatform:dagster,totals,PROD)"
ORDERS = "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)"
RAW = "urn:li:dataset:(urn:li:dataPlatform:dagster,raw,PROD)"
EVERYTHING = {"orders": ORDERS, "totals": TOTALS, "raw": RAW}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(SHOP)
    return path


def deployed(home: Path, storage: dict[str, Any]) -> Iterator[Deployment]:
    deployment = Deployment(home, storage)
    try:
        yield deployment
    finally:
        deployment.stop()


@pytest.fixture
def on_sqlite(tmp_path: Path, receiver: Receiver) -> Iterator[Deployment]:
    target = {"datahub_client_config": {"server": receiver.url}}
    yield from deployed(tmp_path / "home", sqlite_yaml(target))


@pytest.fixture
def on_postgres(tmp_path: Path, receiver: Receiver, postgres_url: str) -> Iterator[Deployment]:
    target = {"datahub_client_config": {"server": receiver.url}, "dispatch": "worker"}
    yield from deployed(tmp_path / "home", postgres_yaml(postgres_url, target))


def is_there(receiver: Receiver, urn: str) -> bool:
    return receiver.aspect(urn, "status") == {"removed": False}


def is_removed(receiver: Receiver, urn: str) -> bool:
    return receiver.aspect(urn, "status") == {"removed": True}


def everything_arrives(receiver: Receiver) -> None:
    for name, urn in EVERYTHING.items():
        eventually(partial(is_there, receiver, urn), f"{name} is there")


def test_the_daemon_sends_what_is_defined_and_what_is_gone(
    on_sqlite: Deployment, receiver: Receiver, shop: Path
) -> None:
    on_sqlite.dev({"shop": shop})
    everything_arrives(receiver)
    flow = "urn:li:dataFlow:(dagster,shop/looking,PROD)"
    info = eventually(lambda: receiver.aspect(flow, "dataFlowInfo"), "the job is there")
    assert info["customProperties"]["schedules"] == "nightly: 0 1 * * * UTC, stopped"
    owners = receiver.aspect(ORDERS, "ownership")
    assert owners is not None
    assert [owner["owner"] for owner in owners["owners"]] == ["urn:li:corpGroup:shop"]

    shop.write_text(WITHOUT_TOTALS)
    on_sqlite.graphql(RELOAD, name="shop")
    eventually(lambda: is_removed(receiver, TOTALS), "what is gone is removed")
    assert TOTALS in {row["urn"] for row in on_sqlite.status()["removed"]}

    shop.write_text("raise RuntimeError('it does not load')\n")
    on_sqlite.graphql(RELOAD, name="shop")
    shop.write_text(SHOP)
    on_sqlite.graphql(RELOAD, name="shop")
    eventually(lambda: is_there(receiver, TOTALS), "what has come back is there")
    assert is_there(receiver, ORDERS)
    assert not on_sqlite.status()["rejected"]


@pytest.mark.long
def test_a_daemon_without_delivery_leaves_its_catalogue_to_a_worker_that_dies_in_the_middle(
    on_postgres: Deployment, receiver: Receiver, shop: Path
) -> None:
    receiver.refuse()
    on_postgres.serve(shop, "shop", has_daemon=True)
    worker = on_postgres.start("datahub_eventlog.cli", "worker", log="worker.log")
    eventually(
        lambda: "wait in the ledger" in on_postgres.log("worker.log"), "the worker has found it"
    )
    worker.send_signal(signal.SIGKILL)
    receiver.accept()
    on_postgres.start("datahub_eventlog.cli", "worker", log="worker.log")
    everything_arrives(receiver)
    assert not on_postgres.status()["parked"]


@pytest.mark.long
def test_a_worker_with_a_workspace_sends_its_catalogue(
    on_sqlite: Deployment, receiver: Receiver, shop: Path
) -> None:
    worker = on_sqlite.start("datahub_eventlog.cli", "worker", "-f", str(shop), log="worker.log")
    everything_arrives(receiver)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, on_sqlite.log("worker.log")


@pytest.mark.long
def test_a_catalogue_is_sent_by_hand(
    on_sqlite: Deployment, receiver: Receiver, shop: Path, tmp_path: Path
) -> None:
    counted = on_sqlite.cli("catalog", "-f", str(shop), "--dry-run").stdout
    assert counted == "shop.py: 2 dataFlow, 3 dataJob, 3 dataset\n"
    assert receiver.entities() == []

    done = on_sqlite.cli("catalog", "-f", str(shop)).stdout
    assert done.startswith("shop.py: delivered\n")
    assert all(is_there(receiver, urn) for urn in EVERYTHING.values())
    again = on_sqlite.cli("catalog", "-f", str(shop)).stdout
    assert again == "shop.py: nothing has changed\n0 proposals sent\n"

    base = on_sqlite.cli("catalog", "-f", str(shop), "--json").stdout
    (tmp_path / "base.json").write_text(base)
    assert json.loads(base)["format"] == 1
    shop.write_text(WITHOUT_TOTALS)
    head = on_sqlite.cli("catalog", "-f", str(shop), "--json").stdout
    (tmp_path / "head.json").write_text(head)
    files = (str(tmp_path / "base.json"), str(tmp_path / "head.json"))
    diff = on_sqlite.cli("diff", *files, "--fail-on", "breaking", "--no-impact", check=False)
    assert diff.returncode == 1
    assert "totals" in diff.stdout


@pytest.mark.long
def test_what_is_gone_at_once_is_removed_on_request(
    on_sqlite: Deployment, receiver: Receiver, shop: Path
) -> None:
    on_sqlite.cli("catalog", "-f", str(shop))
    shop.write_text("import dagster as dg\n\ndefs = dg.Definitions()\n")
    on_sqlite.cli("catalog", "-f", str(shop))
    assert is_there(receiver, TOTALS)
    assert on_sqlite.status()["held_back"] == [{"location": "shop.py", "entities": 8}]
    assert "--allow-removal" in on_sqlite.cli("status").stdout
    on_sqlite.cli("catalog", "-f", str(shop), "--allow-removal")
    assert is_removed(receiver, TOTALS)
    assert on_sqlite.status()["held_back"] == []


@pytest.mark.long
def test_a_code_location_that_does_not_load_is_named(
    on_sqlite: Deployment, receiver: Receiver, shop: Path
) -> None:
    shop.write_text("import nothing_of_this_name\n")
    for options in ((), ("--dry-run",), ("--json",)):
        done = on_sqlite.cli("catalog", "-f", str(shop), *options, check=False)
        assert done.returncode == 1
        assert "shop.py could not be loaded" in done.stdout + done.stderr
        assert "nothing_of_this_name" in done.stdout + done.stderr
    assert receiver.entities() == []


@pytest.mark.long
def test_a_catalogue_waits_in_the_ledger_while_datahub_is_away(
    on_sqlite: Deployment, receiver: Receiver, shop: Path
) -> None:
    target = {"datahub_client_config": {"server": f"http://127.0.0.1:{free_port()}"}}
    on_sqlite.write(sqlite_yaml(target))
    waiting = on_sqlite.start("datahub_eventlog.cli", "catalog", "-f", str(shop), log="catalog.log")
    eventually(lambda: "Waiting: " in on_sqlite.log("catalog.log"), "it says that it waits")
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(60) == 1, on_sqlite.log("catalog.log")
    assert "waits in the ledger" in on_sqlite.log("catalog.log")

    on_sqlite.write(sqlite_yaml({"datahub_client_config": {"server": receiver.url}}))
    on_sqlite.cli("worker", "--until-empty")
    assert all(is_there(receiver, urn) for urn in EVERYTHING.values())
