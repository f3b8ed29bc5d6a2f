"""What notices that a code location was loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from deployment import eventually
from scenes import Scene

from datahub_eventlog.catalog import watch_thread, watcher
from datahub_eventlog.catalog.packing import decode
from datahub_eventlog.catalog.watcher import CatalogWatcher
from datahub_eventlog.catalog.workspace import LocationState
from datahub_eventlog.config import CatalogOptions, Config
from datahub_eventlog.dispatcher.loop import Heartbeat, Loop
from datahub_eventlog.dispatcher.reconciler import Reconciler
from datahub_eventlog.errors import LedgerUnavailable
from datahub_eventlog.ledger import Ledger, catalog_row
from datahub_eventlog.values import AssetFacts, CatalogPart, CodeRepository


class Location:
    """What a code location defines; `read` counts how often it was looked at."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.read = 0
        self.error: Exception | None = None


class Reading:
    """In the place of the reading of Dagster's snapshots, which has tests of its own."""

    def __init__(self, state: LocationState, _others: object, _instance: object) -> None:
        self._state = state
        self.is_complete = True

    def parts(self) -> Sequence[CatalogPart]:
        location: Location = self._state.location
        location.read += 1
        if location.error:
            raise location.error
        assets = tuple(AssetFacts((name,)) for name in location.names)
        return [CatalogPart(CodeRepository(self._state.name, "repo"), assets=assets)]


class Shops:
    """A workspace."""

    def __init__(self) -> None:
        self.states: list[LocationState] = []

    def set(self, name: str, version: str, location: Location | None) -> None:
        rest = [state for state in self.states if state.name != name]
        self.states = [*rest, LocationState(name, version, location)]

    def locations(self) -> list[LocationState]:
        return self.states


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "read_location", Reading)
    monkeypatch.setattr(watcher, "CHECK_EVERY", timedelta(0))
    monkeypatch.setattr(watcher, "REST", 0.0)


@pytest.fixture
def shops() -> Shops:
    return Shops()


def watching(scene: Scene, shops: Any, **options: Any) -> CatalogWatcher:
    return CatalogWatcher(scene.ledger, scene.instance, lambda: shops, CatalogOptions(**options))


def names(ledger: Ledger, location: str = "shop") -> list[str]:
    catalog = ledger.catalogs.find(location)
    assert catalog is not None
    blobs = [ledger.catalogs.part(catalog, number) for number in range(catalog.parts)]
    return [asset.key[0] for blob in blobs if blob for asset in decode(blob).assets]


def test_a_location_is_read_when_it_is_loaded_and_not_again(scene: Scene, shops: Shops) -> None:
    location = Location("a")
    shops.set("shop", "1", location)
    watch = watching(scene, shops)
    assert watch.is_due
    assert watch.run_once() == 1
    assert watch.run_once() == 0
    assert (names(scene.ledger), location.read) == (["a"], 1)
    assert scene.ledger.runs.state(catalog_row("shop")) == "pending"

    shops.set("shop", "2", Location("a", "b"))
    assert watch.run_once() == 1
    assert names(scene.ledger) == ["a", "b"]


def test_a_location_that_is_loaded_anew_with_the_same_content_is_not_sent(
    scene: Scene, shops: Shops
) -> None:
    watch = watching(scene, shops)
    for version in ("1", "2"):
        shops.set("shop", version, Location("a"))
        watch.run_once()
    catalog = scene.ledger.catalogs.find("shop")
    assert catalog is not None
    scene.dispatcher().run_once()
    shops.set("shop", "3", Location("a"))
    assert watch.run_once() == 0
    assert scene.ledger.catalogs.find("shop") == catalog


def test_a_location_is_compared_after_the_interval_although_nothing_was_loaded(
    scene: Scene, shops: Shops
) -> None:
    location = Location("a")
    shops.set("shop", "1", location)
    watch = watching(scene, shops, interval=timedelta(0))
    watch.run_once()
    location.names = ("a", "b")
    assert watch.run_once() == 1
    assert names(scene.ledger) == ["a", "b"]


def test_a_reading_is_followed_by_rest(
    scene: Scene, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "REST", 1e9)
    shops.set("shop", "1", Location("a"))
    watch = watching(scene, shops)
    watch.run_once()
    location = Location("b")
    shops.set("shop", "2", location)
    assert watch.run_once() == 0
    assert location.read == 0


