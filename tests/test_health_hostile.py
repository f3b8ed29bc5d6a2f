"""Health where something is unusual: history, retries, odd values, what people do in between."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import test_incidents as base
from catalog import Catalog, proposals
from deployment import sqlite_yaml
from instances import configured
from logs import (
    T0,
    asset_facts,
    broke,
    event,
    facts,
    failed,
    log,
    materialized,
    planned,
    ran,
    run,
    step,
    succeeded,
)
from receiver import Receiver
from scenes import Scene
from sqlalchemy import select
from test_incidents import check_run, incidents, resolve_by_hand, state_of, the_incident
from test_translate_failed_assets import failures
from verified import Verified

from datahub_eventlog.catalog.packing import encode
from datahub_eventlog.config import Config, HealthOptions, RestTarget
from datahub_eventlog.dispatcher import Dispatcher, Opened, assemble
from datahub_eventlog.dispatcher.catalog_facts import CatalogFacts
from datahub_eventlog.errors import Conflict, Rejected, Unavailable
from datahub_eventlog.ledger import backfill_row, repair_row
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.operations import Operations
from datahub_eventlog.sinks import Sink, always_proceed
from datahub_eventlog.translate import translate, translate_runless
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import (
    AssetFacts,
    CatalogPart,
    Change,
    CheckKey,
    CodeRepository,
    Evaluation,
    Event,
    FreshnessChange,
    Metadatum,
    Problem,
    Proposal,
)

ALL = base.ALL
delivered = base.delivered
sqlite = pytest.mark.parametrize("scene", ["sqlite"], indirect=True)
CONTEXT = Context(ALL)


def opened(*logs: Any) -> dict[str, str]:
    """The states of incidents by their titles, after these runs."""
    titles: dict[str, str] = {}
    states: dict[str, str] = {}
    for each in logs:
        for item in proposals(translate(each, CONTEXT)):
            if item.aspect != "incidentInfo" or (item.is_vacant and item.urn not in titles):
                continue
            body = json.loads(item.body)
            if item.change is Change.CREATE:
                titles.setdefault(item.urn, body["title"])
            else:
                (state,) = [o["value"] for o in body["patch"] if o["path"] == "/status/state"]
                states[item.urn] = state
    return {title: states[urn] for urn, title in titles.items()}


def graph_log() -> Any:
    """A graph-backed asset of two ops; the first fails."""
    steps = [
        step("orders.fetch", outputs={"result": None}),
        step("orders.store", "orders.fetch", asset="orders"),
    ]
    return log(planned("orders"), *broke(*failed("orders.fetch")), steps=steps)


def test_a_graph_asset_whose_first_op_fails_opens_an_incident() -> None:
    assert opened(graph_log()) == {"orders failed to materialize": "ACTIVE"}


def test_a_graph_asset_whose_own_op_failed_does_not_blame_an_upstream_asset() -> None:
    found = failures(Catalog().deliver(translate(graph_log(), CONTEXT)))
    assert found["orders"]["customProperties"]["upstream_failed"] == "false"


@sqlite
def test_a_real_graph_asset_that_fails_opens_an_incident(
    delivered: Verified, receiver: Receiver
) -> None:
    @dg.op
    def fetch() -> int:
        raise ValueError("no luck")

    @dg.op
    def keep(rows: int) -> int:
        return rows

    @dg.graph_asset
    def orders() -> int:
        rows: int = keep(fetch())
        return rows

    dg.materialize([orders], instance=delivered.scene.instance, raise_on_error=False)
    delivered.deliver()
    assert len(incidents(receiver)) == 1


def mapped_log(first: str, second: str) -> Any:
    steps = [
        step("make", outputs={"result": None}),
        step("work[?]", "make", outputs={"result": None}),
        step("gather", "work[?]", asset="orders"),
    ]
    outcome = {"a": failed("work[a]"), "b": ran("work[b]")}
    return log(
        planned("orders"),
        *broke(*ran("make"), *outcome[first], *outcome[second]),
        steps=steps,
    )


def test_the_reason_does_not_depend_on_which_mapped_step_ends_last() -> None:
    reasons = {
        failures(Catalog().deliver(translate(mapped_log(*order), CONTEXT)))["orders"][
            "customProperties"
        ]["reason"]
        for order in ("ab", "ba")
    }
    assert len(reasons) == 1


@pytest.mark.parametrize("lag", [float("inf"), float("nan")])
def test_an_endless_legacy_lag_costs_only_itself(lag: float) -> None:
    asset = asset_facts("orders", freshness={"maximum_lag_minutes": lag})
    whole = log(
        planned("orders"),
        *succeeded(*ran("orders", materialized("orders"))),
        steps=[step("orders", asset="orders")],
        definitions=facts(asset),
    )
    assert [item for item in translate(whole, CONTEXT) if item.aspect == "operation"]


def test_an_endless_legacy_lag_does_not_keep_the_catalogue_away() -> None:
    from datahub_eventlog.translate.catalog import catalog_proposals
    from datahub_eventlog.values import CatalogPart, CodeRepository

    odd = asset_facts("orders", freshness={"maximum_lag_minutes": float("inf")})
    part = CatalogPart(CodeRepository("shop", "r"), assets=(odd, asset_facts("other")))
    assert list(catalog_proposals(part, T0, CONTEXT))


def store_old_freshness(scene: Scene, state: str, age: float = 3600.0) -> None:
    from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
    from dagster._core.events import DagsterEvent, DagsterEventType
    from dagster._core.events.log import EventLogEntry

    then = time.time() - age
    change = FreshnessStateChange(
        key=dg.AssetKey("orders"),
        new_state=FreshnessState(state),
        previous_state=FreshnessState.PASS,
        state_change_timestamp=then,
    )
    entry = EventLogEntry(
        user_message="",
        level=20,
        job_name="",
        run_id="",
        error_info=None,
        timestamp=then,
        dagster_event=DagsterEvent(
            DagsterEventType.FRESHNESS_STATE_CHANGE.value,
            job_name="",
            event_specific_data=change,
        ),
    )
    with scene.plain() as plain:
        plain.handle_new_event(entry)


def incident_proposals(scene: Scene) -> list[Any]:
    return [each for each in scene.sink.proposals if each.aspect == "incidentInfo"]


def drain(scene: Scene, config: Config = ALL) -> None:
    dispatcher = scene.dispatcher(config)
    dispatcher.pause.end()
    while dispatcher.run_once():
        pass


@sqlite
def test_history_opens_no_freshness_incident_in_one_attempt(scene: Scene) -> None:
    """The control: this passes."""
    store_old_freshness(scene, "FAIL")
    scene.ledger.runs.recall_runless(0.0, again=False)
    drain(scene)
    assert [each for each in scene.sink.proposals if each.aspect == "assertionRunEvent"]
    assert incident_proposals(scene) == []


@sqlite
def test_history_opens_no_freshness_incident_though_datahub_was_away_at_first(
    scene: Scene,
) -> None:
    def away(_: Any) -> Any:
        raise Unavailable("away")

    store_old_freshness(scene, "FAIL")
    scene.ledger.runs.recall_runless(0.0, again=False)
    scene.sink.script.append(away)
    scene.dispatcher(ALL).run_once()
    drain(scene)
    assert [each for each in scene.sink.proposals if each.aspect == "assertionRunEvent"]
    assert incident_proposals(scene) == []


@sqlite
def test_a_freshness_incident_that_datahub_refused_is_opened_by_retry(scene: Scene) -> None:
    def refuse(batch: Any) -> Any:
        return [Rejected(p.urn, p.aspect, "no") for p in batch if p.entity_type == "incident"]

    base.freshness(scene, "FAIL")
    scene.sink.script.append(refuse)
    drain(scene)
    assert incident_proposals(scene) == []
    assert scene.ledger.runs.revive() == 1
    drain(scene)
    assert incident_proposals(scene) != []


@sqlite
def test_retry_leaves_alone_what_a_person_has_resolved(
    delivered: Verified, receiver: Receiver
) -> None:
    run_id = check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    resolve_by_hand(receiver)
    # Something else of the run was refused, so that the user retries it.
    delivered.scene.ledger.reports.record_rejections(run_id, [("urn:li:tag:x", "status", "no")])
    delivered.scene.ledger.runs.revive()
    delivered.deliver()
    assert state_of(receiver) == "RESOLVED"


def evaluated(partition: str | None, *, passed: bool) -> Event:
    data = Evaluation(CheckKey(("orders",), "no_nulls"), passed, "ERROR", partition=partition)
    return event("ASSET_CHECK_EVALUATION", None, data)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_check_that_failed_for_one_of_two_partitions_opens_an_incident(order: str) -> None:
    events = [evaluated(each, passed=each == "b") for each in order]
    whole = log(*succeeded(*ran("orders", *events)), steps=[step("orders", asset="orders")])
    assert opened(whole) == {"Check no_nulls failed": "ACTIVE"}


def test_a_run_that_is_retried_does_not_resolve_what_it_failed_to_make() -> None:
    whole = log(
        planned("orders", "a"),
        planned("orders", "b"),
        *broke(*failed("orders", materialized("orders", partition="a"))),
        steps=[step("orders", asset="orders")],
        run=run(tags={"dagster/will_retry": "true"}),
    )
    sent = [item for item in translate(whole, CONTEXT) if item.aspect == "incidentInfo"]
    assert sent == []


@sqlite
def test_a_run_with_a_failed_check_that_dagster_retries_opens_nothing(
    delivered: Verified, receiver: Receiver
) -> None:
    """docs/health.md: "A run that Dagster retries by itself opens none"."""

    @dg.asset_check(asset=base.orders, blocking=True)
    def no_nulls() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    dg.materialize(
        [base.orders, no_nulls],
        instance=delivered.scene.instance,
        raise_on_error=False,
        tags={"dagster/will_retry": "true"},
    )
    delivered.deliver()
    assert incidents(receiver) == {}


def test_two_assets_do_not_share_a_freshness_assertion() -> None:
    urns = set()
    for key in (("a", "b"), ("a/b",)):
        change = FreshnessChange(key, "FAIL", "PASS", T0)
        found = Event(1, "FRESHNESS_STATE_CHANGE", T0, None, change)
        items = list(proposals(translate_runless([found], None, CONTEXT)))
        urns |= {each.urn for each in items if each.aspect in {"assertionInfo", "incidentInfo"}}
    assert len(urns) == 4


@pytest.mark.long
@sqlite
def test_a_selection_of_other_steps_does_not_resolve_the_job(
    delivered: Verified, receiver: Receiver
) -> None:
    instance = delivered.scene.instance
    first = two_ops.execute_in_process(instance=instance, raise_on_error=False)
    delivered.deliver()
    assert state_of(receiver) == "ACTIVE"
    options = dg.ReexecutionOptions(parent_run_id=first.run_id, step_selection=["good"])
    with dg.execute_job(
        dg.reconstructable(two_ops), instance=instance, reexecution_options=options
    ) as again:
        assert again.success
    delivered.deliver()
    assert state_of(receiver) == "ACTIVE"


@dg.op
def bad() -> None:
    raise ValueError("no luck")


@dg.op
def good() -> None:
    pass


@dg.job
def two_ops() -> None:
    bad()
    good()


@pytest.mark.parametrize("off", ["checks", "freshness"])
def test_an_incident_names_no_assertion_that_is_never_sent(off: str) -> None:
    context = Context(replace(ALL, health=HealthOptions(**{off: False})))
    check = evaluated(None, passed=False)
    change = FreshnessChange(("orders",), "FAIL", "PASS", T0)
    fresh = Event(9, "FRESHNESS_STATE_CHANGE", T0, None, change)
    whole = check if off == "checks" else fresh
    items = list(
        proposals(translate_runless([replace(whole, time=T0, storage_id=3)], None, context))
    )
    sources = {
        json.loads(i.body)["source"]["sourceUrn"]
        for i in items
        if i.aspect == "incidentInfo"
        and i.change is Change.CREATE
        and "source" in json.loads(i.body)
    }
    assert sources <= {i.urn for i in items if i.aspect == "assertionInfo"}


def test_a_check_that_now_fails_with_a_warning_is_not_well_again() -> None:
    def of(severity: str, at: float) -> Any:
        data = Evaluation(CheckKey(("orders",), "no_nulls"), passed=False, severity=severity)
        found = Event(1, "ASSET_CHECK_EVALUATION", T0 + at, None, data)
        return list(proposals(translate_runless([found], None, CONTEXT)))

    sent = [i for i in of("WARN", 5) if i.aspect == "incidentInfo"]
    assert not any('"RESOLVED"' in item.body for item in sent)


def test_an_asset_without_a_policy_is_not_called_fresh_again() -> None:
    change = FreshnessChange(("orders",), "NOT_APPLICABLE", "FAIL", T0)
    found = Event(1, "FRESHNESS_STATE_CHANGE", T0, None, change)
    items = list(proposals(translate_runless([found], None, CONTEXT)))
    assert not any("fresh again" in i.body for i in items)


def test_the_row_of_a_repair_of_a_backfill_fits_its_column(scene: Scene) -> None:
    backfill_id = "x" * (255 - len("repair:backfill:"))
    scene.ledger.runs.touch_backfill(backfill_id)
    rows = scene.ledger.database.run(
        lambda connection: connection.execute(select(runs.c.run_id)).scalars().all()
    )
    assert backfill_row(backfill_id) in rows
    scene.ledger.repairs.request({backfill_row(backfill_id): {"k"}})
    assert repair_row(backfill_row(backfill_id))


@sqlite
def test_a_check_that_raises_opens_an_incident(delivered: Verified, receiver: Receiver) -> None:
    """The run fails, the check has the result ERROR, and nobody is told."""

    @dg.asset_check(asset=base.orders)
    def no_nulls() -> dg.AssetCheckResult:
        raise ValueError("no luck")

    made = dg.materialize(
        [base.orders, no_nulls], instance=delivered.scene.instance, raise_on_error=False
    )
    assert not made.success
    delivered.deliver()
    assert len(incidents(receiver)) == 1


@sqlite
def test_a_run_of_an_asset_with_an_endless_legacy_policy_is_delivered(delivered: Verified) -> None:
    from dagster._core.definitions.freshness_policy import LegacyFreshnessPolicy

    policy = LegacyFreshnessPolicy(maximum_lag_minutes=float("inf"))

    @dg.asset(legacy_freshness_policy=policy)
    def lagging() -> None:
        pass

    dg.materialize([lagging], instance=delivered.scene.instance)
    delivered.deliver()
    assert delivered.scene.counts()["delivered"] == 1


@sqlite
def test_an_incident_that_is_opened_again_has_not_the_stage_fixed(
    delivered: Verified, receiver: Receiver
) -> None:
    check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    resolve_by_hand(receiver)
    for passed in (True, False):
        check_run(delivered.scene.instance, passed=passed)
        delivered.deliver()
    status = the_incident(receiver)["status"]
    assert (status["state"], status.get("stage")) != ("ACTIVE", "FIXED")


@sqlite
def test_history_opens_no_incident_when_it_is_sent_once_more(scene: Scene) -> None:
    """A newer claim came while an older run was sent: the newer run is touched (`_resend`)."""
    with scene.plain() as instance:
        older = check_run(instance, passed=True, metadata={"n": 1})
        newer = asset_and_check(instance)
    scene.ledger.runs.add([older, newer], backfilled=True)

    def overtake(_: Any) -> None:
        scene.dispatcher(ALL, owner="other").deliver([newer])

    scene.sink.script.append(overtake)
    scene.dispatcher(ALL).deliver([older])
    drain(scene)
    created = [each for each in incident_proposals(scene) if each.change is Change.CREATE]
    assert created == []


def asset_and_check(instance: dg.DagsterInstance) -> str:
    """A run in which the asset has other metadata, and whose check fails."""

    @dg.asset(name="orders", description="now described")
    def orders() -> None:
        pass

    @dg.asset_check(asset=orders, name="no_nulls")
    def no_nulls() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    return dg.materialize([orders, no_nulls], instance=instance).run_id


@sqlite
def test_history_that_the_process_died_of_opens_nothing(scene: Scene) -> None:
    """The same as 4 with a process that was killed: its lease has expired."""
    from datetime import timedelta

    store_old_freshness(scene, "FAIL")
    scene.ledger.runs.recall_runless(0.0, again=False)
    past = timedelta(seconds=-1)
    (lease,) = scene.ledger.leases.take("dead", 1, past, run_ids=[""])
    scene.ledger.leases.attempt(lease, past)
    drain(scene)
    assert [each for each in scene.sink.proposals if each.aspect == "assertionRunEvent"]
    assert incident_proposals(scene) == []


@sqlite
def test_a_materialization_that_is_reported_from_outside_resolves(
    delivered: Verified, receiver: Receiver
) -> None:
    base.asset_run(delivered.scene.instance, fails=True)
    delivered.deliver()
    assert state_of(receiver) == "ACTIVE"
    delivered.scene.instance.report_runless_asset_event(dg.AssetMaterialization("orders"))
    delivered.deliver()
    assert state_of(receiver) == "RESOLVED"


@sqlite
def test_an_incident_that_somebody_deleted_is_resolved_all_the_same(
    delivered: Verified, receiver: Receiver
) -> None:
    check_run(delivered.scene.instance, passed=False)
    delivered.deliver()
    (urn,) = incidents(receiver)
    del receiver.store.versioned[urn, "incidentInfo"]
    check_run(delivered.scene.instance, passed=True)
    delivered.deliver()  # nothing is refused
    assert state_of(receiver) == "RESOLVED"


class Conflicting:
    """A sink whose first batch meets a conflict."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._conflicts = 1

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = always_proceed
    ) -> Sequence[Rejected]:
        if self._conflicts:
            self._conflicts -= 1
            raise Conflict("again")
        return self._sink.emit(batch, proceed)

    def close(self) -> None:
        self._sink.close()


