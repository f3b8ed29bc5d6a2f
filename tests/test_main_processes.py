"""Our storage in Dagster's own processes: what it loads there, and who delivers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pipelines
import pytest
from deployment import Deployment, eventually, postgres_yaml, sqlite_yaml
from sqlalchemy import make_url

from datahub_eventlog.definitions import decode
from datahub_eventlog.placement import ledger_of

PIPELINES = pipelines.__file__
TTL = timedelta(minutes=1)
PLAIN_SQLITE: dict[str, Any] = {}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Where proposals are delivered to: one file a run."""
    return tmp_path / "files"


@pytest.fixture
def datahub(files: Path) -> dict[str, Any]:
    return {"datahub_file_config": {"path": str(files)}}


@pytest.fixture
def home(tmp_path: Path, datahub: dict[str, Any]) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path / "home", sqlite_yaml(datahub))
    yield deployment
    deployment.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def either_home(
    request: pytest.FixtureRequest, home: Deployment, datahub: dict[str, Any]
) -> Deployment:
    if request.param == "postgres":
        url = make_url(request.getfixturevalue("postgres_url"))
        text = url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        home.write(postgres_yaml(text, datahub))
    return home


def execute(home: Deployment, job: str, *, check: bool = True) -> str:
    """Execute a job in processes of its own, one for each step."""
    arguments = ("job", "execute", "-f", PIPELINES, "-a", "defs", "-j", job)
    return home.run("dagster", *arguments, check=check).stderr


