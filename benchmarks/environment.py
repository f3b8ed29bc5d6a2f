"""What deliveries are measured on: a Postgres, an instance on it, its ledger and a DataHub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
from deployment import Deployment, postgres_yaml
from postgres import PostgresServer
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from benchmarks.endpoint import Endpoint, endpoint
from datahub_eventlog.config import Config, Redaction, read
from datahub_eventlog.dispatcher import Dispatcher, Opened, assemble, pool
from datahub_eventlog.ledger import Facts, Ledger
from datahub_eventlog.ledger.tables import metadata
from datahub_eventlog.ledger_location import ledger_of


@dataclass
class Environment:
    """Postgres, an instance on it, its ledger, and an endpoint in the place of DataHub."""

    deployment: Deployment
    instance: dg.DagsterInstance
    ledger: Ledger
    endpoint: Endpoint
    engine: Engine
    """Of our own, beside Dagster's."""

    @property
    def config(self) -> Config:
        """What a worker of the deployment reads."""
        return read({"datahub_client_config": {"server": self.endpoint.url}}, {}).strict()

    @contextmanager
    def dispatcher(self, *, is_redacting: bool = True) -> Iterator[Dispatcher]:
        """One in this process."""
        config = replace(self.config, redact=Redaction(enabled=is_redacting))
        with assemble(Opened(self.instance, self.ledger), config) as parts:
            yield Dispatcher(config, parts)

    def forget(self) -> None:
        """Empty the ledger, but for what it knows of itself."""
        with self.engine.begin() as connection:
            for name in ("runs", "states", "rejections", "catalogs", "catalog_parts", "entities"):
                connection.execute(metadata.tables[f"datahub_eventlog_{name}"].delete())

    def wipe(self) -> None:
        """Empty the ledger and the event log: the reconciler would find what only one has."""
        self.forget()
        with self.engine.begin() as connection:
            connection.execute(text("TRUNCATE runs, run_tags, event_logs CASCADE"))

    def touch(self, run_id: str, facts: Facts | None) -> None:
        """Have a run delivered."""
        self.ledger.runs.touch(run_id, definitions=facts)

    def age(self) -> None:
        """Make it a backlog: nothing was heard of these runs for an hour."""
        statement = text("UPDATE datahub_eventlog_runs SET last_touch = last_touch - 3600")
        with self.engine.begin() as connection:
            connection.execute(statement)

    def ledger_bytes(self) -> int:
        """What the ledger takes, indexes included."""
        sizes = " + ".join(f"pg_total_relation_size('{name}')" for name in metadata.tables)
        with self.engine.connect() as connection:
            return int(connection.execute(text(f"SELECT {sizes}")).scalar_one())

    def worker(self, *arguments: str) -> Worker:
        """Start a worker of the deployment."""
        process = self.deployment.start(
            "datahub_eventlog.cli", "worker", *arguments, log="worker.log"
        )
        return Worker(process.pid, process.wait)


@dataclass(frozen=True)
class Worker:
    """A process that delivers."""

    pid: int
    wait: Callable[[], int]

    def memory(self, what: str = "VmRSS") -> float:
        """Its memory in MB: now, or with `VmHWM` at the most so far."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        line = next((row for row in lines if row.startswith(what)), f"{what}: 0 kB")
        return int(line.split()[1]) / 1024


@contextmanager
def make_environment(folder: Path) -> Iterator[Environment]:
    """Start a Postgres server and an endpoint, and open an instance on them."""
    with PostgresServer() as server, server.database() as url, endpoint(folder) as datahub:
        options = {"datahub_client_config": {"server": datahub.url}, "dispatch": "worker"}
        deployment = Deployment(folder / "home", postgres_yaml(url, options))
        engine = create_engine(url)
        try:
            with deployment.instance() as instance:
                pool(instance)
                ledger = ledger_of(instance, patience=30)
                ledger.database.migrate()
                yield Environment(deployment, instance, ledger, datahub, engine)
        finally:
            deployment.stop()
            engine.dispose()


def load() -> str:
    """How busy the machine is."""
    return ", ".join(f"{average:.1f}" for average in os.getloadavg())
