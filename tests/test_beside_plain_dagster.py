"""Servers and runs with and without us: what the UI is told, what is loaded, what is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import observed
import pipelines
import pytest
import ui_queries
from deployment import Deployment, dispatcher_alive, eventually, sqlite_yaml

TOKEN = "hush-hush"
BLOCK = {
    "datahub_client_config": {
        "server": "http://127.0.0.1:9",
        "token": TOKEN,
        "extra_headers": {"X-Key": TOKEN},
    },
    "touch_interval": 600,
}
AT_ONCE = {
    "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "DefaultRunCoordinator"}
}
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
SET_LIMIT = 'mutation { setConcurrencyLimit(concurrencyKey: "pool", limit: 1) }'
PAGES = {
    *("InstanceConcurrencyLimitsQuery", "SingleConcurrencyKeyQuery", "RunsForConcurrencyKeyQuery"),
    *("RunRootQuery", "RunLogsQuery", "RunStatsQuery", "RunAssetsQuery"),
    *("AssetCatalogTableQuery", "AssetGraphLiveQuery", "AssetViewDefinitionQuery"),
    *("AssetOverviewMetadataEventsQuery", "InstanceHealthQuery"),
}
"""What must be among the queries that are compared: runs, assets, concurrency."""
CONFIGURATION = "InstanceConfigQuery"


@dataclass(frozen=True)
class Side:
    """What was seen of one deployment."""

    answers: Mapping[str, str]
    """By the names of the UI's queries."""
    configuration: str
    processes: list[observed.Process]

    def modules(self, role: str) -> set[str]:
        found = [process.modules for process in self.processes if process.role == role]
        assert found, f"no {role} has told anything"
        return set().union(*found)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Side]:
    folder = tmp_path_factory.mktemp("sides")
    backend = {
        "module": "dagster._core.storage.event_log",
        "class": "SqliteEventLogStorage",
        "config": {"base_dir": str(folder / "plain" / "history" / "runs")},
    }
    storages = {"plain": {"event_log_storage": backend}, "ours": sqlite_yaml(BLOCK)}
    return {name: _observe(folder / name, storage) for name, storage in storages.items()}


def _observe(home: Path, storage: Mapping[str, Any]) -> Side:
    site = home.with_name(f"{home.name}-site")
    deployment = Deployment(home, {**storage, **AT_ONCE}, observed.environment(site))
    is_ours = storage == sqlite_yaml(BLOCK)
    try:
        with dispatcher_alive(deployment) if is_ours else nullcontext():
            deployment.serve(Path(pipelines.__file__), "shop", has_daemon=False)
            deployment.graphql(SET_LIMIT)
            runs = [_run(deployment, job) for job in ("assets", "nested")]
            answers = dict(_answers(deployment, runs[-1]))
            configuration = deployment.graphql(ui_queries.document(CONFIGURATION))
    finally:
        deployment.stop()
    return Side(answers, json.dumps(configuration), observed.processes(site))


def _run(deployment: Deployment, job: str) -> str:
    run_id = deployment.launch("shop", job)
    status = lambda: deployment.graphql(STATUS, run=run_id)["runOrError"]["status"]  # noqa: E731
    eventually(lambda: status() in {"SUCCESS", "FAILURE"}, "the run ends")
    assert status() == "SUCCESS"
    return run_id


def _answers(deployment: Deployment, run_id: str) -> Iterator[tuple[str, str]]:
    """What the UI's queries get; those that ask for nothing which we have are left out."""
    key = {"path": ["report"]}
    known = {
        "runId": run_id,
        "assetKey": key,
        "key": key,
        "assetKeys": [key],
        "limit": 20,
        "concurrencyKey": "pool",
        "name": "shop",
        "view": "RUNS",
        "filter": {},
        "eventTypeSelectors": ["MATERIALIZATION", "OBSERVATION"],
    }
    for name in ui_queries.names():
        wanted = ui_queries.variables(name)
        if name != CONFIGURATION and all(each in known or not wanted[each] for each in wanted):
            chosen = {each: known[each] for each in wanted if each in known}
            answer = _answer(deployment, ui_queries.document(name), chosen)
            ordered = json.dumps(_ordered(answer), indent=1, sort_keys=True)
            yield name, _masked(ordered, deployment)


