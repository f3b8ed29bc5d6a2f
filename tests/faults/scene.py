"""An instance with its ledger, and a DataHub that can be disturbed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from deployment import postgres_yaml
from ledgers import counts_of
from postgres import over_psycopg2
from receiver import Receiver
from undisturbed import differences, dispatcher_of, undisturbed

from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.dispatcher import Dispatcher, Worker
from datahub_eventlog.errors import LedgerUnavailable
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.reopening import opened
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context

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
        return [run.run_id for run in self.instance.get_runs()]

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
        return counts_of(self.ledger)

    def is_delivered(self, *run_ids: str) -> bool:
        try:
            return all(self.ledger.runs.state(run_id) == "delivered" for run_id in run_ids)
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


BLOCK = {"dispatch": "off", "touch_interval": 1}


def postgres_storage(url: str) -> dict[str, Any]:
    return postgres_yaml(over_psycopg2(url), BLOCK)


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
