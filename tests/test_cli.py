"""The command line, as a user calls it: in processes of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deployment import Deployment, sqlite_yaml
from receiver import Receiver

TOKEN = "hush"
JOB = """
import dagster as dg

@dg.op
def one():
    return 1

@dg.job(executor_def=dg.in_process_executor)
def small():
    one()
"""


def _deployment(tmp_path: Path, receiver: Receiver, **datahub: object) -> Deployment:
    block = {
        "datahub_client_config": {"server": {"env": "GMS"}, "token": {"env": "TOKEN"}},
        "dispatch": "worker",
        **datahub,
    }
    variables = {"GMS": receiver.url, "TOKEN": "hush"}
    return Deployment(tmp_path / "home", sqlite_yaml(block), variables)


def test_a_worker_delivers_what_status_shows_as_pending(tmp_path: Path, receiver: Receiver) -> None:
    deployment = _deployment(tmp_path, receiver)
    (deployment.home / "small.py").write_text(JOB)
    deployment.run("dagster", "job", "execute", "-f", "small.py")
    assert deployment.status()["runs"] == {
        "pending": 1,
        "leased": 0,
        "delivered": 0,
        "parked": 0,
        "filtered": 0,
        "gone": 0,
        "expired": 0,
    }
    assert receiver.entities() == []
    with deployment.instance() as instance:
        (run,) = instance.get_runs()

    shown = json.loads(deployment.cli("show", run.run_id, "--json").stdout)
    assert "dataFlowInfo" in {each["aspectName"] for each in shown}
    assert receiver.entities() == []

    done = deployment.cli("worker", "--until-empty")
    assert "Emitting metadata..." in done.stderr
    assert "hush" not in done.stderr + done.stdout
    found = deployment.status()
    assert (found["runs"]["pending"], found["runs"]["delivered"]) == (0, 1)
    assert found["oldest_pending_seconds"] is None
    assert {each["entityUrn"] for each in shown} == set(receiver.entities())
    assert "small" in deployment.cli("show", run.run_id).stdout


def test_check_says_what_is_wrong_and_what_to_do(tmp_path: Path, receiver: Receiver) -> None:
    deployment = _deployment(tmp_path, receiver, dispatch="auto")
    good = deployment.cli("check")
    assert "FAILED" not in good.stdout

    deployment.write(sqlite_yaml({"evn": "PROD", "datahub_client_config": {"token": "hush"}}))
    wrong = deployment.cli("check", check=False)
    assert wrong.returncode == 1
    assert "Did you mean env?" in wrong.stdout
    assert "token: {env: DATAHUB_GMS_TOKEN}" in wrong.stdout
    assert "hush" not in wrong.stdout + wrong.stderr

    deployment.write({})
    absent = deployment.cli("check", check=False)
    assert absent.returncode == 1
    assert "not switched on" in absent.stdout


def test_a_worker_with_a_wrong_configuration_names_it_and_ends(
    tmp_path: Path, receiver: Receiver
) -> None:
    deployment = _deployment(tmp_path, receiver, max_attempts=0)
    done = deployment.cli("worker", check=False)
    assert done.returncode == 1
    assert "max_attempts: expected 1 or more" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_without_its_variables_names_them(tmp_path: Path, receiver: Receiver) -> None:
    deployment = _deployment(tmp_path, receiver)
    deployment.environment = {"GMS": receiver.url}
    done = deployment.cli("worker", "--until-empty", check=False)
    assert done.returncode == 1
    assert "TOKEN is not set here" in done.stderr


def test_wrong_usage_has_exit_code_2(tmp_path: Path, receiver: Receiver) -> None:
    deployment = _deployment(tmp_path, receiver)
    assert deployment.cli("retry", check=False).returncode == 2
    assert deployment.cli("no-such-command", check=False).returncode == 2
    assert deployment.cli("show", "no-such-run", check=False).returncode == 1


def test_ddl_prints_statements_that_make_the_tables(tmp_path: Path, receiver: Receiver) -> None:
    deployment = _deployment(tmp_path, receiver)
    printed = deployment.cli("ddl").stdout
    assert printed.count("CREATE TABLE") == 10
    assert "datahub_eventlog_runs" in printed


SQL_JOB = """
import dagster as dg

