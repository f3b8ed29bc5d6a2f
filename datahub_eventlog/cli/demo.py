"""`datahub-eventlog demo`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from datahub_eventlog.cli.output import examples


@click.command(epilog=examples("demo", "demo --home /tmp/demo"))
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("datahub-eventlog-demo"),
    show_default=True,
    help="The DAGSTER_HOME to create.",
)
def demo(home: Path) -> None:
    """Run a few real jobs and show what arrives in DataHub."""
    from datahub_eventlog.demo import run

    run(home.absolute(), Console())
