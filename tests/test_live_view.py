"""A run is shown as it goes: a real one that waits for files, with a worker and a receiver."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deployment import Deployment, eventually, sqlite_yaml
from logs import event, run
from receiver import Receiver
from scenes import Scene
from undisturbed import differences, undisturbed

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher import Dispatcher
from datahub_eventlog.dispatcher.dispatcher import _poll_delay
from datahub_eventlog.ledger import Lease, Ledger
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import RunLog

CODE = """
import time
from pathlib import Path

import dagster as dg


@dg.asset
def first():
    return dg.MaterializeResult()


@dg.multi_asset(specs=[dg.AssetSpec("second", deps=["first"]), dg.AssetSpec("third")])
def rest(context):
    yield dg.MaterializeResult(asset_key="second")
    while not Path("go").exists():
        context.log_event(dg.AssetObservation("pulse"))
        time.sleep(0.2)
    yield dg.MaterializeResult(asset_key="third")


slow = dg.define_asset_job("slow", [first, rest])
defs = dg.Definitions([first, rest], jobs=[slow])
"""
BUSY = 4
"""Requests to wait for, before the run may end."""


def asset(name: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:dagster,{name},PROD)"


@dataclass(frozen=True)
class Slow:
    """What was seen of the run while it waited, and when all was over."""

    run_id: str
    before: dict[str, Any]
    """What the receiver had when the second asset had appeared in it."""
    requests: int
    """That were made while a step of the run said something all the time."""
    seconds: float
    """For how long it did."""
    after: dict[str, Any]
    expected: dict[str, Any]
    """What the receiver would have had without the live view."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    home = tmp_path_factory.mktemp("home")
    (home / "slow.py").write_text(CODE)
    with Receiver() as receiver:
        target = {"datahub_client_config": {"server": receiver.url}}
        quick = {"dispatch": "worker", "poll_interval": 0.1, "touch_interval": 0.5}
        deployment = Deployment(home, sqlite_yaml({**target, **quick}))
        try:
            yield _watched(deployment, receiver)
        finally:
            deployment.stop()


def _watched(deployment: Deployment, receiver: Receiver) -> Slow:
    with deployment.instance():
        pass  # two processes that make Dagster's SQLite files at the same time break them
    deployment.start("datahub_eventlog.cli", "worker", log="worker.log")
    worker = deployment.start(
        "dagster", "job", "execute", "-f", "slow.py", "-j", "slow", log="run.log"
    )
    eventually(lambda: receiver.writes or worker.poll() is not None, "something arrives")
    assert worker.poll() is None, deployment.log("run.log")[-3000:]
    eventually(
        lambda: receiver.timeseries(asset("second"), "operation") or worker.poll() is not None,
        "the asset arrives",
    )
    assert worker.poll() is None, deployment.log("run.log")[-3000:]
    before = receiver.state()
    start, made = time.monotonic(), len(receiver.writes)
    eventually(lambda: len(receiver.writes) >= made + BUSY, "the run is shown as it goes")
    requests, seconds = len(receiver.writes) - made, time.monotonic() - start
    (deployment.home / "go").touch()
    eventually(lambda: worker.poll() is not None, "the run ends")
    with deployment.instance() as instance:
        (record,) = instance.get_run_records()
        run_id = record.dagster_run.run_id
        eventually(lambda: _ended(receiver.state(), run_id), "its end arrives")
        expected = undisturbed(instance, ledger_of(instance, patience=5))
    return Slow(run_id, before, requests, seconds, receiver.state(), expected)


def events(state: dict[str, Any], urn: str) -> list[str]:
    """The statuses of a process instance's events, in the order of time."""
    found = state.get(urn, {}).get("dataProcessInstanceRunEvent", [])
    return [each["status"] for each in sorted(found, key=lambda each: each["timestampMillis"])]


def _ended(state: dict[str, Any], run_id: str) -> bool:
    return "COMPLETE" in events(state, urns.run_urn(run_id, Context()))


def step(run_id: str, name: str) -> str:
    return urns.instance_urn(f"{run_id}.slow.py/{name}", Context())


def test_a_run_that_goes_on_shows_as_running_with_its_steps(slow: Slow) -> None:
    assert events(slow.before, urns.run_urn(slow.run_id, Context())) == ["STARTED"]
    assert events(slow.before, step(slow.run_id, "first")) == ["STARTED", "COMPLETE"]
    assert events(slow.before, step(slow.run_id, "rest")) == ["STARTED"]


