"""Runs that were delivered to a receiver, and their verification."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from receiver import Receiver
from scenes import Scene

from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.dispatcher import Dispatcher, Opened, Parts, assemble
from datahub_eventlog.sinks.reading import RestReader
from datahub_eventlog.source.history import Selection
from datahub_eventlog.verify import Verification, VerifyOrders, VerifyProgress

COLUMNS = dg.TableSchema([dg.TableColumn("id", "int"), dg.TableColumn("price", "float")])


@dg.asset(
    owners=["team:shop"],
    tags={"tier": "1"},
    kinds={"postgres"},
    description="Every order.",
    metadata={"dagster/table_name": "shop.public.orders", "dagster/column_schema": COLUMNS},
)
def orders() -> dg.Output[int]:
    return dg.Output(1, metadata={"dagster/row_count": 3})


@dg.asset(metadata={"dagster/column_schema": COLUMNS})
def revenue(orders: int) -> dg.Output[int]:
    lineage = dg.TableColumnLineage(
        {"price": [dg.TableColumnDep(dg.AssetKey("orders"), "price")]},
    )
    return dg.Output(orders, metadata={"dagster/column_lineage": lineage})


@dg.asset_check(asset=revenue)
def is_positive() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.op
def greet() -> None:
    """Say hello."""


@dg.job(tags={"team": "shop"}, description="Says hello.")
def greeting() -> None:
    greet()


def run_assets(instance: dg.DagsterInstance) -> str:
    return dg.materialize([orders, revenue, is_positive], instance=instance).run_id


def run_greeting(instance: dg.DagsterInstance) -> str:
    return greeting.execute_in_process(instance=instance).run_id


class Verified:
    """An instance whose runs were delivered."""

    def __init__(self, scene: Scene, receiver: Receiver, config: Config, parts: Parts) -> None:
        self.scene = scene
        self.receiver = receiver
        self.config = config
        self.parts = parts
        self.waits: list[float] = []

    def deliver(self) -> None:
        dispatcher = Dispatcher(self.config, self.parts)
        while dispatcher.run_once():
            pass
        assert not self.scene.ledger.reports.status().rejected

    def verify(
        self,
        *,
        on_progress: Callable[[VerifyProgress], None] = lambda _: None,
        selection: Selection | None = None,
        **orders: Any,
    ) -> VerifyProgress:
        with self.verification(on_progress, selection, **orders) as running:
            return running.run()

    @contextmanager
    def verification(
        self,
        on_progress: Callable[[VerifyProgress], None] = lambda _: None,
        selection: Selection | None = None,
        **orders: Any,
    ) -> Iterator[Verification]:
        assert isinstance(self.config.target, RestTarget)
        reader = RestReader(self.config.target, sleep=self.waits.append)
        asked = VerifyOrders(selection or Selection(), **orders)
        running = Verification(self.config, self.parts, reader, asked, on_progress)
        # A receiver has no index that lags unless a test says so.
        running._verifier._wait = self.waits.append
        yield running
        reader.close()


@contextmanager
def delivering(
    scene: Scene, receiver: Receiver, config: Config | None = None
) -> Iterator[Verified]:
    own = replace(config or Config(), target=RestTarget(receiver.url))
    with assemble(Opened(scene.instance, scene.ledger), own) as parts:
        yield Verified(scene, receiver, own, parts)


@pytest.fixture
def verified(scene: Scene, receiver: Receiver) -> Iterator[Verified]:
    with delivering(scene, receiver) as verified:
        yield verified
