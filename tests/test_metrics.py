"""What Prometheus gets to see of a worker."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence

import dagster as dg
import pytest
from deployment import free_port
from figures import figures
from ledgers import Clock
from scenes import Scene

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher import Dispatcher
from datahub_eventlog.dispatcher.metrics import serve_metrics
from datahub_eventlog.dispatcher.observer import Observer
from datahub_eventlog.errors import ConfigurationError, Rejected
from datahub_eventlog.values import Proposal


@dg.op
def work() -> None:
    pass


@dg.job
def small() -> None:
    work()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def observer(scene: Scene, port: int) -> Iterator[Observer]:
    with serve_metrics(port, scene.ledger) as observer:
        yield observer


def test_the_figures_tell_what_waits_and_what_was_done(
    scene: Scene, observer: Observer, port: int
) -> None:
    def reject(batch: Sequence[Proposal]) -> Sequence[Rejected]:
        return [Rejected(batch[0].urn, batch[0].aspect, "no")]

    def break_down(_: Sequence[Proposal]) -> None:
        raise ValueError("it can't be")

    for _ in range(2):
        small.execute_in_process(instance=scene.instance)
    before = figures(port)
    assert before["datahub_eventlog_runs pending"] == 2
    assert before["datahub_eventlog_lag_seconds"] > 0
    assert before["datahub_eventlog_attempts_total"] == 0
    assert before["datahub_eventlog_runs_settled_total delivered"] == 0

    scene.sink.script = [reject, break_down]
    config = Config(max_attempts=1)
    Dispatcher(config, scene.parts(config), observer=observer).run_once()
    after = figures(port)
    assert after["datahub_eventlog_runs pending"] == 0
    assert after["datahub_eventlog_runs_settled_total delivered"] == 1
    assert after["datahub_eventlog_runs_settled_total parked"] == 1
    assert after["datahub_eventlog_attempts_total"] == 2
    assert after["datahub_eventlog_proposals_delivered_total"] == len(scene.sink.proposals)
    assert after["datahub_eventlog_proposals_rejected_total"] == 1
    assert after["datahub_eventlog_rejected"] == 1
    assert after["datahub_eventlog_lag_seconds"] == 0
    assert after["datahub_eventlog_ledger_up"] == 1


def test_the_attempts_of_an_idle_worker_stay_level_with_what_it_settles(
    scene: Scene, observer: Observer, port: int
) -> None:
    """It looks once more at what it has delivered, and for events without a run."""
    small.execute_in_process(instance=scene.instance)
    config = Config()
    dispatcher = Dispatcher(config, scene.parts(config), observer=observer)
    scene.ledger.database.clock = clock = Clock(time.time())
    for _ in range(3):
        scene.ledger.runs.look_for_runless()
        assert dispatcher.run_once() > 0
        clock.advance(3600)
    shown = figures(port)
    assert shown["datahub_eventlog_runs_settled_total delivered"] == 1
    assert shown["datahub_eventlog_attempts_total"] == 1


def test_a_port_that_is_taken_is_named(scene: Scene) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        taken = other.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=f"--metrics-port {taken}"),
            serve_metrics(taken, scene.ledger),
        ):
            pass
