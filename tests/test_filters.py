"""What is left out on purpose: by patterns, by a run's tag, by the kill switch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from deployment import DEADLINE
from instances import configured, write_yaml

from datahub_eventlog.cli import main
from datahub_eventlog.config import read
from datahub_eventlog.dispatcher import Dispatcher, Opened, assemble
from datahub_eventlog.ledger import Status
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.sinks.file import file_name
from datahub_eventlog.testing import capturing, delivered


@dg.op
def work() -> None: ...


@dg.job
def daily_sales() -> None:
    work()


@dg.job
def scratch_sales() -> None:
    work()


@dg.asset(key=["shop", "orders"])
def orders() -> None: ...


@dg.asset(key=["scratch", "orders"])
def scratch() -> None: ...


@dg.asset_check(asset=scratch)
def fine() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "home").mkdir()
    with capturing(tmp_path / "home") as instance:
        yield instance


class Filtered:
    """What became of an instance's runs under some options."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path, **options: Any) -> None:
        self._folder = folder
        block = {"datahub_file_config": {"path": str(folder)}, **options}
        config = read(block, {}).strict()
        ledger = ledger_of(instance, patience=5)
        with assemble(Opened(instance, ledger), config) as parts:
            dispatcher = Dispatcher(config, parts)
            while dispatcher.run_once():
                pass
        self.status: Status = ledger.reports.status()

    @property
    def counts(self) -> tuple[int, int]:
        """The runs that were delivered and those that were filtered."""
        return self.status.runs["delivered"], self.status.runs["filtered"]

    def text(self, run_id: str) -> str:
        """All that was sent of a run."""
        path = self._folder / file_name(run_id)
        return path.read_text() if path.exists() else ""


def test_a_job_that_the_pattern_leaves_out_is_counted_as_filtered(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    kept = daily_sales.execute_in_process(instance=instance).run_id
    left = scratch_sales.execute_in_process(instance=instance).run_id
    found = Filtered(instance, tmp_path / "files", job_pattern={"deny": ["scratch_.*"]})
    assert found.counts == (1, 1)
    assert "daily_sales" in found.text(kept)
    assert found.text(left) == ""


def test_a_run_with_the_tag_is_counted_as_filtered(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    tags = {"datahub/ignore": "True"}
    left = daily_sales.execute_in_process(instance=instance, tags=tags).run_id
    other = {"datahub/ignore": "false"}
    kept = daily_sales.execute_in_process(instance=instance, tags=other).run_id
    found = Filtered(instance, tmp_path / "files")
    assert found.counts == (1, 1)
    assert "daily_sales" in found.text(kept)
    assert found.text(left) == ""


def test_a_run_of_nothing_but_assets_that_are_left_out_is_counted_as_filtered(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    left = dg.materialize([scratch, fine], instance=instance).run_id
    mixed = dg.materialize([scratch, orders], instance=instance).run_id
    ops = daily_sales.execute_in_process(instance=instance).run_id
    found = Filtered(instance, tmp_path / "files", asset_pattern={"deny": ["scratch/"]})
    assert found.counts == (2, 1)
    assert found.text(left) == ""
    assert "dagster,shop.orders" in found.text(mixed)
    assert "dagster,scratch.orders" not in found.text(mixed)
    assert "daily_sales" in found.text(ops)


def test_a_pattern_that_takes_too_long_costs_only_the_runs_whose_names_are_hard_for_it(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @dg.job(name="a" * 40 + "b")
    def hard() -> None:
        work()

    left = hard.execute_in_process(instance=instance).run_id
    kept = daily_sales.execute_in_process(instance=instance).run_id
    patterns = {"deny": ["(a|a)*$"]}
    found = Filtered(instance, tmp_path / "files", job_pattern=patterns, max_attempts=1)
    (parked,) = found.status.parked
    assert parked.run_id == left
    assert "the pattern (a|a)*$ does not decide within 1 s" in (parked.error or "")
    assert "daily_sales" in found.text(kept)
    assert found.text(left) == ""


def test_what_is_shown_of_a_run_that_is_left_out_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with capturing(tmp_path, job_pattern={"deny": ["scratch_.*"]}) as instance:
        left = scratch_sales.execute_in_process(instance=instance).run_id
        kept = daily_sales.execute_in_process(instance=instance).run_id
        sink = delivered(instance, left)
        assert (sink.proposals, len(sink.problems)) == ([], 1)
        assert delivered(instance, kept).proposals
    shown = CliRunner().invoke(main, ["show", left])
    assert shown.exit_code == 0
    words = " ".join(shown.output.split())
    assert "job_pattern, asset_pattern or its tag datahub/ignore leaves it out" in words


def test_with_the_kill_switch_nothing_is_noted_and_nothing_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "files"
    block = {"datahub_file_config": {"path": str(folder)}}
    storage = {
        "event_log_storage": {
            "module": "datahub_eventlog",
            "class": "DataHubEventLogStorage",
            "config": {"datahub": block},
        }
    }
    monkeypatch.setenv("DATAHUB_EVENTLOG_ENABLED", "false")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DATAHUB_EVENTLOG_EXIT_TIMEOUT", str(DEADLINE))
    with configured(tmp_path, **storage) as instance:
        run_id = daily_sales.execute_in_process(instance=instance).run_id
        assert ledger_of(instance, patience=5).runs.state(run_id) is None
    write_yaml(tmp_path, **storage)
    refused = CliRunner().invoke(main, ["worker", "--until-empty"])
    assert refused.exit_code == 1
    assert "enabled is false: nothing is captured or delivered" in refused.output
    assert not folder.exists()

    monkeypatch.delenv("DATAHUB_EVENTLOG_ENABLED")
    with configured(tmp_path, **storage) as instance:
        later = daily_sales.execute_in_process(instance=instance).run_id
    assert [each.name for each in folder.glob("*.json")] == [file_name(later)]
