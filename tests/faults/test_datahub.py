"""DataHub is down, slow, overloaded or rejects: what a delivery does about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg
import pytest
from deployment import eventually
from receiver import Receiver
from undisturbed import differences, undisturbed

from datahub_eventlog.config import RestTarget
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from faults.scene import HOUR, TOKEN, Scene, deliver_all


def _refuse(receiver: Receiver) -> None:
    receiver.refuse()


def _want_another_token(receiver: Receiver) -> None:
    receiver.token = "another"


def _move(receiver: Receiver) -> None:
    receiver.prefix = "/elsewhere"


def _fault(kind: str, **options: Any) -> Callable[[Receiver], None]:
    def begin(receiver: Receiver) -> None:
        receiver.fault(kind, **options)

    return begin


def _mend(receiver: Receiver) -> None:
    receiver.prefix, receiver.token = "", TOKEN
    receiver.clear()
    receiver.accept()


FAULTS: Mapping[str, Callable[[Receiver], None]] = {
    "it refuses connections": _refuse,
    "503": _fault("status", status=503),
    "429": _fault("status", status=429),
    "429 with Retry-After": _fault("status", status=429, retry_after=1),
    "500": _fault("status", status=500),
    "it hangs": _fault("hang"),
    "it cuts before": _fault("cut", when="before"),
    "it cuts after": _fault("cut", when="after"),
    "it cuts within": _fault("cut", when="within"),
    "the token is wrong": _want_another_token,
    "the path is wrong": _move,
    "a web page answers": _fault("html"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_outage_costs_no_attempt_says_so_once_and_ends_by_itself(
    waiting: Scene, receiver: Receiver, logged: Callable[[int], list[str]], name: str
) -> None:
    scene, run_ids = waiting, waiting.run_ids()
    with scene.dispatcher(scene.config(timeout=1, max_attempts=1)) as dispatcher:
        FAULTS[name](receiver)
        for _ in range(3):
            dispatcher.pause._until = 0.0
            dispatcher.run_once()
            assert scene.counts() == {"pending": 2}
            assert dispatcher.pause.remaining > 0
        (line,) = logged(logging.ERROR)
        assert f"http://127.0.0.1:{receiver.port}" in line
        assert TOKEN not in line
        _mend(receiver)
        deliver_all(dispatcher, scene)

    assert scene.is_delivered(*run_ids)
    assert logged(logging.ERROR) == [line]
    assert logged(logging.WARNING) == []
    assert len([each for each in logged(logging.INFO) if "DataHub is back" in each]) == 1
    scene.assert_true()


@pytest.mark.parametrize("hours", [1, 24])
def test_a_server_that_asks_for_an_hour_gets_it_and_no_more(
    waiting: Scene, receiver: Receiver, hours: int
) -> None:
    receiver.fault("status", status=429, retry_after=int(hours * HOUR))
    with waiting.dispatcher() as dispatcher:
        dispatcher.run_once()
        assert HOUR / 2 < dispatcher.pause.remaining <= HOUR
    assert len(receiver.writes) == 1


def test_a_host_that_nobody_knows_is_named(
    waiting: Scene, logged: Callable[[int], list[str]]
) -> None:
    scene = waiting
    unknown = RestTarget(server="http://datahub.invalid:8080", token=TOKEN)
    with scene.dispatcher(scene.config(target=unknown, max_attempts=1)) as dispatcher:
        dispatcher.run_once()
    (line,) = logged(logging.ERROR)
    assert "datahub.invalid" in line
    assert scene.counts() == {"pending": 2}

    with scene.dispatcher() as corrected:
        deliver_all(corrected, scene)
    assert scene.is_delivered(*scene.run_ids())


def test_a_slow_server_is_slow_and_no_outage(
    waiting: Scene, receiver: Receiver, logged: Callable[[int], list[str]]
) -> None:
    scene = waiting
    receiver.fault("slow", seconds=0.3)
    with scene.dispatcher() as dispatcher:
        deliver_all(dispatcher, scene)
    assert scene.is_delivered(*scene.run_ids())
    assert logged(logging.ERROR) == []


def test_a_worker_recovers_from_an_outage_without_anybody(
    waiting: Scene, receiver: Receiver, logged: Callable[[int], list[str]]
) -> None:
    scene, run_ids = waiting, waiting.run_ids()
    receiver.refuse()
    with scene.worker():
        eventually(lambda: logged(logging.ERROR), "the worker notices")
        receiver.accept()
        eventually(lambda: scene.is_delivered(*run_ids), "all is delivered")
    assert len(logged(logging.ERROR)) == 1
    scene.assert_true()


def test_one_rejected_of_five_hundred_costs_only_itself_until_it_is_retried(
    scene: Scene, receiver: Receiver
) -> None:
    @dg.multi_asset(specs=[dg.AssetSpec(f"asset_{i:02}") for i in range(100)])
    def many() -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        for i in range(100):
            yield dg.MaterializeResult(asset_key=f"asset_{i:02}", metadata={"rows": i})

    receiver.fault("reject", urn="asset_33", aspect="datasetProperties", message="no such thing")
    run_id = dg.materialize([many], instance=scene.instance).run_id
    with scene.dispatcher() as dispatcher:
        deliver_all(dispatcher, scene)
        (rejected,) = scene.ledger.reports.status().rejected
        asset = urns.asset_urn(("asset_33",), Context())
        assert (rejected.run_id, rejected.urn, rejected.aspect) == (
            run_id,
            asset,
            "datasetProperties",
        )
        assert "no such thing" in rejected.reason
        expected = undisturbed(scene.instance, scene.ledger)
        assert sum(len(each) for each in expected.values()) > 500
        (line,) = differences(receiver.state(), expected)
        assert line.startswith(f"{asset} datasetProperties")

        receiver.clear()
        assert scene.ledger.runs.revive() == 1
        deliver_all(dispatcher, scene)
    assert scene.ledger.reports.status().rejected == ()
    scene.assert_true()
