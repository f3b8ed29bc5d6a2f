"""The same proposals arrive, whichever way they are sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from kafka_mock import TOPIC, Brokers, registry
from ledgers import facts_of
from logs import log, materialized, ran, succeeded
from proposals import RUN_ID, mixture
from receiver import Receiver

from datahub_eventlog.config import Config, FileTarget, KafkaTarget, RestTarget, Target
from datahub_eventlog.demo import jobs
from datahub_eventlog.dispatcher import Dispatcher, Opened, assemble
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.sinks import connect
from datahub_eventlog.testing import capturing, delivered
from datahub_eventlog.translate import Context, translate
from datahub_eventlog.translate.limits import LONGEST_PROPERTY, LONGEST_TEXT, within_limits
from datahub_eventlog.values import Metadatum, Proposal

WRITE = "/aspects?action=ingestProposalBatch"


def over_http() -> Receiver:
    with Receiver() as receiver:
        sink = connect(RestTarget(receiver.url))
        assert sink.emit(mixture()) == []
        sink.close()
    return receiver


def over_kafka() -> Receiver:
    brokers = Brokers(TOPIC)
    with registry() as schemas:
        sink = connect(KafkaTarget(brokers.bootstrap, schemas.url))
        assert sink.emit(mixture()) == []
        sink.close()
    arrived = consumed(brokers, len(mixture()))
    brokers.end()
    return ingested(arrived)


def consumed(brokers: Brokers, count: int) -> list[dict[str, Any]]:
    """What is on the topic, as DataHub's HTTP endpoint takes it."""
    arrived = brokers.proposals(count)
    for each in arrived:
        each["aspect"]["value"] = each["aspect"]["value"].decode()
    return arrived


def over_files(folder: Path) -> Receiver:
    sink = connect(FileTarget(str(folder)))
    assert sink.emit(mixture()) == []
    sink.close()
    lines = [
        each
        for name in (RUN_ID, "runless")
        for each in json.loads((folder / f"{name}.json").read_text())
    ]
    for line in lines:
        if "json" in line["aspect"]:
            value = json.dumps(line["aspect"]["json"])
            line["aspect"] = {"value": value, "contentType": "application/json"}
    return ingested(lines)


def ingested(batch: list[dict[str, Any]]) -> Receiver:
    with Receiver() as receiver:
        answer = receiver.answer("POST", WRITE, {}, json.dumps({"proposals": batch}).encode())
        assert answer.status == 200, answer.body
    return receiver


def test_all_sinks_bring_about_the_same_state(tmp_path: Path) -> None:
    http = over_http()
    assert len(http.entities()) == 4
    assert over_files(tmp_path).state() == http.state()
    assert over_kafka().state() == http.state()


# ---------------------------------------------------------------- a run, through the whole path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with capturing(tmp_path_factory.mktemp("home")) as instance:
        yield instance


@pytest.fixture(scope="module")
def run_id(home: dg.DagsterInstance) -> str:
    assets = [jobs.raw_orders, jobs.daily_revenue, jobs.report, jobs.amounts_are_there]
    return dg.materialize(assets, instance=home, partition_key="2026-01-02").run_id


def deliver(instance: dg.DagsterInstance, run_id: str, target: Target, file: Path) -> None:
    """Deliver the run as a dispatcher does, with a ledger that knows of nothing else."""
    facts = facts_of(ledger_of(instance, patience=5), run_id)
    assert facts is not None
    ledger = Ledger.in_file(str(file), patience=5)
    ledger.runs.touch(run_id, definitions=facts)
    # Only GMS knows the columns of tables, so that queries are read without them here.
    config = Config(target=target, enable_asset_query_metadata_parsing=False)
    with assemble(Opened(instance, ledger), config) as parts:
        Dispatcher(config, parts).deliver([run_id])
    assert ledger.reports.status().rejected == ()
    assert ledger.runs.state(run_id) == "delivered"


