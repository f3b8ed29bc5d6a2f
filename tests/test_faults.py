"""Everything that can go wrong around a delivery, with the real client, ledger and event log."""

from __future__ import annotations

import logging
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType
from dagster._core.events import StepMaterializationData
from dagster_postgres import PostgresEventLogStorage
from deployment import Deployment, eventually, postgres_yaml, sqlite_yaml
from entries import entry
from instances import configured, write_yaml
from postgres import PostgresServer
from receiver import Receiver
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from undisturbed import differences, dispatcher_of, undisturbed

from datahub_eventlog import DataHubEventLogStorage, capture
from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.dispatcher import Dispatcher, Worker, pool, start_in_daemon
from datahub_eventlog.dispatcher.dispatcher import RUNS_A_ROUND
from datahub_eventlog.errors import LedgerUnavailable
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger.tables import metadata, runs
from datahub_eventlog.ledger_location import ledger_beside, ledger_of
from datahub_eventlog.lifecycle import opened
from datahub_eventlog.source import Source
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.checks import assertion_urn
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CheckKey

TOKEN = "hush"
QUICK = {"poll_interval": timedelta(seconds=0.05), "touch_interval": timedelta(seconds=1)}
ROUNDS = 200
"""More than any delivery takes."""
HOUR = 3600.0


class Scene:
    """An instance with its ledger, and a DataHub."""

    def __init__(self, instance: dg.DagsterInstance, receiver: Receiver) -> None:
        self.instance = instance
        self.receiver = receiver
        self.ledger: Ledger = ledger_of(instance, patience=5)
        self.ledger.database.migrate()

    def config(self, *, timeout: float = 10.0, **options: Any) -> Config:
        target = RestTarget(server=self.receiver.url, token=TOKEN, timeout_sec=timeout)
        return Config(**{"target": target, **QUICK, **options})

    @contextmanager
    def dispatcher(self, config: Config | None = None, **options: Any) -> Iterator[Dispatcher]:
        config = config or self.config()
        with dispatcher_of(config, self.instance, self.ledger, **options) as dispatcher:
            yield dispatcher

    @contextmanager
    def worker(self, config: Config | None = None) -> Iterator[Worker]:
        """A worker with an instance of its own, in a thread."""
        reference = self.instance.get_ref()
        worker = Worker(config or self.config(), lambda: opened(reference))
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(60)
            assert not thread.is_alive()

    def run(self, job: dg.JobDefinition) -> str:
        return job.execute_in_process(instance=self.instance, raise_on_error=False).run_id

    def an_hour_later(self) -> None:
        """Leases have ended, and what waits for its next look is due."""
        self.ledger.database.clock = lambda: time.time() + HOUR

    def run_ids(self) -> list[str]:
        return [each.run_id for each in self.instance.get_runs()]

    def new_run(self, job: dg.JobDefinition) -> dg.DagsterRun:
        """A run that somebody has to report the events of."""
        run = self.instance.create_run_for_job(job)
        self.report(run, DagsterEventType.RUN_START)
        return run

    def report(
        self, run: dg.DagsterRun, kind: DagsterEventType, step: str | None = None, data: Any = None
    ) -> None:
        event = dg.DagsterEvent(kind.value, run.job_name, step_key=step, event_specific_data=data)
        self.instance.report_dagster_event(event, run.run_id)

    def counts(self) -> dict[str, int]:
        return {
            name: number for name, number in self.ledger.reports.status().runs.items() if number
        }

    def is_delivered(self, *run_ids: str) -> bool:
        try:
            return all(self.ledger.runs.state(each) == "delivered" for each in run_ids)
        except LedgerUnavailable:
            return False

    def events(self, urn: str) -> list[tuple[str, str | None]]:
        found = self.receiver.timeseries(urn, "dataProcessInstanceRunEvent")
        return [(each["status"], (each.get("result") or {}).get("type")) for each in found]

    def of_run(self, run_id: str) -> list[tuple[str, str | None]]:
        """The statuses and results of the run's own events."""
        return self.events(urns.run_urn(run_id, Context()))

    def assert_true(self) -> None:
        """DataHub has what it would have if nothing had gone wrong."""
        assert differences(self.receiver.state(), undisturbed(self.instance, self.ledger)) == []


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(token=TOKEN) as receiver:
        yield receiver


