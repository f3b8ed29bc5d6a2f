"""The dispatcher, with a real instance, ledger and translation; what varies is the sink."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deployment import postgres_yaml
from instances import configured
from ledgers import Clock
from postgres import new_database
from raw_server import RawServer, whole
from scenes import Scene
from sqlalchemy import select, update

from datahub_eventlog.config import Config, Pattern, RestTarget
from datahub_eventlog.dispatcher import Dispatcher
from datahub_eventlog.dispatcher.delivery import Delivery, Rules
from datahub_eventlog.dispatcher.lease_keeper import LeaseKeeper
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.errors import Conflict, LeaseLost, Misconfigured, Rejected, Unavailable
from datahub_eventlog.ledger import Facts, Ledger
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.sinks.rest import RestSink
from datahub_eventlog.testing import MemorySink
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import Proposal

TABLE = "urn:li:dataset:(urn:li:dataPlatform:postgres,a.b,PROD)"


@dg.op(out=dg.Out(metadata={"datahub.outputs": [TABLE]}))
def make() -> int:
    return 1


@dg.op
def take(x: int) -> None:
    pass


@dg.job
def two_ops() -> None:
    take(make())


def _states(proposals: Sequence[Proposal], run_id: str) -> list[str]:
    """The statuses of the run's own events, in the order in which they were sent."""
    urn = urns.run_urn(run_id, Context())
    return [
        json.loads(proposal.body)["status"]
        for proposal in proposals
        if (proposal.urn, proposal.aspect) == (urn, "dataProcessInstanceRunEvent")
    ]


def test_a_finished_run_is_delivered_once(scene: Scene) -> None:
    run_id = two_ops.execute_in_process(instance=scene.instance).run_id
    dispatcher = scene.dispatcher()

    assert dispatcher.run_once() == 1
    assert _states(scene.sink.proposals, run_id) == ["STARTED", "COMPLETE"]
    assert scene.counts() == {"delivered": 1}
    assert dispatcher.run_once() == 0


def test_a_run_that_was_silent_for_long_is_not_looked_at_again(scene: Scene) -> None:
    recent = two_ops.execute_in_process(instance=scene.instance).run_id
    old = two_ops.execute_in_process(instance=scene.instance).run_id
    long_ago = update(runs).where(runs.c.run_id == old).values(last_touch=time.time() - 120)
    scene.ledger.database.run(lambda connection: connection.execute(long_ago))

    assert scene.dispatcher().run_once() == 2

    assert scene.counts() == {"delivered": 2}
    waiting = select(runs.c.run_id).where(runs.c.due.is_not(None))
    found = scene.ledger.database.run(
        lambda connection: connection.execute(waiting).scalars().all()
    )
    assert found == [recent]


def test_an_event_stored_during_delivery_is_not_marked_delivered(scene: Scene) -> None:
    run_id = two_ops.execute_in_process(instance=scene.instance).run_id
    run = scene.instance.get_run_by_id(run_id)
    assert run is not None

    def store_another(_: Sequence[Proposal]) -> None:
        scene.instance.report_run_failed(run, "later")

    scene.sink.script = [store_another]
    dispatcher = scene.dispatcher()
    dispatcher.run_once()
    assert scene.counts() == {"pending": 1}

    dispatcher.run_once()
    assert scene.counts() == {"delivered": 1}


def test_a_run_is_left_to_others_when_time_is_over_while_it_is_read(scene: Scene) -> None:
    def stop() -> None:
        raise Unavailable("time is over")

    two_ops.execute_in_process(instance=scene.instance)
    scene.sink.script = [lambda _: None]
    config = Config()
    Dispatcher(config, scene.parts(config), on_request=stop).run_once()
    assert len(scene.sink.script) == 1
    assert scene.counts() == {"pending": 1}


def test_whoever_keeps_a_lost_lease_is_told(scene: Scene) -> None:
    scene.ledger.runs.touch("run")
    at_once = timedelta(0)
    (lease,) = scene.ledger.leases.take("one", 1, at_once)
    keeper = LeaseKeeper(scene.ledger, lease, timedelta(minutes=1), lambda: None)
    keeper.keep()
    short = LeaseKeeper(scene.ledger, lease, at_once, lambda: None)
    short.keep()
    assert scene.ledger.leases.take("other", 1, timedelta(minutes=1))
    with pytest.raises(LeaseLost):
        short.keep()