def test_a_location_that_fails_to_load_keeps_its_catalogue(scene: Scene, shops: Shops) -> None:
    watch = watching(scene, shops)
    shops.set("shop", "1", Location("a"))
    watch.run_once()
    shops.set("shop", "error", None)
    assert watch.run_once() == 0
    assert names(scene.ledger) == ["a"]


def test_a_location_that_can_not_be_read_costs_no_other(
    scene: Scene, shops: Shops, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Location("a")
    broken.error = RuntimeError("it is torn")
    shops.set("broken", "1", broken)
    shops.set("shop", "1", Location("b"))
    watch = watching(scene, shops)
    with caplog.at_level(logging.ERROR):
        assert watch.run_once() == 1
        assert watch.run_once() == 0
    assert names(scene.ledger) == ["b"]
    assert scene.ledger.catalogs.find("broken") is None
    assert broken.read == 1
    assert "Code location broken can't be read" in caplog.text


def test_what_can_not_be_read_is_read_again_after_a_while(
    scene: Scene, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "RETRY", timedelta(0))
    broken = Location("a")
    broken.error = RuntimeError("it is torn")
    shops.set("shop", "1", broken)
    watch = watching(scene, shops)
    assert watch.run_once() == 0
    broken.error = None
    assert watch.run_once() == 1
    assert watch.run_once() == 0
    assert names(scene.ledger) == ["a"]


def test_a_watch_that_breaks_keeps_no_run_from_delivery(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise RuntimeError("a workspace of another Dagster")

    watch = CatalogWatcher(scene.ledger, scene.instance, broken, CatalogOptions())
    scene.ledger.runs.touch("gone")
    reconciler = Reconciler(scene.ledger, scene.source, timedelta(days=1))
    loop = Loop(Config(), scene.dispatcher(), reconciler, Heartbeat(lambda: None), watch)
    loop.run(is_done=scene.ledger.leases.is_drained)
    assert scene.ledger.runs.state("gone") == "gone"
    assert caplog.text.count("a workspace of another Dagster") == 1


def test_a_ledger_that_is_away_is_asked_again(
    scene: Scene, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> bool:
        raise LedgerUnavailable("it is away")

    shops.set("shop", "1", Location("a"))
    watch = watching(scene, shops)
    with monkeypatch.context() as patch:
        patch.setattr(scene.ledger.catalogs, "store", away)
        with pytest.raises(LedgerUnavailable):
            watch.run_once()
    assert watch.run_once() == 1
    assert names(scene.ledger) == ["a"]


def test_of_two_daemons_the_one_with_older_code_replaces_nothing(scene: Scene) -> None:
    old, new = Shops(), Shops()
    old_watch = watching(scene, old, interval=timedelta(0))
    new_watch = watching(scene, new, interval=timedelta(0))
    old.set("shop", "1", Location("a"))
    old_watch.run_once()
    new.set("shop", "2", Location("a", "b"))
    assert new_watch.run_once() == 1
    for _ in range(3):
        assert old_watch.run_once() == 0
        assert new_watch.run_once() == 0 or scene.dispatcher().run_once()
    assert names(scene.ledger) == ["a", "b"]


def test_without_a_workspace_or_switched_off_nothing_happens(scene: Scene) -> None:
    assert watching(scene, None).run_once() == 0
    assert not watching(scene, Shops(), enabled=False).is_due


def test_a_daemon_that_leaves_delivery_to_workers_stores_what_is_defined(
    scene: Scene, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def opened() -> Iterator[tuple[dg.DagsterInstance, Ledger]]:
        yield scene.instance, scene.ledger

    monkeypatch.setattr(watch_thread, "CHECK_EVERY", timedelta(seconds=0.05))
    monkeypatch.setattr(watch_thread, "daemon_workspace", lambda: shops)
    shops.set("shop", "1", Location("a"))
    thread = watch_thread.watch_in_daemon(CatalogOptions(), opened)
    try:
        eventually(lambda: scene.ledger.catalogs.find("shop") is not None, "it is stored")
    finally:
        thread.stop(timedelta(seconds=10))
    assert names(scene.ledger) == ["a"]
