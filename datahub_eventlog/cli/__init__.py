"""The command line: one module a command, each of which parses, calls one operation and prints.

Exit codes: 0 done, 1 something fell short, 2 wrong usage.
"""

from __future__ import annotations

import click

from datahub_eventlog import error_text, extras
from datahub_eventlog._version import __version__
from datahub_eventlog.cli import (
    backfill,
    catalog,
    check,
    ddl,
    demo,
    diff,
    explain,
    preview,
    retry,
    show,
    status,
    verify,
    worker,
)
from datahub_eventlog.cli.output import examples
from datahub_eventlog.errors import DataHubEventLogError


class Commands(click.Group):
    """Turns our errors into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except DataHubEventLogError as error:
            raise click.ClickException(error_text.without_secrets(str(error))) from error
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            if package not in extras.DELIVERY:
                raise
            text = f"{package} is not installed here: {extras.command()}"
            raise click.ClickException(text) from error


@click.group(
    cls=Commands,
    epilog=examples("check", "status --json", "worker --until-empty", "explain sales/orders"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def main() -> None:
    """Watch and operate the delivery of Dagster's metadata to DataHub.

    The Dagster instance is that of DAGSTER_HOME, which must be set.
    """


main.add_command(backfill.backfill)
main.add_command(catalog.catalog)
main.add_command(check.check)
main.add_command(ddl.ddl)
main.add_command(demo.demo)
main.add_command(diff.diff)
main.add_command(explain.explain)
main.add_command(preview.preview)
main.add_command(retry.retry)
main.add_command(show.show)
main.add_command(status.status)
main.add_command(verify.verify)
main.add_command(worker.worker)