@pytest.mark.parametrize("error", [Unavailable("gone fishing"), Misconfigured("wrong token")])
def test_an_outage_costs_no_attempt_and_is_logged_once_at_each_end(
    scene: Scene, error: Unavailable, caplog: pytest.LogCaptureFixture
) -> None:
    run_ids = [two_ops.execute_in_process(instance=scene.instance).run_id for _ in range(2)]

    def fail(_: Sequence[Proposal]) -> None:
        raise error

    scene.sink.script = [fail] * 3
    dispatcher = scene.dispatcher(Config(max_attempts=1))
    caplog.set_level(logging.INFO, logger="dagster.datahub_eventlog")
    for _ in range(4):
        dispatcher.pause._until = 0.0  # the pause is over
        dispatcher.run_once()
    dispatcher.run_once()

    assert scene.counts() == {"delivered": 2}
    for run_id in run_ids:
        assert _states(scene.sink.proposals, run_id) == ["STARTED", "COMPLETE"]
    messages = [record.getMessage() for record in caplog.records]
    assert len([message for message in messages if str(error) in message]) == 1
    assert len([message for message in messages if "DataHub is back" in message]) == 1


def test_a_conflict_costs_no_attempt_and_holds_up_nobody(scene: Scene) -> None:
    for _ in range(2):
        two_ops.execute_in_process(instance=scene.instance)

    def meet(_: Sequence[Proposal]) -> None:
        raise Conflict("another transaction writes the same")

    scene.sink.script = [meet]
    dispatcher = scene.dispatcher(Config(max_attempts=1))
    assert dispatcher.run_once() == 2
    assert not dispatcher.pause.is_on
    assert scene.counts() == {"pending": 1, "delivered": 1}
    columns = select(runs.c.attempts, runs.c.error).where(runs.c.state == "pending")
    (row,) = scene.ledger.database.run(lambda connection: connection.execute(columns).all())
    assert row == (0, "Conflict: another transaction writes the same")


def test_whatever_datahub_answers_costs_no_attempt(scene: Scene) -> None:
    two_ops.execute_in_process(instance=scene.instance)
    nested = b"[" * 100_000
    with RawServer(whole(nested, status="500 No")) as server:
        sink = RestSink(RestTarget(server.url), sleep=lambda _: None)
        parts = replace(scene.parts(Config()), sink=sink)
        dispatcher = Dispatcher(Config(max_attempts=1), parts)
        assert dispatcher.run_once() == 1
        sink.close()
    assert dispatcher.pause.is_on
    assert scene.counts() == {"pending": 1}


def test_an_error_without_a_text_is_put_off_like_any_other(scene: Scene) -> None:
    class Mean(Exception):
        def __str__(self) -> str:
            raise ValueError

    def fail(_: Sequence[Proposal]) -> None:
        raise Mean

    two_ops.execute_in_process(instance=scene.instance)
    scene.sink.script = [fail]
    scene.dispatcher(Config(max_attempts=1)).run_once()
    (parked,) = scene.ledger.reports.status().parked
    assert parked.error == "Mean: its __str__ raises ValueError"


