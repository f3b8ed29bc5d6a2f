"""A real Dagster deployment for tests: a DAGSTER_HOME, code locations, and Dagster's processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance

from datahub_eventlog.ledger_location import ledger_of

DEADLINE = 300.0
"""Seconds after which something that must happen counts as not happening."""

LAUNCH = """
mutation($location: String!, $repository: String!, $job: String!, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {
    selector: {repositoryLocationName: $location, repositoryName: $repository, jobName: $job}
    runConfigData: {}, mode: "default", executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""
TERMINATE = """
mutation($run: String!) { terminateRun(runId: $run) { __typename } }
"""
REPOSITORIES = """
{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }
"""


def eventually(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """What the condition says as soon as it says something true; fails after the deadline."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(0.05)
    return value


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def sqlite_yaml(datahub: Mapping[str, Any]) -> dict[str, Any]:
    """Style B on the default SQLite."""
    return {
        "event_log_storage": {
            "module": "datahub_eventlog",
            "class": "DataHubEventLogStorage",
            "config": {"datahub": dict(datahub)},
        }
    }


def postgres_yaml(url: str, datahub: Mapping[str, Any]) -> dict[str, Any]:
    """Style A around Postgres."""
    return {
        "storage": {
            "custom": {
                "module": "datahub_eventlog",
                "class": "DataHubStorage",
                "config": {
                    "storage": {"postgres": {"postgres_url": url}},
                    "datahub": dict(datahub),
                },
            }
        }
    }


@dataclass
class Deployment:
    """A home with a dagster.yaml, and the processes that were started in it."""

    home: Path
    storage: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.write(self.storage)

    def write(self, storage: Mapping[str, Any]) -> None:
        """Set what dagster.yaml says."""
        written = {**storage, "telemetry": {"enabled": False}}
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(written))

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the processes."""
        return {**os.environ, "DAGSTER_HOME": str(self.home), **self.environment}

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """Start a process of the deployment, whose output goes to that log."""
        with (self.home / log).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.variables,
                cwd=self.home,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the deployment to its end."""
        return self._executed("-m", *command, check=check)

    def program(self, code: str) -> subprocess.CompletedProcess[str]:
        """Execute a program of that text to its end."""
        return self._executed("-c", code, check=True)

    def _executed(self, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.variables,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `datahub-eventlog`."""
        return self.run("datahub_eventlog.cli", *arguments, check=check)

    def status(self) -> Any:
        """What `datahub-eventlog status --json` says."""
        return json.loads(self.cli("status", "--json").stdout)

    def log(self, name: str) -> str:
        """What was written to that log so far."""
        path = self.home / name
        return path.read_text(errors="replace") if path.exists() else ""

    def dev(self, locations: Mapping[str, Path]) -> None:
        """`dagster dev` with these code locations, up and loaded."""
        workspace = {
            "load_from": [
                {"python_file": {"relative_path": str(path), "location_name": name}}
                for name, path in locations.items()
            ]
        }
        (self.home / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        self.port = free_port()
        self.start(*("dagster", "dev", "-w", "workspace.yaml", "-p", str(self.port)), log="dev.log")
        eventually(
            lambda: set(locations) <= self._loaded(),
            f"dagster dev is up: {self.log('dev.log')[-3000:]}",
        )

    def serve(self, path: Path, name: str, *, has_daemon: bool) -> None:
        """A code server of its own, a webserver and perhaps a daemon, as on several machines."""
        code = free_port()
        server = {"host": "127.0.0.1", "port": code, "location_name": name}
        workspace = {"load_from": [{"grpc_server": server}]}
        (self.home / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        self.port = free_port()
        grpc = ("-h", "127.0.0.1", "-p", str(code), "-f", str(path), "-a", "defs")
        self.start("dagster", "api", "grpc", *grpc, log="code.log")
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-w", "workspace.yaml")
        eventually(lambda: _listens(code), f"the code server is up: {self.log('code.log')}")
        self.start("dagster_webserver", *where, log="webserver.log")
        if has_daemon:
            self.start("dagster._daemon", "run", "-w", "workspace.yaml", log="daemon.log")
        eventually(lambda: name in self._loaded(), "the webserver is up")

    def _loaded(self) -> set[str]:
        try:
            answer = self.graphql(REPOSITORIES)
        except OSError:
            return set()
        nodes = answer["repositoriesOrError"].get("nodes", [])
        return {node["location"]["name"] for node in nodes}

    def graphql(self, query: str, **variables: Any) -> Any:
        """The data of the webserver's answer; fails if there are errors."""
        answer = self.ask(query, **variables)
        assert not answer.get("errors"), answer
        return answer["data"]

    def ask(self, query: str, **variables: Any) -> Any:
        """All of the webserver's answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def launch(self, location: str, job: str, **tags: str) -> str:
        """Launch a run as the UI does, and return its id."""
        launch = self.graphql(
            LAUNCH,
            location=location,
            repository="__repository__",
            job=job,
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )["launchRun"]
        assert launch["__typename"] == "LaunchRunSuccess", launch
        run_id: str = launch["run"]["runId"]
        return run_id

    def terminate(self, run_id: str) -> None:
        """Terminate a run as the UI does."""
        self.graphql(TERMINATE, run=run_id)

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        """The deployment's instance, in this process."""
        with DagsterInstance.from_config(str(self.home)) as instance:
            yield instance

    def stop(self) -> None:
        """End all processes, with their children."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@contextmanager
def dispatcher_alive(home: Deployment) -> Iterator[None]:
    """Have a dispatcher's heartbeat without a dispatcher."""
    done = threading.Event()
    with home.instance() as instance:
        ledger = ledger_of(instance, patience=5)

        def beat() -> None:
            ledger.reports.heartbeat("elsewhere", 1, "0")
            while not done.wait(1):
                ledger.reports.heartbeat("elsewhere", 1, "0")

        thread = threading.Thread(target=beat)
        thread.start()
        eventually(ledger.reports.dispatchers, "the first heartbeat")
        yield
        done.set()
        thread.join()
