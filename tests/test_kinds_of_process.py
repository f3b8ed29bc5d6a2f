"""Both styles in kinds of process that the other tests leave out, and Dagster's own commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pipelines
import pytest
import yaml
from dagster_postgres import PostgresEventLogStorage
from deployment import Deployment, eventually, sqlite_yaml
from postgres import over_psycopg2
from styles import named, style_a, style_b

from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.source.runs import run_of
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.urns import flow_urn

PIPELINES = Path(pipelines.__file__)
FORKSERVER: Any = {"execution": {"config": {"multiprocess": {"start_method": {"forkserver": {}}}}}}
TOKEN = "hush-hush"


class Homeless(Deployment):
    """As for whoever starts `dagster dev` in a folder with a dagster.yaml, without a home."""

    @property
    def variables(self) -> dict[str, str]:
        return {name: each for name, each in super().variables.items() if name != "DAGSTER_HOME"}


@pytest.fixture
def block(tmp_path: Path) -> dict[str, Any]:
    return {"datahub_file_config": {"path": str(tmp_path / "files")}}


@pytest.fixture
def homes() -> Iterator[list[Deployment]]:
    """Deployments that are stopped in the end."""
    started: list[Deployment] = []
    yield started
    for each in started:
        each.stop()


def execute(home: Deployment, *arguments: str) -> None:
    where = ("-f", str(PIPELINES), "-a", "defs", "-j", "nested")
    home.run("dagster", "job", "execute", *where, *arguments)


@pytest.mark.parametrize("style", ["A", "B"])
def test_steps_that_a_forkserver_starts_are_captured_with_their_run(
    tmp_path: Path, block: dict[str, Any], style: str
) -> None:
    home = tmp_path / "home"
    waiting = {**block, "dispatch": "off", "touch_interval": 600}
    sqlite = {"sqlite": {"base_dir": str(home)}}
    deployment = Deployment(
        home, style_a(sqlite, waiting) if style == "A" else style_b(None, waiting)
    )
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(FORKSERVER))
    execute(deployment, "-c", str(config))
    with deployment.instance() as instance:
        (run,) = instance.get_runs()
        assert instance.get_run_stats(run.run_id).steps_succeeded == 2
        (lease,) = ledger_of(instance, patience=5).leases.take("test", 9, timedelta(minutes=1))
    # At its start and at its end, for each process of a step is short.
    assert (lease.run_id, lease.touches) == (run.run_id, 2)


def test_style_b_works_in_dagster_dev_without_a_dagster_home(
    tmp_path: Path, block: dict[str, Any], homes: list[Deployment]
) -> None:
    deployment = Homeless(tmp_path / "folder", sqlite_yaml({**block, "poll_interval": 0.2}))
    homes.append(deployment)
    deployment.dev({"shop": PIPELINES})
    deployment.launch("shop", "assets")
    files = tmp_path / "files"
    eventually(lambda: list(files.glob("*.json")), "the run is delivered by the daemon")
    assert not deployment.home.joinpath("history").exists()


def test_style_a_without_a_storage_says_what_to_write_without_a_dagster_home(
    tmp_path: Path, block: dict[str, Any], homes: list[Deployment]
) -> None:
    deployment = Homeless(tmp_path / "folder", style_a(None, block))
    homes.append(deployment)
    command = ("dagster", "dev", "-f", str(PIPELINES))
    done = deployment.run(*command, check=False)
    assert done.returncode != 0
    assert "storage: {sqlite: {base_dir: ...}}" in done.stderr


def test_check_finds_an_event_log_on_postgres_beside_runs_on_sqlite(
    tmp_path: Path, block: dict[str, Any], postgres_url: str
) -> None:
    backend = named(PostgresEventLogStorage, postgres_url=over_psycopg2(postgres_url))
    deployment = Deployment(tmp_path / "home", style_b(backend, block))
    done = deployment.cli("check", check=False)
    assert done.returncode == 1
    assert "configure run_storage and schedule_storage beside event_log_storage" in done.stdout


# Dagster's own commands


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A home in style B in which a run was executed, with a token in its dagster.yaml."""
    client = {"server": "http://127.0.0.1:9", "token": TOKEN, "extra_headers": {"X-Key": TOKEN}}
    storage = sqlite_yaml({"datahub_client_config": client, "dispatch": "worker"})
    deployment = Deployment(tmp_path_factory.mktemp("used") / "home", storage)
    execute(deployment)
    return deployment