def test_an_asset_shows_while_the_step_that_made_it_goes_on(slow: Slow) -> None:
    assert "operation" in slow.before[asset("first")]
    assert "operation" in slow.before[asset("second")]
    assert "operation" not in slow.before.get(asset("third"), {})
    assert "operation" in slow.after[asset("third")]


def test_a_run_that_goes_on_costs_a_request_in_five_seconds(slow: Slow) -> None:
    assert slow.requests <= slow.seconds / 5 + 2  # the first at once, the last sooner sent


def test_what_was_shown_of_a_run_ends_in_what_the_whole_of_it_says(slow: Slow) -> None:
    assert differences(slow.after, slow.expected) == []


# What the dispatcher does about a run that nobody says anything of


def test_what_nobody_noted_of_a_live_run_is_found_five_seconds_later(
    scene: Scene, tmp_path: Path
) -> None:
    now = [time.time()]
    ledger = Ledger.in_file(str(tmp_path / "own.db"), patience=5, clock=lambda: now[0])
    ledger.database.migrate()
    dispatcher = Dispatcher(Config(), replace(scene.parts(Config()), ledger=ledger))
    shown: list[bool] = []

    def look() -> None:
        dispatcher.run_once()
        shown.append(any(proposal.urn == asset("orders") for proposal in scene.sink.proposals))

    @dg.op
    def report(context: dg.OpExecutionContext) -> None:
        ledger.runs.touch(context.run_id)
        look()
        context.log_event(dg.AssetMaterialization("orders"))
        look()
        now[0] += 5
        look()

    @dg.job
    def reporting() -> None:
        report()

    reporting.execute_in_process(instance=scene.instance)
    assert shown == [False, False, True]


def lease_of(last_touch: float) -> Lease:
    return Lease(
        run_id="run",
        token="token",
        touches=1,
        attempts=0,
        definitions_hash=None,
        cursor=None,
        again=False,
        backfilled=False,
        first_touch=last_touch,
        last_touch=last_touch,
        begun=last_touch,
        was="pending",
        is_unfinished=False,
    )


@pytest.mark.parametrize(
    ("of_event", "of_touch", "wait"),
    [(10, 4000, 5), (4000, 10, 5), (100, 99, 99), (4000, 4000, 600)],
)
def test_the_longer_a_run_is_silent_the_less_often_it_is_looked_at(
    of_event: float, of_touch: float, wait: float
) -> None:
    now = time.time()
    silent = RunLog(run(), None, (), [replace(event("STEP_START", "a"), time=now - of_event)])
    found = _poll_delay(silent, lease_of(now - of_touch))
    assert timedelta(seconds=wait) <= found < timedelta(seconds=wait + 60)


@dg.op
def work() -> None: ...


@dg.job
def working() -> None:
    work()


def test_a_run_that_has_not_begun_is_shown_when_it_does(scene: Scene) -> None:
    made = scene.instance.create_run_for_job(working)
    launched = dg.DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, made.job_name)
    scene.instance.report_dagster_event(launched, made.run_id)
    dispatcher = scene.dispatcher()
    assert dispatcher.run_once() == 1
    assert scene.sink.proposals == []
    started = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, made.job_name)
    scene.instance.report_dagster_event(started, made.run_id)
    dispatcher.run_once()
    sent = {proposal.aspect: json.loads(proposal.body) for proposal in scene.sink.proposals}
    assert sent["dataFlowInfo"]["name"] == "working"
    assert sent["dataProcessInstanceRunEvent"]["status"] == "STARTED"


def test_a_run_that_was_canceled_before_it_began_is_delivered(scene: Scene) -> None:
    made = scene.instance.create_run_for_job(working)
    for name in ("RUN_STARTING", "RUN_CANCELED"):
        kind = dg.DagsterEventType[name]
        scene.instance.report_dagster_event(dg.DagsterEvent(kind.value, made.job_name), made.run_id)
    scene.dispatcher().run_once()
    (end,) = [
        json.loads(proposal.body)
        for proposal in scene.sink.proposals
        if proposal.aspect == "dataProcessInstanceRunEvent"
    ]
    assert end["result"]["type"] == "SKIPPED"
