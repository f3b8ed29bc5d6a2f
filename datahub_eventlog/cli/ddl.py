"""`datahub-eventlog ddl`: the ledger's tables as SQL."""

from __future__ import annotations

import click

from datahub_eventlog.cli.output import examples
from datahub_eventlog.operations import Operations


@click.command(epilog=examples("ddl > ledger.sql"))
def ddl() -> None:
    """Print the SQL that creates the ledger's tables.

    For an administrator to run, where the role of Dagster may not create tables.
    """
    with Operations.on_home() as operations:
        click.echo(operations.ddl())
