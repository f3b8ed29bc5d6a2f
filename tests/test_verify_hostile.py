"""`verify` beside strange answers, other dispatchers, people and faults of all kinds."""

from __future__ import annotations

import importlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import pytest
import receiver_reads
from receiver import Receiver
from scenes import Scene
from sqlalchemy import update
from test_verify import _break, _places, _put
from verified import Verified, delivering, greeting, orders, run_assets, run_greeting

from datahub_eventlog.catalog.packing import encode
from datahub_eventlog.cli.verify import verify_json
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.observer import Observer
from datahub_eventlog.dispatcher.sampling import SampleThread
from datahub_eventlog.dispatcher.verifying import send_again
from datahub_eventlog.ledger.tables import definitions, runs, states
from datahub_eventlog.source.history import Selection
from datahub_eventlog.values import AssetFacts, CatalogPart, CodeRepository
from datahub_eventlog.verification.verifier import Verifier
from datahub_eventlog.verify import VerifyProgress

pytestmark = pytest.mark.parametrize("scene", ["sqlite"], indirect=True)

ORDERS = "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)"
REVENUE = "urn:li:dataset:(urn:li:dataPlatform:dagster,revenue,PROD)"
JOB = "urn:li:dataFlow:(dagster,prod/greeting,PROD)"


def _patient(verified: Verified, tries: int = 3, **orders: Any) -> VerifyProgress:
    """Verify, but give up after so many reports of a trouble."""
    seen: list[str] = []
    with verified.verification(**orders) as running:

        def show(progress: VerifyProgress) -> None:
            if progress.trouble:
                seen.append(progress.trouble)
                if len(seen) >= tries:
                    running.stop()

        running._on_progress = show
        progress = running.run()
    progress.trouble = progress.trouble or "".join(seen[-1:])
    return progress


def _again(verified: Verified, since: int) -> list[tuple[str, str]]:
    return [place for each in verified.receiver.writes[since:] for place in each.proposals]


def _altering(monkeypatch: pytest.MonkeyPatch, path: str, alter: Callable[[Any], Any]) -> None:
    real = receiver_reads.read

    def read(store: Any, method: str, where: str, body: bytes, faults: Any) -> Any:
        answer = real(store, method, where, body, faults)
        if answer is None or path not in where:
            return answer
        return receiver_reads.Read(answer.status, alter(answer.content))

    monkeypatch.setattr(receiver_reads, "read", read)


