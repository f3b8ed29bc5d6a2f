"""The history of an instance, which was there before the package."""

import json
import signal
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from deployment import DEADLINE, Deployment, sqlite_yaml
from instances import make_unreadable
from receiver import Receiver
from scenes import Scene

from datahub_eventlog.backfill import RUNS_AT_ONCE, Backfill, Orders, count
from datahub_eventlog.cli import main
from datahub_eventlog.config import Config
from datahub_eventlog.errors import Unavailable
from datahub_eventlog.source.history import Selection
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import Proposal

ALL = Selection()
RUN_EVENT = "dataProcessInstanceRunEvent"


@dg.op(tags={"fails": "no"})
def work(context: dg.OpExecutionContext) -> None:
    if context.run.tags.get("fails") == "yes":
        raise dg.Failure(allow_retries=False)


@dg.job
def daily() -> None:
    work()


@dg.job
def hourly() -> None:
    work()


@dg.asset
def orders() -> int:
    return 1


def _ran(scene: Scene, job: dg.JobDefinition, number: int = 1, **tags: str) -> list[str]:
    """The ids of runs that nobody noted, the oldest first."""
    with scene.plain() as instance:
        return [
            job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).run_id
            for _ in range(number)
        ]


def _backfill(scene: Scene, orders: Orders) -> Backfill:
    config = Config()
    return Backfill(config, scene.parts(config), orders, lambda _: None)


def _delivered(scene: Scene) -> list[str]:
    """The urns of the runs whose end was sent, in that order."""
    return [
        proposal.urn
        for proposal in scene.sink.proposals
        if proposal.aspect == "dataProcessInstanceRunEvent"
        and json.loads(proposal.body)["status"] == "COMPLETE"
        and proposal.urn in _runs(scene)
    ]


def _runs(scene: Scene) -> dict[str, str]:
    return {urns.run_urn(run.run_id, Context()): run.run_id for run in scene.instance.get_runs()}


def test_a_history_is_delivered_the_newest_first_and_with_its_times(scene: Scene) -> None:
    run_ids = _ran(scene, daily, 3)

    progress = _backfill(scene, Orders(ALL)).run()

    found = _runs(scene)
    assert [found[each] for each in _delivered(scene)] == run_ids[::-1]
    assert (progress.selected, progress.passed, progress.skipped) == (3, 3, 0)
    assert progress.outcomes == {"delivered": 3}
    assert progress.is_complete
    ended = {
        proposal.urn: json.loads(proposal.body)["timestampMillis"]
        for proposal in scene.sink.proposals
        if proposal.aspect == "dataProcessInstanceRunEvent"
    }
    for record in scene.instance.get_run_records():
        urn = urns.run_urn(record.dagster_run.run_id, Context())
        assert record.end_time is not None
        assert ended[urn] == pytest.approx(record.end_time * 1000, abs=1000)


def test_the_second_backfill_sends_nothing(scene: Scene) -> None:
    _ran(scene, daily, 2)
    _backfill(scene, Orders(ALL)).run()
    scene.sink.proposals.clear()

    progress = _backfill(scene, Orders(ALL)).run()

    assert (progress.skipped, progress.outcomes) == (2, {})
    assert scene.sink.proposals == []


def test_again_sends_all_of_it_and_the_same(scene: Scene) -> None:
    _ran(scene, daily, 2)
    _backfill(scene, Orders(ALL)).run()
    first = _final(scene.sink.proposals)
    scene.sink.proposals.clear()

    progress = _backfill(scene, Orders(ALL, again=True)).run()

    assert (progress.skipped, progress.outcomes) == (0, {"delivered": 2})
    assert _final(scene.sink.proposals) == first


def _final(proposals: Sequence[Proposal]) -> dict[tuple[str, ...], str]:
    """What DataHub has after them: the last of each, timeseries by their times."""
    return {
        (proposal.urn, proposal.aspect, _event(proposal)): proposal.body for proposal in proposals
    }


def _event(proposal: Proposal) -> str:
    body = json.loads(proposal.body)
    return str(body.get("messageId", "")) if isinstance(body, dict) else proposal.body


@pytest.mark.parametrize("again", [False, True], ids=["first time", "again"])
def test_what_was_stopped_goes_on_where_it_was(scene: Scene, *, again: bool) -> None:
    _ran(scene, daily, 3)
    if again:
        _backfill(scene, Orders(ALL)).run()
        scene.sink.proposals.clear()
    stopped = _backfill(scene, Orders(ALL, again=again))
    scene.sink.script = [lambda _: stopped.stop()]

    progress = stopped.run()
    assert not progress.is_complete
    assert (progress.passed, len(_delivered(scene))) == (1, 1)

    progress = _backfill(scene, Orders(ALL, again=again)).run()
    assert progress.is_complete
    assert (progress.skipped, progress.outcomes) == (1, {"delivered": 2})
    assert sorted(_delivered(scene)) == sorted(_runs(scene))


