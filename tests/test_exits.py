"""Where no dispatcher is alive: a run's own process delivers, and never at the run's expense."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pipelines
import pytest
from deployment import DEADLINE, Deployment, eventually, postgres_yaml, sqlite_yaml
from postgres import over_psycopg2
from receiver import Receiver
from undisturbed import differences, dispatcher_of, undisturbed

from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.ledger.dialects import Clock
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.process_role import IS_DAEMON_VARIABLE

PIPELINES = pipelines.__file__
HOUR = 3600.0
MATERIALIZE = """
import dagster, pipelines
with dagster.DagsterInstance.get() as instance:
    dagster.materialize([pipelines.orders], instance=instance)
print("over", flush=True)
"""


def block(receiver: Receiver, **options: Any) -> dict[str, Any]:
    client = {"server": receiver.url, "timeout_sec": 30}
    return {"datahub_client_config": client, **options}


@pytest.fixture
def home(tmp_path: Path, receiver: Receiver) -> Iterator[Deployment]:
    # A run that has no other way must be delivered, however slow the machine is.
    storage = sqlite_yaml(block(receiver, exit_timeout=DEADLINE))
    path = os.pathsep.join([str(Path(PIPELINES).parent), os.environ.get("PYTHONPATH", "")])
    deployment = Deployment(tmp_path / "home", storage, {"PYTHONPATH": path})
    yield deployment
    deployment.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def either_home(request: pytest.FixtureRequest, home: Deployment, receiver: Receiver) -> Deployment:
    if request.param == "postgres":
        url = over_psycopg2(request.getfixturevalue("postgres_url"))
        home.write(postgres_yaml(url, block(receiver, exit_timeout=DEADLINE)))
    return home


def start(home: Deployment) -> subprocess.Popen[str]:
    """Start a program that materialises an asset."""
    return subprocess.Popen(
        [sys.executable, "-c", MATERIALIZE],
        env=home.variables,
        cwd=home.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def states(home: Deployment) -> list[str | None]:
    """The states of all runs in the ledger."""
    with home.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        return [ledger.runs.state(run.run_id) for run in instance.get_runs()]


def assert_true(home: Deployment, receiver: Receiver) -> None:
    """DataHub has what it would have if nothing had gone wrong."""
    with home.instance() as instance:
        expected = undisturbed(instance, ledger_of(instance, patience=5))
    assert expected
    assert differences(receiver.state(), expected) == []


def deliver_later(home: Deployment, receiver: Receiver, clock: Clock = time.time) -> None:
    """What the next dispatcher does at that time."""
    config = Config(target=RestTarget(server=receiver.url))
    with home.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        ledger.database.clock = clock
        with dispatcher_of(config, instance, ledger) as dispatcher:
            eventually(
                lambda: not dispatcher.run_once() and ledger.leases.is_drained(), "it is drained"
            )


def test_a_job_that_is_executed_from_the_command_line_is_delivered_when_it_ends(
    either_home: Deployment, receiver: Receiver
) -> None:
    either_home.run("dagster", "job", "execute", "-f", PIPELINES, "-a", "defs", "-j", "nested")
    assert states(either_home) == ["delivered"]
    assert_true(either_home, receiver)


def test_an_asset_that_a_program_materialises_is_delivered_when_it_ends(
    either_home: Deployment, receiver: Receiver
) -> None:
    process = start(either_home)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert states(either_home) == ["delivered"]
    assert_true(either_home, receiver)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_program_ends_in_time_though_datahub_hangs_and_its_run_is_delivered_later(
    home: Deployment, receiver: Receiver, when: str
) -> None:
    home.write(sqlite_yaml(block(receiver, exit_timeout=2)))
    receiver.fault("hang", when=when)
    process = start(home)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert states(home) == ["pending"]

    receiver.clear()
    deliver_later(home, receiver)
    assert states(home) == ["delivered"]
    assert_true(home, receiver)


def test_a_program_that_must_not_wait_at_all_leaves_its_run_to_others(
    home: Deployment, receiver: Receiver
) -> None:
    home.write(sqlite_yaml(block(receiver, exit_timeout=0)))
    done = home.program(f"{MATERIALIZE}\nimport sys; print('datahub' in sys.modules)")
    assert done.stdout == "over\nFalse\n"
    assert "Left for the next dispatcher" not in done.stderr
    deliver_later(home, receiver)
    assert states(home) == ["delivered"]


def test_a_program_whose_datahub_is_a_stub_leaves_its_run_to_others(home: Deployment) -> None:
    stub = "import sys, types; sys.modules['datahub'] = types.ModuleType('datahub')"
    done = home.program(f"{stub}\n{MATERIALIZE}")
    assert done.stdout == "over\n"
    assert "Left for the next dispatcher: datahub.__spec__ is None" in done.stderr
    assert states(home) == ["pending"]


DAEMON = """
import dagster, threading
with dagster.DagsterInstance.get():
    for each in threading.enumerate():
        if each.name == "datahub-eventlog-start":
            each.join()
print("over")
"""


def test_a_daemon_says_that_its_client_of_datahubs_is_broken(home: Deployment) -> None:
    broken = home.home / "broken" / "datahub"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise TypeError('protobuf is too new')")
    path = os.pathsep.join([str(broken.parent), home.variables["PYTHONPATH"]])
    home.environment = {**home.environment, "PYTHONPATH": path, IS_DAEMON_VARIABLE: "true"}
    done = home.program(DAEMON)
    assert done.stdout == "over\n"
    assert "Nothing is delivered to DataHub from this process" in done.stderr
    assert "TypeError: protobuf is too new" in done.stderr
    assert "Exception in thread" not in done.stderr


def test_a_program_whose_extractor_hangs_leaves_its_run_to_others(
    home: Deployment, receiver: Receiver
) -> None:
    code = "import threading\ndef hang(context, generator, graph):\n    threading.Event().wait()\n"
    (home.home / "hanging.py").write_text(code)
    options = {"exit_timeout": 2, "asset_lineage_extractor": "hanging:hang"}
    home.write(sqlite_yaml(block(receiver, **options)))
    process = start(home)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert states(home) == ["pending"]
    assert receiver.writes == []


def test_a_program_that_is_killed_while_it_delivers_loses_nothing(
    home: Deployment, receiver: Receiver
) -> None:
    receiver.fault("hang", when="after", path="action=ingest", count=1)
    process = start(home)
    eventually(lambda: receiver.writes, "it delivers")
    process.kill()
    process.communicate(timeout=DEADLINE)
    assert states(home) == ["leased"]

    deliver_later(home, receiver, clock=lambda: time.time() + HOUR)
    assert states(home) == ["delivered"]
    assert_true(home, receiver)


def test_a_dispatcher_that_starts_while_a_program_delivers_does_not_deliver_the_run_too(
    home: Deployment, receiver: Receiver
) -> None:
    hang = receiver.fault("hang", when="after", path="action=ingest", count=1)
    process = start(home)
    eventually(lambda: hang.happened, "it delivers")
    with home.instance() as instance:
        (run,) = instance.get_runs()
        before = len(receiver.writes)
        config = Config(target=RestTarget(server=receiver.url))
        ledger = ledger_of(instance, patience=5)
        with dispatcher_of(config, instance, ledger) as dispatcher:
            dispatcher.deliver([run.run_id])
        assert len(receiver.writes) == before
        assert process.poll() is None
    receiver.clear()
    process.communicate(timeout=DEADLINE)
    assert states(home) == ["delivered"]
    assert_true(home, receiver)