@sqlite
def test_a_pass_that_overtakes_the_failure_is_not_refused(
    delivered: Verified, receiver: Receiver
) -> None:
    """The failure is claimed, but its delivery meets a conflict; then passes are delivered."""
    parts = replace(delivered.parts, sink=Conflicting(delivered.parts.sink))
    dispatcher = Dispatcher(delivered.config, parts)
    dispatcher.deliver([check_run(delivered.scene.instance, passed=False)])
    for _ in range(2):
        dispatcher.deliver([check_run(delivered.scene.instance, passed=True)])
    assert delivered.scene.ledger.reports.status().rejected == ()
    assert [info["status"]["state"] for info in incidents(receiver).values()] == ["RESOLVED"]


def results(receiver: Receiver) -> list[Any]:
    (urn,) = receiver.entities("assertion")
    return receiver.timeseries(urn, "assertionRunEvent")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 5.5])
@sqlite
def test_the_result_of_a_bounds_check_of_an_odd_number_arrives(
    delivered: Verified, receiver: Receiver, value: float
) -> None:
    @dg.asset
    def orders() -> dg.Output[None]:
        return dg.Output(None, metadata={"ratio": value})

    checks = dg.build_metadata_bounds_checks(assets=[orders], metadata_key="ratio", max_value=10)
    dg.materialize([orders, *checks], instance=delivered.scene.instance, raise_on_error=False)
    delivered.deliver()
    (result,) = results(receiver)
    expected = value if math.isfinite(value) else None
    assert result["result"].get("actualAggValue") == expected


