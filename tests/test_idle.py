"""What an idle dispatcher asks of SQLite, where one writer keeps all others waiting."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from scenes import Scene
from statements import statements

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher import Dispatcher
from datahub_eventlog.dispatcher.loop import Heartbeat, Loop
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.ledger import Ledger

pytestmark = pytest.mark.parametrize("scene", ["sqlite"], indirect=True)

WRITES = 500
POLLS = 200
QUIET = replace(Config(), touch_interval=timedelta(hours=1), poll_interval=timedelta(seconds=0.001))
"""With which no delivered run is looked at once more while a test lasts."""


@dg.op
def nothing() -> None:
    pass


@dg.job
def small() -> None:
    nothing()


@pytest.fixture
def path(scene: Scene) -> str:
    """The file that Dagster's index of the event log shares with the ledger.

    A run was delivered, and nothing else is due.
    """
    small.execute_in_process(instance=scene.instance)
    deliver_all(scene)
    assert scene.counts() == {"delivered": 1}
    storage: Any = scene.instance.event_log_storage
    return str(storage.path_for_shard("index"))


def deliver_all(scene: Scene) -> None:
    dispatcher = scene.dispatcher(QUIET)
    while dispatcher.run_once():
        pass


def connected(path: str) -> sqlite3.Connection:
    """A connection that waits for no lock, and whose transactions are as they are written."""
    return sqlite3.connect(path, timeout=0, isolation_level=None)


def write(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO written DEFAULT VALUES")
    connection.execute("COMMIT")


def test_a_writer_never_waits_for_a_dispatcher_that_polls(scene: Scene, path: str) -> None:
    dispatcher = scene.dispatcher(QUIET)
    is_over = threading.Event()
    found: list[int] = []

    def poll() -> None:
        while not is_over.is_set():
            found.append(dispatcher.run_once())

    polling = threading.Thread(target=poll)
    with closing(connected(path)) as writer:
        writer.execute("CREATE TABLE written (number INTEGER PRIMARY KEY)")
        polling.start()
        try:
            written = 0
            while written < WRITES or (len(found) < POLLS and polling.is_alive()):
                write(writer)
                written += 1
        finally:
            is_over.set()
            polling.join()
    assert len(found) >= POLLS
    assert not any(found)


def test_a_poll_that_finds_nothing_waits_for_no_writer(scene: Scene, path: str) -> None:
    """It only reads: while somebody writes, all else would be refused at once."""
    parts = replace(scene.parts(QUIET), ledger=Ledger.in_file(path, patience=0))
    dispatcher = Dispatcher(QUIET, parts)
    with closing(connected(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert dispatcher.run_once() == 0
        writer.execute("COMMIT")


def test_nothing_is_locked_between_two_polls(scene: Scene, path: str) -> None:
    """Nobody else may read while a file leaves its write-ahead log, not even a forgotten cursor."""
    dispatcher = scene.dispatcher(QUIET)
    assert dispatcher.run_once() == 0
    scene.instance.event_log_storage.dispose()
    with closing(connected(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy
        assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    assert dispatcher.run_once() == 0


@pytest.mark.usefixtures("path")
def test_an_idle_loop_writes_a_heartbeat_and_nothing_else(scene: Scene) -> None:
    reconciler = Reconciler(scene.ledger, scene.source, QUIET.retention)
    reconciler.run_once()
    deliver_all(scene)  # it asks for a look at the runless events
    rounds: list[bool] = []

    def is_done() -> bool:
        rounds.append(True)
        return len(rounds) > POLLS

    beat = Heartbeat(lambda: scene.ledger.reports.heartbeat("here", 1, "0"))
    loop = Loop(QUIET, scene.dispatcher(QUIET), reconciler, beat)
    with statements() as seen:
        loop.run(is_done=is_done)
    writes = [each for each in seen if not each.lstrip("( ").upper().startswith("SELECT")]
    assert len(seen) > POLLS
    assert writes
    assert all("datahub_eventlog_dispatchers" in each for each in writes)
    assert len(writes) < POLLS / 10
