"""What a storage wrapper breaks easily: each through Dagster's own instance, on real databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance, EventLogEntry
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.migration.bigint_migration import run_bigint_migration
from deployment import DEADLINE, eventually
from entries import RUN, entry, materialized
from sqlalchemy import inspect, text
from sqlalchemy.pool import NullPool
from styles import touched

from datahub_eventlog import DataHubEventLogStorage

POOL = "warehouse"


@dg.op(pool=POOL)
def limited() -> None:
    pass


@dg.job(tags={"team": "sales"})
def in_the_pool() -> None:
    limited()


def backend_of(instance: DagsterInstance) -> Any:
    """The storage that would be the event log without us."""
    storage: Any = instance.event_log_storage
    return storage.datahub.backend


def is_pooled(storage: Any) -> bool:
    return not isinstance(storage._engine.pool, NullPool)


@contextmanager
def taken(instance: DagsterInstance) -> Iterator[None]:
    """The only slot of the pool belongs to another run, until then."""
    storage = instance.event_log_storage
    storage.set_concurrency_slots(POOL, 1)
    assert storage.claim_concurrency_slot(POOL, "another run", "step").is_claimed
    try:
        yield
    finally:
        storage.free_concurrency_slots_for_run("another run")


def test_a_run_waits_for_the_only_slot_of_its_pool(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    with ThreadPoolExecutor(1) as thread:
        with taken(instance):
            running = thread.submit(in_the_pool.execute_in_process, instance=instance)
            info = storage.get_concurrency_info
            eventually(lambda: running.done() or info(POOL).pending_step_count, "the run waits")
            assert not running.done()
        result = running.result(DEADLINE)
    assert result.success
    assert touched(instance) == {result.run_id: 2}
    assert (info(POOL).active_slot_count, info(POOL).pending_step_count) == (0, 0)


def test_the_limits_of_pools_are_those_that_were_set(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots(POOL, 2)
    assert {each.name: each.limit for each in storage.get_pool_limits()} == {POOL: 2}
    assert storage.get_concurrency_keys() == {POOL}
    assert storage.get_pool_config() == backend_of(instance).get_pool_config()


def test_the_tags_of_a_run_can_be_reached_from_the_event_log(instance: DagsterInstance) -> None:
    run_id = in_the_pool.execute_in_process(instance=instance).run_id
    storage: Any
    for storage in (instance.event_log_storage, backend_of(instance)):
        assert storage.has_instance
        assert storage._instance.get_run_by_id(run_id).tags["team"] == "sales"


def test_the_largest_id_is_that_of_the_backend(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    before = storage.get_maximum_record_id()
    in_the_pool.execute_in_process(instance=instance)
    after = storage.get_maximum_record_id()
    assert after == backend_of(instance).get_maximum_record_id()
    assert after is not None
    assert after > (before or 0)


def test_a_batch_is_stored_whole_and_once_and_costs_no_touch_of_its_own(
    instance: DagsterInstance,
) -> None:
    storage = instance.event_log_storage
    storage.store_event(entry("RUN_START"))
    storage.store_event_batch([materialized("orders") for _ in range(3)])
    assert len(instance.all_logs(RUN)) == 4
    assert {each.to_user_string() for each in storage.all_asset_keys()} == {"orders"}
    assert touched(instance) == {RUN: 1}


def test_whoever_watches_a_run_is_told_of_its_events_until_the_storage_is_disposed(
    instance: DagsterInstance,
) -> None:
    before = {*threading.enumerate()}
    seen: list[EventLogEntry] = []
    storage = instance.event_log_storage
    storage.store_event(entry("RUN_ENQUEUED"))
    storage.watch(RUN, None, lambda event, _cursor: seen.append(event))
    storage.store_event(entry("RUN_START"))
    eventually(lambda: len(seen) == 2, "both events are seen")
    watching = {*threading.enumerate()} - before
    assert watching
    storage.dispose()
    eventually(lambda: not any(each.is_alive() for each in watching), "nobody watches")


@pytest.mark.parametrize("instance", ["A on Postgres", "B on Postgres"], indirect=True)
def test_the_webserver_gets_the_pooled_connections_that_it_asks_for(
    instance: DagsterInstance,
) -> None:
    storage: Any = instance.event_log_storage
    assert not is_pooled(storage)
    instance.optimize_for_webserver(statement_timeout=5000, pool_recycle=3600, max_overflow=2)
    assert storage._engine is backend_of(instance)._engine
    assert is_pooled(storage)
    storage.store_event(entry("RUN_ENQUEUED"))
    assert touched(instance) == {RUN: 1}


@pytest.mark.parametrize("instance", ["A on Postgres", "B on Postgres"], indirect=True)
def test_the_migration_of_ids_to_64_bits_reaches_the_event_log(instance: DagsterInstance) -> None:
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        connection.execute(text("ALTER TABLE event_logs ALTER COLUMN id TYPE integer"))
    run_bigint_migration(instance, lambda _: None)
    with storage.index_connection() as connection:
        columns = inspect(connection).get_columns("event_logs")
    assert [str(each["type"]) for each in columns if each["name"] == "id"] == ["BIGINT"]


def test_attributes_of_the_backend_are_read_and_written_through_the_wrapper(
    instance: DagsterInstance,
) -> None:
    storage: Any = instance.event_log_storage
    assert storage.has_table("event_logs")
    with storage.index_connection() as connection:
        assert connection.dialect.name in ("sqlite", "postgresql")
    storage.remark = "mine"
    assert vars(backend_of(instance))["remark"] == "mine"


def test_the_event_log_is_an_instance_of_what_it_wraps(instance: DagsterInstance) -> None:
    storage: Any = instance.event_log_storage
    classes = type(backend_of(instance)).__mro__
    assert SqlEventLogStorage in classes
    assert all(isinstance(storage, each) for each in (*classes, DataHubEventLogStorage))
    assert type(storage) is DataHubEventLogStorage