@pytest.mark.parametrize("rows", [10**20, -1])
@sqlite
def test_a_result_with_an_odd_row_count_arrives(
    delivered: Verified, receiver: Receiver, rows: int
) -> None:
    check_run(delivered.scene.instance, passed=False, metadata={"dagster/row_count": rows})
    delivered.deliver()
    (result,) = results(receiver)
    assert "rowCount" not in result["result"]


TABLE_ASSET = AssetFacts(
    ("orders",),
    kinds=("postgres",),
    metadata={"dagster/table_name": Metadatum("text", "shop.public.orders")},
)
ONLY_TABLES = replace(ALL, emit_assets=False)


@base.HAS_FRESHNESS
@sqlite
def test_where_only_tables_are_sent_the_catalogue_knows_which_one_is_not_fresh(
    scene: Scene,
) -> None:
    part = CatalogPart(CodeRepository("shop", "r"), assets=(TABLE_ASSET,))
    scene.ledger.catalogs.store("shop", [encode(part)], time.time(), is_whole=True)
    base.freshness(scene, "FAIL")
    catalog = CatalogFacts(scene.ledger, timedelta(hours=1))
    parts = replace(scene.parts(ONLY_TABLES), catalog=catalog)
    Dispatcher(ONLY_TABLES, parts).deliver([""])
    (result,) = [one for one in scene.sink.proposals if one.aspect == "assertionRunEvent"]
    assert "shop.public.orders" in json.loads(result.body)["asserteeUrn"]


