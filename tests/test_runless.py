"""Events that belong to no run: none is lost, and none is sent for ever."""

import json
import time
from collections.abc import Sequence
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from scenes import Scene

from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.errors import Rejected
from datahub_eventlog.values import Proposal

MINUTE = timedelta(minutes=1)


def _report(instance: dg.DagsterInstance, name: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(name))


def _reported(scene: Scene) -> list[str]:
    """The assets whose materialisation was sent, in that order."""
    return [
        proposal.urn.split(",")[1]
        for proposal in scene.sink.proposals
        if proposal.aspect == "operation" and json.loads(proposal.body)
    ]


def _reconcile(scene: Scene) -> None:
    Reconciler(scene.ledger, scene.source, timedelta(days=30)).run_once()


def test_the_event_whose_touch_made_the_ledger_is_delivered(scene: Scene) -> None:
    with scene.plain() as instance:
        _report(instance, "first")
    # Stored, then touched: the ledger is some moments younger than its first event.
    scene.ledger.database.run(lambda c: c.exec_driver_sql("DELETE FROM datahub_eventlog_meta"))
    scene.ledger.runs.touch("")

    scene.dispatcher().run_once()

    assert _reported(scene) == ["first"]


def test_an_event_that_nobody_noted_is_found(scene: Scene) -> None:
    _report(scene.instance, "noted")
    scene.dispatcher().run_once()
    with scene.plain() as instance:
        _report(instance, "missed")
    assert scene.dispatcher().run_once() == 0

    _reconcile(scene)
    scene.dispatcher().run_once()

    assert _reported(scene)[-1] == "missed"


def test_looking_for_them_leaves_a_row_alone_that_somebody_has(scene: Scene) -> None:
    scene.ledger.runs.touch("")
    (lease,) = scene.ledger.leases.take("one", 1, MINUTE)
    _reconcile(scene)
    assert scene.ledger.leases.take("other", 1, MINUTE) == []
    scene.ledger.leases.settle(lease, "delivered")


def test_a_recall_during_a_delivery_is_not_forgotten(scene: Scene) -> None:
    _report(scene.instance, "one")
    scene.dispatcher().run_once()
    scene.ledger.runs.touch("")
    (lease,) = scene.ledger.leases.take("one", 1, MINUTE)
    scene.ledger.runs.recall_runless(0.0, again=True)
    scene.ledger.leases.settle(lease, "delivered", cursor="beyond everything")

    (again,) = scene.ledger.leases.take("one", 1, MINUTE)
    assert (again.cursor, again.again) == ("", True)


def test_what_was_rejected_of_them_is_forgotten_once_it_is_taken(scene: Scene) -> None:
    def refuse(batch: Sequence[Proposal]) -> Sequence[Rejected]:
        return [Rejected(each.urn, each.aspect, "no") for each in batch]

    _report(scene.instance, "one")
    scene.sink.script = [refuse]
    scene.dispatcher().run_once()
    assert scene.ledger.reports.status().rejected

    assert scene.ledger.runs.revive() == 1
    scene.dispatcher().run_once()
    assert scene.ledger.reports.status().rejected == ()
    assert scene.ledger.runs.revive() == 0
    assert "one" in _reported(scene)


def _of_tomorrow(scene: Scene, *names: str) -> None:
    """Events of those assets are stored as no Dagster of today can read them."""
    table = SqlEventLogStorageTable
    with scene.instance.event_log_storage.run_connection("") as connection:  # type: ignore[attr-defined]
        for name in names:
            is_its = table.c.event.like(f'%"{name}"%')
            body = '{"__class__": "EventOfTomorrow"}'
            connection.execute(table.update().where(is_its).values(event=body))


@pytest.mark.parametrize(
    "unreadable", [["one"], ["three"], ["two", "three"], ["one", "two", "three"], ["five"]]
)
def test_an_event_that_cannot_be_read_keeps_no_other_from_being_delivered(
    scene: Scene, unreadable: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = ["one", "two", "three", "four", "five"]
    for name in names:
        _report(scene.instance, name)
    _of_tomorrow(scene, *unreadable)

    scene.dispatcher().run_once()

    assert set(_reported(scene)) == set(names) - set(unreadable)
    assert scene.ledger.runs.state("") == "delivered"
    assert "An event without a run can't be read" in caplog.text
    _report(scene.instance, "six")
    scene.dispatcher().run_once()
    assert _reported(scene)[-1] == "six"


def test_the_ledgers_clock_says_how_far_the_cursor_may_go(scene: Scene) -> None:
    """What one machine thinks the time is must not pass what another has not committed yet."""
    _report(scene.instance, "late")
    _report(scene.instance, "early")
    table = SqlEventLogStorageTable
    with scene.instance.event_log_storage.run_connection("") as connection:  # type: ignore[attr-defined]
        is_late = table.c.event.like('%"late"%')
        late = dict(connection.execute(table.select().where(is_late)).mappings().one())
        connection.execute(table.delete().where(is_late))
    behind = timedelta(minutes=2).total_seconds()
    scene.ledger.database.clock = lambda: time.time() - behind
    scene.ledger.runs.touch("")
    scene.dispatcher().run_once()
    with scene.instance.event_log_storage.run_connection("") as connection:  # type: ignore[attr-defined]
        connection.execute(table.insert().values(**late))
    scene.ledger.runs.touch("")
    scene.dispatcher().run_once()
    assert set(_reported(scene)) == {"early", "late"}


def test_what_happens_while_capture_is_off_is_left_out(scene: Scene) -> None:
    _report(scene.instance, "before")
    scene.dispatcher().run_once()
    scene.ledger.upkeep.switched_off()
    with scene.plain() as instance:
        _report(instance, "off")
    scene.ledger.upkeep.switched_on()
    _reconcile(scene)
    scene.dispatcher().run_once()
    _report(scene.instance, "after")
    scene.dispatcher().run_once()
    assert set(_reported(scene)) == {"before", "after"}


def test_what_waited_when_capture_was_switched_off_is_delivered(scene: Scene) -> None:
    _report(scene.instance, "before")
    scene.ledger.upkeep.switched_off()
    scene.ledger.upkeep.switched_on()
    scene.dispatcher().run_once()
    assert _reported(scene) == ["before"]
