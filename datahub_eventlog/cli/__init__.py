"""The command line: parses, calls one method, prints.

Exit codes: 0 done, 1 something fell short, 2 wrong usage.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from datahub_eventlog import error_text, extras
from datahub_eventlog._version import __version__
from datahub_eventlog.checks import check_instance
from datahub_eventlog.cli import pages, showing
from datahub_eventlog.cli.backfilling import backfill
from datahub_eventlog.cli.explaining import explain
from datahub_eventlog.cli.previewing import preview
from datahub_eventlog.errors import DataHubEventLogError
from datahub_eventlog.operations import Operations

EXAMPLES = """
\b
Examples:
  datahub-eventlog check
  datahub-eventlog status --json
  datahub-eventlog worker --until-empty
  datahub-eventlog explain sales/orders
"""
RUN = "5f0f5e1c-1111-4222-8333-0123456789ab"


def _examples(*commands: str) -> str:
    """What stands at the end of a command's help."""
    lines = "".join(f"  datahub-eventlog {each}\n" for each in commands)
    return f"\b\nExamples:\n{lines}"


class Commands(click.Group):
    """Turns our errors into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except DataHubEventLogError as error:
            raise click.ClickException(error_text.without_secrets(str(error))) from error
        except ModuleNotFoundError as error:
            name = str(error.name).partition(".")[0]
            if name not in extras.DELIVERY:
                raise
            text = f"{name} is not installed here: {extras.command()}"
            raise click.ClickException(text) from error


@click.group(
    cls=Commands, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__)
def main() -> None:
    """Watch and operate the delivery of Dagster's metadata to DataHub.

    The Dagster instance is found as `dagster` finds it: DAGSTER_HOME must be set.
    """


main.add_command(backfill)
main.add_command(preview)
main.add_command(explain)


@contextlib.contextmanager
def _operations() -> Iterator[Operations]:
    """The operations on the instance of DAGSTER_HOME; its dispatcher is not started here."""
    with Operations.on_home() as operations:
        yield operations


@main.command(epilog=_examples("check", "check --json"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(*, as_json: bool) -> None:
    """Tell whether all is well, and what to do where it isn't."""
    findings = check_instance()
    if as_json:
        click.echo(json.dumps([pages.finding_json(each) for each in findings], indent=2))
    else:
        pages.findings(Console(), findings)
    sys.exit(0 if all(each.is_ok for each in findings) else 1)


@main.command(epilog=_examples("status", "status --json"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(*, as_json: bool) -> None:
    """Show what has been captured and what has been delivered."""
    with _operations() as operations:
        found = operations.status()
    if as_json:
        click.echo(json.dumps(pages.status_json(found), indent=2))
    else:
        pages.status(Console(), found)


@main.command(epilog=_examples("worker", "worker --until-empty", "worker --metrics-port 9000"))
@click.option("--until-empty", is_flag=True, help="Stop when nothing is due.")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Serve figures for Prometheus at /metrics of this port.",
)
def worker(*, until_empty: bool, metrics_port: int | None) -> None:
    """Deliver, until SIGTERM or Ctrl-C; as many of these as you like, on any machine."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # Dagster asks it for each database
    with _operations() as operations:
        delivering = operations.worker(metrics_port=metrics_port)

        def stop(_signal: int, _frame: FrameType | None) -> None:
            delivering.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        delivering.serve(until_empty=until_empty)


@main.command(epilog=_examples(f"show {RUN}", f"show {RUN} --json > run.json"))
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, as files have it.")
def show(run_id: str, *, as_json: bool) -> None:
    """Print what would be sent of a run; nothing is."""
    with _operations() as operations:
        items = operations.preview(run_id)
    if as_json:
        click.echo(json.dumps([showing.item_json(each) for each in items], indent=2))
    else:
        showing.items(Console(), items)


@main.command(epilog=_examples(f"retry {RUN}", "retry --all"))
@click.argument("run_ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All parked runs and rejected proposals.")
def retry(run_ids: tuple[str, ...], *, everything: bool) -> None:
    """Deliver parked runs, and runs with rejected proposals, again."""
    if bool(run_ids) is everything:
        raise click.UsageError("name the runs, or say --all")
    with _operations() as operations:
        number = operations.retry(None if everything else run_ids)
    click.echo(f"{number} run{'' if number == 1 else 's'} will be delivered again")
    sys.exit(0 if number or everything else 1)


@main.command(epilog=_examples("ddl > ledger.sql"))
def ddl() -> None:
    """Print the statements that make the ledger's tables, for an administrator."""
    with _operations() as operations:
        click.echo(operations.ddl())


@main.command(epilog=_examples("demo", "demo --home /tmp/demo"))
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("datahub-eventlog-demo"),
    show_default=True,
    help="The DAGSTER_HOME to make.",
)
def demo(home: Path) -> None:
    """Run a few real jobs and show what arrives."""
    from datahub_eventlog.demo import run

    run(home.absolute(), Console())
