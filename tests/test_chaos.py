"""The reckoning of the chaos program: whatever goes wrong on purpose here, it must say so."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pytest
from accounts import Accounts, Reckoning
from blame import outbursts
from dagster import DagsterInstance
from dagster._core.storage.event_log import SqliteEventLogStorage
from deployment import sqlite_yaml
from entries import RUN, entry
from faults import Tally
from instances import configured
from receiver import Receiver
from sqlalchemy import delete
from undisturbed import dispatcher_of

from datahub_eventlog import DataHubEventLogStorage
from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context


class Played:
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

    def reckon(self, tally: Tally | None = None) -> Reckoning:
        return Accounts(self.instance, self.ledger, self.receiver).reckon(tally or Tally())


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
def played(home: Path, tmp_path: Path) -> Iterator[Played]:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    with Receiver() as receiver, DagsterInstance.from_config(str(tmp_path)) as instance:
        made = Played(instance, receiver)
        made.deliver()
        yield made


def test_of_what_went_well_nothing_is_reported(played: Played) -> None:
    found = played.reckon()
    assert (found.lost, found.differing, found.failed) == ([], [], [])
    assert found.is_good
    assert found.runs == 2
    assert found.states == {"delivered": 2}
    # Two ends of runs, two steps with start and success, two materialisations, and a check.
    assert found.events == 9


def test_a_run_without_a_row_is_lost(played: Played) -> None:
    run_id = played.run(working)
    with played.ledger.database._connect() as connection:
        connection.execute(delete(runs).where(runs.c.run_id == run_id))
        connection.commit()
    (said,) = played.reckon().lost
    assert said == f"run {run_id} of working is unknown"


def test_a_run_that_is_still_due_is_lost(played: Played) -> None:
    run_id = played.run(working)
    found = played.reckon()
    assert f"run {run_id} of working is pending" in found.lost
    assert not found.is_good


def test_a_run_without_the_facts_of_its_definitions_is_lost(played: Played) -> None:
    run_id = played.run(working)
    with played.ledger.database._connect() as connection:
        connection.execute(runs.update().where(runs.c.run_id == run_id).values(definitions=None))
        connection.commit()
    played.deliver()
    (said,) = played.reckon().lost
    assert said == f"run {run_id} of working has no facts of its definitions"


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
    played: Played, aspect: str, event: str
) -> None:
    for _, name in list(played.receiver.store.series):
        if name == aspect:
            for urn, _ in list(played.receiver.store.series):
                played.receiver.store.series.pop((urn, aspect), None)
    found = played.reckon()
    assert any(each.startswith(event) for each in found.lost)
    assert any(f" {aspect}: None instead of" in each for each in found.differing)


def test_an_aspect_that_differs_is_named(played: Played) -> None:
    asset = urns.asset_urn(("stock",), Context())
    played.receiver.store.versioned[asset, "datasetProperties"]["description"] = "another"
    found = played.reckon()
    (said,) = found.differing
    assert said.startswith(f"{asset} datasetProperties: ")
    assert found.lost == []
    assert not found.is_good


def test_an_aspect_too_much_differs(played: Played) -> None:
    ghost = urns.asset_urn(("ghost",), Context())
    played.receiver.store.versioned[ghost, "status"] = {"removed": False}
    (said,) = played.reckon().differing
    assert said.startswith(f"{ghost} status: ")


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


def test_a_run_that_failed_without_a_reason_failed_for_our_sake(played: Played) -> None:
    run_id = played.run(failing_with(ValueError("nobody knows why")))
    played.deliver()
    (said,) = played.reckon().failed
    assert run_id in said
    assert "nobody knows why" in said


def test_a_run_that_was_canceled_did_not_fail_for_our_sake(played: Played) -> None:
    run_id = played.run(failing_with(ValueError("terminated")))
    played.deliver()
    found = played.reckon(Tally(canceled={run_id}))
    assert found.is_good
    assert found.excuses == {"canceled": 1}


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


def test_a_run_that_dagster_could_not_store_failed_for_the_databases_sake(played: Played) -> None:
    played.run(failing_with(call=store_an_event))
    played.deliver()
    found = played.reckon(OUTAGE)
    assert found.failed == []
    assert found.excuses == {"cut off from its database": 1}


def test_without_any_outage_nothing_excuses_a_run_that_could_not_be_stored(played: Played) -> None:
    played.run(failing_with(call=store_an_event))
    played.deliver()
    assert len(played.reckon().failed) == 1


def test_an_outage_does_not_excuse_an_error_of_our_own(played: Played) -> None:
    played.run(failing_with(call=touch_the_ledger))
    played.deliver()
    (said,) = played.reckon(OUTAGE).failed
    assert "ledger" in said


def test_an_outage_does_not_excuse_what_has_nothing_to_do_with_it(played: Played) -> None:
    played.run(failing_with(ValueError("nobody knows why")))
    played.deliver()
    assert len(played.reckon(OUTAGE).failed) == 1


def traceback_of(call: Any) -> str:
    try:
        call()
    except Exception:  # noqa: BLE001  # whatever it is
        return traceback.format_exc()
    raise AssertionError("nothing was raised")


def test_an_error_of_our_own_in_a_log_is_found_and_one_of_dagsters_is_not() -> None:
    ours = traceback_of(touch_the_ledger)
    theirs = traceback_of(store_an_event)
    *_, said = outbursts(f"begin\n{ours}more\n")
    assert said.startswith("datahub_eventlog.errors.LedgerUnavailable")
    assert "store_event" in theirs
    assert outbursts(f"begin\n{theirs}more\n") == []