def test_a_backfill_that_is_interrupted_leaves_nothing_leased(scene: Scene) -> None:
    _ran(scene, daily, 2)

    def interrupt(_: Sequence[Proposal]) -> None:
        raise KeyboardInterrupt

    scene.sink.script = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        _backfill(scene, Orders(ALL)).run()
    assert scene.counts() == {"pending": 2}

    assert _backfill(scene, Orders(ALL)).run().outcomes == {"delivered": 2}


@pytest.fixture
def history(scene: Scene) -> dict[str, list[str]]:
    """Runs of several kinds, by name."""
    found = {
        "daily": _ran(scene, daily, 2),
        "failed": _ran(scene, hourly, 1, fails="yes"),
        "hourly": _ran(scene, hourly, 1),
    }
    with scene.plain() as instance:
        found["orders"] = [dg.materialize([orders], instance=instance).run_id]
    return found


SELECTIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "everything": ({}, ["daily", "failed", "hourly", "orders"]),
    "a job": ({"jobs": ("daily",)}, ["daily"]),
    "two jobs": ({"jobs": ("hourly", "daily")}, ["daily", "failed", "hourly"]),
    "a status": ({"statuses": ("FAILURE",)}, ["failed"]),
    "an asset": ({"assets": (("orders",),)}, ["orders"]),
    "an asset that there isn't": ({"assets": (("no", "such"),)}, []),
    "a job and a status": ({"jobs": ("hourly",), "statuses": ("SUCCESS",)}, ["hourly"]),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_what_is_selected_is_delivered_and_nothing_else(
    scene: Scene, history: dict[str, list[str]], name: str
) -> None:
    options, kinds = SELECTIONS[name]
    wanted = sorted(run_id for kind in kinds for run_id in history[kind])
    orders = Orders(Selection(**options))
    pages = scene.source.history(orders.selection).pages()
    counted = count(scene.ledger, pages, again=False)
    assert (counted.selected, counted.skipped) == (len(wanted), 0)
    assert scene.counts() == {}

    progress = _backfill(scene, orders).run()

    found = _runs(scene)
    assert sorted(found[each] for each in _delivered(scene)) == wanted
    assert progress.selected == len(wanted)


def test_the_times_select_runs_by_their_creation(scene: Scene) -> None:
    first, second, third = _ran(scene, daily, 3)
    created = {
        record.dagster_run.run_id: record.create_timestamp.replace(tzinfo=timezone.utc)
        for record in scene.instance.get_run_records()
    }
    selection = Selection(since=created[second], until=created[third])

    _backfill(scene, Orders(selection)).run()

    found = _runs(scene)
    assert [found[each] for each in _delivered(scene)] == [second]
    assert scene.ledger.runs.missing([first, third]) == [first, third]


def test_an_outage_is_waited_out_and_costs_no_attempt(scene: Scene) -> None:
    _ran(scene, daily, 2)
    shown: list[str] = []

    def refuse(_: Sequence[Proposal]) -> None:
        raise Unavailable("gone fishing")

    scene.sink.script = [refuse]
    config = Config(max_attempts=1)
    running = Backfill(
        config, scene.parts(config), Orders(ALL), lambda each: shown.append(each.trouble)
    )
    assert running.run().outcomes == {"delivered": 2}
    assert "gone fishing" in shown
    assert shown[-1] == ""


def test_only_a_few_runs_are_asked_for_at_a_time(scene: Scene) -> None:
    _ran(scene, daily, RUNS_AT_ONCE + 2)
    waiting: list[int] = []

    def count_waiting(_: Sequence[Proposal]) -> None:
        counts = scene.counts()
        waiting.append(counts.get("pending", 0) + counts.get("leased", 0))

    scene.sink.script = [count_waiting] * (RUNS_AT_ONCE + 2)
    _backfill(scene, Orders(ALL, rate=60_000)).run()
    assert max(waiting) == RUNS_AT_ONCE
    assert scene.counts() == {"delivered": RUNS_AT_ONCE + 2}


