"""A wrong `datahub:` block stops no process of Dagster's: daemon, servers, run worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import observed
import pipelines
import pytest
from deployment import Deployment, eventually, sqlite_yaml

from datahub_eventlog.ledger_location import ledger_of

NOTHING = "Nothing is delivered to DataHub from this process"
CLIENT = {"server": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Wrong:
    """A block, and what is said of it."""

    block: dict[str, Any]
    everywhere: tuple[str, ...]
    """What each process says once."""
    daemon: tuple[str, ...]
    """What the daemon says when it does not deliver."""
    worker: tuple[str, ...] = ()
    """What only the run worker says, which tries to deliver since no dispatcher is alive."""
    without: tuple[str, ...] = ()
    """What can't be imported."""


OPTIONS = (
    "datahub: evn: there is no such option. Did you mean env?",
    "datahub: glossary_terms: there is no such option.",
    "datahub: max_attempts: expected a whole number",
)
WRONG = {
    "a misspelt option, one of a newer package, a wrong type": Wrong(
        {
            "datahub_client_config": CLIENT,
            "evn": "PROD",
            "glossary_terms": {"enabled": True},
            "max_attempts": "many",
        },
        everywhere=OPTIONS,
        daemon=(NOTHING, *OPTIONS),
    ),
    "an unset variable": Wrong(
        {"datahub_client_config": {"server": {"env": "NO_SUCH_VARIABLE"}}},
        everywhere=(),
        daemon=(f"{NOTHING}. datahub: the environment variable NO_SUCH_VARIABLE is not set here",),
    ),
    "an extractor that can't be imported": Wrong(
        {"datahub_client_config": CLIENT, "asset_lineage_extractor": "no_such_module:function"},
        everywhere=(),
        daemon=(NOTHING, "no_such_module"),
        worker=("Left for the next dispatcher: datahub: asset_lineage_extractor: no_such_module",),
    ),
    "no extra": Wrong(
        {"datahub_client_config": CLIENT},
        everywhere=(),
        daemon=(NOTHING, 'pip install "datahub-eventlog[datahub]"'),
        without=("datahub", "tenacity"),
    ),
}
SERVERS = ("daemon", "webserver", "code")


@pytest.fixture(
    params=[
        pytest.param(kind, marks=pytest.mark.long if number else ())
        for number, kind in enumerate(WRONG)
    ]
)
def wrong(request: pytest.FixtureRequest) -> Wrong:
    return WRONG[request.param]


@pytest.fixture
def deployment(tmp_path: Path, wrong: Wrong) -> Iterator[Deployment]:
    variables = observed.environment(tmp_path / "site", without=wrong.without)
    deployment = Deployment(tmp_path / "home", sqlite_yaml(wrong.block), variables)
    yield deployment
    deployment.stop()


def test_under_a_wrong_block_everything_runs_and_is_captured_and_nothing_is_delivered(
    deployment: Deployment, wrong: Wrong
) -> None:
    deployment.serve(Path(pipelines.__file__), "shop", has_daemon=True)
    eventually(
        lambda: all(each in deployment.log("daemon.log") for each in wrong.daemon),
        "the daemon says that it does not deliver, and why",
    )
    run_id = deployment.launch("shop", "assets")
    with deployment.instance() as instance:
        eventually(lambda: _is_finished(instance, run_id), "the run ends")
        assert instance.get_run_stats(run_id).steps_succeeded == 2
        ledger = ledger_of(instance, patience=5)
        assert ledger.runs.state(run_id) == "pending"
        assert ledger.runs.definitions_of(run_id) is not None
        assert ledger.reports.dispatchers() == []
    assert [process.poll() for process in deployment.processes] == [None] * 3
    deployment.stop()

    logs = {each: deployment.log(f"{each}.log") for each in SERVERS}
    # The run worker writes into the log of the code server that has started it.
    expected = {"daemon": 2, "webserver": 1, "code": 2}
    for line in wrong.everywhere:
        assert {each: log.count(line) for each, log in logs.items()} == expected
    assert [logs["code"].count(each) for each in wrong.worker] == [1] * len(wrong.worker)
    if not wrong.everywhere:
        assert "datahub" not in logs["webserver"].lower()
        lines = [each for each in logs["code"].splitlines() if "datahub" in each.lower()]
        assert len(lines) == len(wrong.worker)
    assert logs["daemon"].count(NOTHING) == 1
    assert not any("Traceback" in each for each in logs.values())


def _is_finished(instance: Any, run_id: str) -> bool:
    finished: bool = instance.get_run_by_id(run_id).is_finished
    return finished