@pytest.mark.parametrize("command", ["info", "migrate", "reindex"])
def test_the_instance_commands_work_and_show_no_secret_of_ours(
    used: Deployment, command: str
) -> None:
    done = used.run("dagster", "instance", command)
    shown = done.stdout + done.stderr
    assert command == "reindex" or "DataHubEventLogStorage" in shown
    assert command == "reindex" or "http://127.0.0.1:9" in shown
    assert TOKEN not in shown
    assert "datahub_eventlog" not in done.stderr


def test_a_run_can_be_exported_and_imported_for_debugging(used: Deployment, tmp_path: Path) -> None:
    other = Deployment(tmp_path / "home", sqlite_yaml({"dispatch": "off"}))
    with used.instance() as instance:
        (run,) = instance.get_runs()
        expected = _types(instance, run.run_id)
    file = str(tmp_path / "run.gz")
    used.run("dagster", "debug", "export", run.run_id, file)
    other.run("dagster", "debug", "import", file)
    with other.instance() as instance:
        assert _types(instance, run.run_id) == expected
        assert ledger_of(instance, patience=5).runs.state(run.run_id) == "pending"


def _types(instance: Any, run_id: str) -> list[Mapping[str, Any]]:
    return [entry.dagster_event_type for entry in instance.all_logs(run_id)]


SHOP = """
import dagster as dg


@dg.op
def work():
    pass


@dg.job(executor_def=dg.in_process_executor)
def nightly():
    work()


defs = dg.Definitions(jobs=[nightly])
"""
IN_PROCESS = """
from dagster import DagsterInstance
from shop import nightly

with DagsterInstance.get() as instance:
    nightly.execute_in_process(instance=instance)
"""
WAYS = {
    "a file": (("-f", "shop.py"), "shop.py", "shop.py"),
    "a file in a folder": (("-f", "inner/shop.py", "-d", "inner"), "shop.py", "shop.py"),
    "a module": (("-m", "shop"), "shop", "shop"),
    "a package": (("--package-name", "inner"), "inner", "inner"),
    "a file and its attribute": (("-f", "shop.py", "-a", "defs"), "shop.py", "shop.py:defs"),
}
"""What is loaded, and the flow's prefix if a command executes it, and if a code location does."""


def flows(home: Deployment) -> list[str]:
    """The flows of the home's runs, the first run first."""
    with home.instance() as instance:
        runs = [run_of(record) for record in instance.get_run_records(ascending=True)]
    return [flow_urn(run, Context()) for run in runs]


def flow(prefix: str) -> str:
    return f"urn:li:dataFlow:(dagster,{prefix}/nightly,PROD)"


@pytest.fixture
def shop(tmp_path: Path, block: dict[str, Any]) -> Deployment:
    """A home in which the same job lies in a file, a module and a package."""
    home = Deployment(tmp_path / "home", sqlite_yaml({**block, "dispatch": "off"}))
    (home.home / "inner").mkdir()
    for name in ("shop.py", "inner/shop.py", "inner/__init__.py"):
        (home.home / name).write_text(SHOP)
    return home


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=() if way == "a file" else pytest.mark.long) for way in WAYS]
)
def test_a_job_has_one_flow_whether_a_command_or_a_code_location_executes_it(
    shop: Deployment, way: str
) -> None:
    target, executed, launched = WAYS[way]
    for verb in ("execute", "launch"):
        shop.run("dagster", "job", verb, *target, "-j", "nightly")
    assert flows(shop) == [flow(executed), flow(launched)]


def test_a_job_has_the_flow_of_its_code_location_and_of_none_that_of_prod(shop: Deployment) -> None:
    named = {"relative_path": "shop.py", "location_name": "sales"}
    for file in ("shop.py", named):
        workspace = {"load_from": [{"python_file": file}]}
        (shop.home / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        shop.run("dagster", "job", "launch", "-w", "workspace.yaml", "-j", "nightly")
    shop.program(IN_PROCESS)
    assert flows(shop) == [flow("shop.py"), flow("sales"), flow("prod")]
