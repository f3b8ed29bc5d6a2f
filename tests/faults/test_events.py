"""Events that come late, are missing, or come from several threads."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from dagster._core.events import StepMaterializationData
from deployment import eventually

from datahub_eventlog.source import Source
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.asset_checks import assertion_urn
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CheckKey
from faults.scene import Scene, deliver_all, two_ops


def test_an_asset_check_after_the_runs_end_arrives(scene: Scene) -> None:
    @dg.asset
    def stock() -> None:
        pass

    run_id = dg.materialize([stock], instance=scene.instance).run_id
    with scene.dispatcher() as dispatcher:
        deliver_all(dispatcher, scene)
        run = scene.instance.get_run_by_id(run_id)
        assert run is not None
        evaluation = dg.AssetCheckEvaluation(
            asset_key=stock.key, check_name="late", passed=False, metadata={}
        )
        scene.report(run, DagsterEventType.ASSET_CHECK_EVALUATION, "stock", evaluation)
        scene.an_hour_later()
        deliver_all(dispatcher, scene)

    urn = assertion_urn(CheckKey(("stock",), "late"), Context())
    (event,) = scene.receiver.timeseries(urn, "assertionRunEvent")
    assert event["result"]["type"] == "FAILURE"
    scene.assert_true()


def test_what_a_zombie_writes_after_its_run_has_failed_arrives(scene: Scene) -> None:
    run = scene.new_run(two_ops)
    scene.report(run, DagsterEventType.STEP_START, "make")
    scene.instance.report_run_failed(run, "the worker is gone")
    with scene.dispatcher() as dispatcher:
        deliver_all(dispatcher, scene)
        made = StepMaterializationData(dg.AssetMaterialization("from_the_grave"))
        scene.report(run, DagsterEventType.ASSET_MATERIALIZATION, "make", made)
        scene.an_hour_later()
        deliver_all(dispatcher, scene)

    urn = urns.asset_urn(("from_the_grave",), Context())
    assert len(scene.receiver.timeseries(urn, "operation")) == 1
    assert scene.of_run(run.run_id)[-1] == ("COMPLETE", "FAILURE")
    scene.assert_true()


def test_of_eight_hundred_events_that_eight_threads_write_none_is_lost(
    on_postgres: Scene,
) -> None:
    scene = on_postgres
    run = scene.new_run(two_ops)

    def write(asset: int) -> None:
        for number in range(100):
            made = dg.AssetMaterialization(f"asset_{asset}", partition=f"{number:03}")
            data = StepMaterializationData(made)
            scene.report(run, DagsterEventType.ASSET_MATERIALIZATION, "make", data)

    with scene.worker():
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(8)))
        scene.report(run, DagsterEventType.RUN_SUCCESS)
        eventually(lambda: scene.is_delivered(run.run_id), "the run is delivered")

    for asset in range(8):
        urn = urns.asset_urn((f"asset_{asset}",), Context())
        (operation,) = scene.receiver.timeseries(urn, "operation")
        assert operation["customProperties"]["partition_count"] == "100"
    scene.assert_true()


def test_steps_in_flight_are_closed_when_their_run_ends_without_them(scene: Scene) -> None:
    run = scene.new_run(two_ops)
    scene.report(run, DagsterEventType.STEP_START, "make")
    with scene.dispatcher() as dispatcher:
        dispatcher.run_once()
        log = urns.step_urn(_record(scene, run.run_id), "make", Context())
        assert scene.events(log) == [("STARTED", None)]
        scene.instance.report_run_failed(run, "the worker is gone")
        deliver_all(dispatcher, scene)
    assert scene.events(log) == [("STARTED", None), ("COMPLETE", "FAILURE")]
    assert scene.of_run(run.run_id) == [("STARTED", None), ("COMPLETE", "FAILURE")]
    scene.assert_true()


def _record(scene: Scene, run_id: str) -> Any:
    run = Source(scene.instance).run(run_id)
    assert run is not None
    return run


def test_a_run_that_is_force_terminated_ends_as_canceled(scene: Scene) -> None:
    run = scene.new_run(two_ops)
    with scene.dispatcher() as dispatcher:
        dispatcher.run_once()
        assert scene.counts() == {"pending": 1}
        scene.instance.report_run_canceled(run)
        deliver_all(dispatcher, scene)
    assert scene.of_run(run.run_id) == [("STARTED", None), ("COMPLETE", "SKIPPED")]
    scene.assert_true()


def test_a_run_without_a_terminal_event_is_judged_by_its_record(scene: Scene) -> None:
    run = scene.new_run(two_ops)
    with scene.dispatcher() as dispatcher:
        dispatcher.run_once()
        assert scene.counts() == {"pending": 1}
        path = Path(scene.instance.root_directory, "history", "runs.db")
        with sqlite3.connect(path) as runs:
            runs.execute("UPDATE runs SET status = 'FAILURE' WHERE run_id = ?", (run.run_id,))
            body = runs.execute("SELECT run_body FROM runs").fetchone()[0]
            runs.execute("UPDATE runs SET run_body = ?", (body.replace("STARTED", "FAILURE"),))
        runs.close()
        scene.an_hour_later()
        deliver_all(dispatcher, scene)
    assert scene.is_delivered(run.run_id)
    assert scene.of_run(run.run_id) == [("STARTED", None), ("COMPLETE", "FAILURE")]


def test_a_run_that_is_deleted_while_it_goes_on_is_gone(scene: Scene) -> None:
    run = scene.new_run(two_ops)
    with scene.dispatcher() as dispatcher:
        dispatcher.run_once()
        scene.instance.delete_run(run.run_id)
        scene.an_hour_later()
        dispatcher.run_once()
    assert scene.counts() == {"gone": 1}