@pytest.mark.long
@pytest.mark.parametrize("answer", [None, {}, {"entities": []}, "x"], ids=repr)
def test_an_answer_that_is_no_list_does_not_mean_that_all_is_missing(
    verified: Verified, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    run_greeting(verified.scene.instance)
    verified.deliver()
    _altering(monkeypatch, "batchGet", lambda _: answer)
    writes = len(verified.receiver.writes)
    progress = _patient(verified, fix=True)
    assert progress.tally.found["missing"] == 0
    assert _again(verified, writes) == []


@pytest.mark.long
def test_more_documents_of_one_entity_than_fit_an_answer_are_all_found(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One asset with 1000 runs in the span (or one run over 1000 partitions)."""
    monkeypatch.setattr("datahub_eventlog.sinks.reading.DOCUMENTS", 5)
    for _ in range(8):
        run_assets(verified.scene.instance)
    verified.deliver()
    _age(verified)  # what was delivered just now is looked for again, a few documents at once
    assert verified.verify().findings == []


@dg.asset(metadata={"dagster/table_name": "shop.public.sums"}, kinds={"postgres"})
def sums() -> Any:
    return dg.MaterializeResult(metadata={"Query": "SELECT * FROM shop.public.orders"})


@pytest.mark.long
def test_a_schema_that_datahub_learns_later_makes_no_difference(
    scene: Scene, receiver: Receiver
) -> None:

    config = Config(enable_asset_query_metadata_parsing=True, emit_queries=True)
    table = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.public.orders,PROD)"
    with delivering(scene, receiver, config) as verified:
        dg.materialize([orders, sums], instance=scene.instance)
        verified.deliver()
    assert receiver.aspect(table, "schemaMetadata") is None
    # An ingestion of the database comes later.
    _put(receiver, table, "schemaMetadata", receiver.value(ORDERS, "schemaMetadata"))
    with delivering(scene, receiver, config) as verified:
        progress = verified.verify()
    assert progress.findings == []


def _age(verified: Verified, days: float = 2) -> None:
    """As if all of it had been delivered so long ago."""

    seconds = days * 24 * 3600

    def age(connection: Any) -> None:
        connection.execute(update(runs).values(settled=runs.c.settled - seconds, due=None))
        was_sent = update(states).where(states.c.sent > 0)
        connection.execute(was_sent.values(sent=states.c.sent - seconds))

    verified.scene.ledger.database.run(age)
    for place, known in verified.receiver.store.metadata.items():
        then = known["lastObserved"] - int(seconds * 1000)
        verified.receiver.store.metadata[place] = {**known, "lastObserved": then}


def _sweep(verified: Verified) -> None:
    """As if `retention` (30 days) had passed since."""

    def age(connection: Any) -> None:
        connection.execute(update(runs).values(settled=1.0, due=None))
        connection.execute(update(definitions).values(seen=1.0))

    verified.scene.ledger.database.run(age)
    assert verified.scene.ledger.upkeep.sweep(timedelta(days=30))


@pytest.mark.long
def test_mending_a_run_whose_row_was_swept_takes_nothing_away(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    _sweep(verified)
    before = verified.receiver.state()
    del verified.receiver.store.series[ORDERS, "operation"]
    writes = len(verified.receiver.writes)
    verified.verify(fix=True)
    assert verified.receiver.state() == before
    assert set(_again(verified, writes)) == {(ORDERS, "operation")}


def test_what_another_run_owns_is_sent_without_that_runs_documents(verified: Verified) -> None:
    """`verify --run`: the state was claimed last by a run that is not compared."""
    older = run_greeting(verified.scene.instance)
    verified.deliver()
    run_greeting(verified.scene.instance)
    verified.deliver()
    del verified.receiver.store.versioned[JOB, "dataFlowInfo"]
    writes = len(verified.receiver.writes)
    progress = verified.verify(selection=Selection(run_ids=(older,)), fix=True)
    assert progress.fixed == 1
    assert _again(verified, writes) == [(JOB, "dataFlowInfo")]


@pytest.mark.long
def test_what_a_sample_finds_is_sent_alone(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_greeting(verified.scene.instance)
    verified.deliver()
    _settle(verified)
    del verified.receiver.store.versioned[JOB, "dataFlowInfo"]
    config = replace(verified.config, verify=replace(verified.config.verify, sample=5))
    thread = SampleThread(config, lambda: None, Observer())  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(thread, "_wait", lambda _: None)
    thread._compare(verified.parts)
    writes = len(verified.receiver.writes)
    verified.deliver()
    assert _again(verified, writes) == [(JOB, "dataFlowInfo")]


def _settle(verified: Verified) -> None:
    """As if the second look were done."""

    verified.scene.ledger.database.run(
        lambda connection: connection.execute(update(runs).values(due=None))
    )


def test_the_dispatcher_of_the_daemon_sends_no_more_than_the_one_of_verify(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon looks every second, and may lease the run first."""
    run_greeting(verified.scene.instance)
    verified.deliver()
    del verified.receiver.store.versioned[JOB, "dataFlowInfo"]
    writes = len(verified.receiver.writes)
    with verified.verification(fix=True) as running:
        own = running._dispatcher.deliver_until_done

        def daemon_first(*arguments: Any) -> None:
            verified.deliver()
            own(*arguments)

        monkeypatch.setattr(running._dispatcher, "deliver_until_done", daemon_first)
        assert running.run().fixed == 1
    assert _again(verified, writes) == [(JOB, "dataFlowInfo")]


@pytest.mark.long
def test_events_without_a_run_before_since_are_not_sent_again(verified: Verified) -> None:

    report = verified.scene.instance.report_runless_asset_event
    report(dg.AssetMaterialization("old"))
    verified.deliver()
    since = datetime.now(timezone.utc)
    report(dg.AssetMaterialization("new"))
    verified.deliver()
    new = ORDERS.replace("orders", "new")
    del verified.receiver.store.series[new, "operation"]
    writes = len(verified.receiver.writes)
    assert verified.verify(selection=Selection(since=since), fix=True).fixed == 1
    assert _again(verified, writes) == [(new, "operation")]


@pytest.mark.long
def test_a_dispatcher_whose_clock_is_behind_the_ledgers_costs_people_nothing(
    verified: Verified,
) -> None:
    """`lastObserved` is by the clock of the dispatcher's host, `sent` by that of the ledger."""
    run_assets(verified.scene.instance)
    verified.deliver()
    for place, known in verified.receiver.store.metadata.items():
        behind = known["lastObserved"] - 11 * 60 * 1000
        verified.receiver.store.metadata[place] = {**known, "lastObserved": behind}
    lineage = _add_upstream(verified.receiver)
    verified.verify(fix=True)
    assert verified.receiver.value(REVENUE, "upstreamLineage") == lineage


def _add_upstream(receiver: Receiver) -> Any:
    lineage = receiver.value(REVENUE, "upstreamLineage")
    by_hand = "urn:li:dataset:(urn:li:dataPlatform:postgres,by.hand,PROD)"
    lineage["upstreams"].append({"dataset": by_hand, "type": "VIEW"})
    _put(receiver, REVENUE, "upstreamLineage", lineage)
    return receiver.value(REVENUE, "upstreamLineage")


def test_of_a_run_delivered_days_ago_only_what_is_missing_is_sent(verified: Verified) -> None:
    """`resend_after` (1 day) makes the delivery that `--fix` asks for send all states again."""
    run_assets(verified.scene.instance)
    verified.deliver()
    _age(verified)
    del verified.receiver.store.series[ORDERS, "operation"]
    writes = len(verified.receiver.writes)
    assert verified.verify(fix=True).fixed == 1
    assert _again(verified, writes) == [(ORDERS, "operation")]


def test_mending_a_run_delivered_days_ago_leaves_what_people_did(verified: Verified) -> None:

    run_assets(verified.scene.instance)
    verified.deliver()
    _age(verified)
    now = int(time.time() * 1000)
    _put(verified.receiver, ORDERS, "status", {"removed": True}, lastObserved=now)
    lineage = _add_upstream(verified.receiver)
    verified.receiver.store.metadata[REVENUE, "upstreamLineage"] = {"lastObserved": now}
    del verified.receiver.store.series[ORDERS, "operation"]
    progress = verified.verify(fix=True)
    assert progress.fixed == 1
    assert verified.receiver.value(ORDERS, "status") == {"removed": True}
    assert verified.receiver.value(REVENUE, "upstreamLineage") == lineage


def test_what_a_newer_run_claims_meanwhile_is_not_forgotten(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that claimed the state last was deleted; a newer one is delivered by the daemon."""

    run_greeting(verified.scene.instance)
    second = run_greeting(verified.scene.instance)
    verified.deliver()
    verified.scene.instance.delete_run(second)
    del verified.receiver.store.versioned[JOB, "dataFlowInfo"]
    real = send_again
    newest: list[Any] = []

    def delivered_meanwhile(parts: Any, faults: Any) -> Any:
        if not newest:
            job = dg.JobDefinition(name="greeting", graph_def=greeting.graph, description="Newest.")
            job.execute_in_process(instance=verified.scene.instance)
            verified.deliver()
            newest.append(verified.receiver.value(JOB, "dataFlowInfo"))
        return real(parts, faults)

    monkeypatch.setattr("datahub_eventlog.verify.send_again", delivered_meanwhile)
    verified.verify(fix=True)
    assert newest[0]["description"] == "Newest."
    assert verified.receiver.value(JOB, "dataFlowInfo") == newest[0]


@pytest.mark.long
def test_a_sample_does_not_touch_where_a_full_one_was_stopped(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        run_greeting(verified.scene.instance)
    verified.deliver()
    monkeypatch.setattr("datahub_eventlog.verification.verifier.ENTITIES_AT_ONCE", 2)

    def stopped_after(number: int, **orders: Any) -> None:
        with verified.verification(**orders) as running:
            running._on_progress = lambda progress: (
                running.stop() if progress.passed >= number else None
            )
            assert not running.run().is_complete

    stopped_after(2)
    stopped_after(3, sample=4)
    rest = verified.verify(resume=True)
    assert rest.tally.aspects > 0
    compared = rest.selected - 2
    assert rest.selected == 8
    assert _runs_compared(rest) >= compared


def _runs_compared(progress: VerifyProgress) -> int:
    # Each run has an instance of the job and one of its op, beside what runs share.
    return progress.tally.entities // 2


def test_a_sample_that_was_stopped_is_not_resumed_as_all(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        run_greeting(verified.scene.instance)
    verified.deliver()
    monkeypatch.setattr("datahub_eventlog.verification.verifier.ENTITIES_AT_ONCE", 2)
    with verified.verification(sample=4) as running:
        running._on_progress = lambda progress: running.stop() if progress.passed >= 3 else None
        assert not running.run().is_complete
    verified.receiver.store.versioned.clear()
    verified.receiver.store.series.clear()
    rest = verified.verify(resume=True)
    found = {each.run_id for each in rest.findings}
    assert len(found) == 8


def test_a_secret_that_was_once_sent_is_not_shown(verified: Verified) -> None:
    @dg.asset(metadata={"db_password": "hunter2-long-secret"})
    def guarded() -> None: ...

    dg.materialize([guarded], instance=verified.scene.instance)
    verified.deliver()
    urn = ORDERS.replace("orders", "guarded")
    properties = verified.receiver.value(urn, "datasetProperties")
    assert properties["customProperties"]["db_password"] == "***"
    properties["customProperties"]["db_password"] = "hunter2-long-secret"
    _put(verified.receiver, urn, "datasetProperties", properties)

    progress = verified.verify()
    assert progress.findings
    assert "hunter2" not in json.dumps(verify_json(progress))


@pytest.mark.long
def test_an_error_in_events_without_a_run_does_not_end_the_verification(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_greeting(verified.scene.instance)
    verified.deliver()

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("this can't be translated")

    monkeypatch.setattr("datahub_eventlog.dispatcher.verifying.runless_items", fail)
    assert verified.verify().failed


def test_a_run_that_another_dispatcher_has_leased_is_delivered_once_more(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has asked the ledger what to send before the states were forgotten."""
    run_id = run_greeting(verified.scene.instance)
    verified.deliver()
    before = verified.receiver.state()
    del verified.receiver.store.versioned[JOB, "dataFlowInfo"]
    ledger = verified.scene.ledger
    real = send_again
    leases: list[Any] = []

    def leased_meanwhile(parts: Any, faults: Any) -> Any:
        if not leases:
            ledger.runs.touch(run_id)
            leases.extend(ledger.leases.take("other", 1, timedelta(seconds=60), run_ids=[run_id]))
        return real(parts, faults)

    monkeypatch.setattr("datahub_eventlog.verify.send_again", leased_meanwhile)
    with verified.verification(fix=True) as running:
        own = running._dispatcher.deliver_until_done

        def other_ends(*arguments: Any) -> None:
            ledger.leases.settle(leases[0], "delivered")
            own(*arguments)

        monkeypatch.setattr(running._dispatcher, "deliver_until_done", other_ends)
        running.run()
    verified.deliver()
    assert verified.receiver.state() == before


@pytest.mark.long
def test_a_large_catalogue_is_compared_in_portions(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr("datahub_eventlog.verification.verifier.MOST_COLLECTED", 200)
    shop = CodeRepository("shop", "__repository__", module="shop.defs")
    parts = [
        CatalogPart(shop, tuple(AssetFacts((f"a{part}_{number}",)) for number in range(10)))
        for part in range(12)
    ]

    catalogs = verified.scene.ledger.catalogs
    catalogs.store("shop", [encode(part) for part in parts], time.time(), is_whole=True)
    verified.deliver()
    most = 0
    real = Verifier.compare

    def compare(self: Verifier) -> Any:
        nonlocal most
        most = max(most, len(self._urns))
        return real(self)

    monkeypatch.setattr(Verifier, "compare", compare)
    assert verified.verify().tally.entities >= 120
    assert most < 60


@pytest.mark.long
def test_what_only_an_older_state_had_is_found_after_a_restore(verified: Verified) -> None:
    """A field that our newest state has no more."""

    def run(description: str | None) -> None:
        job = dg.JobDefinition(name="greeting", graph_def=greeting.graph, description=description)
        job.execute_in_process(instance=verified.scene.instance)
        verified.deliver()

    run("Of old.")
    old = verified.receiver.value(JOB, "dataFlowInfo")
    assert old["description"] == "Of old."
    run(None)
    now = verified.receiver.value(JOB, "dataFlowInfo")
    assert now.get("description") != "Of old."
    observed = verified.receiver.store.metadata[JOB, "dataFlowInfo"]["lastObserved"]
    older = {"lastObserved": observed - 24 * 3600 * 1000, "runId": "an older run"}
    _put(verified.receiver, JOB, "dataFlowInfo", old, **older)
    assert verified.verify().findings
    verified.verify(fix=True)
    assert verified.receiver.value(JOB, "dataFlowInfo") == now


@pytest.mark.long
@pytest.mark.parametrize(("size", "seed"), [(1, 1), (5, 2)])
def test_in_small_portions_exactly_what_is_lost_is_found_and_mended(
    verified: Verified, monkeypatch: pytest.MonkeyPatch, size: int, seed: int
) -> None:

    for _ in range(3):
        run_assets(verified.scene.instance)
        run_greeting(verified.scene.instance)
    verified.deliver()
    monkeypatch.setattr("datahub_eventlog.verification.verifier.ENTITIES_AT_ONCE", size)
    sent = {(urn, name) for urn, aspects in verified.receiver.state().items() for name in aspects}
    before = verified.receiver.state()
    missing, altered = _break(verified.receiver, random.Random(seed))
    progress = verified.verify()
    assert _places(progress.findings, "missing") == missing & sent
    assert _places(progress.findings, "differs") == altered
    writes = len(verified.receiver.writes)
    assert not verified.verify(fix=True).fell_short
    assert verified.receiver.state() == before
    assert set(_again(verified, writes)) == (missing & sent) | altered


@pytest.mark.long
@pytest.mark.parametrize("column", ["a,b", "a (b)"])
def test_a_column_with_any_name_is_not_dangling(verified: Verified, column: str) -> None:
    schema = dg.TableSchema([dg.TableColumn(column, "int")])

    @dg.asset(metadata={"dagster/column_schema": schema})
    def source() -> None: ...

    @dg.asset(deps=[source], metadata={"dagster/column_schema": schema})
    def target() -> Any:
        lineage = dg.TableColumnLineage(
            {column: [dg.TableColumnDep(dg.AssetKey("source"), column)]}
        )
        return dg.MaterializeResult(metadata={"dagster/column_lineage": lineage})

    dg.materialize([source, target], instance=verified.scene.instance)
    verified.deliver()
    progress = verified.verify()
    assert progress.dangling == []
    assert progress.findings == []


@pytest.mark.long
def test_one_entity_that_may_not_be_read_does_not_hide_all_others(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    verified.receiver.fault("deny", urn="dagster,orders,", aspect="^$")
    del verified.receiver.store.versioned[REVENUE, "datasetProperties"]
    progress = verified.verify()
    assert progress.tally.not_readable
    assert {(each.urn, each.aspect) for each in progress.findings} == {
        (REVENUE, "datasetProperties")
    }


@pytest.mark.long
def test_what_was_found_before_a_stop_is_not_forgotten_by_the_exit_code(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        run_greeting(verified.scene.instance)
    verified.deliver()
    newest = verified.scene.instance.get_runs(limit=1)[0].run_id
    series = verified.receiver.store.series
    lost = [place for place, documents in series.items() if newest in str(documents)]
    assert lost
    for place in lost:
        del series[place]
    monkeypatch.setattr("datahub_eventlog.verification.verifier.ENTITIES_AT_ONCE", 2)
    with verified.verification() as running:
        running._on_progress = lambda progress: running.stop() if progress.passed >= 1 else None
        assert running.run().faults
    assert verified.verify(resume=True).fell_short


@pytest.mark.long
def test_a_run_that_is_asked_for_and_is_not_there_falls_short(verified: Verified) -> None:
    progress = verified.verify(
        selection=Selection(run_ids=("5f0f5e1c-1111-4222-8333-0123456789ab",))
    )
    assert progress.fell_short


@pytest.mark.long
def test_events_without_a_run_after_until_are_not_compared(verified: Verified) -> None:

    until = datetime.now(timezone.utc)
    verified.scene.instance.report_runless_asset_event(dg.AssetMaterialization("orders"))
    verified.deliver()
    del verified.receiver.store.series[ORDERS, "operation"]
    assert verified.verify(selection=Selection(until=until)).findings == []


def test_an_extractor_that_fails_where_verify_runs_costs_no_lineage(
    scene: Scene, receiver: Receiver, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify --fix` runs on somebody's machine, where the extractor may lack what it needs."""
    (tmp_path / "attack_extractor.py").write_text(
        "from datahub_eventlog import DatasetLineage\n"
        "from datahub.metadata.urns import DatasetUrn\n"
        "FAILS = False\n"
        "def extract(context, generator, graph):\n"
        "    if FAILS:\n"
        "        raise RuntimeError('no access')\n"
        "    upstream = DatasetUrn('postgres', 'by.extractor', 'PROD')\n"
        "    return {'orders': DatasetLineage({upstream}, set())}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = Config(asset_lineage_extractor="attack_extractor:extract")

    with delivering(scene, receiver, config) as verified:
        run_assets(scene.instance)
        verified.deliver()
        assert "by.extractor" in str(receiver.state())
        assert verified.verify().findings == []
        monkeypatch.setattr(importlib.import_module("attack_extractor"), "FAILS", True)
        before = receiver.state()
        del receiver.store.series[ORDERS, "operation"]
        verified.verify(fix=True)
        assert receiver.state() == before
