"""What code locations define, from the ledger to DataHub, and beside the runs of the same jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import catalog_flapping as flapping
import pytest
from ledgers import Clock
from receiver import Receiver
from scenes import Scene
from sqlalchemy import update
from workspaces import loaded

from datahub_eventlog.catalog import read_location
from datahub_eventlog.catalog.packing import encode
from datahub_eventlog.config import CatalogOptions, Config, Pattern, RestTarget
from datahub_eventlog.dispatcher import Dispatcher, Opened, assemble
from datahub_eventlog.dispatcher.catalog_facts import CatalogFacts
from datahub_eventlog.errors import Unavailable
from datahub_eventlog.ledger import catalog_row
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.asset_checks import assertion_urn
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import (
    AssetFacts,
    CatalogJob,
    CatalogPart,
    CheckFacts,
    CheckKey,
    CodeRepository,
    Job,
    Metadatum,
    Op,
    Run,
    Step,
    StepOutput,
    Trigger,
)

SHOP = CodeRepository("shop", "__repository__", module="shop.defs")
ROW = catalog_row("shop")
CHECK = CheckFacts(CheckKey(("a",), "fresh"), "It is fresh.")
A = AssetFacts(("a",), group="g", owners=("team:x",), kinds=("python",), checks=(CHECK,))
B = AssetFacts(("b",), deps=(("a",),), description="The second.")
C = AssetFacts(("c",), tags={"tier": "1"})
TABLE = "urn:li:dataset:(urn:li:dataPlatform:postgres,db.public.ext,PROD)"
EXTERNAL = AssetFacts(
    ("ext",),
    is_external=True,
    kinds=("postgres",),
    metadata={"dagster/table_name": Metadatum("text", "db.public.ext")},
)


def job(name: str, *assets: AssetFacts, triggers: Sequence[Trigger] = ()) -> CatalogJob:
    handles = ["_".join(asset.key) for asset in assets] or ["work"]
    steps = [
        Step(handle, handle, outputs=(StepOutput("result", asset.key),))
        for handle, asset in zip(handles, assets, strict=False)
    ]
    ops = [Op(handle, handle) for handle in handles]
    return CatalogJob(Job(name, ops=tuple(ops)), tuple(steps), assets, tuple(triggers))


def part(*assets: AssetFacts, jobs: Sequence[CatalogJob] = ()) -> CatalogPart:
    return CatalogPart(SHOP, assets=assets, jobs=tuple(jobs))


def asset_urn(facts: AssetFacts) -> str:
    return urns.asset_urn(facts.key, Context())


def flow_urn(name: str) -> str:
    return urns.flow_urn(Run("", name, "", module="shop.defs"), Context())


def store(
    scene: Scene,
    *parts: CatalogPart,
    loaded: float | None = None,
    location: str = "shop",
    **options: Any,
) -> bool:
    return scene.ledger.catalogs.store(
        location,
        list(map(encode, parts)),
        time.time() if loaded is None else loaded,
        **{"is_whole": True, **options},
    )


def sent(scene: Scene) -> dict[tuple[str, str], str]:
    """The newest body of each aspect since the last time."""
    bodies = {(one.urn, one.aspect): one.body for one in scene.sink.proposals}
    scene.sink.proposals.clear()
    return bodies


def removed(scene: Scene) -> dict[str, bool]:
    """The entities whose status was sent since the last time."""
    return {
        urn: '"removed":true' in body
        for (urn, aspect), body in sent(scene).items()
        if aspect == "status"
    }


def deliver(scene: Scene, config: Config | None = None) -> None:
    dispatcher = scene.dispatcher(config)
    while dispatcher.run_once():
        pass


def test_what_is_defined_is_delivered_once(scene: Scene) -> None:
    daily = Trigger(
        "daily", "schedule", is_running=True, cron=("0 6 * * *",), timezone="Asia/Tokyo"
    )
    eager = Trigger("eager", "asset", is_running=False)
    jobs = [job("build", A, triggers=[eager, daily]), job("idle")]
    assert store(scene, part(A, B, EXTERNAL), part(jobs=jobs))
    deliver(scene)
    bodies = sent(scene)
    for facts in (A, B, EXTERNAL):
        assert bodies[asset_urn(facts), "status"] == '{"removed":false}'
        assert (asset_urn(facts), "datasetProperties") in bodies
    assert asset_urn(A) in bodies[asset_urn(B), "upstreamLineage"]
    assert TABLE in bodies[asset_urn(EXTERNAL), "siblings"]
    assert "ext" in bodies[TABLE, "siblings"]
    info = bodies[flow_urn("build"), "dataFlowInfo"]
    assert '"schedules":"daily: 0 6 * * * Asia/Tokyo, running"' in info
    assert '"sensors":"eager: asset sensor, stopped"' in info
    assert "schedules" not in bodies[flow_urn("idle"), "dataFlowInfo"]
    assert (assertion_urn(CHECK.check, Context()), "assertionInfo") in bodies
    assert scene.ledger.runs.state(ROW) == "delivered"
    assert scene.counts() == {}
    assert not scene.ledger.reports.status().rejected

    assert not store(scene, part(A, B, EXTERNAL), part(jobs=jobs))
    deliver(scene)
    assert sent(scene) == {}


def test_only_what_has_changed_is_sent_again(scene: Scene) -> None:
    store(scene, part(*(AssetFacts((f"asset{number}",)) for number in range(50))))
    deliver(scene)
    sent(scene)
    many = [AssetFacts((f"asset{number}",)) for number in range(49)]
    store(scene, part(*many, AssetFacts(("asset49",), description="New.")))
    deliver(scene)
    assert {urn for urn, _ in sent(scene)} == {asset_urn(AssetFacts(("asset49",)))}


def test_what_is_gone_is_removed_until_it_comes_back(scene: Scene) -> None:
    rest = part(B, C, AssetFacts(("d",)), AssetFacts(("e",)), AssetFacts(("f",)))
    jobs = part(jobs=[job("build", A), job("idle"), job("third")])
    store(scene, part(A), rest, jobs)
    deliver(scene)
    sent(scene)

    store(scene, rest, part(jobs=[job("idle"), job("third")]))
    deliver(scene)
    gone = removed(scene)
    op = urns.job_urn(Run("", "build", "", module="shop.defs"), "a", Context())
    check = assertion_urn(CHECK.check, Context())
    assert gone == dict.fromkeys((asset_urn(A), flow_urn("build"), op, check), True)
    assert {row.urn for row in scene.ledger.reports.status().removed} == gone.keys()

    store(scene, part(A), rest, jobs)
    deliver(scene)
    assert removed(scene) == dict.fromkeys(gone, False)
    assert scene.ledger.reports.status().removed == ()


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"is_whole": False}, Config()),
        ({}, Config(catalog=CatalogOptions(remove_stale_metadata=False))),
        ({}, Config(catalog=CatalogOptions(fail_safe_threshold=10))),
    ],
    ids=["not whole", "switched off", "too much"],
)
def test_what_is_gone_stays(
    scene: Scene, options: Any, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    store(scene, part(A, B, C))
    deliver(scene)
    sent(scene)
    with caplog.at_level(logging.WARNING):
        store(scene, part(A, B), **options)
        deliver(scene, config)
    assert removed(scene) == {}
    held = {row.location: row.entities for row in scene.ledger.reports.status().held_back}
    is_held = config.catalog.fail_safe_threshold == 10
    assert held == ({"shop": 1} if is_held else {})
    assert ("Code location shop does not define 1 of its 3" in caplog.text) == is_held

    store(scene, part(A, B), is_confirmed=True)
    deliver(scene)
    assert removed(scene) == {asset_urn(C): True}
    assert scene.ledger.reports.status().held_back == ()


def test_what_another_code_location_defines_is_not_removed(scene: Scene) -> None:
    other = replace(part(A), repository=replace(SHOP, location="store"))
    store(scene, part(A, B, C))
    store(scene, other, location="store")
    deliver(scene)
    sent(scene)
    store(scene, part(B, C))
    deliver(scene)
    assert removed(scene) == {}


def test_what_another_code_location_defines_and_does_not_deliver_is_not_removed(
    scene: Scene,
) -> None:
    store(scene, part(A, B, C))
    store(scene, replace(part(B), shared=(A.key,)), location="store")
    deliver(scene)
    sent(scene)
    store(scene, part(B, C))
    deliver(scene)
    assert removed(scene) == {}


def test_what_moves_to_another_code_location_is_not_removed_before_that_is_sent(
    scene: Scene,
) -> None:
    store(scene, part(A, B, C))
    deliver(scene)
    sent(scene)
    store(scene, part(A), location="store")
    store(scene, part(B, C))
    dispatcher = scene.dispatcher()
    dispatcher.deliver([ROW])
    assert removed(scene) == {}
    assert scene.ledger.runs.state(ROW) == "pending"
    dispatcher.deliver([catalog_row("store")])
    assert scene.ledger.runs.state(catalog_row("store")) == "delivered"
    at_once = update(runs).where(runs.c.run_id == ROW).values(due=time.time() - 1)
    scene.ledger.database.run(lambda connection: connection.execute(at_once))
    deliver(scene)
    assert scene.ledger.runs.state(ROW) == "delivered"
    assert not any(removed(scene).values())


def test_two_catalogues_do_not_wait_for_each_other(scene: Scene) -> None:
    for location, facts in (("shop", A), ("store", B)):
        store(scene, part(facts, C), location=location)
    deliver(scene)
    for location, facts in (("shop", A), ("store", B)):
        store(scene, part(facts), location=location, loaded=time.time() + 1)
    dispatcher = scene.dispatcher()
    dispatcher.deliver([ROW])
    dispatcher.deliver([catalog_row("store")])
    assert scene.ledger.runs.state(catalog_row("store")) == "delivered"


def test_a_catalogue_that_was_left_out_is_sent_when_it_is_switched_on(scene: Scene) -> None:
    store(scene, part(A))
    deliver(scene, Config(catalog=CatalogOptions(enabled=False)))
    assert store(scene, part(A))
    deliver(scene)
    assert removed(scene) == {asset_urn(A): False}


@pytest.mark.parametrize("name", ["x" * 250, "x" * 400, "a\0b", "Lager \N{SNOWMAN}"])
def test_a_code_location_of_any_name_is_delivered(scene: Scene, name: str) -> None:
    assert store(scene, part(A), location=name)
    deliver(scene)
    assert removed(scene) == {asset_urn(A): False}
    assert scene.ledger.runs.state(catalog_row(name)) == "delivered"
    assert CatalogFacts(scene.ledger, timedelta(hours=1)).has(name)


def test_an_entity_whose_urn_holds_a_secret_is_not_removed(scene: Scene) -> None:
    secret = AssetFacts(("ghp_" + "a1B2" * 9,))
    store(scene, part(secret, B))
    deliver(scene)
    assert len(removed(scene)) == 2
    store(scene, part(secret, B, C))
    deliver(scene)
    assert removed(scene) == {asset_urn(C): False}


def test_what_a_pattern_leaves_out_is_neither_sent_nor_removed(scene: Scene) -> None:
    jobs = part(jobs=[job("build", A), job("idle"), job("only_b", B)])
    store(scene, part(A, B), jobs)
    deliver(scene)
    sent(scene)
    config = Config(asset_pattern=Pattern(deny=("b",)), job_pattern=Pattern(deny=("idle",)))
    store(scene, part(A, replace(B, description="Other.")), jobs)
    deliver(scene, config)
    assert sent(scene) == {}
    assert scene.ledger.reports.status().held_back == ()


def test_without_assets_only_jobs_are_sent(scene: Scene) -> None:
    store(scene, part(A, EXTERNAL), part(jobs=[job("build", A)]))
    deliver(scene, Config(emit_assets=False))
    assert {urn.split(":")[2] for urn, _ in sent(scene)} == {"dataFlow", "dataJob"}


def test_a_switched_off_catalogue_is_not_sent(scene: Scene) -> None:
    store(scene, part(A))
    deliver(scene, Config(catalog=CatalogOptions(enabled=False)))
    assert sent(scene) == {}
    assert scene.ledger.runs.state(ROW) == "filtered"


def test_nothing_is_lost_if_datahub_goes_away_in_the_middle(scene: Scene) -> None:
    def away(_batch: object) -> None:
        raise Unavailable("it is away")

    store(scene, part(A, B), part(jobs=[job("build", A)]))
    scene.sink.script = [away]
    dispatcher = scene.dispatcher()
    dispatcher.run_once()
    assert scene.ledger.runs.state(ROW) == "pending"
    assert dispatcher.pause.is_on
    deliver(scene)
    assert {asset_urn(A), asset_urn(B), flow_urn("build")} <= {urn for urn, _ in sent(scene)}


def test_a_process_that_dies_before_it_notes_what_it_sent_loses_nothing(scene: Scene) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("killed")

    store(scene, part(A, B, C))
    dispatcher = scene.dispatcher()
    scene.ledger.catalogs.note_defined = broken  # type: ignore[method-assign,assignment]
    dispatcher.run_once()
    del scene.ledger.catalogs.note_defined
    at_once = update(runs).where(runs.c.run_id == ROW).values(due=time.time())
    scene.ledger.database.run(lambda connection: connection.execute(at_once))
    deliver(scene)
    sent(scene)
    store(scene, part(A, B))
    deliver(scene)
    assert removed(scene) == {asset_urn(C): True}


def test_a_catalogue_that_is_replaced_meanwhile_removes_nothing_and_is_sent_anew(
    scene: Scene,
) -> None:
    store(scene, part(A, B), part(C))
    deliver(scene)
    sent(scene)
    many = [AssetFacts((f"asset{number}",)) for number in range(400)]
    store(scene, part(*many), part(A, B), part(C))

    def replaced(_batch: object) -> None:
        store(scene, part(A, B), part(C), part(*many, AssetFacts(("new",))))

    scene.sink.script = [replaced]
    deliver(scene)
    states = removed(scene)
    assert not any(states.values())
    assert asset_urn(AssetFacts(("new",))) in states


def test_a_run_without_definitions_has_those_of_its_code_location(scene: Scene) -> None:
    store(scene, part(A, B), part(EXTERNAL))
    facts = CatalogFacts(scene.ledger, timedelta(hours=1))
    known = facts.definitions_of("shop", {B.key})
    assert known is not None
    assert known.assets == {B.key: B, A.key: A}
    assert known.is_cut
    assert facts.definitions_of("shop", {("unknown",)}) is None
    assert facts.definitions_of("elsewhere", {B.key}) is None
    assert facts.definitions_of(None, {B.key}) is None


def test_a_catalogue_that_nobody_keeps_up_to_date_has_the_last_word_for_a_day(
    scene: Scene,
) -> None:
    scene.ledger.database.clock = clock = Clock(time.time())
    store(scene, part(A), loaded=clock.time)
    clock.advance(86_000)
    assert CatalogFacts(scene.ledger, timedelta(hours=1)).has("shop")
    clock.advance(1_000)
    assert not CatalogFacts(scene.ledger, timedelta(hours=1)).has("shop")
    assert CatalogFacts(scene.ledger, timedelta(days=1)).has("shop")
    store(scene, part(A), loaded=clock.time)
    assert CatalogFacts(scene.ledger, timedelta(hours=1)).has("shop")


# ------------------------------------------------------------------------- beside runs


class Everywhere(CatalogFacts):
    """A run that this process executes names no code location."""

    def has(self, location: str | None) -> bool:
        return True


@dataclass
class Beside:
    """One DataHub that gets runs and the catalogue of the same jobs."""

    scene: Scene
    receiver: Receiver
    dispatcher: Dispatcher
    parts: list[CatalogPart]

    def run(self, name: str, config: Any = None) -> None:
        defs: Any = flapping.defs
        # It is `get_job_def` in Dagster 1.10.
        find = getattr(defs, "resolve_job_def", None) or defs.get_job_def
        definition = find(name)
        definition.execute_in_process(
            instance=self.scene.instance, raise_on_error=False, run_config=config
        )
        self.deliver()

    def load(self) -> None:
        """As if the same code had been loaded anew, and something else of it had changed."""
        marker = replace(C, description=str(time.time()))
        blobs = [encode(one) for one in (*self.parts, part(marker))]
        now = self.scene.ledger.database.read_clock()
        assert self.scene.ledger.catalogs.store("shop", blobs, now, is_whole=True)
        self.deliver()

    def deliver(self) -> None:
        while self.dispatcher.run_once():
            pass
        assert not self.scene.ledger.reports.status().rejected

    def state(self) -> dict[str, Any]:
        """Every entity but runs, their steps, and the marker; no timeseries."""
        return {
            urn: {name: value for name, value in aspects.items() if not isinstance(value, list)}
            for urn, aspects in self.receiver.state().items()
            if "dataProcessInstance" not in urn and urn != asset_urn(C)
        }


@pytest.fixture
def beside(scene: Scene) -> Iterator[Beside]:
    with Receiver() as receiver:
        config = Config(target=RestTarget(receiver.url), urn_prefix="shop")
        with (
            assemble(Opened(scene.instance, scene.ledger), config) as assembled,
            loaded(scene.instance, Path(flapping.__file__)) as (state,),
        ):
            parts = replace(assembled, catalog=Everywhere(scene.ledger, timedelta(hours=1)))
            catalogue = list(read_location(state, [], scene.instance).parts())
            dispatcher = Dispatcher(config, parts)
            yield Beside(scene, receiver, dispatcher, catalogue)


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """The aspects that are not the same, with both values."""
    places = {(urn, name) for state in (before, after) for urn in state for name in state[urn]}
    values = {
        (urn, name): (before.get(urn, {}).get(name), after.get(urn, {}).get(name))
        for urn, name in places
    }
    return {place: (old, new) for place, (old, new) in values.items() if old != new}


@pytest.mark.parametrize("scene", ["sqlite"], indirect=True)
@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.long)])
def test_runs_and_the_catalogue_never_take_turns_in_what_they_say(
    beside: Beside, rounds: int
) -> None:
    def everything_runs() -> None:
        for name in ("nested", "assets", "failing", "observing"):
            beside.run(name)

    beside.load()
    everything_runs()
    beside.load()
    settled = beside.state()
    for number in range(rounds):
        if number % 10 == 0:
            everything_runs()
        else:
            beside.run(("nested", "assets", "failing", "observing")[number % 4])
        assert changed(settled, beside.state()) == {}, f"a run, in round {number}"
        beside.load()
        assert changed(settled, beside.state()) == {}, f"the catalogue, in round {number}"