BLOCK = {"dispatch": "off", "touch_interval": 1}


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance without runs; a copy of it is there sooner than a new one."""
    folder = tmp_path_factory.mktemp("new")
    with configured(folder, **sqlite_yaml(BLOCK)) as instance:
        ledger_of(instance, patience=5).database.migrate()
    return folder


@pytest.fixture(scope="session")
def used_home(new_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two runs, which are not delivered yet."""
    folder = tmp_path_factory.mktemp("used") / "home"
    with _copied(new_home, folder) as instance:
        for job in (two_ops, other_ops):
            job.execute_in_process(instance=instance)
    return folder


def _copied(home: Path, folder: Path) -> dg.DagsterInstance:
    shutil.copytree(home, folder, dirs_exist_ok=True)
    return dg.DagsterInstance.from_config(str(folder))


@pytest.fixture
def scene(tmp_path: Path, receiver: Receiver, new_home: Path) -> Iterator[Scene]:
    """A scene without runs."""
    with _copied(new_home, tmp_path) as instance:
        yield Scene(instance, receiver)


@pytest.fixture
def waiting(tmp_path: Path, receiver: Receiver, used_home: Path) -> Iterator[Scene]:
    """A scene where two runs wait to be delivered."""
    with _copied(used_home, tmp_path) as instance:
        yield Scene(instance, receiver)


def _postgres(url: str) -> dict[str, Any]:
    psycopg2 = make_url(url).set(drivername="postgresql+psycopg2")
    text = psycopg2.render_as_string(hide_password=False)
    return postgres_yaml(text, BLOCK)


@pytest.fixture
def on_postgres(tmp_path: Path, receiver: Receiver, postgres_url: str) -> Iterator[Scene]:
    with configured(tmp_path, **_postgres(postgres_url)) as instance:
        yield Scene(instance, receiver)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """What the package has logged at that level."""
    caplog.set_level(logging.INFO, logger="dagster.datahub_eventlog")
    return lambda level: [
        each.getMessage()
        for each in caplog.records
        if each.levelno == level and each.name == "dagster.datahub_eventlog"
    ]


@dg.op
def make() -> int:
    return 1


@dg.op
def take(x: int) -> None:
    pass


@dg.job
def two_ops() -> None:
    take(make())


@dg.job
def other_ops() -> None:
    take(make())


def deliver_all(dispatcher: Dispatcher, scene: Scene) -> None:
    """Deliver, without waiting between the attempts, until nothing is due."""
    for _ in range(ROUNDS):
        dispatcher.pause._until = 0.0
        dispatcher.run_once()
        if scene.ledger.leases.is_drained():
            return
    raise AssertionError(f"not delivered: {scene.counts()}")


# DataHub is away, or not itself


def _refuse(receiver: Receiver) -> None:
    receiver.refuse()


def _want_another_token(receiver: Receiver) -> None:
    receiver.token = "another"


def _move(receiver: Receiver) -> None:
    receiver.prefix = "/elsewhere"


def _fault(kind: str, **options: Any) -> Callable[[Receiver], None]:
    def begin(receiver: Receiver) -> None:
        receiver.fault(kind, **options)

    return begin


def _mend(receiver: Receiver) -> None:
    receiver.prefix, receiver.token = "", TOKEN
    receiver.clear()
    receiver.accept()


