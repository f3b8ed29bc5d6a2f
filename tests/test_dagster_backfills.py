"""Dagster's backfills from its records to DataHub, with real runs, a real ledger and dispatcher."""

import json
import time
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from backfills import CREATED, PARTITIONS, asset_backfill, ended, job_backfill
from scenes import Scene
from sqlalchemy import select, text, update
from verified import Verified

from datahub_eventlog.backfill import Backfill as HistoryBackfill
from datahub_eventlog.backfill import Orders
from datahub_eventlog.config import Config, HealthOptions
from datahub_eventlog.ledger import backfill_of, backfill_row
from datahub_eventlog.ledger.tables import runs
from datahub_eventlog.operations import Operations
from datahub_eventlog.source.history import Selection
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import Proposal

BACKFILL = "kxmzqwvb"
ROW = backfill_row(BACKFILL)
URN = urns.backfill_urn(BACKFILL, Context())
ON_SQLITE = pytest.mark.parametrize("scene", ["sqlite"], indirect=True)
PROPERTIES = "dataProcessInstanceProperties"
EVENT = "dataProcessInstanceRunEvent"


@dg.op
def work(context: dg.OpExecutionContext) -> None:
    if context.run.tags.get("fails"):
        raise ValueError("no")


@dg.job
def nightly() -> None:
    work()


def execute(scene: Scene, partition: str = "a", **tags: str) -> str:
    """A run of the backfill for that partition."""
    own = {"dagster/backfill": BACKFILL, "dagster/partition": partition, **tags}
    own = {name: value for name, value in own.items() if value}
    return nightly.execute_in_process(
        instance=scene.instance, tags=own, raise_on_error=False
    ).run_id


def deliver(scene: Scene, **options: Any) -> list[Proposal]:
    """Deliver what is due, and what waits for its time; returns what was sent."""
    before = len(scene.sink.proposals)
    dispatcher = scene.dispatcher(Config(**options))
    while dispatcher.run_once():
        pass
    wake = update(runs).where(runs.c.run_id.like("backfill:%"), runs.c.due.is_not(None))
    past = wake.values(due=time.time() - 60)
    scene.ledger.database.run(lambda connection: connection.execute(past))
    while dispatcher.run_once():
        pass
    return scene.sink.proposals[before:]


def bodies(proposals: list[Proposal], aspect: str, urn: str = URN) -> list[Any]:
    return [
        json.loads(proposal.body)
        for proposal in proposals
        if (proposal.urn, proposal.aspect) == (urn, aspect)
    ]


def facts(proposals: list[Proposal]) -> dict[str, str]:
    """The backfill's properties, as they were sent last."""
    properties: dict[str, str] = bodies(proposals, PROPERTIES)[-1]["customProperties"]
    return properties


def outcome(proposals: list[Proposal]) -> list[tuple[str, str | None]]:
    """The backfill's run events: the statuses and results."""
    return sorted(
        {
            (body["status"], (body.get("result") or {}).get("type"))
            for body in bodies(proposals, EVENT)
        },
        reverse=True,
    )


def test_the_runs_of_a_backfill_are_below_it_until_dagster_says_that_it_has_ended(
    scene: Scene,
) -> None:
    record = job_backfill(BACKFILL, "nightly", ["a", "b", "c"], title="Again")
    scene.instance.add_backfill(record)
    run_ids = [execute(scene, "a"), execute(scene, "b", fails="yes")]

    sent = deliver(scene)

    for run_id in run_ids:
        (relations,) = bodies(sent, "dataProcessInstanceRelationships", urn_of(run_id))
        assert relations["parentInstance"] == URN
    assert outcome(sent) == [("STARTED", None)]
    counts = {
        "partitions": "3",
        "partitions_succeeded": "1",
        "partitions_failed": "1",
        "runs": "2",
        "status": "REQUESTED",
        "job": "nightly",
        "title": "Again",
        "tags.team": "shop",
    }
    assert counts.items() <= facts(sent).items()
    (relations, *_) = bodies(sent, "dataProcessInstanceRelationships")
    run = scene.source.run(run_ids[0])
    assert run is not None
    assert relations["parentTemplate"] == urns.flow_urn(run, Context())
    assert scene.ledger.runs.state(ROW) == "pending"
    assert scene.counts() == {"delivered": 2}

    scene.instance.update_backfill(ended(record, "COMPLETED_FAILED"))
    later = deliver(scene)

    assert outcome(later) == [("STARTED", None), ("COMPLETE", "FAILURE")]
    assert facts(later)["end_time"] == str(CREATED + 60)
    assert scene.ledger.runs.state(ROW) == "delivered"
    assert deliver(scene) == []


def urn_of(run_id: str) -> str:
    return urns.run_urn(run_id, Context())


