"""The system under test: Dagster's processes, a database and a DataHub, restarted when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from deployment import Deployment, eventually, free_port, postgres_yaml, sqlite_yaml
from postgres import PostgresServer, over_psycopg2
from receiver import Receiver

REEXECUTE = """
mutation($run: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: FROM_FAILURE}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
JOBS = Path(__file__).with_name("jobs.py")
LOCATION = "chaos"
TOKEN = "hush"
LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Process:
    """A line of `ps`."""

    pid: int
    parent: int
    command: str


@dataclass
class System:
    """A running deployment, its database and its DataHub."""

    deployment: Deployment
    receiver: Receiver
    postgres: PostgresServer | None
    dispatchers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    code: subprocess.Popen[bytes] | None = None
    webserver: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start everything and return when runs can be launched."""
        # Dagster's processes don't bear to make the same databases at the same time.
        with self.deployment.instance() as instance:
            instance.get_runs_count()
            instance.all_logs("")
        port = free_port()
        self.deployment.port = free_port()
        server = {"host": LOCAL, "port": port, "location_name": LOCATION}
        workspace = {"load_from": [{"grpc_server": server}]}
        path = self.deployment.home / "workspace.yaml"
        path.write_text(yaml.safe_dump(workspace))
        options = ("-h", LOCAL, "-p", str(port), "-f", str(JOBS), "-a", "defs")
        self.code = self.deployment.start(
            *("dagster", "api", "grpc", *options, "--location-name", LOCATION), log="code.log"
        )
        self.restart_ended()
        eventually(self._is_loaded, "the webserver knows the code location")

    def restart_ended(self) -> None:
        """Start the webserver and the dispatchers that have ended."""
        assert self.code is None or self.code.poll() is None, "the code server has ended"
        if self.webserver is None or self.webserver.poll() is not None:
            arguments = ("-h", LOCAL, "-p", str(self.deployment.port), "-w", "workspace.yaml")
            self.webserver = self.deployment.start("dagster_webserver", *arguments, log="web.log")
        for name, command in _DISPATCHERS.items():
            if name not in self.dispatchers or self.dispatchers[name].poll() is not None:
                self.dispatchers[name] = self.deployment.start(*command, log=f"{name}.log")

    def workers(self) -> tuple[list[int], dict[int, int]]:
        """The process ids of runs, and those of steps, each with its run's."""
        assert self.code is not None
        spawned = [process for process in _processes() if "spawn_main" in process.command]
        runs = [process.pid for process in spawned if process.parent == self.code.pid]
        return runs, {step.pid: step.parent for step in spawned if step.parent in runs}

    def reexecute(self, run_id: str) -> str:
        """Execute a failed run again from its failed step on, and return the new run's id."""
        answer = self.deployment.graphql(REEXECUTE, run=run_id)["launchRunReexecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        new_run_id: str = answer["run"]["runId"]
        return new_run_id

    def report(self, asset: str) -> None:
        """Report a materialisation over HTTP, as an external system does."""
        url = f"http://{LOCAL}:{self.deployment.port}/report_asset_materialization/{asset}"
        request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=30).close()

    def clear_faults(self) -> None:
        """End all faults of DataHub."""
        self.receiver.clear()
        self.receiver.token = TOKEN
        self.receiver.accept()

    def stop_dispatchers(self) -> None:
        """Send SIGTERM, and wait until they have finished their current run."""
        for process in self.dispatchers.values():
            process.send_signal(signal.SIGTERM)
        for process in self.dispatchers.values():
            process.wait(60)

    def _is_loaded(self) -> bool:
        return LOCATION in self.deployment._loaded()


_DISPATCHERS = {
    "daemon": ("dagster._daemon", "run", "-w", "workspace.yaml"),
    "worker": ("datahub_eventlog.cli", "worker"),
}


def kill(pid: int) -> bool:
    """Send SIGKILL, and return whether the process existed."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _processes() -> Iterator[Process]:
    listed = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    for line in listed.stdout.splitlines():
        pid, parent, command = line.split(None, 2)
        yield Process(int(pid), int(parent), command)


@contextmanager
def start_system(storage: str, home: Path) -> Iterator[System]:
    """Start a deployment on that storage; it ends with the context."""
    with Receiver(token=TOKEN) as receiver:
        client = {"server": receiver.url, "token": TOKEN, "timeout_sec": 3}
        datahub = {"datahub_client_config": client, "poll_interval": 0.5, "touch_interval": 1}
        if storage == "sqlite":
            yield from _running(home, sqlite_yaml(datahub), receiver, None)
            return
        with PostgresServer() as server, server.database() as url:
            config = postgres_yaml(over_psycopg2(url), datahub)
            yield from _running(home, config, receiver, server)


def _running(
    home: Path, storage: dict[str, Any], receiver: Receiver, postgres: PostgresServer | None
) -> Iterator[System]:
    coordinator = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    # Dagster fails a run whose process takes longer to start. Processes start all the time here,
    # so the limit is longer than any wait of this program.
    environment = {"DAGSTER_GRPC_TIMEOUT_SECONDS": "600"}
    deployment = Deployment(home, {**storage, "run_coordinator": coordinator}, environment)
    system = System(deployment, receiver, postgres)
    try:
        system.start()
        yield system
    finally:
        deployment.stop()
