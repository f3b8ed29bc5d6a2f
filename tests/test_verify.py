"""Whether DataHub shows what Dagster knows, and that it does after `--fix`."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from deployment import DEADLINE, eventually, free_port
from figures import figures
from receiver import Receiver
from scenes import Scene
from verified import Verified, delivering, greeting, orders, run_assets, run_greeting

from datahub_eventlog.catalog.packing import encode
from datahub_eventlog.config import CatalogOptions, Config, Pattern, RestTarget, VerifyOptions
from datahub_eventlog.dagster_internals import instance_ref
from datahub_eventlog.dispatcher import Worker
from datahub_eventlog.reopening import opened
from datahub_eventlog.source.history import Selection
from datahub_eventlog.values import AssetFacts, CatalogPart, CodeRepository
from datahub_eventlog.verification.findings import Finding
from datahub_eventlog.verification.verifier import OLDER_BY
from datahub_eventlog.verify import VerifyProgress

ORDERS = "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)"
ON_SQLITE = pytest.mark.parametrize("scene", ["sqlite"], indirect=True)
ON_BOTH = pytest.mark.parametrize("scene", ["sqlite", "postgres"], indirect=True)
REVENUE = "urn:li:dataset:(urn:li:dataPlatform:dagster,revenue,PROD)"
TABLE = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.public.orders,PROD)"
JOB = "urn:li:dataFlow:(dagster,prod/greeting,PROD)"


@ON_SQLITE
def test_what_was_delivered_is_all_there(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    run_greeting(verified.scene.instance)
    verified.deliver()
    progress = verified.verify()
    assert progress.findings == []
    assert progress.tally.aspects > 60
    assert progress.is_complete
    assert not progress.fell_short


Places = set[tuple[str, str]]


def _break(receiver: Receiver, chance: random.Random) -> tuple[Places, Places]:
    """Delete a third of the entities, and of the others' aspects, and alter ten more."""
    store, urns = receiver.store, receiver.entities()
    deleted = set(chance.sample(urns, len(urns) // 3))
    missing: Places = set()
    for places in (store.versioned, store.series):
        for place in sorted(places):
            if place[0] in deleted or chance.random() < 1 / 3:
                missing.add(place)
                del places[place]
    named = [place for place in sorted(store.versioned) if "name" in store.versioned[place]]
    altered = set(chance.sample(named, 10))
    for place in altered:
        store.versioned[place] = {**store.versioned[place], "name": "somebody's own"}
    return missing, altered


def _places(findings: list[Finding], kind: str) -> Places:
    return {(each.urn, each.aspect) for each in findings if each.kind == kind}


def _add_by_hand(receiver: Receiver) -> None:
    """What people add in DataHub, beside what we sent."""
    for urn in receiver.entities():
        stored = receiver.store.versioned
        tags = stored.get((urn, "globalTags"), {"tags": []})
        if not urn.startswith("urn:li:dataProcessInstance"):
            _put(receiver, urn, "globalTags", {"tags": [*tags["tags"], {"tag": "urn:li:tag:mine"}]})
        if urn.startswith("urn:li:dataset"):
            _put(receiver, urn, "editableDatasetProperties", {"description": "By hand."})
    lineage = receiver.value(REVENUE, "upstreamLineage")
    lineage["upstreams"].append({"dataset": TABLE, "type": "VIEW"})
    _put(receiver, REVENUE, "upstreamLineage", lineage)
    properties = receiver.value(ORDERS, "datasetProperties")
    properties["customProperties"]["mine"] = "yes"
    _put(receiver, ORDERS, "datasetProperties", properties)
    owners = receiver.value(ORDERS, "ownership")
    owners["owners"].append({"owner": "urn:li:corpuser:me", "type": "DATAOWNER"})
    _put(receiver, ORDERS, "ownership", owners)


def _put(receiver: Receiver, urn: str, aspect: str, value: Any, **metadata: Any) -> None:
    receiver.store.versioned[urn, aspect] = value
    known = receiver.store.metadata.get((urn, aspect), {})
    receiver.store.metadata[urn, aspect] = {**known, **metadata}


@ON_BOTH
@pytest.mark.parametrize(
    "number", [12, pytest.param(190, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_after_a_restore_exactly_what_is_lost_is_found_and_mended(
    verified: Verified, number: int
) -> None:
    for _ in range(number // 6):
        run_assets(verified.scene.instance)
    for _ in range(number):
        run_greeting(verified.scene.instance)
    verified.deliver()
    sent = {(urn, name) for urn, aspects in verified.receiver.state().items() for name in aspects}
    _add_by_hand(verified.receiver)
    before = verified.receiver.state()
    missing, altered = _break(verified.receiver, random.Random(18))
    progress = verified.verify()
    assert _places(progress.findings, "missing") == missing & sent
    assert _places(progress.findings, "differs") == altered
    assert progress.fell_short
    writes = len(verified.receiver.writes)
    mended = verified.verify(fix=True)
    assert not mended.fell_short
    assert mended.fixed == progress.faults
    again = [place for each in verified.receiver.writes[writes:] for place in each.proposals]
    assert set(again) == (missing & sent) | altered
    assert verified.verify().findings == []
    after = verified.receiver.state()
    for urn, aspects in before.items():
        for name, value in aspects.items():
            if (urn, name) not in missing:
                assert after[urn][name] == value


@ON_SQLITE
def test_what_people_add_is_no_difference(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    _add_by_hand(verified.receiver)
    before = verified.receiver.state()
    assert verified.verify(fix=True).findings == []
    assert verified.receiver.state() == before


@ON_SQLITE
def test_an_entity_that_a_person_removed_is_named_and_left_so(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    _put(verified.receiver, ORDERS, "status", {"removed": True})
    progress = verified.verify(fix=True)
    assert _places(progress.findings, "removed") == {(ORDERS, "status")}
    assert not progress.fell_short
    assert verified.receiver.value(ORDERS, "status") == {"removed": True}


@ON_SQLITE
def test_what_differs_is_said_field_by_field(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    properties = verified.receiver.value(ORDERS, "datasetProperties")
    name, ours = min(properties["customProperties"].items())
    properties["customProperties"][name] = "another"
    properties["description"] = "Not ours."
    _put(verified.receiver, ORDERS, "datasetProperties", properties)
    (finding,) = verified.verify().findings
    assert {(row.path, row.theirs) for row in finding.fields} == {
        (f"/customProperties/{name.replace('/', '~1')}", "another"),
        ("/description", "Not ours."),
    }
    assert {row.ours for row in finding.fields} == {ours, "Every order."}


@ON_SQLITE
def test_lineage_of_yesterdays_backup_is_found_although_it_has_more_than_ours(
    verified: Verified,
) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    lineage = verified.receiver.value(REVENUE, "upstreamLineage")
    more = {**lineage, "upstreams": [*lineage["upstreams"], {"dataset": TABLE, "type": "VIEW"}]}
    observed = verified.receiver.store.metadata[REVENUE, "upstreamLineage"]["lastObserved"]
    yesterday = observed - 1000 * (timedelta(days=1) + OLDER_BY).total_seconds()
    older = {"lastObserved": yesterday, "runId": "an older run"}
    _put(verified.receiver, REVENUE, "upstreamLineage", more, **older)
    (finding,) = verified.verify().findings
    assert [(row.ours, row.theirs["dataset"]) for row in finding.fields] == [(None, TABLE)]
    assert not verified.verify(fix=True).fell_short
    assert verified.receiver.value(REVENUE, "upstreamLineage") == lineage


@ON_SQLITE
def test_the_state_of_a_newer_run_is_left_as_it_is(verified: Verified) -> None:
    run_greeting(verified.scene.instance)
    verified.deliver()
    newer = run_greeting(verified.scene.instance)  # delivered by somebody whose ledger is lost
    info = verified.receiver.value(JOB, "dataFlowInfo")
    _put(verified.receiver, JOB, "dataFlowInfo", {**info, "name": "newer"}, runId=newer)
    older = Selection(run_ids=(verified.scene.instance.get_runs()[1].run_id,))
    progress = verified.verify(selection=older, fix=True)
    assert _places(progress.findings, "newer") == {(JOB, "dataFlowInfo")}
    assert not progress.fell_short
    assert verified.receiver.value(JOB, "dataFlowInfo")["name"] == "newer"


@ON_SQLITE
def test_what_a_newer_run_has_replaced_is_not_expected_any_more(verified: Verified) -> None:
    first = run_greeting(verified.scene.instance)
    verified.deliver()

    other = dg.JobDefinition(name="greeting", graph_def=greeting.graph, description="Says more.")
    other.execute_in_process(instance=verified.scene.instance)
    verified.deliver()
    assert verified.verify(selection=Selection(run_ids=(first,))).findings == []
    assert verified.verify().findings == []


@ON_SQLITE
def test_documents_of_a_timeseries_are_compared_too(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    documents = verified.receiver.store.series[ORDERS, "operation"]
    (name,) = documents
    documents[name] = {**documents[name], "operationType": "DELETE"}
    (finding,) = verified.verify().findings
    assert finding.kind == "differs"
    assert finding.aspect == "operation"
    assert not verified.verify(fix=True).fell_short


@ON_SQLITE
def test_a_server_without_the_scroll_of_timeseries_is_asked_entity_by_entity(
    verified: Verified,
) -> None:
    run_assets(verified.scene.instance)
    run_greeting(verified.scene.instance)
    verified.deliver()
    verified.receiver.fault("status", status=404, path="/openapi/v2/")
    del verified.receiver.store.series[ORDERS, "operation"]
    progress = verified.verify()
    assert _places(progress.findings, "missing") == {(ORDERS, "operation")}
    assert not progress.tally.not_readable


@ON_SQLITE
def test_an_index_that_lags_is_waited_for(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    verified.receiver.fault("lag", urn="orders", aspect="operation", count=1)
    assert verified.verify().findings == []
    assert verified.waits


@ON_SQLITE
@pytest.mark.parametrize(
    ("aspect", "privilege"),
    [
        ("datasetProfile", "View Dataset Profile"),
        ("operation", "View Dataset Operations"),
        ("dataProcessInstanceRunEvent", "Get Timeseries Aspect API"),
    ],
)
def test_what_may_not_be_read_names_the_privilege_and_the_rest_is_compared(
    verified: Verified, aspect: str, privilege: str
) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    verified.receiver.fault("deny", aspect=f"^{aspect}$")
    del verified.receiver.store.versioned[ORDERS, "datasetProperties"]
    progress = verified.verify()
    assert _places(progress.findings, "missing") == {(ORDERS, "datasetProperties")}
    (reason,) = progress.tally.not_readable.values()
    assert privilege in reason
    assert progress.fell_short


@ON_SQLITE
def test_a_type_of_entity_that_may_not_be_read_is_not_called_missing(verified: Verified) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    verified.receiver.fault("deny", urn="dataProcessInstance", aspect="^$")
    progress = verified.verify()
    assert progress.findings == []
    assert "View Entity Page" in progress.tally.not_readable["dataProcessInstance"]


@ON_SQLITE
def test_datahub_that_is_away_is_waited_for(verified: Verified) -> None:
    run_greeting(verified.scene.instance)
    verified.deliver()
    verified.receiver.refuse()
    seen: list[str] = []

    def show(progress: VerifyProgress) -> None:
        seen.append(progress.trouble)
        if progress.trouble:
            verified.receiver.accept()

    progress = verified.verify(on_progress=show)
    assert any("is not up" in trouble for trouble in seen)
    assert not progress.fell_short


@ON_SQLITE
def test_a_server_that_has_enough_is_asked_again(verified: Verified) -> None:
    run_greeting(verified.scene.instance)
    verified.deliver()
    verified.receiver.fault("status", status=429, retry_after=2, count=2, path="batchGet")
    assert not verified.verify().fell_short
    assert [seconds for seconds in verified.waits if seconds >= 2]


@ON_SQLITE
def test_a_slow_server_gets_smaller_requests(verified: Verified) -> None:
    for _ in range(3):
        run_assets(verified.scene.instance)
    verified.deliver()
    verified.receiver.fault("status", status=504, count=4, path="dataProcessInstance/batchGet")
    assert not verified.verify().fell_short


@ON_SQLITE
def test_runs_that_are_not_delivered_yet_are_counted_and_not_called_missing(
    verified: Verified,
) -> None:
    run_greeting(verified.scene.instance)
    progress = verified.verify()
    assert progress.skipped == {"waiting": 1}
    assert progress.findings == []


@ON_SQLITE
def test_runs_of_excluded_jobs_are_not_expected(scene: Scene, receiver: Receiver) -> None:
    config = Config(job_pattern=Pattern(deny=("greeting",)))
    with delivering(scene, receiver, config) as verified:
        run_greeting(scene.instance)
        verified.deliver()
        progress = verified.verify()
    assert progress.skipped == {"filtered": 1}
    assert not progress.fell_short


@ON_SQLITE
def test_runs_that_nobody_delivered_are_missing_and_brought_by_fix(verified: Verified) -> None:
    with verified.scene.plain() as instance:
        run_greeting(instance)
    progress = verified.verify()
    assert progress.tally.found["missing"] == progress.tally.aspects > 0
    assert not verified.verify(fix=True).fell_short
    assert verified.verify().findings == []


@ON_SQLITE
def test_a_sample_is_as_large_as_it_is_asked_to_be(verified: Verified) -> None:
    for _ in range(5):
        run_greeting(verified.scene.instance)
    verified.deliver()
    progress = verified.verify(sample=2)
    assert (progress.selected, progress.passed) == (2, 2)


@ON_BOTH
def test_a_stopped_one_goes_on_where_it_was(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        run_greeting(verified.scene.instance)
    verified.deliver()
    monkeypatch.setattr("datahub_eventlog.verification.verifier.ENTITIES_AT_ONCE", 4)
    with verified.verification() as running:
        running._on_progress = lambda progress: running.stop() if progress.passed >= 3 else None
        first = running.run()
    assert not first.is_complete
    assert first.fell_short
    run_greeting(verified.scene.instance)
    verified.deliver()
    rest = verified.verify(resume=True)
    assert rest.is_complete
    assert rest.passed == rest.selected >= 6
    assert rest.tally.entities < 14  # an instance for each run and its op, and the job with its op
    # Without --resume, and after one that came to its end, all of it is compared.
    assert verified.verify(resume=True).selected == 7


@ON_SQLITE
def test_events_without_a_run_are_compared(verified: Verified) -> None:
    verified.scene.instance.report_runless_asset_event(dg.AssetMaterialization("orders"))
    verified.deliver()
    assert verified.verify().findings == []
    del verified.receiver.store.series[ORDERS, "operation"]
    assert _places(verified.verify().findings, "missing") == {(ORDERS, "operation")}
    assert not verified.verify(fix=True).fell_short
    assert verified.verify().findings == []


@ON_SQLITE
def test_column_lineage_to_a_column_that_no_schema_has_is_named(verified: Verified) -> None:
    @dg.asset(name="revenue", deps=[orders])
    def dangling() -> Any:
        source = dg.TableColumnDep(dg.AssetKey("orders"), "pricing")
        lineage = dg.TableColumnLineage({"price": [source]})
        return dg.MaterializeResult(metadata={"dagster/column_lineage": lineage})

    dg.materialize([orders, dangling], instance=verified.scene.instance)
    verified.deliver()
    progress = verified.verify()
    assert [(row.dataset, row.column) for row in progress.dangling] == [(ORDERS, "pricing")]
    assert not progress.fell_short


@ON_BOTH
def test_a_killed_fix_is_finished_by_the_next_dispatcher(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_assets(verified.scene.instance)
    verified.deliver()
    before = verified.receiver.state()
    del verified.receiver.store.versioned[ORDERS, "datasetProperties"]

    class Killed(BaseException):
        pass

    with verified.verification(fix=True) as running:

        def die(*_: Any) -> None:
            raise Killed

        monkeypatch.setattr(running._dispatcher, "deliver_until_done", die)
        with pytest.raises(Killed):
            running.run()
    verified.deliver()
    assert verified.receiver.state() == before


@ON_SQLITE
def test_a_run_that_is_too_large_is_compared_in_parts(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datahub_eventlog.verification.verifier.MOST_COLLECTED", 10)
    run_assets(verified.scene.instance)
    verified.deliver()
    assert verified.verify().findings == []
    before = verified.receiver.state()
    for place in [(ORDERS, "datasetProperties"), (JOB, "dataFlowInfo"), (REVENUE, "status")]:
        verified.receiver.store.versioned.pop(place, None)
    assert verified.verify(fix=True).fixed == 2
    assert verified.receiver.state() == before


@ON_SQLITE
def test_few_requests_are_made(verified: Verified) -> None:
    for _ in range(40):
        run_greeting(verified.scene.instance)
    verified.deliver()
    progress = verified.verify()
    assert progress.tally.entities == 82
    assert len(verified.receiver.reads) <= 4


@pytest.fixture
def with_catalog(scene: Scene, receiver: Receiver) -> Iterator[Verified]:
    with delivering(scene, receiver, Config(catalog=CatalogOptions())) as verified:
        _store_catalog(verified, [A, B], loaded=1_700_000_000.0)
        verified.deliver()
        yield verified


A = AssetFacts(("a",), group="g", owners=("team:x",), kinds=("python",), description="The first.")
B = AssetFacts(("b",), deps=(("a",),))


def _store_catalog(verified: Verified, assets: Sequence[AssetFacts], loaded: float) -> None:
    shop = CodeRepository("shop", "__repository__", module="shop.defs")
    part = CatalogPart(shop, assets=tuple(assets))
    verified.scene.ledger.catalogs.store(
        "shop", [encode(part)], loaded, is_whole=True, is_confirmed=True
    )


def _urn_of(key: str) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:dagster,{key},PROD)"


@ON_BOTH
def test_what_code_locations_define_is_compared(with_catalog: Verified) -> None:
    assert with_catalog.verify().findings == []
    before = with_catalog.receiver.state()
    del with_catalog.receiver.store.versioned[_urn_of("a"), "datasetProperties"]
    del with_catalog.receiver.store.versioned[_urn_of("b"), "upstreamLineage"]
    progress = with_catalog.verify()
    assert _places(progress.findings, "missing") == {
        (_urn_of("a"), "datasetProperties"),
        (_urn_of("b"), "upstreamLineage"),
    }
    writes = len(with_catalog.receiver.writes)
    assert not with_catalog.verify(fix=True).fell_short
    assert with_catalog.receiver.state() == before
    sent = [place for each in with_catalog.receiver.writes[writes:] for place in each.proposals]
    assert set(sent) == _places(progress.findings, "missing")


@ON_SQLITE
def test_what_is_not_defined_any_more_is_removed_again_after_a_restore(
    with_catalog: Verified,
) -> None:
    backup = with_catalog.receiver.store.versioned[_urn_of("b"), "status"]
    _store_catalog(with_catalog, [A], loaded=1_700_000_100.0)
    with_catalog.deliver()
    assert with_catalog.receiver.value(_urn_of("b"), "status") == {"removed": True}
    assert with_catalog.verify().findings == []
    # Somebody wants it back: that is no fault.
    _put(with_catalog.receiver, _urn_of("b"), "status", backup)
    assert with_catalog.verify().findings == []
    # It is back since DataHub was restored: that is one.
    _put(with_catalog.receiver, _urn_of("b"), "status", backup, lastObserved=1_700_000_000_000)
    progress = with_catalog.verify(fix=True)
    assert _places(progress.findings, "differs") == {(_urn_of("b"), "status")}
    assert not progress.fell_short
    assert with_catalog.receiver.value(_urn_of("b"), "status") == {"removed": True}


@contextmanager
def _worker(scene: Scene, config: Config, metrics_port: int) -> Iterator[None]:
    reference = instance_ref(scene.instance)
    assert reference is not None
    worker = Worker(config, lambda: opened(reference), metrics_port=metrics_port)
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield
    worker.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()


@ON_BOTH
def test_a_sample_is_verified_in_the_background_and_mended(
    scene: Scene, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datahub_eventlog.verification.verifier.INDEX_WAITS_SECONDS", (0.05,))
    config = Config(
        target=RestTarget(receiver.url),
        verify=VerifyOptions(sample=5, interval=timedelta(seconds=0.1)),
        poll_interval=timedelta(seconds=0.05),
    )
    run_assets(scene.instance)
    port = free_port()
    with _worker(scene, config, port):
        receiver.wait_for(lambda: receiver.aspect(ORDERS, "datasetProperties"), DEADLINE)
        receiver.wait_for(lambda: any("batchGet" in each.path for each in receiver.reads), DEADLINE)
        sent = receiver.store.versioned.pop((ORDERS, "datasetProperties"))
        receiver.wait_for(lambda: receiver.aspect(ORDERS, "datasetProperties") == sent, DEADLINE)
        shown = figures(port)
    assert shown["datahub_eventlog_differing_total"] >= 1
    assert shown["datahub_eventlog_verified_total"] > 60


@ON_SQLITE
def test_only_one_dispatcher_takes_a_turn(scene: Scene) -> None:
    upkeep, hour = scene.ledger.upkeep, timedelta(hours=1)
    assert upkeep.may_begin("verify", hour)
    assert not upkeep.may_begin("verify", hour)
    assert upkeep.may_begin("verify", timedelta(0))


def test_what_reads_is_not_loaded_where_nothing_is_verified() -> None:
    code = "import sys, datahub_eventlog.dispatcher; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "datahub_eventlog.dispatcher.worker" in loaded.stdout.split()
    reading = {"datahub_eventlog.sinks.reading", "datahub.emitter.rest_emitter"}
    assert reading.isdisjoint(loaded.stdout.split())


@ON_SQLITE
def test_nothing_is_verified_in_the_background_unless_asked_for(
    scene: Scene, receiver: Receiver
) -> None:
    config = Config(target=RestTarget(receiver.url), poll_interval=timedelta(seconds=0.05))
    run_greeting(scene.instance)
    with _worker(scene, config, free_port()):
        eventually(lambda: scene.counts().get("delivered"), "the run is delivered")
        assert not [each for each in threading.enumerate() if each.name.endswith("-verify")]
    assert not receiver.reads
