"""The audit of the chaos program reports each kind of loss, difference and failure."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance
from dagster._core.storage.event_log import SqliteEventLogStorage
from deployment import sqlite_yaml
from entries import RUN, entry
from instances import configured
from receiver import Receiver
from sqlalchemy import delete
from undisturbed import dispatcher_of

from chaos.audit import Audit, Report
from chaos.failures import own_errors
from chaos.faults import Tally
from datahub_eventlog import DataHubEventLogStorage
from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context


class Delivered:
    """An instance in which something ran, and a DataHub that has all of it."""

    def __init__(self, instance: DagsterInstance, receiver: Receiver) -> None:
        self.instance = instance
        self.receiver = receiver
        self.ledger: Ledger = ledger_of(instance, patience=5)

    def run(self, job: dg.JobDefinition) -> str:
        return job.execute_in_process(instance=self.instance, raise_on_error=False).run_id

    def deliver(self) -> None:
        config = Config(target=RestTarget(server=self.receiver.url))
        with dispatcher_of(config, self.instance, self.ledger) as dispatcher:
            while dispatcher.run_once():
                pass

    def report(self, tally: Tally | None = None) -> Report:
        return Audit(self.instance, self.ledger, self.receiver).report(tally or Tally())


@dg.asset(check_specs=[dg.AssetCheckSpec("fine", asset="stock")])
def stock() -> dg.MaterializeResult:  # type: ignore[type-arg]
    return dg.MaterializeResult(
        metadata={"rows": 3}, check_results=[dg.AssetCheckResult(passed=True)]
    )


@dg.op
def work() -> None:
    pass


@dg.job
def working() -> None:
    work()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an instance in which something ran."""
    folder = tmp_path_factory.mktemp("home")
    with configured(folder, **sqlite_yaml({"dispatch": "off"})) as instance:
        dg.materialize([stock], instance=instance)
        instance.report_runless_asset_event(dg.AssetMaterialization("outside"))
        working.execute_in_process(instance=instance)
    return folder


@pytest.fixture
def delivered(home: Path, tmp_path: Path) -> Iterator[Delivered]:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    with Receiver() as receiver, DagsterInstance.from_config(str(tmp_path)) as instance:
        made = Delivered(instance, receiver)
        made.deliver()
        yield made


def test_of_what_went_well_nothing_is_reported(delivered: Delivered) -> None:
    report = delivered.report()
    assert (report.lost, report.differing, report.failed) == ([], [], [])
    assert report.is_good
    assert report.runs == 2
    assert report.states == {"delivered": 2}
    # Two ends of runs, two steps with start and success, two materialisations, and a check.
    assert report.events == 9


def test_a_run_without_a_row_is_lost(delivered: Delivered) -> None:
    run_id = delivered.run(working)
    with delivered.ledger.database._connect() as connection:
        connection.execute(delete(runs).where(runs.c.run_id == run_id))
        connection.commit()
    (line,) = delivered.report().lost
    assert line == f"run {run_id} of working is unknown"


def test_a_run_that_is_still_due_is_lost(delivered: Delivered) -> None:
    run_id = delivered.run(working)
    report = delivered.report()
    assert f"run {run_id} of working is pending" in report.lost
    assert not report.is_good


def test_a_run_without_the_facts_of_its_definitions_is_lost(delivered: Delivered) -> None:
    run_id = delivered.run(working)
    with delivered.ledger.database._connect() as connection:
        connection.execute(runs.update().where(runs.c.run_id == run_id).values(definitions=None))
        connection.commit()
    delivered.deliver()
    (line,) = delivered.report().lost
    assert line == f"run {run_id} of working has no facts of its definitions"


@pytest.mark.parametrize(
    ("aspect", "event"),
    [
        ("dataProcessInstanceRunEvent", "end of run"),
        ("dataProcessInstanceRunEvent", "STEP_SUCCESS of"),
        ("operation", "materialisation of stock in run"),
        ("operation", "materialisation of outside in run -"),
        ("assertionRunEvent", "result of the check fine"),
    ],
)
def test_an_event_that_datahub_does_not_have_is_lost_and_its_aspect_differs(
    delivered: Delivered, aspect: str, event: str
) -> None:
    for _, name in list(delivered.receiver.store.series):
        if name == aspect:
            for urn, _ in list(delivered.receiver.store.series):
                delivered.receiver.store.series.pop((urn, aspect), None)
    report = delivered.report()
    assert any(line.startswith(event) for line in report.lost)
    assert any(f" {aspect}: None instead of" in line for line in report.differing)


