"""The two ways of dagster.yaml to name our storages, and instances of both on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage
from instances import configured
from postgres import over_psycopg2

from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import ledger_of

Yaml = dict[str, Any]


def style_a(storage: Yaml | None, datahub: Any = None) -> Yaml:
    config = {"datahub": datahub} | ({} if storage is None else {"storage": storage})
    named = {"module": "datahub_eventlog", "class": "DataHubStorage", "config": config}
    return {"storage": {"custom": named}}


def style_b(backend: Yaml | None = None, datahub: Any = None, **others: Any) -> Yaml:
    config = {"datahub": datahub} | ({} if backend is None else {"backend": backend})
    named = {"module": "datahub_eventlog", "class": "DataHubEventLogStorage", "config": config}
    return {"event_log_storage": named, **others}


def named(cls: type, **config: Any) -> Yaml:
    return {"module": cls.__module__, "class": cls.__name__, "config": config}


def on_postgres() -> Yaml:
    """The three storages of style B, as the official chart writes them."""
    config = {"postgres_url": {"env": "TEST_PG_URL"}}
    parts = {
        "run_storage": named(PostgresRunStorage, **config),
        "schedule_storage": {
            "module": "dagster_postgres",
            "class": "PostgresScheduleStorage",
            "config": config,
        },
    }
    return style_b(named(PostgresEventLogStorage, **config), **parts)


@pytest.fixture
def pg_url(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    url = over_psycopg2(postgres_url)
    monkeypatch.setenv("TEST_PG_URL", url)
    return url


@pytest.fixture(
    params=[
        "A on SQLite",
        "B on SQLite",
        "A on Postgres",
        "B on Postgres",
    ]
)
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DagsterInstance]:
    """An instance in either style, on either database."""
    if request.param.endswith("Postgres"):
        request.getfixturevalue("pg_url")
        parts = {
            "A": style_a({"postgres": {"postgres_url": {"env": "TEST_PG_URL"}}}),
            "B": on_postgres(),
        }
    else:
        parts = {"A": style_a({"sqlite": {"base_dir": str(tmp_path)}}), "B": style_b()}
    with configured(tmp_path, **parts[request.param[0]]) as instance:
        yield instance


def ledger(instance: DagsterInstance) -> Ledger:
    return ledger_of(instance, patience=1)


def touched(instance: DagsterInstance) -> dict[str, int]:
    """How often each run was touched."""
    leases = ledger(instance).leases.take("test", 100, timedelta(minutes=1))
    return {lease.run_id: lease.touches for lease in leases}
