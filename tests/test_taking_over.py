"""What a local file noted until the ledger's tables were made is delivered from those."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pipelines
import pytest
from dagster import DagsterInstance
from instances import configured
from ledgers import MINUTE, Clock, lease_of
from sqlalchemy import make_url
from styles import style_a
from visitors import make_tables, visitor

from datahub_eventlog import capture
from datahub_eventlog.config import Config, FileTarget
from datahub_eventlog.dispatcher import Worker
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.ledger import Claim, Facts, Ledger
from datahub_eventlog.ledger.taking_over import OVERLAP_SECONDS, ROWS_AT_ONCE, take_over
from datahub_eventlog.ledger_location import FILE, ledger_of
from datahub_eventlog.reopening import opened
from datahub_eventlog.source import Source

DAY = timedelta(days=1)
SAID = Claim(urn="urn:li:dataset:x", slot="schemaMetadata", time=7.0, hash="h")


@pytest.fixture
def old(tmp_path: Path, clock: Clock) -> Ledger:
    """The ledger that served before, a day ago."""
    ledger = Ledger.in_file(str(tmp_path / "old.db"), patience=5, clock=clock)
    ledger.runs.touch("delivered")
    delivered = lease_of(ledger, "delivered")
    assert ledger.claims.grant(delivered, MINUTE, [SAID], resend_after=DAY) == [True]
    ledger.claims.confirm(delivered, [SAID])
    ledger.leases.settle(delivered, "delivered")
    clock.advance(1000)
    return ledger


def test_runs_with_their_definitions_and_what_datahub_has_are_taken(
    ledger: Ledger, old: Ledger
) -> None:
    old.runs.touch("open", definitions=Facts("f", b"facts"))
    old.runs.touch("being delivered")
    lease_of(old, "being delivered")
    old.runs.touch("parked")
    old.leases.park(lease_of(old, "parked"), "why")
    old.reports.record_rejections("delivered", [("urn", "aspect", "reason")])
    take_over(ledger, old)
    assert ledger.runs.states(["delivered", "open", "being delivered", "parked"]) == {
        "delivered": "delivered",
        "open": "pending",
        "being delivered": "pending",
        "parked": "parked",
    }
    lease = lease_of(ledger, "open")
    assert lease.definitions_hash == "f"
    assert ledger.runs.facts("f") == b"facts"
    assert ledger.claims.grant(lease, MINUTE, [SAID], resend_after=DAY) == [False]
    assert lease_of(ledger, "being delivered").touches == 1
    assert [each.reason for each in ledger.reports.status().rejected] == ["reason"]


def test_of_a_run_that_both_know_what_only_the_old_one_knows_is_not_lost(
    ledger: Ledger, old: Ledger
) -> None:
    for each in (old, ledger):
        each.runs.touch("shared", definitions=Facts("f", b"facts") if each is old else None)
    ledger.runs.touch("delivered")
    ledger.leases.settle(lease_of(ledger, "shared"), "delivered")
    take_over(ledger, old)
    assert ledger.runs.state("shared") == "pending"
    assert ledger.runs.definitions_of("shared") == "f"
    assert lease_of(ledger, "delivered").touches == 1


def test_whoever_goes_on_using_the_old_one_is_heard_the_next_time(
    ledger: Ledger, old: Ledger, clock: Clock
) -> None:
    old.runs.touch("before")
    clock.advance(OVERLAP_SECONDS + 1)
    take_over(ledger, old)
    ledger.leases.settle(lease_of(ledger, "before"), "delivered")
    clock.advance(1000)
    old.runs.touch("after")
    take_over(ledger, old)
    assert ledger.runs.states(["before", "after"]) == {"before": "delivered", "after": "pending"}


def test_many_rows_are_taken_in_pieces(ledger: Ledger, old: Ledger) -> None:
    many = [f"run-{number}" for number in range(2 * ROWS_AT_ONCE + 1)]
    old.runs.add(many, backfilled=False)
    take_over(ledger, old)
    assert set(ledger.runs.states(many)) == set(many)


def test_what_nobody_noted_is_looked_for_from_when_the_old_one_was_made(
    ledger: Ledger, old: Ledger, clock: Clock
) -> None:
    made, mark = old.upkeep.created(), old.upkeep.watermark()
    assert ledger.upkeep.created() > made
    take_over(ledger, old)
    assert (ledger.upkeep.captured_since(), ledger.upkeep.watermark()) == (made, mark)
    assert ledger.upkeep.runless_since() == old.upkeep.runless_since()
    clock.advance(1000)
    ledger.upkeep.set_watermark(clock())
    take_over(ledger, old)
    assert ledger.upkeep.watermark() == clock()


# From an administrator's point of view


@dataclass(frozen=True)
class Home:
    """An instance on Postgres whose user may make no tables, until an administrator did."""

    directory: Path
    url: str

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        """The instance in a new process, so to say."""
        capture.forget()
        storage = {"postgres": {"postgres_url": self.url}}
        config: dict[str, Any] = style_a(storage, {"dispatch": "worker"})
        with configured(self.directory, **config) as instance:
            yield instance

    def execute(self) -> str:
        with self.instance() as instance:
            return pipelines.nested.execute_in_process(instance=instance).run_id

    def work_off(self) -> set[str]:
        """The runs that were delivered by the end of a worker's work."""
        files = self.directory / "files"
        with self.instance() as instance:
            reference = instance.get_ref()
            config = Config(target=FileTarget(str(files)))
            Worker(config, lambda: opened(reference)).run(until_empty=True)
        return {each.stem for each in files.glob("*.json")}


@pytest.fixture
def home(postgres_url: str, tmp_path: Path) -> Iterator[Home]:
    with visitor(postgres_url) as url:
        yield Home(tmp_path, url)


def test_runs_of_the_time_before_the_administrator_made_the_tables_are_delivered(
    home: Home,
) -> None:
    before = home.execute()
    assert home.directory.joinpath(FILE).exists()
    make_tables(make_url(home.url))
    after = home.execute()
    assert home.work_off() == {before, after}
    with home.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        assert ledger.database.dialect() == "postgresql"
        assert ledger.runs.definitions_of(before) == ledger.runs.definitions_of(after)


def test_a_run_that_another_machine_noted_before_is_found_by_the_reconciler(
    home: Home, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert home.work_off() == set()
    elsewhere = Home(tmp_path_factory.mktemp("elsewhere"), home.url).execute()
    make_tables(make_url(home.url))
    home.work_off()
    with home.instance() as instance:
        ledger = ledger_of(instance, patience=5)
        later = Reconciler(ledger, Source(instance), DAY, lambda: time.time() + 120)
        assert later.run_once() == 1
    assert home.work_off() == {elsewhere}


def test_a_local_file_that_is_damaged_keeps_nothing_from_being_delivered(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.execute()
    make_tables(make_url(home.url))
    home.directory.joinpath(FILE).write_text("no database")
    after = home.execute()
    assert home.work_off() == {after}
    assert "was not taken over" in caplog.text
