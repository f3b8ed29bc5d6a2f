import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions import events as dagster_events
from dagster._core.events import DagsterEvent

from datahub_eventlog.source import Source
from datahub_eventlog.source.events import event_of
from datahub_eventlog.values import (
    CheckKey,
    Evaluation,
    Failure,
    Handled,
    Loaded,
    Materialization,
    MaterializationFailure,
    Metadatum,
    Planned,
    RunLog,
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def _log(instance: dg.DagsterInstance, run_id: str) -> RunLog:
    source = Source(instance)
    run = source.run(run_id)
    assert run is not None
    return source.log(run)


@dg.op(description="doubles", tags={"team": "a"}, ins={"x": dg.In(int, metadata={"in": 1})})
def double(x: int) -> int:
    return x * 2


@dg.op
def one() -> int:
    return 1


@dg.graph
def inner(x: int) -> int:
    doubled: int = double.alias("twice")(x)
    return doubled


@dg.op(out=dg.DynamicOut(int))
def fan() -> Iterator[dg.DynamicOutput[int]]:
    yield dg.DynamicOutput(1, mapping_key="a")


@dg.op
def gather(xs: list[int]) -> int:
    return sum(xs)


@dg.job(tags={"job": "tag"}, description="nested", metadata={"doc": "text"})
def nested() -> None:
    double.alias("first")(inner(one()))
    gather(fan().map(double).collect())


def test_nested_graphs_aliases_and_dynamic_steps_have_their_handles(
    instance: dg.DagsterInstance,
) -> None:
    log = _log(instance, nested.execute_in_process(instance=instance).run_id)

    assert log.job is not None
    assert [op.handle for op in log.job.ops] == [
        "double",
        "fan",
        "first",
        "gather",
        "inner.twice",
        "one",
    ]
    twice = next(op for op in log.job.ops if op.handle == "inner.twice")
    assert (twice.name, twice.description, twice.tags) == ("double", "doubles", {"team": "a"})
    assert twice.inputs[0].type_name == "Int"
    assert twice.inputs[0].metadata == {"in": Metadatum("int", 1)}
    assert (log.job.description, log.job.tags) == ("nested", {"job": "tag"})
    steps = {step.key: step for step in log.steps}
    assert steps["double[?]"].handle == "double"
    assert steps["gather"].upstream == ("double[?]",)
    assert steps["first"].upstream == ("inner.twice",)
    started = {event.step_key for event in log.events if event.type == "STEP_START"}
    assert "double[a]" in started


def test_assets_checks_and_io_come_with_their_metadata(instance: dg.DagsterInstance) -> None:
    partitions = dg.StaticPartitionsDefinition(["p", "q"])

    @dg.asset(partitions_def=partitions)
    def up(context: dg.AssetExecutionContext) -> int:
        context.add_output_metadata({"rows": 3})
        return 1

    @dg.asset_check(asset=up)
    def fine() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"why": "x"}
        )

    @dg.asset(partitions_def=partitions)
    def down(up: int) -> int:
        return up

    result = dg.materialize([up, down, fine], instance=instance, partition_key="p")
    log = _log(instance, result.run_id)

    data = [event.data for event in log.events]
    assert Planned(("up",), partition="p") in data
    made = next(each for each in data if isinstance(each, Materialization))
    assert (made.asset_key, made.partition) == (("up",), "p")
    assert made.metadata["rows"] == Metadatum("int", 3)
    assert "dagster/data_version" in made.tags
    evaluated = next(each for each in data if isinstance(each, Evaluation))
    assert evaluated.check == CheckKey(("up",), "fine")
    assert (evaluated.passed, evaluated.severity) == (False, "WARN")
    assert evaluated.target_run_id == result.run_id
    loaded = next(each for each in data if isinstance(each, Loaded))
    assert loaded.input == "up"
    assert any(isinstance(each, Handled) and "path" in each.metadata for each in data)
    assert {each.asset_key for step in log.steps for each in step.outputs} == {
        ("up",),
        ("down",),
        None,
    }


def test_a_failure_is_told_by_its_innermost_cause(instance: dg.DagsterInstance) -> None:
    @dg.op
    def bad() -> None:
        raise ValueError("no such table\nsecond line")

    @dg.job
    def failing() -> None:
        bad()

    log = _log(instance, failing.execute_in_process(instance=instance, raise_on_error=False).run_id)

    assert log.has_ended
    failures = {event.type: event.data for event in log.events if isinstance(event.data, Failure)}
    assert failures["STEP_FAILURE"] == Failure("ValueError: no such table")
    assert failures["RUN_FAILURE"] == Failure("ValueError: no such table", "STEP_FAILURE")


@pytest.mark.skipif(
    not hasattr(dagster_events, "AssetMaterializationFailure"), reason="Dagster 1.10 has no such"
)
def test_a_materialization_that_dagster_says_failed_comes_with_its_reason() -> None:
    """Dagster's own storages don't keep the event."""
    own = dagster_events.AssetMaterializationFailure(
        asset_key=dg.AssetKey(["a", "b"]),
        failure_type=dagster_events.AssetMaterializationFailureType.SKIPPED,
        reason=dagster_events.AssetMaterializationFailureReason.RUN_TERMINATED,
        description="Stopped.",
        partition="p",
    )
    failed = DagsterEvent.build_asset_failed_to_materialize_event("nested", "first", own)
    entry = dg.EventLogEntry(None, "debug", "", "run", 1.0, "first", "nested", failed)

    event = event_of(dg.EventLogRecord(1, entry))
    assert event is not None
    assert event.data == MaterializationFailure(
        ("a", "b"), "p", is_failure=False, reason="RUN_TERMINATED", description="Stopped."
    )


def test_a_page_is_not_the_end_of_a_run(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = nested.execute_in_process(instance=instance).run_id
    whole = _log(instance, run_id).events
    monkeypatch.setattr("datahub_eventlog.source.EVENTS_PER_PAGE", 3)

    assert _log(instance, run_id).events == whole
    assert len(whole) > 10


def test_a_deleted_run_is_none_and_leaves_no_file_behind(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert Source(instance).run("00000000-0000-0000-0000-000000000000") is None
    assert not list(tmp_path.rglob("00000000*"))


def test_runless_events_are_read_again_until_they_are_a_minute_old(
    instance: dg.DagsterInstance,
) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("outside", partition="p"))
    source = Source(instance)
    first = source.runless(None, since=0, now=time.time())
    (event,) = first.events

    assert event.data == Materialization(("outside",), partition="p")
    assert first.cursor is None
    later = source.runless(first.cursor, since=0, now=event.time + 61)
    assert later.events == (event,)
    assert source.runless(later.cursor, since=0, now=event.time + 62).events == ()
    assert source.runless(None, since=event.time + 1, now=event.time + 2).events == ()


def test_updated_runs_come_with_the_time_of_their_end(instance: dg.DagsterInstance) -> None:
    run_id = nested.execute_in_process(instance=instance).run_id
    source = Source(instance)
    (updated,) = source.updated(since=0, limit=10)

    assert updated.run_id == run_id
    assert updated.ended is not None
    assert source.updated(since=updated.time + 1, limit=10) == []


def test_the_extractors_context_is_that_of_the_runs_end(instance: dg.DagsterInstance) -> None:
    run_id = nested.execute_in_process(instance=instance).run_id
    context = Source(instance).sensor_context(run_id)

    assert context.dagster_run.run_id == run_id
    assert context.dagster_event.event_type == dg.DagsterEventType.RUN_SUCCESS
    assert context.instance is instance