def test_events_without_a_run_from_before_are_delivered(scene: Scene) -> None:
    with scene.plain() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("reported"))
    scene.dispatcher().run_once()
    early = datetime.now(tz=timezone.utc) + timedelta(days=1)

    _backfill(scene, Orders(Selection(jobs=("daily",)))).run()
    _backfill(scene, Orders(Selection(since=early))).run()
    assert _reported(scene) == 0

    _backfill(scene, Orders(ALL)).run()
    assert _reported(scene) == 1
    _backfill(scene, Orders(ALL)).run()
    assert _reported(scene) == 1


def _reported(scene: Scene) -> int:
    return sum(
        proposal.aspect == "operation" and "reported" in proposal.urn
        for proposal in scene.sink.proposals
    )


def test_a_run_that_is_parked_makes_it_fall_short(scene: Scene) -> None:
    _ran(scene, daily, 2)

    def break_down(_: Sequence[Proposal]) -> None:
        raise ValueError("it can't be")

    scene.sink.script = [break_down]
    config = Config(max_attempts=1)
    progress = Backfill(config, scene.parts(config), Orders(ALL), lambda _: None).run()

    assert progress.outcomes == {"delivered": 1, "parked": 1}
    assert progress.fell_short


def _old_home(tmp_path: Path, receiver: Receiver, number: int) -> Deployment:
    """A home whose runs are older than our storage in its dagster.yaml."""
    target = {"datahub_client_config": {"server": receiver.url}}
    deployment = Deployment(tmp_path / "home", {})
    with deployment.instance() as instance:
        for _ in range(number):
            daily.execute_in_process(instance=instance)
    deployment.write(sqlite_yaml({**target, "dispatch": "worker"}))
    return deployment


def _ended(receiver: Receiver) -> int:
    """The runs whose end has arrived; the steps have a parent."""
    urns = [
        urn
        for urn in receiver.entities("dataProcessInstance")
        if "parentInstance" not in (receiver.aspect(urn, "dataProcessInstanceRelationships") or {})
    ]
    return sum(
        any(each["status"] == "COMPLETE" for each in receiver.timeseries(urn, RUN_EVENT))
        for urn in urns
    )


def test_the_command_goes_on_where_ctrl_c_stopped_it(tmp_path: Path) -> None:
    with Receiver() as receiver:
        deployment = _old_home(tmp_path, receiver, 3)
        counted = deployment.cli("backfill", "--dry-run").stdout
        assert counted.splitlines() == [
            "3 runs selected",
            "0 delivered already",
            "3 to be delivered",
        ]
        assert receiver.entities() == []

        receiver.fault("slow", seconds=DEADLINE, count=1)
        process = deployment.start("datahub_eventlog.cli", "backfill", log="backfill.log")
        receiver.wait_for(lambda: receiver.writes, timeout=DEADLINE)
        process.send_signal(signal.SIGINT)
        receiver.clear()
        assert process.wait(DEADLINE) == 1
        assert "the same command continues from there" in deployment.log("backfill.log")
        assert _ended(receiver) == 1

        done = deployment.cli("backfill")
        assert _ended(receiver) == 3
        assert "delivered" in done.stdout
        assert deployment.status()["runs"]["delivered"] == 3
        assert "3 were delivered already" in deployment.cli("backfill").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--since", "yesterday"), "--since"),
        (("--status", "DONE"), "success"),
        (("--asset", "a//b"), "a//b"),
        (("--rate", "0"), "--rate"),
    ],
)
def test_a_wrong_option_of_the_command_is_named(arguments: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(main, ["backfill", *arguments])
    assert done.exit_code == 2
    assert message in done.output


def test_a_run_that_is_deleted_meanwhile_ends_no_backfill(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datahub_eventlog.source.history.RUNS_PER_PAGE", 2)
    run_ids = _ran(scene, daily, 6)
    config, deleted = Config(), run_ids[-2]

    def delete_once(_: object) -> None:
        if scene.instance.has_run(deleted):
            scene.instance.delete_run(deleted)

    Backfill(config, scene.parts(config), Orders(ALL), delete_once).run()

    rest = set(run_ids) - {deleted}
    states = scene.ledger.runs.states(run_ids)
    assert {each for each, state in states.items() if state == "delivered"} >= rest


def test_a_record_that_cannot_be_read_ends_no_backfill(scene: Scene) -> None:
    oldest, unreadable, newest = _ran(scene, daily, 3)
    make_unreadable(scene.instance, unreadable)

    progress = _backfill(scene, Orders(ALL)).run()

    assert progress.passed == 3
    states = scene.ledger.runs.states([oldest, unreadable, newest])
    assert states == {oldest: "delivered", unreadable: "pending", newest: "delivered"}
