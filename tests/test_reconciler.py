"""What the reconciler adds, and what it leaves alone: old runs, and those left out on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deployment import eventually, postgres_yaml, sqlite_yaml
from instances import configured, make_unreadable
from postgres import over_psycopg2
from sqlalchemy import create_engine, text

from datahub_eventlog import capture
from datahub_eventlog.config import Config, FileTarget
from datahub_eventlog.dispatcher import Worker
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.operations import Operations
from datahub_eventlog.process_role import IS_DAEMON_VARIABLE
from datahub_eventlog.reopening import opened
from datahub_eventlog.source import Source

MONTH = timedelta(days=30)
LATER = 120.0
"""Seconds after which everybody misses a run that has no row."""


@dg.op
def work() -> None:
    pass


@dg.job
def working() -> None:
    work()


@dataclass(frozen=True)
class Place:
    """An instance whose dagster.yaml changes."""

    home: Path
    storage: Callable[..., dict[str, Any]]

    @contextmanager
    def instance(self, **datahub: Any) -> Iterator[dg.DagsterInstance]:
        """The instance in a new process, so to say, with these options."""
        capture.forget()
        with configured(self.home, **self.storage({"dispatch": "off", **datahub})) as instance:
            yield instance

    def run(self, **datahub: Any) -> str:
        with self.instance(**datahub) as instance:
            return working.execute_in_process(instance=instance).run_id

    def work_off(self) -> None:
        """What a worker does until nothing is due."""
        with self.instance() as instance:
            reference = instance.get_ref()
            config = Config(target=FileTarget(str(self.home / "files")))
            Worker(config, lambda: opened(reference)).run(until_empty=True)

    def reconcile(self, after: float = LATER) -> list[str]:
        """The runs that the reconciler adds so many seconds from now."""
        with self.instance() as instance:
            ledger = ledger_of(instance, patience=5)
            runs = [run.run_id for run in instance.get_runs()]
            before = set(ledger.runs.missing(runs))
            reconciler = Reconciler(ledger, Source(instance), MONTH, lambda: time.time() + after)
            reconciler.run_once()
            return sorted(before - set(ledger.runs.missing(runs)))

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with self.instance() as instance:
            yield ledger_of(instance, patience=5)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(tmp_path, sqlite_yaml)
    url = over_psycopg2(request.getfixturevalue("postgres_url"))
    return Place(tmp_path, lambda datahub: postgres_yaml(url, datahub))


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the daemon."""
    monkeypatch.setenv(IS_DAEMON_VARIABLE, "true")


@pytest.mark.usefixtures("daemon")
def test_runs_of_a_time_when_capture_was_off_are_not_taken_for_lost(place: Place) -> None:
    before = place.run()
    place.work_off()
    with place.instance(enabled=False) as instance, place.ledger() as ledger:
        left_out = working.execute_in_process(instance=instance).run_id
        eventually(lambda: ledger.upkeep._read("off"), "the daemon has noted that capture is off")
    place.work_off()
    assert place.reconcile() == []
    with place.instance() as instance:
        # A tag on a finished run is an update of its record.
        instance.add_run_tags(left_out, {"looked": "at"})
    assert place.reconcile() == []

    after = _run_that_nobody_noted(place)
    assert place.reconcile() == [after]
    with place.ledger() as ledger:
        states = {each: ledger.runs.state(each) for each in (before, left_out, after)}
    assert states == {before: "delivered", left_out: None, after: "pending"}


def _run_that_nobody_noted(place: Place) -> str:
    """As if its process had died between storing and touching."""
    return place.run(enabled=False)


def test_a_run_that_nobody_noted_while_all_dispatchers_were_away_is_found(place: Place) -> None:
    place.run()
    place.work_off()
    missed = _run_that_nobody_noted(place)
    place.work_off()
    assert place.reconcile() == [missed]


def test_a_run_that_cannot_be_read_keeps_no_other_from_being_delivered(place: Place) -> None:
    unreadable, good = place.run(), place.run()
    with place.instance() as instance:
        make_unreadable(instance, unreadable)
    place.work_off()
    with place.ledger() as ledger:
        assert ledger.runs.states([good, unreadable]) == {good: "delivered", unreadable: "pending"}


def test_a_record_that_cannot_be_read_hides_no_run_that_nobody_noted(place: Place) -> None:
    place.run()
    place.work_off()
    before, after = (_run_that_nobody_noted(place) for _ in range(2))
    with place.instance(enabled=False) as instance:
        unreadable = working.execute_in_process(instance=instance).run_id
        make_unreadable(instance, unreadable)
    with place.ledger() as ledger, place.instance() as instance:
        clock = lambda: time.time() + LATER  # noqa: E731
        assert Reconciler(ledger, Source(instance), MONTH, clock).run_once() == 2
        assert ledger.runs.missing([before, after, unreadable]) == [unreadable]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_run_that_nobody_noted_is_found_where_dagster_stores_local_time(
    tmp_path: Path, postgres_url: str, zone: str
) -> None:
    url = over_psycopg2(postgres_url)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        database = engine.url.database
        connection.execute(text(f"ALTER DATABASE \"{database}\" SET timezone TO '{zone}'"))
    engine.dispose()
    place = Place(tmp_path, lambda datahub: postgres_yaml(url, datahub))
    noted = place.run()
    place.work_off()
    missed = _run_that_nobody_noted(place)
    assert place.reconcile() == [missed]
    later = _run_that_nobody_noted(place)
    assert place.reconcile() == [later]
    with place.ledger() as ledger:
        assert ledger.runs.state(noted) == "delivered"


def test_a_worker_that_is_switched_off_notes_it_too(place: Place) -> None:
    place.run()
    with place.instance(enabled=False) as instance:
        Operations(instance).worker()
    left_out = place.run(enabled=False)
    place.work_off()
    assert place.reconcile() == []
    with place.ledger() as ledger:
        assert ledger.runs.state(left_out) is None


def test_switching_off_makes_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IS_DAEMON_VARIABLE, "true")
    place = Place(tmp_path, sqlite_yaml)
    with place.instance(enabled=False) as instance:
        working.execute_in_process(instance=instance)
        instance.event_log_storage.datahub.note_off()  # type: ignore[attr-defined]
        ledger = Ledger.in_file(str(tmp_path / "history" / "runs" / "index.db"), patience=5)
        assert not ledger.database.exists()
        assert capture.process().warnings.count == 0


def test_what_retention_removed_is_counted_and_never_added_again(place: Place) -> None:
    run_id = place.run()
    place.work_off()
    with place.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        # The one more look after the delivery.
        ledger.database.clock = lambda: time.time() + LATER
        (look,) = ledger.leases.take("test", 1, timedelta(minutes=1), run_ids=[run_id])
        ledger.leases.settle(look, "delivered")
        month_later = time.time() + MONTH.total_seconds() + 2 * LATER
        ledger.database.clock = lambda: month_later
        source = Source(instance)
        reconciler = Reconciler(ledger, source, MONTH, lambda: month_later)
        reconciler.run_once()
        assert ledger.runs.state(run_id) is None
        instance.add_run_tags(run_id, {"looked": "at"})
        ledger.upkeep.set_watermark(time.time() - LATER)
        Reconciler(ledger, source, MONTH, lambda: month_later).run_once()
        assert ledger.runs.state(run_id) is None
        assert ledger.reports.status().runs["expired"] == 1