def test_the_log_says_once_that_a_run_is_sent_and_once_what_was_delivered(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = two_ops.execute_in_process(instance=scene.instance).run_id

    def fail(_: Sequence[Proposal]) -> None:
        raise Unavailable("gone fishing")

    scene.sink.script = [fail] * 3
    dispatcher = scene.dispatcher(Config(touch_interval=timedelta()))
    caplog.set_level(logging.INFO, logger="dagster.datahub_eventlog")
    for _ in range(4):
        dispatcher.pause._until = 0.0  # the pause is over
        dispatcher.run_once()
    scene.ledger.database.clock = Clock(time.time() + 60)
    assert dispatcher.run_once() == 1  # the one more look

    messages = [record.getMessage() for record in caplog.records]
    urns_sent = {proposal.urn for proposal in scene.sink.proposals}
    counts = f"{len(urns_sent)} entities, {len(scene.sink.proposals)} proposals, "
    assert [message for message in messages if "Emitting" in message] == [
        f"Emitting metadata... job two_ops, run {run_id}"
    ]
    (delivered,) = [message for message in messages if "delivered" in message]
    assert delivered.startswith(f"Run {run_id} delivered: {counts}")

    scene.ledger.runs.redeliver([run_id], backfilled=False)
    dispatcher.run_once()
    messages = [each.getMessage() for each in caplog.records]
    assert len([each for each in messages if "Emitting" in each]) == 2
    assert len([message for message in messages if f"delivered: {counts}" in message]) == 2


def test_a_run_that_is_wanted_again_is_sent_whole_by_who_has_sent_it_and_is_not_done(
    scene: Scene,
) -> None:
    run_id = two_ops.execute_in_process(instance=scene.instance).run_id
    dispatcher = scene.dispatcher()

    def touch(_: Sequence[Proposal]) -> None:
        scene.ledger.runs.touch(run_id)

    scene.sink.script = [touch]
    dispatcher.run_once()
    first = list(scene.sink.proposals)
    scene.ledger.reports.record_rejections(run_id, [("urn", "aspect", "reason")])
    assert scene.ledger.runs.revive([run_id]) == 1
    dispatcher.run_once()
    assert len(scene.sink.proposals) == 2 * len(first)


def test_while_datahub_is_away_nothing_is_leased(scene: Scene) -> None:
    two_ops.execute_in_process(instance=scene.instance)
    dispatcher = scene.dispatcher()
    dispatcher.pause.begin(Unavailable("away"))

    assert dispatcher.run_once() == 0
    assert scene.counts() == {"pending": 1}
    assert dispatcher.pause.remaining > 0


def test_a_run_that_cant_be_translated_parks_and_holds_nothing_up(scene: Scene) -> None:
    bad = two_ops.execute_in_process(instance=scene.instance).run_id
    scene.ledger.runs.touch(bad, definitions=Facts("bad", b"no facts at all"))
    good = two_ops.execute_in_process(instance=scene.instance).run_id
    scene.dispatcher(Config(max_attempts=1)).run_once()

    assert scene.counts() == {"delivered": 1, "parked": 1}
    (parked,) = scene.ledger.reports.status().parked
    assert parked.run_id == bad
    assert parked.error
    assert _states(scene.sink.proposals, good) == ["STARTED", "COMPLETE"]


def test_a_run_that_fails_is_tried_again_later(scene: Scene) -> None:
    run_id = two_ops.execute_in_process(instance=scene.instance).run_id
    scene.ledger.runs.touch(run_id, definitions=Facts("bad", b"no facts at all"))
    scene.dispatcher(Config(max_attempts=2)).run_once()

    assert scene.counts() == {"pending": 1}
    assert scene.dispatcher().run_once() == 0


def test_a_deleted_run_is_gone(scene: Scene) -> None:
    run_id = two_ops.execute_in_process(instance=scene.instance).run_id
    scene.instance.delete_run(run_id)
    scene.dispatcher().run_once()

    assert scene.counts() == {"gone": 1}
    assert scene.sink.proposals == []


def test_filtered_runs_are_counted_as_such(scene: Scene) -> None:
    two_ops.execute_in_process(instance=scene.instance)
    two_ops.execute_in_process(instance=scene.instance, tags={"datahub/ignore": "true"})
    scene.dispatcher(Config(job_pattern=Pattern(deny=("two_.*",)))).run_once()

    assert scene.counts() == {"filtered": 2}
    assert scene.sink.proposals == []


def test_unchanged_state_is_not_sent_again(scene: Scene) -> None:
    dispatcher = scene.dispatcher()
    sent = []
    for _ in range(2):
        two_ops.execute_in_process(instance=scene.instance)
        dispatcher.run_once()
        sent.append({(proposal.urn, proposal.aspect) for proposal in scene.sink.proposals})
        scene.sink.proposals.clear()

    first, second = sent
    assert any(aspect == "dataJobInfo" for _, aspect in first)
    assert {aspect for _, aspect in second}.isdisjoint({"dataJobInfo", "dataFlowInfo", "subTypes"})


def test_an_older_run_that_comes_later_overwrites_nothing(scene: Scene) -> None:
    rows = [3]

    @dg.asset
    def counted() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(metadata={"rows": rows[0]})

    older = dg.materialize([counted], instance=scene.instance).run_id
    rows[0] = 4
    newer = dg.materialize([counted], instance=scene.instance).run_id
    dispatcher = scene.dispatcher()
    dispatcher.deliver([newer])
    after_newer = scene.sink.latest()
    dispatcher.deliver([older])

    asset = "urn:li:dataset:(urn:li:dataPlatform:dagster,counted,PROD)"
    states = {key: each for key, each in after_newer.items() if each.time is not None}
    assert (asset, "datasetProperties") in states or any(urn == asset for urn, _ in states)
    assert {key: scene.sink.latest()[key] for key in states} == states
    assert _states(scene.sink.proposals, older) == ["STARTED", "COMPLETE"]


def test_a_newer_run_is_delivered_again_if_an_older_one_was_being_sent(scene: Scene) -> None:
    rows = [3]

    @dg.asset
    def counted() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(metadata={"rows": rows[0]})

    older = dg.materialize([counted], instance=scene.instance).run_id
    rows[0] = 4
    newer = dg.materialize([counted], instance=scene.instance).run_id
    other = scene.dispatcher(owner="two")

    def deliver_newer_meanwhile(_: Sequence[Proposal]) -> None:
        other.deliver([newer])

    scene.sink.script = [deliver_newer_meanwhile]
    scene.dispatcher().deliver([older])  # arrives last
    while other.run_once():
        pass

    bodies = [
        proposal.body
        for proposal in scene.sink.proposals
        if ("counted" in proposal.urn and '"rows":"' in proposal.body) or '"4"' in proposal.body
    ]
    assert scene.counts() == {"delivered": 2}
    assert "4" in bodies[-1]


def test_a_live_run_is_shown_and_then_completed(scene: Scene) -> None:
    dispatcher = scene.dispatcher()
    seen: list[list[str]] = []

    @dg.op
    def look(context: dg.OpExecutionContext) -> None:
        dispatcher.run_once()
        seen.append(_states(scene.sink.proposals, context.run_id))

    @dg.job
    def looking() -> None:
        look()

    run_id = looking.execute_in_process(instance=scene.instance).run_id
    assert seen == [["STARTED"]]
    assert scene.counts() == {"pending": 1}
    dispatcher.run_once()
    assert _states(scene.sink.proposals, run_id) == ["STARTED", "COMPLETE"]
    assert scene.counts() == {"delivered": 1}


def test_a_runless_event_is_delivered(scene: Scene) -> None:
    scene.instance.report_runless_asset_event(dg.AssetMaterialization("outside"))
    scene.dispatcher().run_once()

    urn = "urn:li:dataset:(urn:li:dataPlatform:dagster,outside,PROD)"
    assert (urn, "operation") in {
        (proposal.urn, proposal.aspect) for proposal in scene.sink.proposals
    }
    assert scene.counts() == {}


def test_who_lost_a_lease_writes_nothing_more(scene: Scene) -> None:
    run_id = two_ops.execute_in_process(instance=scene.instance).run_id
    taken: list[Any] = []

    @contextmanager
    def expired() -> Iterator[None]:
        scene.ledger.database.clock, clock = (
            (lambda: scene_now() + 3600),
            scene.ledger.database.clock,
        )
        yield
        scene.ledger.database.clock = clock

    def scene_now() -> float:
        return Ledger(scene.ledger.database._connect).database.read_clock()

    def be_hung(_: Sequence[Proposal]) -> None:
        with expired():
            taken.extend(scene.ledger.leases.take("two", 10, timedelta(seconds=60)))

    scene.sink.script = [be_hung]
    scene.dispatcher().run_once()

    assert [each.run_id for each in taken] == [run_id]
    assert scene.counts() == {"leased": 1}


def test_one_rejected_proposal_is_recorded_and_sent_again_by_retry(scene: Scene) -> None:
    run_id = two_ops.execute_in_process(instance=scene.instance).run_id

    def refuse(batch: Sequence[Proposal]) -> Sequence[Rejected]:
        return [Rejected(each.urn, each.aspect, "no") for each in batch[:1]]

    scene.sink.script = [refuse]
    dispatcher = scene.dispatcher()
    dispatcher.run_once()
    (rejected,) = scene.ledger.reports.status().rejected
    assert (rejected.run_id, rejected.reason) == (run_id, "no")
    assert (rejected.urn, rejected.aspect) not in scene.sink.latest()
    assert scene.counts() == {"delivered": 1}

    assert scene.ledger.runs.revive(None) == 1
    dispatcher.run_once()
    assert (rejected.urn, rejected.aspect) in {(e.urn, e.aspect) for e in scene.sink.proposals}
    assert scene.ledger.reports.status().rejected == ()


def test_a_run_that_nobody_noted_is_found_by_the_reconciler(scene: Scene) -> None:
    with scene.plain() as plain:
        run_id = two_ops.execute_in_process(instance=plain).run_id
    assert scene.counts() == {}
    later = [time.time()]
    reconciler = Reconciler(scene.ledger, scene.source, timedelta(days=30), clock=lambda: later[0])

    assert reconciler.run_once() == 0
    later[0] += 60
    assert reconciler.run_once() == 1
    scene.dispatcher().run_once()
    assert _states(scene.sink.proposals, run_id) == ["STARTED", "COMPLETE"]
    assert reconciler.run_once() == 0


def test_a_dispatcher_that_lost_its_run_between_two_requests_has_newer_ones_sent_again(
    new_ledger: Ledger, clock: Clock
) -> None:
    """One request may have been under way while another dispatcher sent something newer."""
    datasets = [f"urn:li:dataset:(urn:li:dataPlatform:dagster,{each},PROD)" for each in "ab"]
    rules = Rules(ttl=timedelta(minutes=2), resend_after=timedelta(days=1))
    bodies: dict[str, str] = {}

    def said(run_id: str, moment: float) -> list[Proposal]:
        body = json.dumps({"description": run_id})
        return [
            Proposal(each, "dataset", "datasetProperties", body, time=moment, run_id=run_id)
            for each in datasets
        ]

    class OneByOne(MemorySink):
        """Each proposal is a request of its own, and the first one waits for something."""

        def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
            super().__init__()
            self.meanwhile = meanwhile

        def emit(
            self, batch: Sequence[Proposal], proceed: Callable[[], None] = lambda: None
        ) -> Sequence[Rejected]:
            for number, each in enumerate(batch):
                proceed()
                if number == 0:
                    self.meanwhile()
                bodies[each.urn] = each.body
            return ()

    def deliver(run_id: str, moment: float) -> None:
        (lease,) = new_ledger.leases.take("other", 1, rules.ttl, run_ids=[run_id])
        Delivery(new_ledger, OneByOne(), lease, rules, set()).send(said(run_id, moment))
        new_ledger.leases.settle(lease, "delivered")

    def meanwhile() -> None:
        clock.advance(600)
        deliver("old", 10.0)
        deliver("new", 20.0)
        delivery._proceed.__self__._extended -= 600  # type: ignore[attr-defined]

    new_ledger.runs.touch("old")
    new_ledger.runs.touch("new")
    (lease,) = new_ledger.leases.take("one", 1, rules.ttl, run_ids=["old"])
    delivery = Delivery(new_ledger, OneByOne(meanwhile), lease, rules, set())
    with pytest.raises(LeaseLost):
        delivery.send(said("old", 10.0))

    assert json.loads(bodies[datasets[0]]) == {"description": "old"}
    assert new_ledger.runs.state("new") == "pending"
    deliver("new", 20.0)
    assert {json.loads(each)["description"] for each in bodies.values()} == {"new"}


def test_a_run_whose_names_the_ledgers_database_refuses_holds_up_no_other(
    tmp_path: Path, postgres_server_url: str
) -> None:
    @dg.op
    def snow(context: dg.OpExecutionContext) -> None:
        context.log_event(dg.AssetMaterialization(["snow", "\u2603"]))

    @dg.job
    def snowing() -> None:
        snow()

    due_now = update(runs).where(runs.c.state == "pending").values(due=0.0)
    with (
        new_database(postgres_server_url, "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0") as url,
        configured(tmp_path, **postgres_yaml(url, {"dispatch": "off"})) as instance,
    ):
        scene = Scene(instance, lambda: instance)
        refused = snowing.execute_in_process(instance=instance).run_id
        others = [two_ops.execute_in_process(instance=instance).run_id for _ in range(3)]
        dispatcher = scene.dispatcher(Config(max_attempts=2))
        for _ in range(3):
            dispatcher.run_once()
            scene.ledger.database.run(lambda connection: connection.execute(due_now))
        states = scene.ledger.runs.states([refused, *others])
    assert states == {refused: "parked", **dict.fromkeys(others, "delivered")}
