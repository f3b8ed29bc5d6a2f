"""What one run costs: requests, proposals, seconds until it is complete, and what an event adds.

    python -m benchmarks.main_path [--runs 5]

Runs on SQLite and on a Postgres server of its own, against a receiver in this process and a
`datahub-eventlog worker` in another. Times on a busy machine mean little: compare the columns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from deployment import Deployment, eventually, postgres_yaml, sqlite_yaml
from postgres import PostgresServer
from receiver import Receiver
from rich.console import Console
from rich.table import Table
from statements import statements

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context


@dg.op
def extract() -> int:
    return 1


@dg.op
def load(number: int) -> None:
    pass


@dg.job
def two_ops() -> None:
    load(extract())


def _asset(number: int) -> dg.AssetsDefinition:
    @dg.asset(name=f"asset_{number:02}", deps=[f"asset_{number - 1:02}"] if number else [])
    def asset() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"dagster/row_count": number})

    return asset


ASSETS = [_asset(number) for number in range(20)]


def _execute(name: str, instance: dg.DagsterInstance) -> str:
    if name == "two ops":
        return two_ops.execute_in_process(instance=instance).run_id
    return dg.materialize(ASSETS, instance=instance).run_id


def _end(instance: dg.DagsterInstance, run_id: str) -> float:
    kinds = {dg.DagsterEventType.RUN_SUCCESS}
    (record,) = instance.get_records_for_run(run_id, of_type=kinds).records
    return record.event_log_entry.timestamp


def _is_complete(receiver: Receiver, run_id: str) -> bool:
    events = receiver.timeseries(urns.run_urn(run_id, Context()), "dataProcessInstanceRunEvent")
    return any(event["status"] == "COMPLETE" for event in events)


def _deliveries(deployment: Deployment, receiver: Receiver, runs: int, table: Table) -> None:
    with deployment.instance() as instance:
        deployment.start("datahub_eventlog.cli", "worker", log="worker.log")
        eventually(lambda: deployment.status()["dispatchers"], "a worker is alive")
        for name in ("two ops", "20 assets"):
            for number in range(runs):
                before = len(receiver.writes)
                run_id = _execute(name, instance)
                end = _end(instance, run_id)
                eventually(partial(_is_complete, receiver, run_id), "it arrives")
                seconds = time.time() - end
                sent = receiver.writes[before:]
                kind = "first" if number == 0 else "again"
                proposals = sum(len(write.proposals) for write in sent)
                table.add_row(
                    deployment.home.name,
                    name,
                    kind,
                    str(len(sent)),
                    str(proposals),
                    f"{seconds:.2f}",
                )
    deployment.stop()


def _storing(deployment: Deployment, plain: Mapping[str, Any], runs: int, table: Table) -> None:
    """The same job with and without us, in turn: statements and milliseconds a stored event."""
    figures: dict[str, list[tuple[int, int, float]]] = {"plain": [], "ours": []}
    other = Deployment(deployment.home.with_name(deployment.home.name + "-plain"), plain)
    with deployment.instance() as ours, other.instance() as theirs:
        for instance in (ours, theirs):
            _execute("20 assets", instance)
        for _ in range(runs):
            for name, instance in (("ours", ours), ("plain", theirs)):
                with statements() as seen:
                    start = time.perf_counter()
                    run_id = _execute("20 assets", instance)
                    seconds = time.perf_counter() - start
                    number = len(seen)
                events = len(instance.all_logs(run_id))
                figures[name].append((events, number, seconds))
    events = figures["ours"][0][0]
    added = statistics.median(
        one[1] - two[1] for one, two in zip(figures["ours"], figures["plain"], strict=True)
    )
    ratios = [one[2] / two[2] for one, two in zip(figures["ours"], figures["plain"], strict=True)]
    slower = [one[2] - two[2] for one, two in zip(figures["ours"], figures["plain"], strict=True)]
    milliseconds = 1000 * statistics.median(slower) / events
    table.add_row(
        deployment.home.name,
        str(events),
        f"{added:g}",
        f"{added / events:.3f}",
        f"{milliseconds:.3f}",
        f"{statistics.median(ratios):.3f}",
    )


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    delivered = Table("storage", "job", "run", "requests", "proposals", "seconds to complete")
    stored = Table(
        "storage", "events a run", "statements added", "an event", "ms added an event", "ratio"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = stack.enter_context(Receiver())
        server = stack.enter_context(PostgresServer())
        url, other = (stack.enter_context(server.database()) for _ in range(2))
        datahub = {
            "datahub_client_config": {"server": receiver.url},
            "dispatch": "worker",
            "poll_interval": 1,
        }
        for name, storage, plain in (
            ("sqlite", sqlite_yaml(datahub), {}),
            (
                "postgres",
                postgres_yaml(url, datahub),
                {"storage": {"postgres": {"postgres_url": other}}},
            ),
        ):
            deployment = Deployment(folder / name, storage)
            stack.callback(deployment.stop)
            _deliveries(deployment, receiver, runs, delivered)
            _storing(deployment, plain, runs, stored)
    Console().print(delivered)
    Console().print(stored)


if __name__ == "__main__":
    main()