def test_a_result_for_which_no_table_is_known_is_a_problem() -> None:
    change = FreshnessChange(("orders",), "FAIL", "PASS", T0)
    found = Event(1, "FRESHNESS_STATE_CHANGE", T0, None, change)
    (problem,) = translate_runless([found], None, Context(ONLY_TABLES))
    assert isinstance(problem, Problem)
    assert "orders" in problem.reason


def test_show_names_only_incidents_that_are_opened_or_resolved(
    tmp_path: Path, receiver: Receiver
) -> None:
    block = {"dispatch": "off", "incidents": {"checks": ["error"]}}
    with configured(tmp_path, **sqlite_yaml(block)) as instance:

        def shown(run_id: str) -> list[str]:
            items = proposals(Operations(instance).preview(run_id))
            return [item.transition for item in items if item.entity_type == "incident"]

        assert shown(check_run(instance, passed=True)) == []
        failed_run = check_run(instance, passed=False)
        assert shown(failed_run) == ["ACTIVE", "ACTIVE"]
        passed_run = check_run(instance, passed=True)
        config = replace(ALL, target=RestTarget(receiver.url))
        with assemble(Opened(instance, ledger_of(instance, patience=5)), config) as parts:
            Dispatcher(config, parts).deliver([failed_run])
            Dispatcher(config, parts).deliver([passed_run])
        assert shown(passed_run) == ["RESOLVED", "RESOLVED"]