def test_to_deliver_it_again_changes_nothing(scene: Scene) -> None:
    scene.instance.add_backfill(ended(job_backfill(BACKFILL, "nightly", ["a"])))
    run_id = execute(scene)
    first = deliver(scene)
    assert scene.ledger.runs.state(ROW) == "delivered"

    scene.ledger.runs.redeliver([run_id, ROW], backfilled=False)
    again = deliver(scene)

    def about(proposals: list[Proposal]) -> set[tuple[str, str]]:
        return {(each.aspect, each.body) for each in proposals if each.urn == URN}

    assert about(first) == about(again)


def test_a_run_that_is_executed_again_corrects_the_counts(scene: Scene) -> None:
    scene.instance.add_backfill(ended(job_backfill(BACKFILL, "nightly", ["a"])))
    execute(scene, fails="yes")
    assert facts(deliver(scene))["partitions_failed"] == "1"

    execute(scene)
    corrected = facts(deliver(scene))

    assert (corrected["partitions_failed"], corrected["partitions_succeeded"]) == ("0", "1")
    assert corrected["runs"] == "2"


@ON_SQLITE
def test_a_run_asks_for_its_backfill_when_it_is_seen_first_and_when_it_ends(scene: Scene) -> None:
    scene.instance.add_backfill(ended(job_backfill(BACKFILL, "nightly", ["a"])))
    run = scene.instance.create_run_for_job(nightly, tags={"dagster/backfill": BACKFILL})
    scene.ledger.runs.touch(run.run_id)
    asked = []
    for _ in range(3):
        touches = touches_of(scene)
        scene.dispatcher().run_once()
        asked.append(touches_of(scene) - touches)
        scene.ledger.runs.touch(run.run_id)
    assert asked == [1, 0, 0]
    scene.instance.report_run_failed(run)
    for _ in range(2):
        touches = touches_of(scene)
        scene.dispatcher().run_once()
        asked.append(touches_of(scene) - touches)
    assert asked[3:] == [1, 0]


def touches_of(scene: Scene) -> int:
    query = select(runs.c.touches).where(runs.c.run_id == ROW)
    return scene.ledger.database.run(lambda connection: connection.execute(query).scalar()) or 0


@ON_SQLITE
def test_partitions_of_assets_are_counted_as_dagster_counts_them(scene: Scene) -> None:
    scene.instance.add_backfill(asset_backfill(BACKFILL, made=["a"], failed=["b"]))
    execute(scene)

    stated = facts(deliver(scene))

    assert (stated["partitions"], stated["assets"]) == ("3", "orders")
    assert (stated["partitions_succeeded"], stated["partitions_failed"]) == ("1", "1")
    assert "job" not in stated


@ON_SQLITE
def test_partitions_of_runs_for_several_each_are_counted(scene: Scene) -> None:
    names = [*PARTITIONS.get_partition_keys(), "d"]
    scene.instance.add_backfill(job_backfill(BACKFILL, "nightly", names))
    ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    execute(scene, "", **dict(zip(ends, ("a", "b"), strict=True)))
    execute(scene, "", fails="yes", **dict(zip(ends, ("c", "c"), strict=True)))

    stated = facts(deliver(scene))

    assert (stated["partitions"], stated["runs"]) == ("4", "2")
    assert (stated["partitions_succeeded"], stated["partitions_failed"]) == ("2", "1")


def delete(scene: Scene) -> None:
    with scene.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(text("DELETE FROM bulk_actions"))


def break_record(scene: Scene) -> None:
    with scene.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(text("UPDATE bulk_actions SET body = 'no record'"))


@ON_SQLITE
@pytest.mark.parametrize("spoil", [delete, break_record])
def test_a_backfill_whose_record_is_lost_costs_only_what_the_record_says(
    scene: Scene, spoil: Any
) -> None:
    scene.instance.add_backfill(job_backfill(BACKFILL, "nightly", ["a"]))
    spoil(scene)
    run_id = execute(scene)

    sent = deliver(scene)

    (relations,) = bodies(sent, "dataProcessInstanceRelationships", urn_of(run_id))
    assert relations["parentInstance"] == URN
    assert facts(sent) == {"backfill_id": BACKFILL, "runs": "1", "trigger": "manual"}
    assert outcome(sent) == []
    assert scene.ledger.runs.state(ROW) == "gone"
    assert scene.counts() == {"delivered": 1}


def test_a_record_that_is_deleted_later_takes_nothing_back(scene: Scene) -> None:
    scene.instance.add_backfill(job_backfill(BACKFILL, "nightly", ["a"]))
    execute(scene)
    assert scene.ledger.runs.state(ROW) is None
    deliver(scene)
    assert scene.ledger.runs.state(ROW) == "pending"
    delete(scene)

    assert bodies(deliver(scene), PROPERTIES) == []
    assert scene.ledger.runs.state(ROW) == "gone"