@dg.asset(metadata={"dagster/table_name": "dwh.orders"}, kinds={"snowflake"})
def orders():
    return dg.MaterializeResult(metadata={"Query": "insert into dwh.orders select a from dwh.raw"})

job = dg.define_asset_job("sql", executor_def=dg.in_process_executor)
defs = dg.Definitions([orders], jobs=[job])
"""
WARNING_EXTRACTOR = """
import warnings
import sqlglot.tokens

def extract(context, generator, graph):
    warnings.warn("a warning of the user's")
    return {}
"""
CODE_LOCATION = """
from dagster import DagsterInstance
with DagsterInstance.get():
    import sqlglot
"""
SQLGLOT_WARNS = "sqlglot[rs] is deprecated"


@pytest.fixture
def old_helper(tmp_path: Path) -> Path:
    """A folder of modules with which sqlglot warns when it is imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "sqlglotrs.py").touch()
    (folder / "sqlglotc.py").write_text("raise ImportError('as if it were not installed')")
    (folder / "warning_extractor.py").write_text(WARNING_EXTRACTOR)
    return folder


def _knows(receiver: Receiver, table: str) -> bool:
    return any(table in urn for urn in receiver.entities("dataset"))


@pytest.mark.long
def test_what_sqlglot_says_of_its_old_helper_is_kept_from_our_users(
    tmp_path: Path, receiver: Receiver, old_helper: Path
) -> None:
    named = {"asset_lineage_extractor": "warning_extractor:extract"}
    deployment = _deployment(tmp_path, receiver, **named)
    (deployment.home / "sql.py").write_text(SQL_JOB)
    deployment.run("dagster", "job", "execute", "-f", "sql.py", "-j", "sql")
    with deployment.instance() as instance:
        (run,) = instance.get_runs()

    deployment.environment = {**deployment.environment, "PYTHONPATH": str(old_helper)}
    page = str(tmp_path / "page.html")
    commands = (
        ("check",),
        ("show", run.run_id),
        ("preview", run.run_id, "-o", page),
        ("explain", "orders"),
    )
    for command in commands:
        assert SQLGLOT_WARNS not in deployment.cli(*command, check=command[0] != "check").stderr
    delivered = deployment.cli("worker", "--until-empty").stderr
    assert SQLGLOT_WARNS not in delivered
    assert "a warning of the user's" in delivered
    assert _knows(receiver, "dwh.raw")
    # Who only loads the storage, as a code location does, hears what plain Dagster would say.
    assert SQLGLOT_WARNS in deployment.program(CODE_LOCATION).stderr


def test_what_sqlglot_says_of_its_old_helper_is_not_in_the_log_of_the_daemon(
    tmp_path: Path, receiver: Receiver, old_helper: Path
) -> None:
    deployment = _deployment(tmp_path, receiver)
    (deployment.home / "sql.py").write_text(SQL_JOB)
    deployment.run("dagster", "job", "execute", "-f", "sql.py", "-j", "sql")
    deployment.environment = {**deployment.environment, "PYTHONPATH": str(old_helper)}
    block = {"datahub_client_config": {"server": {"env": "GMS"}, "token": {"env": "TOKEN"}}}
    deployment.write(sqlite_yaml({**block, "poll_interval": 0.2}))
    (deployment.home / "workspace.yaml").write_text("load_from: []")
    deployment.start("dagster._daemon", "run", "-w", "workspace.yaml", log="daemon.log")
    try:
        receiver.wait_for(lambda: _knows(receiver, "dwh.raw"), 120)
    finally:
        deployment.stop()
    log = deployment.log("daemon.log")
    assert log
    assert SQLGLOT_WARNS not in log