@pytest.fixture(scope="module")
def over_rest(
    home: dg.DagsterInstance, run_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Receiver:
    file = tmp_path_factory.mktemp("rest") / "ledger"
    with Receiver() as receiver:
        deliver(home, run_id, RestTarget(receiver.url), file)
    return receiver


def test_a_run_says_the_same_over_kafka(
    home: dg.DagsterInstance, run_id: str, over_rest: Receiver, tmp_path: Path
) -> None:
    brokers = Brokers(TOPIC)
    with registry() as schemas:
        deliver(home, run_id, KafkaTarget(brokers.bootstrap, schemas.url), tmp_path / "ledger")
    arrived = consumed(brokers, sum(len(write.proposals) for write in over_rest.writes))
    brokers.end()
    assert len(over_rest.entities()) > 10
    assert ingested(arrived).state() == over_rest.state()


def test_a_run_says_the_same_in_a_file_that_the_datahub_command_brings_to_datahub(
    home: dg.DagsterInstance, run_id: str, over_rest: Receiver, tmp_path: Path
) -> None:
    deliver(home, run_id, FileTarget(str(tmp_path / "files")), tmp_path / "ledger")
    (file,) = (tmp_path / "files").glob("*.json")
    with Receiver() as receiver:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("datahub")), "ingest", "mcps", str(file)],
            env={**os.environ, "DATAHUB_GMS_URL": receiver.url, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert bare(receiver.state()) == bare(over_rest.state())


def bare(value: Any) -> Any:
    """Without the empty fields, which the command adds where an aspect leaves them out."""
    if isinstance(value, dict):
        found = {key: bare(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each not in ({}, [], None)}
    return [bare(each) for each in value] if isinstance(value, list) else value


def test_show_prints_what_is_delivered(
    home: dg.DagsterInstance, run_id: str, over_rest: Receiver
) -> None:
    expected = [(proposal.urn, proposal.aspect) for proposal in delivered(home, run_id).proposals]
    sent = [pair for write in over_rest.writes for pair in write.proposals]
    assert {urn for urn, _ in expected} == {urn for urn, _ in sent}
    assert set(sent) <= set(expected)


# ------------------------------------------------------------------ a run with texts of any length

LONG = 3_000_000


@dg.op
def verbose() -> Iterator[Any]:
    text = "é" * LONG
    yield dg.AssetMaterialization("verbose", text, metadata={"note": text})
    raise dg.Failure("y" * LONG)


@dg.job(executor_def=dg.in_process_executor)
def verbose_job() -> None:
    verbose()


def test_texts_of_any_length_are_delivered_with_what_is_left_out_marked(tmp_path: Path) -> None:
    with capturing(tmp_path) as instance, Receiver() as receiver:
        result = verbose_job.execute_in_process(instance=instance, raise_on_error=False)
        deliver(instance, result.run_id, RestTarget(receiver.url), tmp_path / "ledger")
    (asset,) = (urn for urn in receiver.entities("dataset") if "verbose" in urn)
    found = receiver.aspect(asset, "datasetProperties")
    assert found is not None
    (run, *_) = receiver.entities("dataProcessInstance")
    failure = receiver.aspects(run)["dataProcessInstanceProperties"]["customProperties"]
    texts = (
        (found["description"], LONGEST_TEXT),
        (found["customProperties"]["note"], LONGEST_PROPERTY),
        (failure["failure_message"], LONGEST_PROPERTY),
    )
    for text, most in texts:
        assert most - 10 < len(text) <= most
        assert "more characters are left out" in text


def large_run() -> list[Proposal]:
    """What 200 assets with 3 MB of text each say to DataHub."""
    text = Metadatum("text", "x" * LONG)
    made = [materialized(f"asset_{number}", metadata={"note": text}) for number in range(200)]
    items = translate(log(*succeeded(*ran("make", *made))), Context())
    proposals = [each for each in within_limits(items) if isinstance(each, Proposal)]
    assert sum(proposal.aspect == "datasetProperties" for proposal in proposals) == 200
    return proposals


def test_nothing_is_refused_for_its_size() -> None:
    proposals = large_run()
    with Receiver() as receiver:
        sink = connect(RestTarget(receiver.url))
        assert sink.emit(proposals) == []
        sink.close()
    assert {write.status for write in receiver.writes} == {200}
    brokers = Brokers(TOPIC)
    with registry() as schemas:
        sink = connect(KafkaTarget(brokers.bootstrap, schemas.url))
        assert sink.emit(proposals) == []
        sink.close()
    arrived = brokers.proposals(len(proposals))
    brokers.end()
    assert {each["aspect"]["value"] for each in arrived} == {
        proposal.body.encode() for proposal in proposals
    }
