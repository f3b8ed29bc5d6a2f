"""`datahub-eventlog retry`: parked runs and rejected proposals once more."""

from __future__ import annotations

import sys

import click

from datahub_eventlog.cli.output import EXAMPLE_RUN, examples
from datahub_eventlog.operations import Operations


@click.command(epilog=examples(f"retry {EXAMPLE_RUN}", "retry --all"))
@click.argument("run_ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All parked runs and rejected proposals.")
def retry(run_ids: tuple[str, ...], *, everything: bool) -> None:
    """Deliver parked runs, and runs with rejected proposals, again."""
    if bool(run_ids) is everything:
        raise click.UsageError("name the runs, or use --all")
    with Operations.on_home() as operations:
        number = operations.retry(None if everything else run_ids)
    click.echo(f"{number} run{'' if number == 1 else 's'} will be delivered again")
    sys.exit(0 if number or everything else 1)