@ON_SQLITE
def test_a_backfill_that_never_ends_is_given_up_when_its_runs_are_long_over(scene: Scene) -> None:
    scene.instance.add_backfill(job_backfill(BACKFILL, "nightly", ["a"]))
    execute(scene)
    deliver(scene)
    old = update(runs).where(runs.c.run_id == ROW).values(last_touch=time.time() - 3600)
    scene.ledger.database.run(lambda connection: connection.execute(old))

    deliver(scene, retention=timedelta(minutes=5))

    assert scene.ledger.runs.state(ROW) == "delivered"


def test_the_row_of_a_backfill_is_in_no_count_and_goes_after_retention(scene: Scene) -> None:
    scene.instance.add_backfill(ended(job_backfill(BACKFILL, "nightly", ["a"])))
    execute(scene)
    deliver(scene)
    status = scene.ledger.reports.status()
    assert sum(status.runs.values()) == 1
    assert status.delivered_last_minute == 1
    assert scene.ledger.runs.backfills() == [BACKFILL]
    assert backfill_of(ROW) == BACKFILL
    assert backfill_of("5f0f5e1c-1111-4222-8333-0123456789ab") is None

    old = update(runs).where(runs.c.run_id == ROW).values(settled=time.time() - 3600)
    scene.ledger.database.run(lambda connection: connection.execute(old))
    assert scene.ledger.upkeep.sweep(timedelta(hours=2)) == 0
    assert scene.ledger.runs.backfills() == [BACKFILL]
    assert scene.ledger.upkeep.sweep(timedelta(minutes=30)) == 0
    assert scene.ledger.runs.backfills() == []


@ON_SQLITE
@pytest.mark.parametrize("tag", ["", "x" * 250])
def test_a_tag_that_is_no_id_of_a_backfill_costs_nothing(scene: Scene, tag: str) -> None:
    nightly.execute_in_process(instance=scene.instance, tags={"dagster/backfill": tag})
    deliver(scene)
    assert scene.counts() == {"delivered": 1}
    assert scene.ledger.runs.backfills() == []


@ON_SQLITE
def test_show_has_the_backfill_of_a_run(scene: Scene) -> None:
    scene.instance.add_backfill(job_backfill(BACKFILL, "nightly", ["a"]))
    run_id = execute(scene)
    items = Operations(scene.instance).preview(run_id)
    shown = [item for item in items if isinstance(item, Proposal)]
    assert facts(shown)["status"] == "REQUESTED"
    assert scene.sink.proposals == []


@ON_SQLITE
def test_a_backfill_that_nobody_knows_is_none(scene: Scene) -> None:
    assert scene.source.backfill("unknown") is None


@ON_SQLITE
def test_the_history_of_an_instance_brings_its_backfills(scene: Scene) -> None:
    with scene.plain() as plain:
        plain.add_backfill(ended(job_backfill(BACKFILL, "nightly", ["a"])))
        nightly.execute_in_process(instance=plain, tags={"dagster/backfill": BACKFILL})
    config = Config()

    history = HistoryBackfill(config, scene.parts(config), Orders(Selection()), lambda _: None)
    assert history.run().is_complete

    assert outcome(scene.sink.proposals) == [("STARTED", None), ("COMPLETE", "SUCCESS")]
    assert scene.ledger.runs.state(ROW) == "delivered"


def test_a_backfill_that_datahub_lost_is_found_and_sent_again(verified: Verified) -> None:
    verified.scene.instance.add_backfill(ended(job_backfill(BACKFILL, "nightly", ["a"])))
    execute(verified.scene)
    verified.deliver()
    assert verified.verify().findings == []
    del verified.receiver.store.versioned[URN, PROPERTIES]

    (finding,) = verified.verify().findings
    assert (finding.kind, finding.urn, finding.run_id) == ("missing", URN, ROW)
    assert verified.verify(fix=True).fixed == 1
    assert verified.verify().findings == []


@ON_SQLITE
def test_a_backfill_that_goes_on_is_not_compared_yet(verified: Verified) -> None:
    verified.scene.instance.add_backfill(job_backfill(BACKFILL, "nightly", ["a"]))
    execute(verified.scene)
    verified.deliver()
    progress = verified.verify()
    assert progress.findings == []
    assert progress.skipped["waiting"] == 1


@ON_SQLITE
def test_backfills_can_be_left_out(scene: Scene) -> None:
    scene.instance.add_backfill(ended(job_backfill(BACKFILL, "nightly", ["a"])))
    run_id = execute(scene)
    scene.ledger.runs.touch(ROW)
    sent = deliver(scene, health=HealthOptions(backfills=False))
    assert not [proposal for proposal in sent if proposal.urn == URN]
    run = urns.run_urn(run_id, Context())
    (relations,) = bodies(sent, "dataProcessInstanceRelationships", run)
    assert "parentInstance" not in relations
    assert scene.ledger.runs.state(ROW) == "filtered"
