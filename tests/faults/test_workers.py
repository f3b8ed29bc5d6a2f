"""Workers are killed, stopped, disturbed, or share the work."""

from __future__ import annotations

import random
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest
from deployment import Deployment, eventually, sqlite_yaml
from receiver import Receiver

from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.dispatcher.dispatcher import RUNS_A_ROUND
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from faults.scene import TOKEN, Scene, deliver_all, other_ops, two_ops


def start_worker(home: Deployment) -> subprocess.Popen[bytes]:
    return home.start("datahub_eventlog.cli", "worker", log="worker.log")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_workers_run_is_taken_over_when_its_lease_has_ended(
    home: Deployment, receiver: Receiver, when: str
) -> None:
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        receiver.fault("hang", when=when, path="action=ingest", count=1)
        worker = start_worker(home)
        eventually(lambda: receiver.writes, "the worker is sending")
        worker.kill()
        worker.wait(30)
        assert scene.ledger.runs.state(run_id) == "leased"
        with scene.dispatcher() as other:
            other.deliver([run_id])
            assert scene.ledger.runs.state(run_id) == "leased"
            scene.an_hour_later()
            deliver_all(other, scene)
        assert scene.is_delivered(run_id)
        scene.assert_true()


def test_who_loses_a_run_in_an_outage_goes_on_with_others(scene: Scene, receiver: Receiver) -> None:
    run_id = scene.run(two_ops)
    hang = receiver.fault("hang", path="action=ingest", count=1)
    with scene.dispatcher() as slow, scene.dispatcher(owner="two") as other:
        thread = ThreadPoolExecutor(1)
        sending = thread.submit(slow.run_once)
        eventually(lambda: hang.happened, "a request hangs")
        scene.an_hour_later()
        other.run_once()
        assert scene.is_delivered(run_id)
        receiver.refuse()
        assert sending.result(60) == 1
        receiver.accept()
        scene.run(other_ops)
        deliver_all(slow, scene)
    assert scene.is_delivered(*scene.run_ids())
    scene.assert_true()


def job_named(name: str) -> dg.JobDefinition:
    """A job that shares nothing with others."""

    @dg.op(name=f"{name}_op")
    def alone() -> None:
        pass

    @dg.job(name=name)
    def job() -> None:
        alone()

    return job


def test_sigterm_lets_a_worker_finish_its_run_and_hand_back_the_others(
    home: Deployment, receiver: Receiver
) -> None:
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        run_ids = [scene.run(job_named(f"job_{i}")) for i in range(4)]
        receiver.fault("slow", seconds=1, path="action=ingest")
        worker = start_worker(home)
        eventually(lambda: receiver.writes, "the worker is sending")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        counts = scene.counts()
        assert counts["delivered"] >= 1
        assert counts == {"delivered": counts["delivered"], "pending": 4 - counts["delivered"]}
        assert scene.ledger.reports.dispatchers() == []

        receiver.clear()
        with scene.dispatcher() as other:
            deliver_all(other, scene)
        assert scene.is_delivered(*run_ids)
        scene.assert_true()


def test_sigterm_makes_a_worker_give_up_on_a_server_that_hangs(
    home: Deployment, receiver: Receiver
) -> None:
    client = {"server": receiver.url, "token": TOKEN, "timeout_sec": 600}
    datahub = {"dispatch": "worker", "datahub_client_config": client, "exit_timeout": 1}
    home.write(sqlite_yaml(datahub))
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        receiver.fault("hang", when="after", path="action=ingest")
        worker = start_worker(home)
        eventually(lambda: receiver.writes, "the worker is sending")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        assert scene.counts() == {"pending": 1}
        assert scene.ledger.reports.dispatchers() == []

        receiver.clear()
        with scene.dispatcher() as other:
            deliver_all(other, scene)
        assert scene.is_delivered(run_id)
        scene.assert_true()


def test_two_workers_share_the_runs_and_never_deliver_one_at_the_same_time(
    scene: Scene, receiver: Receiver
) -> None:
    run_ids = [scene.run(job_named(f"job_{i}")) for i in range(24)]
    receiver.fault("slow", seconds=0.1, path="action=ingest")
    configs = [_signed(scene, name) for name in ("one", "two")]
    with scene.worker(configs[0]), scene.worker(configs[1]):
        eventually(lambda: scene.is_delivered(*run_ids), "all is delivered")

    senders: dict[str, set[str]] = {}
    for request in receiver.writes:
        for run_id in request.run_ids:
            senders.setdefault(run_id, set()).add(request.headers["x-sender"])
    assert set(senders) == set(run_ids)
    assert {len(each) for each in senders.values()} == {1}
    assert set.union(*senders.values()) == {"one", "two"}
    scene.assert_true()


LAST = RUNS_A_ROUND + 2
"""So that one worker can't take all runs at once."""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_backlog_and_history_in_any_order_by_two_workers_end_in_the_newest_state(
    scene: Scene, receiver: Receiver, seed: int
) -> None:
    run_ids = [_changing(scene, number) for number in range(LAST + 1)]
    order = random.Random(seed).sample(run_ids, len(run_ids))
    with scene.ledger.database._connect() as connection:
        for place, run_id in enumerate(order):
            values = {"due": float(place), "backfilled": int(place % 3 == 0)}
            connection.execute(runs.update().where(runs.c.run_id == run_id).values(values))
        connection.commit()
    receiver.fault("slow", seconds=0.1, path="action=ingest")
    configs = [_signed(scene, name) for name in ("one", "two")]
    with scene.worker(configs[0]), scene.worker(configs[1]):
        eventually(lambda: scene.is_delivered(*run_ids), "all is delivered")

    assert {write.headers["x-sender"] for write in receiver.writes} == {"one", "two"}
    refined = receiver.aspects(urns.asset_urn(("refined",), Context()))
    # The newest run failed in its middle: what it said counts, for the rest the one before.
    before = str(LAST - 1)
    assert refined["datasetProperties"]["customProperties"]["number"] == before
    assert [each["fieldPath"] for each in refined["schemaMetadata"]["fields"]] == [f"c{before}"]
    upstream = [each["dataset"] for each in refined["upstreamLineage"]["upstreams"]]
    assert urns.asset_urn((f"source_{before}",), Context()) in upstream
    raw = receiver.aspects(urns.asset_urn(("raw",), Context()))
    assert raw["datasetProperties"]["customProperties"]["number"] == str(LAST)
    scene.assert_true()


def _changing(scene: Scene, number: int) -> str:
    """A run of the same assets, which say other things each time; the last one fails."""

    @dg.asset
    def raw() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(metadata={"number": number})

    @dg.asset(deps=[raw, f"source_{number}"])
    def refined() -> dg.MaterializeResult:  # type: ignore[type-arg]
        if number == LAST:
            raise dg.Failure("on purpose")
        schema = dg.TableSchema([dg.TableColumn(f"c{number}", "int")])
        return dg.MaterializeResult(metadata={"number": number, "dagster/column_schema": schema})

    assets = [raw, refined]
    return dg.materialize(assets, instance=scene.instance, raise_on_error=False).run_id


def _signed(scene: Scene, name: str) -> Config:
    headers = {"X-Sender": name}
    return scene.config(
        target=RestTarget(server=scene.receiver.url, token=TOKEN, extra_headers=headers)
    )
