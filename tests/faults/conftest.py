"""Scenes for the tests of faults: without runs, with waiting runs, on Postgres."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from deployment import Deployment, sqlite_yaml
from instances import configured
from receiver import Receiver

from datahub_eventlog.ledger_location import ledger_of
from faults.scene import BLOCK, TOKEN, Scene, other_ops, postgres_storage, two_ops


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(token=TOKEN) as receiver:
        yield receiver


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance without runs; a copy of it is there sooner than a new one."""
    folder = tmp_path_factory.mktemp("new")
    with configured(folder, **sqlite_yaml(BLOCK)) as instance:
        ledger_of(instance, patience=5).database.migrate()
    return folder


@pytest.fixture(scope="session")
def used_home(new_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two runs, which are not delivered yet."""
    folder = tmp_path_factory.mktemp("used") / "home"
    with _copy(new_home, folder) as instance:
        for job in (two_ops, other_ops):
            job.execute_in_process(instance=instance)
    return folder


def _copy(home: Path, folder: Path) -> dg.DagsterInstance:
    shutil.copytree(home, folder, dirs_exist_ok=True)
    return dg.DagsterInstance.from_config(str(folder))


@pytest.fixture
def scene(tmp_path: Path, receiver: Receiver, new_home: Path) -> Iterator[Scene]:
    """A scene without runs."""
    with _copy(new_home, tmp_path) as instance:
        yield Scene(instance, receiver)


@pytest.fixture
def waiting(tmp_path: Path, receiver: Receiver, used_home: Path) -> Iterator[Scene]:
    """A scene where two runs wait to be delivered."""
    with _copy(used_home, tmp_path) as instance:
        yield Scene(instance, receiver)


@pytest.fixture
def on_postgres(tmp_path: Path, receiver: Receiver, postgres_url: str) -> Iterator[Scene]:
    with configured(tmp_path, **postgres_storage(postgres_url)) as instance:
        yield Scene(instance, receiver)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """What the package has logged at that level."""
    caplog.set_level(logging.INFO, logger="dagster.datahub_eventlog")
    return lambda level: [
        record.getMessage()
        for record in caplog.records
        if record.levelno == level and record.name == "dagster.datahub_eventlog"
    ]


@pytest.fixture
def home(tmp_path: Path, receiver: Receiver) -> Iterator[Deployment]:
    """The same instance as `scene`, for processes of its own."""
    client = {"server": receiver.url, "token": TOKEN, "timeout_sec": 2}
    datahub = {"dispatch": "worker", "poll_interval": 0.1, "datahub_client_config": client}
    deployment = Deployment(tmp_path, sqlite_yaml(datahub))
    yield deployment
    deployment.stop()
