"""`datahub-eventlog worker`: a process that delivers."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

import click

from datahub_eventlog.cli.output import examples
from datahub_eventlog.dagster_internals import workspace_options
from datahub_eventlog.operations import Operations


@click.command(
    epilog=examples(
        "worker", "worker -w workspace.yaml", "worker --until-empty", "worker --metrics-port 9000"
    )
)
@click.option("--until-empty", is_flag=True, help="Exit when no run is due.")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Serve metrics for Prometheus at /metrics on this port.",
)
@workspace_options
def worker(*, until_empty: bool, metrics_port: int | None, **workspace: Any) -> None:
    """Deliver runs until SIGTERM or Ctrl-C.

    Any number of workers can run, on any machine that reaches the event log's database. Given a
    workspace, a worker also delivers what its code locations define.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # Dagster asks it for each database
    with (
        Operations.on_home() as operations,
        operations.loading_workspace(workspace) as find_workspace,
    ):
        running = operations.worker(metrics_port=metrics_port, find_workspace=find_workspace)

        def stop(_signal: int, _frame: FrameType | None) -> None:
            running.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        running.serve(until_empty=until_empty)