def script(home: Deployment, code: str) -> str:
    """Run a program of a user's, which finds the tests' modules."""
    path = os.pathsep.join([str(Path(PIPELINES).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**home.variables, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def states(home: Deployment) -> dict[str, str | None]:
    with home.instance() as instance:
        ledger = ledger_of(instance, patience=1)
        return {each.job_name: ledger.state(each.run_id) for each in instance.get_runs()}


def beat(home: Deployment) -> None:
    """Have a dispatcher be alive, without having one."""
    with home.instance() as instance:
        ledger_of(instance, patience=1).heartbeat("elsewhere", 1, "0")


# A run's own process delivers it, if nobody else is there


def test_a_run_of_several_processes_delivers_itself_where_no_dispatcher_is_alive(
    either_home: Deployment, files: Path
) -> None:
    execute(either_home, "nested")
    assert states(either_home) == {"nested": "delivered"}
    assert len(list(files.glob("*.json"))) == 1


def test_a_failed_run_delivers_itself_too(home: Deployment) -> None:
    execute(home, "failing", check=False)
    assert states(home) == {"failing": "delivered"}


def test_a_run_is_left_to_a_dispatcher_that_is_alive(either_home: Deployment, files: Path) -> None:
    beat(either_home)
    execute(either_home, "nested")
    assert states(either_home) == {"nested": "pending"}
    assert not files.exists()


@pytest.mark.parametrize("dispatch", ["worker", "off"])
def test_a_run_delivers_itself_only_if_it_is_asked_to(
    home: Deployment, datahub: dict[str, Any], dispatch: str
) -> None:
    home.write(sqlite_yaml({**datahub, "dispatch": dispatch}))
    execute(home, "failing", check=False)
    assert states(home) == {"failing": "pending"}


def test_without_a_target_a_run_is_only_captured(home: Deployment) -> None:
    home.write(sqlite_yaml({}))
    errors = execute(home, "failing", check=False)
    assert states(home) == {"failing": "pending"}
    assert "datahub" not in errors.lower()


def test_without_the_secret_a_run_is_only_captured(home: Deployment) -> None:
    client = {"server": {"env": "NOT_SET_IN_A_RUN_POD"}, "token": {"env": "NEITHER"}}
    home.write(sqlite_yaml({"datahub_client_config": client}))
    errors = execute(home, "failing", check=False)
    assert states(home) == {"failing": "pending"}
    assert "NOT_SET_IN_A_RUN_POD" not in errors


def test_a_server_that_never_answers_does_not_keep_a_run_from_ending(home: Deployment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = {"server": server, "timeout_sec": 600}
        home.write(sqlite_yaml({"datahub_client_config": client, "exit_timeout": 2}))
        execute(home, "failing", check=False)
    assert states(home) == {"failing": "pending"}


IN_PROCESS = """
import dagster, pipelines
instance = dagster.DagsterInstance.get()
pipelines.nested.execute_in_process(instance=instance)
dagster.materialize([pipelines.orders], instance=instance)
"""


def test_runs_executed_in_process_are_delivered_when_the_program_ends(
    either_home: Deployment, files: Path
) -> None:
    script(either_home, IN_PROCESS)
    assert states(either_home) == {"nested": "delivered", "__ephemeral_asset_job__": "delivered"}
    assert len(list(files.glob("*.json"))) == 2


def test_runs_executed_in_process_are_delivered_when_their_instance_is_disposed(
    home: Deployment,
) -> None:
    code = """
import dagster, os, pipelines
with dagster.DagsterInstance.get() as instance:
    pipelines.nested.execute_in_process(instance=instance)
os._exit(0)
"""
    script(home, code)
    assert states(home) == {"nested": "delivered"}


def test_an_instance_whose_directory_is_gone_is_not_made_again(home: Deployment) -> None:
    code = """
import dagster, os, pipelines, shutil
instance = dagster.DagsterInstance.get()
pipelines.nested.execute_in_process(instance=instance)
shutil.rmtree(os.environ["DAGSTER_HOME"])
"""
    script(home, code)
    assert not home.home.exists()


def test_without_the_extra_a_program_leaves_its_runs_to_others(home: Deployment) -> None:
    errors = script(home, f"import sys\nsys.modules['datahub'] = None\n{IN_PROCESS}")
    assert set(states(home).values()) == {"pending"}
    assert "datahub_eventlog" not in errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_delivers_the_run_that_it_executed(home: Deployment) -> None:
    code = f"""
import multiprocessing
def work():
    {"; ".join(IN_PROCESS.split(chr(10))[1:4])}
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
"""
    script(home, code)
    assert states(home) == {"nested": "delivered"}


# What is loaded


def modules(folder: Path, role: str) -> set[str]:
    found = [each.read_text().split() for each in folder.glob(f"{role}-*")]
    assert found
    return {name for names in found for name in names}


@pytest.mark.parametrize("role", ["run", "step"])
def test_the_processes_of_a_run_load_nothing_that_plain_dagster_does_not(
    home: Deployment, tmp_path: Path, role: str
) -> None:
    loaded = {}
    for name, storage in {"plain": PLAIN_SQLITE, "ours": home.storage}.items():
        folder = tmp_path / name
        folder.mkdir()
        home.write(storage)
        if name == "ours":
            beat(home)
        home.environment = {pipelines.MODULES: str(folder)}
        execute(home, "nested")
        loaded[name] = modules(folder, role)
    extra = {each.split(".")[0] for each in loaded["ours"] - loaded["plain"]}
    assert extra - sys.stdlib_module_names == {"datahub_eventlog"}


def test_the_users_code_is_loaded_once_in_each_process_as_in_plain_dagster(
    home: Deployment, tmp_path: Path
) -> None:
    loads = {}
    for name, storage in {"plain": PLAIN_SQLITE, "ours": home.storage}.items():
        home.write(storage)
        home.environment = {pipelines.LOADS: str(tmp_path / name)}
        execute(home, "nested")
        loads[name] = (tmp_path / name).read_text().split()
    assert len(loads["ours"]) == len(set(loads["ours"])) == len(loads["plain"])


def test_the_definitions_are_stored_by_the_run_and_not_once_more_by_its_steps(
    home: Deployment,
) -> None:
    beat(home)
    execute(home, "assets")
    with home.instance() as instance:
        (run,) = instance.get_runs()
        ledger = ledger_of(instance, patience=1)
        (lease,) = ledger.lease("test", 9, TTL)
        assert (lease.run_id, lease.touches) == (run.run_id, 2)
        packed = ledger.facts(lease.definitions or "")
    assert packed is not None
    assert decode(packed).assets["elsewhere",].group == "landing"


# The daemon


def test_the_daemon_delivers_from_a_thread_until_it_is_told_to_end(
    either_home: Deployment,
) -> None:
    daemon = either_home.start("dagster._daemon", "run", "-f", PIPELINES, log="daemon.log")
    with either_home.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        eventually(ledger.dispatchers, "the daemon's dispatcher beats")
        execute(either_home, "nested")
        (run,) = instance.get_runs()
        eventually(lambda: ledger.state(run.run_id) == "delivered", "the run is delivered")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
        assert ledger.dispatchers() == []


def test_a_daemon_without_the_extra_says_what_to_install(home: Deployment, tmp_path: Path) -> None:
    code = """
import sys
sys.modules["tenacity"] = None
sys.argv = ["dagster-daemon", "run", "-f", sys.argv[1]]
from dagster._daemon.cli import main
main()
"""
    starter = tmp_path / "starter.py"
    starter.write_text(code)
    home.environment = {"DATAHUB_EVENTLOG_IS_DAEMON": "true", "PYTHONPATH": str(tmp_path)}
    home.start("starter", PIPELINES, log="daemon.log")
    eventually(
        lambda: 'pip install "datahub-eventlog[datahub]"' in home.log("daemon.log"),
        "the daemon says what to install",
    )
    with home.instance() as instance:
        assert ledger_of(instance, patience=5).dispatchers() == []
