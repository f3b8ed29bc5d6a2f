"""Our storage in Dagster's own processes: what it loads there, and who delivers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pipelines
import pytest
from deployment import (
    DEADLINE,
    Deployment,
    dispatcher_alive,
    eventually,
    postgres_yaml,
    sqlite_yaml,
)
from postgres import over_psycopg2

from datahub_eventlog.definitions import decode
from datahub_eventlog.ledger_location import ledger_of

PIPELINES = pipelines.__file__


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
        url = over_psycopg2(request.getfixturevalue("postgres_url"))
        home.write(postgres_yaml(url, datahub))
    return home


def execute(home: Deployment, job: str) -> None:
    """Execute a job in processes of its own, one for each step."""
    home.run("dagster", "job", "execute", "-f", PIPELINES, "-a", "defs", "-j", job)


def script(home: Deployment, code: str) -> str:
    """Run a program of a user's, and return what it printed as errors."""
    path = os.pathsep.join([str(Path(PIPELINES).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**home.variables, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def states(home: Deployment) -> dict[str, str | None]:
    """The states of the runs in the ledger, by their jobs."""
    with home.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        return {run.job_name: ledger.runs.state(run.run_id) for run in instance.get_runs()}


IN_PROCESS = """
import dagster, pipelines
instance = dagster.DagsterInstance.get()
pipelines.nested.execute_in_process(instance=instance)
"""
ENDS_BADLY = """
import dagster, pipelines
with dagster.DagsterInstance.get() as instance:
    pipelines.failing.execute_in_process(instance=instance, raise_on_error=False)
"""


# A run's own process delivers it, if nobody else is there


def test_a_run_of_several_processes_delivers_itself_where_no_dispatcher_is_alive(
    either_home: Deployment, files: Path
) -> None:
    execute(either_home, "nested")
    assert states(either_home) == {"nested": "delivered"}
    assert len(list(files.glob("*.json"))) == 1


def test_runs_executed_in_process_are_delivered_when_the_program_ends(
    either_home: Deployment, files: Path
) -> None:
    script(either_home, f"{IN_PROCESS}\ndagster.materialize([pipelines.orders], instance=instance)")
    assert states(either_home) == {"nested": "delivered", "__ephemeral_asset_job__": "delivered"}
    assert len(list(files.glob("*.json"))) == 2


def test_a_run_executed_in_process_is_delivered_when_its_instance_is_disposed(
    home: Deployment,
) -> None:
    script(home, f"import os{ENDS_BADLY}os._exit(0)")
    assert states(home) == {"failing": "delivered"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_delivers_the_run_that_it_executed(home: Deployment) -> None:
    code = f"""
import multiprocessing
def work():
    {"; ".join(IN_PROCESS.strip().splitlines())}
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
"""
    script(home, code)
    assert states(home) == {"nested": "delivered"}


def test_a_run_is_left_to_a_dispatcher_that_is_alive(home: Deployment, files: Path) -> None:
    with dispatcher_alive(home):
        script(home, ENDS_BADLY)
    assert states(home) == {"failing": "pending"}
    assert not files.exists()


@pytest.mark.parametrize("dispatch", ["worker", "off"])
def test_a_run_delivers_itself_only_if_it_is_asked_to(
    home: Deployment, datahub: dict[str, Any], dispatch: str
) -> None:
    home.write(sqlite_yaml({**datahub, "dispatch": dispatch}))
    script(home, ENDS_BADLY)
    assert states(home) == {"failing": "pending"}


SECRET = {"server": {"env": "NOT_SET_IN_A_RUN_POD"}, "token": {"env": "NEITHER"}}


@pytest.mark.parametrize(
    "block", [{}, {"datahub_client_config": SECRET}], ids=["no target", "no secret"]
)
def test_a_process_that_cannot_deliver_captures_and_says_nothing(
    home: Deployment, block: dict[str, Any]
) -> None:
    home.write(sqlite_yaml(block))
    errors = script(home, ENDS_BADLY)
    assert states(home) == {"failing": "pending"}
    assert "datahub" not in errors.lower()


def test_without_the_extra_a_program_leaves_its_runs_to_others(home: Deployment) -> None:
    errors = script(home, f"import sys\nsys.modules['datahub'] = None\n{ENDS_BADLY}")
    assert states(home) == {"failing": "pending"}
    assert "datahub" not in errors.lower()


def test_a_server_that_never_answers_does_not_keep_a_run_from_ending(home: Deployment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = {"server": server, "timeout_sec": 600}
        home.write(sqlite_yaml({"datahub_client_config": client, "exit_timeout": 2}))
        script(home, ENDS_BADLY)
    assert states(home) == {"failing": "pending"}


def test_an_instance_whose_directory_is_gone_is_not_made_again(home: Deployment) -> None:
    script(home, f"{IN_PROCESS}\nimport os, shutil\nshutil.rmtree(os.environ['DAGSTER_HOME'])")
    assert not home.home.exists()


# What is loaded, and how often


@dataclass(frozen=True)
class Observed:
    """What the processes of one run did."""

    modules: Mapping[str, set[str]]
    """By the role of the process: run or step."""
    loads: list[str]
    """The process ids of those that loaded the user's code, once for each time."""


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Observed]:
    """A run of several processes, with plain Dagster and with a dispatcher alive elsewhere."""
    folder = tmp_path_factory.mktemp("observed")
    backend = {
        "module": "dagster._core.storage.event_log",
        "class": "SqliteEventLogStorage",
        "config": {"base_dir": str(folder / "plain" / "history" / "runs")},
    }
    plain = Deployment(folder / "plain", {"event_log_storage": backend})
    ours = Deployment(folder / "ours", sqlite_yaml({}))
    with dispatcher_alive(ours):
        return {"plain": observe(plain), "ours": observe(ours)}


def observe(home: Deployment) -> Observed:
    loads, folder = home.home / "loads", home.home / "modules"
    folder.mkdir()
    home.environment = {pipelines.LOADS: str(loads), pipelines.MODULES: str(folder)}
    execute(home, "nested")
    found = {role: set[str]() for role in ("run", "step")}
    for path in folder.iterdir():
        found[path.name.split("-")[0]].update(path.read_text().split())
    return Observed(found, loads.read_text().split())


@pytest.mark.parametrize("role", ["run", "step"])
def test_the_processes_of_a_run_load_nothing_that_plain_dagster_does_not(
    observed: dict[str, Observed], role: str
) -> None:
    loaded = {name: each.modules[role] for name, each in observed.items()}
    assert "dagster._core.execution.api" in loaded["plain"]
    extra = {each.split(".")[0] for each in loaded["ours"] - loaded["plain"]}
    assert extra == {"datahub_eventlog"}


def test_a_step_loads_neither_the_ledger_nor_what_reads_definitions(
    observed: dict[str, Observed],
) -> None:
    ours = {each for each in observed["ours"].modules["step"] if each.startswith("datahub_event")}
    assert "datahub_eventlog.capture" in ours
    assert not {"datahub_eventlog.ledger", "datahub_eventlog.definitions"} & ours


def test_the_users_code_is_loaded_once_in_each_process_as_in_plain_dagster(
    observed: dict[str, Observed],
) -> None:
    loads = observed["ours"].loads
    assert len(loads) == len(set(loads)) == len(observed["plain"].loads)


def test_the_definitions_are_stored_by_the_run_and_a_short_run_is_touched_twice(
    home: Deployment,
) -> None:
    home.write(sqlite_yaml({"touch_interval": 600}))
    execute(home, "assets")
    with home.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        (lease,) = ledger.leases.take("test", 9, timedelta(minutes=1))
        packed = ledger.runs.facts(lease.definitions_hash or "")
    assert lease.touches == 2
    assert packed is not None
    assert decode(packed).assets["elsewhere",].group == "landing"


# The daemon


def test_the_daemon_delivers_from_a_thread_until_it_is_told_to_end(
    either_home: Deployment,
) -> None:
    daemon = either_home.start("dagster._daemon", "run", "-f", PIPELINES, log="daemon.log")
    with either_home.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        eventually(ledger.reports.dispatchers, "the daemon's dispatcher beats")
        script(either_home, ENDS_BADLY)
        (run,) = instance.get_runs()
        eventually(lambda: ledger.runs.state(run.run_id) == "delivered", "the run is delivered")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
        assert ledger.reports.dispatchers() == []


THREADS = """
import os, threading, time
from dagster import DagsterInstance
def dispatchers():
    return [each for each in threading.enumerate() if each.name == "datahub-eventlog"]
def wait_for(count):
    end = time.monotonic() + 60
    while len(dispatchers()) != count:
        assert time.monotonic() < end
        time.sleep(0.05)
first = DagsterInstance.get()
second = DagsterInstance.get()
wait_for(1)
"""


def test_a_process_has_one_dispatcher_which_ends_with_its_first_instance(home: Deployment) -> None:
    home.environment = {"DATAHUB_EVENTLOG_IS_DAEMON": "true"}
    script(home, f"{THREADS}second.dispose()\nwait_for(1)\nfirst.dispose()\nwait_for(0)")


def test_a_dispatcher_does_not_keep_its_process_from_ending(home: Deployment) -> None:
    home.environment = {"DATAHUB_EVENTLOG_IS_DAEMON": "true"}
    script(home, THREADS)
    with home.instance() as instance:
        assert ledger_of(instance, patience=5).reports.dispatchers() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_of_the_daemon_starts_no_second_dispatcher(home: Deployment) -> None:
    home.environment = {"DATAHUB_EVENTLOG_IS_DAEMON": "true"}
    code = """
import os, threading
from dagster import DagsterInstance
from datahub_eventlog import DataHubEventLogStorage
child = os.fork()
if child == 0:
    instance = DagsterInstance.get()
    os._exit(len([each for each in threading.enumerate() if "datahub-eventlog" in each.name]))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    script(home, code)


@pytest.mark.parametrize("block", [["no", "mapping"], {"evn": "PROD"}])
def test_a_daemon_delivers_nothing_under_a_wrong_configuration_and_says_so(
    home: Deployment, files: Path, block: Any
) -> None:
    storage = sqlite_yaml({})
    storage["event_log_storage"]["config"]["datahub"] = block
    home.write(storage)
    target = json.dumps({"path": str(files)})
    home.environment = {"DATAHUB_EVENTLOG_DATAHUB_FILE_CONFIG": target}
    daemon = home.start("dagster._daemon", "run", "-f", PIPELINES, log="daemon.log")
    complaint = "Nothing is delivered to DataHub from this process. datahub:"
    eventually(lambda: complaint in home.log("daemon.log"), "the daemon says what is wrong")
    assert daemon.poll() is None
    with home.instance() as instance:
        assert ledger_of(instance, patience=5).reports.dispatchers() == []


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
        assert ledger_of(instance, patience=5).reports.dispatchers() == []