def test_an_aspect_that_differs_is_named(delivered: Delivered) -> None:
    asset = urns.asset_urn(("stock",), Context())
    delivered.receiver.store.versioned[asset, "datasetProperties"]["description"] = "another"
    report = delivered.report()
    (line,) = report.differing
    assert line.startswith(f"{asset} datasetProperties: ")
    assert report.lost == []
    assert not report.is_good


def test_an_aspect_too_much_differs(delivered: Delivered) -> None:
    ghost = urns.asset_urn(("ghost",), Context())
    delivered.receiver.store.versioned[ghost, "status"] = {"removed": False}
    (line,) = delivered.report().differing
    assert line.startswith(f"{ghost} status: ")


def failing_with(error: BaseException | None = None, call: Any = None) -> dg.JobDefinition:
    @dg.op
    def breaks() -> None:
        if error is not None:
            raise error
        call()

    @dg.job
    def breaking() -> None:
        breaks()

    return breaking


def test_a_run_that_failed_without_a_reason_failed_because_of_us(delivered: Delivered) -> None:
    run_id = delivered.run(failing_with(ValueError("nobody knows why")))
    delivered.deliver()
    (line,) = delivered.report().failed
    assert run_id in line
    assert "nobody knows why" in line


def test_a_run_that_was_canceled_did_not_fail_because_of_us(delivered: Delivered) -> None:
    run_id = delivered.run(failing_with(ValueError("terminated")))
    delivered.deliver()
    report = delivered.report(Tally(canceled={run_id}))
    assert report.is_good
    assert report.external_causes == {"canceled": 1}


def store_an_event() -> None:
    """What Dagster does with our storage around its own, which has no database."""
    with TemporaryDirectory() as folder:
        backend = SqliteEventLogStorage(folder)
        Path(folder, f"{RUN}.db").mkdir()
        DataHubEventLogStorage.around(backend).store_event(entry("STEP_START"))


def touch_the_ledger() -> None:
    """What our storage must never let out."""
    Ledger.in_file("/no/such/folder/ledger.db", patience=1).runs.touch("one")


OUTAGE = Tally(outages=[(0.0, 1.0)])


def test_a_run_that_dagster_could_not_store_failed_because_of_the_database(
    delivered: Delivered,
) -> None:
    delivered.run(failing_with(call=store_an_event))
    delivered.deliver()
    report = delivered.report(OUTAGE)
    assert report.failed == []
    assert report.external_causes == {"cut off from its database": 1}


def test_without_any_outage_nothing_excuses_a_run_that_could_not_be_stored(
    delivered: Delivered,
) -> None:
    delivered.run(failing_with(call=store_an_event))
    delivered.deliver()
    assert len(delivered.report().failed) == 1


def test_an_outage_does_not_excuse_an_error_of_our_own(delivered: Delivered) -> None:
    delivered.run(failing_with(call=touch_the_ledger))
    delivered.deliver()
    (line,) = delivered.report(OUTAGE).failed
    assert "ledger" in line


def test_an_outage_does_not_excuse_what_has_nothing_to_do_with_it(delivered: Delivered) -> None:
    delivered.run(failing_with(ValueError("nobody knows why")))
    delivered.deliver()
    assert len(delivered.report(OUTAGE).failed) == 1


def traceback_of(call: Any) -> str:
    try:
        call()
    except Exception:  # noqa: BLE001  # whatever it is
        return traceback.format_exc()
    raise AssertionError("nothing was raised")


def test_an_error_of_our_own_in_a_log_is_found_and_one_of_dagsters_is_not() -> None:
    ours = traceback_of(touch_the_ledger)
    theirs = traceback_of(store_an_event)
    *_, line = own_errors(f"begin\n{ours}more\n")
    assert line.startswith("datahub_eventlog.errors.LedgerUnavailable")
    assert "store_event" in theirs
    assert own_errors(f"begin\n{theirs}more\n") == []