FAULTS: Mapping[str, Callable[[Receiver], None]] = {
    "it refuses connections": _refuse,
    "503": _fault("status", status=503),
    "429": _fault("status", status=429),
    "429 with Retry-After": _fault("status", status=429, retry_after=1),
    "500": _fault("status", status=500),
    "it hangs": _fault("hang"),
    "it cuts before": _fault("cut", when="before"),
    "it cuts after": _fault("cut", when="after"),
    "it cuts within": _fault("cut", when="within"),
    "the token is wrong": _want_another_token,
    "the path is wrong": _move,
    "a web page answers": _fault("html"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_outage_costs_no_attempt_says_so_once_and_ends_by_itself(
    waiting: Scene, receiver: Receiver, said: Callable[[int], list[str]], name: str
) -> None:
    scene, run_ids = waiting, waiting.run_ids()
    with scene.dispatcher(scene.config(timeout=1, max_attempts=1)) as dispatcher:
        FAULTS[name](receiver)
        for _ in range(3):
            dispatcher.pause._until = 0.0
            dispatcher.run_once()
            assert scene.counts() == {"pending": 2}
            assert dispatcher.pause.remaining > 0
        (line,) = said(logging.ERROR)
        assert f"http://127.0.0.1:{receiver.port}" in line
        assert TOKEN not in line
        _mend(receiver)
        deliver_all(dispatcher, scene)

    assert scene.is_delivered(*run_ids)
    assert said(logging.ERROR) == [line]
    assert said(logging.WARNING) == []
    assert len([each for each in said(logging.INFO) if "DataHub is back" in each]) == 1
    scene.assert_true()


@pytest.mark.parametrize("hours", [1, 24])
def test_a_server_that_asks_for_an_hour_gets_it_and_no_more(
    waiting: Scene, receiver: Receiver, hours: int
) -> None:
    receiver.fault("status", status=429, retry_after=int(hours * HOUR))
    with waiting.dispatcher() as dispatcher:
        dispatcher.run_once()
        assert HOUR / 2 < dispatcher.pause.remaining <= HOUR
    assert len(receiver.writes) == 1


def test_a_host_that_nobody_knows_is_named(
    waiting: Scene, said: Callable[[int], list[str]]
) -> None:
    scene = waiting
    unknown = RestTarget(server="http://datahub.invalid:8080", token=TOKEN)
    with scene.dispatcher(scene.config(target=unknown, max_attempts=1)) as dispatcher:
        dispatcher.run_once()
    (line,) = said(logging.ERROR)
    assert "datahub.invalid" in line
    assert scene.counts() == {"pending": 2}

    with scene.dispatcher() as corrected:
        deliver_all(corrected, scene)
    assert scene.is_delivered(*scene.run_ids())


def test_a_slow_server_is_slow_and_no_outage(
    waiting: Scene, receiver: Receiver, said: Callable[[int], list[str]]
) -> None:
    scene = waiting
    receiver.fault("slow", seconds=0.3)
    with scene.dispatcher() as dispatcher:
        deliver_all(dispatcher, scene)
    assert scene.is_delivered(*scene.run_ids())
    assert said(logging.ERROR) == []


def test_a_worker_recovers_from_an_outage_without_anybody(
    waiting: Scene, receiver: Receiver, said: Callable[[int], list[str]]
) -> None:
    scene, run_ids = waiting, waiting.run_ids()
    receiver.refuse()
    with scene.worker():
        eventually(lambda: said(logging.ERROR), "the worker notices")
        receiver.accept()
        eventually(lambda: scene.is_delivered(*run_ids), "all is delivered")
    assert len(said(logging.ERROR)) == 1
    scene.assert_true()


# One fact is wrong


def test_one_rejected_of_five_hundred_costs_only_itself_until_it_is_retried(
    scene: Scene, receiver: Receiver
) -> None:
    @dg.multi_asset(specs=[dg.AssetSpec(f"asset_{i:02}") for i in range(100)])
    def many() -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        for i in range(100):
            yield dg.MaterializeResult(asset_key=f"asset_{i:02}", metadata={"rows": i})

    receiver.fault("reject", urn="asset_33", aspect="datasetProperties", message="no such thing")
    run_id = dg.materialize([many], instance=scene.instance).run_id
    with scene.dispatcher() as dispatcher:
        deliver_all(dispatcher, scene)
        (rejected,) = scene.ledger.reports.status().rejected
        asset = urns.asset_urn(("asset_33",), Context())
        assert (rejected.run_id, rejected.urn, rejected.aspect) == (
            run_id,
            asset,
            "datasetProperties",
        )
        assert "no such thing" in rejected.reason
        expected = undisturbed(scene.instance, scene.ledger)
        assert sum(len(each) for each in expected.values()) > 500
        (line,) = differences(receiver.state(), expected)
        assert line.startswith(f"{asset} datasetProperties")

        receiver.clear()
        assert scene.ledger.runs.revive() == 1
        deliver_all(dispatcher, scene)
    assert scene.ledger.reports.status().rejected == ()
    scene.assert_true()


USERS_CODE = """
import threading

def raising(context, generator, graph):
    raise ValueError("a bad day")

def hanging(context, generator, graph):
    threading.Event().wait()

def raising_for_key(parts):
    raise ValueError("a bad day")
"""


@pytest.mark.parametrize(
    ("option", "function", "reason"),
    [
        ("asset_lineage_extractor", "raising", "a bad day"),
        ("asset_lineage_extractor", "hanging", "did not return within 0.2 s"),
        ("asset_keys_to_dataset_urn_converter", "raising_for_key", "a bad day"),
    ],
)
def test_a_bad_function_of_the_users_costs_only_its_own_facts(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    function: str,
    reason: str,
) -> None:
    @dg.asset
    def stock() -> None:
        pass

    tmp_path.joinpath("users_code_of_faults.py").write_text(USERS_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    functions: dict[str, Any] = {option: f"users_code_of_faults:{function}"}
    config = scene.config(**functions)
    run_id = dg.materialize([stock], instance=scene.instance).run_id
    with scene.dispatcher(config, deadline=timedelta(seconds=0.2)) as dispatcher:
        deliver_all(dispatcher, scene)

    assert scene.is_delivered(run_id)
    assert any(reason in each.reason for each in scene.ledger.reports.status().rejected)
    scene.assert_true()


DEADLY = """
import os, signal
from pathlib import Path

def kill(context, generator, graph):
    if context.dagster_run.job_name == "other_ops":
        with Path(__file__).with_name("killed").open("a") as killed:
            killed.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return {}
"""


def test_a_run_that_kills_whoever_delivers_it_parks_and_holds_nothing_up(
    home: Deployment, receiver: Receiver, tmp_path: Path
) -> None:
    tmp_path.joinpath("deadly_code.py").write_text(DEADLY)
    client = {"server": receiver.url, "token": TOKEN}
    home.write(
        sqlite_yaml(
            {
                "dispatch": "worker",
                "max_attempts": 2,
                "asset_lineage_extractor": "deadly_code:kill",
                "datahub_client_config": client,
            }
        )
    )
    home.environment = {"PYTHONPATH": str(tmp_path)}
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        deadly, good = scene.run(other_ops), scene.run(two_ops)
        for _ in range(2):
            assert home.cli("worker", "--until-empty", check=False).returncode == -signal.SIGKILL
            assert scene.ledger.runs.state(deadly) == "leased"
            _end_leases(scene)
        home.cli("worker", "--until-empty")
        (parked,) = scene.ledger.reports.status().parked
        assert parked.run_id == deadly
        assert "out of memory" in parked.error
        assert scene.is_delivered(good)
        assert tmp_path.joinpath("killed").read_text() == "xx"

        assert scene.ledger.runs.revive() == 1
        with scene.dispatcher() as other:
            deliver_all(other, scene)
        assert scene.is_delivered(deadly, good)
        scene.assert_true()


def _end_leases(scene: Scene) -> None:
    with scene.ledger.database._connect() as connection:
        connection.execute(runs.update().where(runs.c.state == "leased").values(due=0.0))
        connection.commit()


# Dispatchers die, and are doubled


@pytest.fixture
def home(tmp_path: Path, receiver: Receiver) -> Iterator[Deployment]:
    """The same instance as `scene`, for processes of its own."""
    client = {"server": receiver.url, "token": TOKEN, "timeout_sec": 2}
    datahub = {"dispatch": "worker", "poll_interval": 0.1, "datahub_client_config": client}
    deployment = Deployment(tmp_path, sqlite_yaml(datahub))
    yield deployment
    deployment.stop()


def start_worker(home: Deployment) -> subprocess.Popen[bytes]:
    return home.start("datahub_eventlog.cli", "worker", log="worker.log")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_workers_run_is_taken_over_when_its_lease_has_ended(
    home: Deployment, receiver: Receiver, when: str
) -> None:
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        receiver.fault("hang", when=when, path="action=ingest", count=1)
        worker = start_worker(home)
        eventually(lambda: receiver.writes, "the worker is sending")
        worker.kill()
        worker.wait(30)
        assert scene.ledger.runs.state(run_id) == "leased"
        with scene.dispatcher() as other:
            other.deliver([run_id])
            assert scene.ledger.runs.state(run_id) == "leased"
            scene.an_hour_later()
            deliver_all(other, scene)
        assert scene.is_delivered(run_id)
        scene.assert_true()


def test_who_loses_a_run_in_an_outage_goes_on_with_others(scene: Scene, receiver: Receiver) -> None:
    run_id = scene.run(two_ops)
    hang = receiver.fault("hang", path="action=ingest", count=1)
    with scene.dispatcher() as slow, scene.dispatcher(owner="two") as other:
        thread = ThreadPoolExecutor(1)
        sending = thread.submit(slow.run_once)
        eventually(lambda: hang.happened, "a request hangs")
        scene.an_hour_later()
        other.run_once()
        assert scene.is_delivered(run_id)
        receiver.refuse()
        assert sending.result(60) == 1
        receiver.accept()
        scene.run(other_ops)
        deliver_all(slow, scene)
    assert scene.is_delivered(*scene.run_ids())
    scene.assert_true()


def job_named(name: str) -> dg.JobDefinition:
    """A job that shares nothing with others."""

    @dg.op(name=f"{name}_op")
    def alone() -> None:
        pass

    @dg.job(name=name)
    def job() -> None:
        alone()

    return job


def test_sigterm_lets_a_worker_finish_its_run_and_hand_back_the_others(
    home: Deployment, receiver: Receiver
) -> None:
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        run_ids = [scene.run(job_named(f"job_{i}")) for i in range(4)]
        receiver.fault("slow", seconds=1, path="action=ingest")
        worker = start_worker(home)
        eventually(lambda: receiver.writes, "the worker is sending")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        counts = scene.counts()
        assert counts["delivered"] >= 1
        assert counts == {"delivered": counts["delivered"], "pending": 4 - counts["delivered"]}
        assert scene.ledger.reports.dispatchers() == []

        receiver.clear()
        with scene.dispatcher() as other:
            deliver_all(other, scene)
        assert scene.is_delivered(*run_ids)
        scene.assert_true()


def test_sigterm_makes_a_worker_give_up_on_a_server_that_hangs(
    home: Deployment, receiver: Receiver
) -> None:
    client = {"server": receiver.url, "token": TOKEN, "timeout_sec": 600}
    datahub = {"dispatch": "worker", "datahub_client_config": client, "exit_timeout": 1}
    home.write(sqlite_yaml(datahub))
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        receiver.fault("hang", when="after", path="action=ingest")
        worker = start_worker(home)
        eventually(lambda: receiver.writes, "the worker is sending")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        assert scene.counts() == {"pending": 1}
        assert scene.ledger.reports.dispatchers() == []

        receiver.clear()
        with scene.dispatcher() as other:
            deliver_all(other, scene)
        assert scene.is_delivered(run_id)
        scene.assert_true()


def test_two_workers_share_the_runs_and_never_deliver_one_at_the_same_time(
    scene: Scene, receiver: Receiver
) -> None:
    run_ids = [scene.run(job_named(f"job_{i}")) for i in range(24)]
    receiver.fault("slow", seconds=0.1, path="action=ingest")
    configs = [_signed(scene, name) for name in ("one", "two")]
    with scene.worker(configs[0]), scene.worker(configs[1]):
        eventually(lambda: scene.is_delivered(*run_ids), "all is delivered")

    senders: dict[str, set[str]] = {}
    for request in receiver.writes:
        for run_id in request.run_ids:
            senders.setdefault(run_id, set()).add(request.headers["x-sender"])
    assert set(senders) == set(run_ids)
    assert {len(each) for each in senders.values()} == {1}
    assert set.union(*senders.values()) == {"one", "two"}
    scene.assert_true()


LAST = RUNS_A_ROUND + 2
"""So that one worker can't take all runs at once."""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_backlog_and_history_in_any_order_by_two_workers_end_in_the_newest_state(
    scene: Scene, receiver: Receiver, seed: int
) -> None:
    run_ids = [_changing(scene, number) for number in range(LAST + 1)]
    order = random.Random(seed).sample(run_ids, len(run_ids))
    with scene.ledger.database._connect() as connection:
        for place, run_id in enumerate(order):
            values = {"due": float(place), "backfilled": int(place % 3 == 0)}
            connection.execute(runs.update().where(runs.c.run_id == run_id).values(values))
        connection.commit()
    receiver.fault("slow", seconds=0.1, path="action=ingest")
    configs = [_signed(scene, name) for name in ("one", "two")]
    with scene.worker(configs[0]), scene.worker(configs[1]):
        eventually(lambda: scene.is_delivered(*run_ids), "all is delivered")

    assert {each.headers["x-sender"] for each in receiver.writes} == {"one", "two"}
    refined = receiver.aspects(urns.asset_urn(("refined",), Context()))
    # The newest run failed in its middle: what it said counts, for the rest the one before.
    before = str(LAST - 1)
    assert refined["datasetProperties"]["customProperties"]["number"] == before
    assert [each["fieldPath"] for each in refined["schemaMetadata"]["fields"]] == [f"c{before}"]
    upstream = [each["dataset"] for each in refined["upstreamLineage"]["upstreams"]]
    assert urns.asset_urn((f"source_{before}",), Context()) in upstream
    raw = receiver.aspects(urns.asset_urn(("raw",), Context()))
    assert raw["datasetProperties"]["customProperties"]["number"] == str(LAST)
    scene.assert_true()


def _changing(scene: Scene, number: int) -> str:
    """A run of the same assets, which say other things each time; the last one fails."""

    @dg.asset
    def raw() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(metadata={"number": number})

    @dg.asset(deps=[raw, f"source_{number}"])
    def refined() -> dg.MaterializeResult:  # type: ignore[type-arg]
        if number == LAST:
            raise dg.Failure("on purpose")
        schema = dg.TableSchema([dg.TableColumn(f"c{number}", "int")])
        return dg.MaterializeResult(metadata={"number": number, "dagster/column_schema": schema})

    assets = [raw, refined]
    return dg.materialize(assets, instance=scene.instance, raise_on_error=False).run_id


def _signed(scene: Scene, name: str) -> Config:
    headers = {"X-Sender": name}
    return scene.config(
        target=RestTarget(server=scene.receiver.url, token=TOKEN, extra_headers=headers)
    )


# The database has trouble


def _interrupted_by(trouble: Callable[[], None]) -> dg.JobDefinition:
    """A job in whose middle something happens to the database."""

    @dg.op
    def interrupt(x: int) -> int:
        trouble()
        return x

    @dg.job
    def interrupted() -> None:
        take(interrupt(make()))

    return interrupted


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_database_that_restarts_under_a_run_costs_neither_the_run_nor_its_delivery(
    tmp_path: Path, receiver: Receiver, own_postgres: PostgresServer, how: str
) -> None:
    def trouble() -> None:
        if how == "kill":
            own_postgres.kill()
            own_postgres.start()
        else:
            own_postgres.restart()

    with (
        own_postgres.database() as url,
        configured(tmp_path, **_postgres(url)) as instance,
    ):
        scene = Scene(instance, receiver)
        with scene.worker(scene.config(max_attempts=1)):
            before = scene.run(two_ops)
            result = _interrupted_by(trouble).execute_in_process(instance=instance)
            assert result.success
            after = scene.run(two_ops)
            run_ids = (before, result.run_id, after)
            eventually(lambda: scene.is_delivered(*run_ids), "all is delivered")
        scene.assert_true()


def test_a_worker_outlives_a_database_that_is_away_when_it_looks_for_lost_runs(
    tmp_path: Path, receiver: Receiver, own_postgres: PostgresServer
) -> None:
    with own_postgres.database() as url, configured(tmp_path, **_postgres(url)) as instance:
        scene = Scene(instance, receiver)
        pool(instance)
        source = Source(instance)
        source.updated(0.0, 10)
        own_postgres.kill()
        with pytest.raises(LedgerUnavailable, match="event log"):
            source.updated(0.0, 10)
        with pytest.raises(LedgerUnavailable, match="event log"):
            source.run("one")
        own_postgres.start()
        assert source.updated(0.0, 10) == []
        assert scene.counts() == {}


def test_a_database_that_goes_away_in_a_delivery_costs_neither_an_attempt_nor_a_lease(
    tmp_path: Path, receiver: Receiver, own_postgres: PostgresServer
) -> None:
    with (
        own_postgres.database() as url,
        configured(tmp_path, **_postgres(url)) as instance,
    ):
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        hang = receiver.fault("hang", when="after", path="action=ingest", count=1)
        with scene.dispatcher(scene.config(max_attempts=1)) as dispatcher:
            thread = threading.Thread(target=_tolerantly, args=(dispatcher,))
            thread.start()
            eventually(lambda: hang.happened, "a request hangs")
            own_postgres.stop()
            receiver.clear()
            thread.join(60)
            own_postgres.start()
            assert scene.counts() == {"leased": 1}
            deliver_all(dispatcher, scene)
        assert scene.is_delivered(run_id)
        scene.assert_true()


def _tolerantly(dispatcher: Dispatcher) -> None:
    """One round, as the loop does it."""
    with pytest.raises(LedgerUnavailable):
        dispatcher.run_once()


def test_a_daemons_dispatcher_starts_when_its_database_does(
    tmp_path: Path,
    receiver: Receiver,
    own_postgres: PostgresServer,
    said: Callable[[int], list[str]],
) -> None:
    with (
        own_postgres.database() as url,
        configured(tmp_path, **_postgres(url)) as instance,
    ):
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        reference = instance.get_ref()
        own_postgres.stop()
        client = {"server": receiver.url, "token": TOKEN}
        daemon = start_in_daemon({"datahub_client_config": client}, lambda: opened(reference))
        eventually(lambda: said(logging.ERROR), "it can't start yet")
        own_postgres.start()
        eventually(lambda: scene.is_delivered(run_id), "the run is delivered")
        daemon.stop(timedelta(seconds=60))
        assert scene.ledger.reports.dispatchers() == []
        scene.assert_true()


def test_a_daemon_says_what_to_run_while_the_ledgers_tables_are_old(
    tmp_path: Path, receiver: Receiver, postgres_url: str, said: Callable[[int], list[str]]
) -> None:
    config = _postgres(postgres_url)
    with configured(tmp_path, **config) as instance:
        scene = Scene(instance, receiver)
        run_id = scene.run(two_ops)
        engine = create_engine(postgres_url)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE datahub_eventlog_runs DROP COLUMN unfinished"))
        storage = config["storage"]["custom"]["config"]["storage"]
        storage["postgres"]["should_autocreate_tables"] = False
        write_yaml(tmp_path, **config)
        with dg.DagsterInstance.from_config(str(tmp_path)) as forbidden:
            reference = forbidden.get_ref()
        client = {"server": receiver.url, "token": TOKEN}
        daemon = start_in_daemon({"datahub_client_config": client}, lambda: opened(reference))
        eventually(lambda: said(logging.ERROR), "it says what is to be done")
        (line,) = said(logging.ERROR)
        assert line.startswith("The DataHub dispatcher waits for its ledger.")
        (statement,) = re.findall("ALTER TABLE .*", line)
        with engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()
        eventually(lambda: scene.is_delivered(run_id), "the run is delivered")
        daemon.stop(timedelta(seconds=60))
        assert said(logging.ERROR) == [line]
        scene.assert_true()


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the lock of a SQLite file."""
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        assert process.poll() is None
        process.communicate()


def test_a_run_goes_on_while_another_process_has_the_ledger_locked(
    tmp_path: Path, receiver: Receiver
) -> None:
    block = {"dispatch": "off", "touch_interval": 0.01}
    with configured(tmp_path, **sqlite_yaml(block)) as instance:
        scene = Scene(instance, receiver)
        lock = locked(tmp_path / "history" / "runs" / "index.db")

        @dg.op
        def begin() -> int:
            lock.__enter__()
            return 1

        @dg.op
        def end(x: int) -> int:
            lock.__exit__(None, None, None)
            return x

        @dg.op
        def middle(x: int) -> int:
            return x

        @dg.job
        def under_lock() -> None:
            end(middle(begin()))

        result = under_lock.execute_in_process(instance=instance)
        assert result.success
        with scene.dispatcher() as dispatcher:
            deliver_all(dispatcher, scene)
        assert scene.is_delivered(result.run_id)
        scene.assert_true()


@pytest.mark.parametrize("kind", ["scene", "on_postgres"])
def test_a_ledger_that_is_dropped_under_a_run_is_made_again(
    request: pytest.FixtureRequest, kind: str
) -> None:
    scene: Scene = request.getfixturevalue(kind)
    with scene.worker():
        before = scene.run(two_ops)
        eventually(lambda: scene.is_delivered(before), "the ledger works")
        job = _interrupted_by(partial(_drop, scene))
        result = job.execute_in_process(instance=scene.instance)
        assert result.success
        eventually(lambda: scene.is_delivered(result.run_id), "delivery goes on")
    assert ("COMPLETE", "SUCCESS") in scene.of_run(result.run_id)


def _drop(scene: Scene) -> None:
    with scene.ledger.database._connect() as connection:
        for table in reversed(metadata.sorted_tables):
            table.drop(connection)
        connection.commit()


class Crowded(PostgresEventLogStorage):
    """Its server has no connection left as soon as an event is stored."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.crowd: list[Connection] = []
        self.is_crowded = False

    def store_event(self, event: dg.EventLogEntry) -> None:
        super().store_event(event)
        other = create_engine(self.postgres_url, poolclass=NullPool)
        while self.is_crowded:
            try:
                self.crowd.append(other.connect())
            except OperationalError:
                return

    def leave(self) -> None:
        self.is_crowded = False
        for each in self.crowd:
            each.close()


@pytest.fixture
def few_connections(postgres_url: str) -> Iterator[str]:
    """A database whose user has no more than four connections."""
    url = make_url(postgres_url).set(drivername="postgresql+psycopg2")
    user = f"few_{url.database}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {user} LOGIN CONNECTION LIMIT 4"))
        connection.execute(text(f"GRANT ALL ON SCHEMA public TO {user}"))
    yield url.set(username=user).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP OWNED BY {user}"))
        connection.execute(text(f"DROP ROLE {user}"))


def test_an_event_is_stored_at_once_where_no_connection_is_left_for_the_ledger(
    few_connections: str, said: Callable[[int], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    capture._forget()
    backend = Crowded(few_connections)
    storage = DataHubEventLogStorage.around(backend)
    storage.store_event(entry("RUN_START", run_id="before"))
    backend.is_crowded = True
    storage.store_event(entry("RUN_START", run_id="one"))
    (complaint,) = said(logging.WARNING)
    assert "too many connections" in complaint
    # Dagster's own way to a connection tries again and again, for seconds.
    assert "Retrying failed database connection" not in caplog.text

    backend.leave()
    storage.store_event(entry("RUN_SUCCESS", run_id="before"))
    ledger = ledger_beside(backend, patience=5)
    assert set(ledger.runs.states(["before", "one"])) == {"before", "one"}
    assert len(storage.get_logs_for_run("one")) == 1
    capture._forget()


ON_A_FULL_DISK = """
import resource, sys
import dagster as dg
from test_faults import two_ops

with dg.DagsterInstance.get() as instance:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # What is written beyond that fails, as on a full disk; pipes and servers are no files.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    full = two_ops.execute_in_process(instance=instance)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = two_ops.execute_in_process(instance=instance)
assert full.success and after.success
"""


def test_a_full_disk_where_the_ledger_is_costs_no_run_and_delivery_goes_on(
    tmp_path: Path, receiver: Receiver, humble_url: str
) -> None:
    home = Deployment(tmp_path, _postgres(humble_url), {"PYTHONPATH": str(Path(__file__).parent)})
    done = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK],
        env=home.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "A local file serves as the ledger instead" in done.stderr
    assert "could not be captured" in done.stderr
    with home.instance() as instance:
        scene = Scene(instance, receiver)
        with scene.dispatcher() as dispatcher:
            deliver_all(dispatcher, scene)
        assert len(scene.run_ids()) == 2
        assert scene.is_delivered(*scene.run_ids())
        scene.assert_true()


@pytest.fixture
def humble_url(postgres_url: str) -> Iterator[str]:
    """A database with all of Dagster's tables, for a user who may make no others."""
    url = make_url(postgres_url).set(drivername="postgresql+psycopg2")
    plain = {"postgres_url": url.render_as_string(hide_password=False)}
    with TemporaryDirectory() as folder, configured(Path(folder), storage={"postgres": plain}):
        pass
    user = f"humble_{url.database}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {user} LOGIN"))
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}"))
        connection.execute(text(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {user}"))
    yield url.set(username=user).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP OWNED BY {user}"))
        connection.execute(text(f"DROP ROLE {user}"))


# Events that come late, or never


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
