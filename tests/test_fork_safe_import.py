"""Processes that are forked while a dispatcher is alive in a thread of their parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pipelines
import pytest
from deployment import Deployment, sqlite_yaml

from datahub_eventlog import fork_safe_import
from datahub_eventlog.ledger_location import ledger_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORK = """
import os, signal, sys, threading, time
import dagster, pipelines
def wait_for(condition):
    end = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
def fork(work):
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        work()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
first = dagster.DagsterInstance.get()
"""
WHILE_IT_IMPORTS = """
wait_for(lambda: "datahub_eventlog.dispatcher" in sys.modules)
def work():
    import datahub_eventlog.dispatcher
    from datahub_eventlog.sinks import rest
"""
WHILE_IT_DELIVERS = """
wait_for(lambda: "datahub-eventlog" in {each.name for each in threading.enumerate()})
def work():
    with dagster.DagsterInstance.get() as instance:
        assert pipelines.failing.execute_in_process(instance=instance, raise_on_error=False)
        first.report_engine_event("from a child", job_name="none", run_id="another")
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Deployment]:
    block = {"datahub_client_config": {"server": "http://127.0.0.1:9"}}
    deployment = Deployment(tmp_path / "home", sqlite_yaml(block))
    path = os.pathsep.join([str(Path(pipelines.__file__).parent), os.environ.get("PYTHONPATH", "")])
    deployment.environment = {"DATAHUB_EVENTLOG_IS_DAEMON": "true", "PYTHONPATH": path}
    yield deployment
    deployment.stop()


def run(home: Deployment, code: str) -> None:
    home.program(f"{FORK}{code}\nfork(work)")


def test_a_child_that_is_forked_while_the_dispatcher_is_imported_can_import_it_too(
    home: Deployment,
) -> None:
    run(home, WHILE_IT_IMPORTS)


def test_a_child_that_is_forked_beside_a_dispatcher_executes_a_run_which_is_captured(
    home: Deployment,
) -> None:
    run(home, WHILE_IT_DELIVERS)
    with home.instance() as instance:
        (executed,) = instance.get_runs()
        assert ledger_of(instance, patience=5).runs.state(executed.run_id) is not None


def test_a_fork_does_not_wait_for_the_thread_that_forks() -> None:
    with fork_safe_import.importing():
        child = os.fork()
        if child == 0:
            # Somebody else can import in the child, although the parent goes on.
            other = threading.Thread(target=_import)
            other.start()
            other.join(60)
            os._exit(other.is_alive())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _import() -> None:
    with fork_safe_import.importing():
        pass