def _answer(deployment: Deployment, query: str, variables: Mapping[str, Any]) -> Any:
    try:
        return deployment.ask(query, **variables)
    except HTTPError as error:
        return {"errors": [error.code]}


def _ordered(answer: Any) -> Any:
    """With the steps in one order: Dagster tells them in that of a set."""
    if isinstance(answer, list):
        return [_ordered(each) for each in answer]
    if not isinstance(answer, dict):
        return answer
    found = {key: _ordered(each) for key, each in answer.items()}
    if isinstance(found.get("steps"), list):
        found["steps"].sort(key=json.dumps)
    return found


def _masked(answer: str, deployment: Deployment) -> str:
    """Without what differs between any two deployments and runs."""
    for pattern, mask in (
        (re.escape(str(deployment.home)), "<home>"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "<id>"),
        (r"\b([0-9a-f]{8}|[0-9a-f]{40}|[0-9a-f]{64})\b", "<id>"),
        (r'"fileKey": "\w+"', '"fileKey": <key>'),
        (r'"\d{3,6}"', '"<pid or port>"'),
        (r"\b\d{9,}(\.\d+)?\b", "<time>"),
        (r"\b[\d.]+(ms|s)\b", "<time>"),
        (r"(?i)(pid\W+|port\W+|127\.0\.0\.1:)\d+", "<number>"),
    ):
        answer = re.sub(pattern, mask, answer)
    return answer


def _differing(name: str, plain: str, ours: str) -> list[str]:
    lines = unified_diff(plain.splitlines(), ours.splitlines(), name, lineterm="", n=1)
    return list(lines)[:12]


@pytest.mark.long
def test_the_pages_of_the_ui_are_told_what_plain_dagster_tells_them(sides: dict[str, Side]) -> None:
    assert set(sides["ours"].answers) >= PAGES
    assert {"RunsFeedQuery", "RunsRootQuery"} & set(sides["ours"].answers)
    differing = [
        line
        for name, answer in sides["plain"].answers.items()
        for line in _differing(name, answer, sides["ours"].answers[name])
    ]
    assert not differing, "\n".join(differing)
    errors = [name for name, answer in sides["ours"].answers.items() if '"errors"' in answer]
    assert PAGES.isdisjoint(errors)


def test_the_deployments_configuration_is_shown_without_our_secrets(sides: dict[str, Side]) -> None:
    shown = sides["ours"].configuration
    assert "DataHubEventLogStorage" in shown
    assert "http://127.0.0.1:9" in shown
    assert TOKEN not in shown


DATACLASSES = {"pydantic.dataclasses", "pydantic._internal._dataclasses"}
"""With these two files Pydantic, which Dagster has loaded, reads a block of options."""


@pytest.mark.parametrize("role", ["webserver", "grpc", "run", "step"])
def test_a_process_loads_nothing_that_plain_dagster_does_not_while_a_dispatcher_is_alive(
    sides: dict[str, Side], role: str
) -> None:
    assert "dagster._core.instance" in sides["plain"].modules(role)
    extra = sides["ours"].modules(role) - sides["plain"].modules(role) - DATACLASSES
    packages = {each.split(".")[0] for each in extra}
    assert packages - observed.STANDARD == {"datahub_eventlog"}


def test_the_processes_of_a_run_ask_the_database_for_no_more_than_they_may(
    sides: dict[str, Side],
) -> None:
    """A run: two statements at its start, one at its end; what launches it: one; a step: none."""
    counts = {
        role: sorted(
            (len(process.statements), process.connections)
            for process in sides["ours"].processes
            if process.role == role
        )
        for role in ("webserver", "grpc", "run", "step")
    }
    assert counts == {
        "webserver": [(2, 2)],
        "grpc": [(0, 0)],
        "run": [(3, 2), (3, 2)],
        "step": [(0, 0), (0, 0)],
    }
    assert not any(
        process.statements or process.connections for process in sides["plain"].processes
    )
