"""`datahub-eventlog catalog`: sends what code locations define, whether or not it ever ran."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from datahub_eventlog.cli.output import examples
from datahub_eventlog.cli.signals import stopped_by_signals
from datahub_eventlog.dagster_internals import workspace_options
from datahub_eventlog.operations import Operations

if TYPE_CHECKING:
    from datahub_eventlog.catalog_delivery import CatalogProgress


@click.command(
    epilog=examples(
        "catalog -w workspace.yaml",
        "catalog -m my_project.definitions --dry-run",
        "catalog -m my_project.definitions --json > head.json",
        "catalog -w workspace.yaml --allow-removal",
    )
)
@workspace_options
@click.option("--dry-run", is_flag=True, help="Only count what would be sent; send nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the definitions for `diff`; send nothing."
)
@click.option(
    "--allow-removal",
    is_flag=True,
    help="Send everything, and remove what is gone even if it is more than"
    " `catalog: fail_safe_threshold`.",
)
def catalog(*, dry_run: bool, as_json: bool, allow_removal: bool, **workspace: Any) -> None:
    """Send everything that code locations define: jobs, ops, assets, checks, schedules.

    The daemon does the same by itself whenever a code location is loaded. The code locations are
    named as for `dagster dev`; without any, they are those of workspace.yaml or pyproject.toml in
    the current directory.
    """
    with Operations.on_home() as operations:
        if as_json:
            click.echo(json.dumps(operations.catalog_document(workspace), indent=1))
            return
        if dry_run:
            progress = operations.count_catalog(workspace)
            _print_counts(progress)
        else:
            with (
                _progress_bar() as show,
                operations.catalog(workspace, show) as (running, states),
                stopped_by_signals(running),
            ):
                progress = running.run(states, is_confirmed=allow_removal)
            _print_outcome(progress)
    sys.exit(1 if progress.fell_short else 0)


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[CatalogProgress], None]]:
    """A progress bar; nothing where the output is not a terminal."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[sent]} proposals"),
        TextColumn("[yellow]{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, sent=0)
        shown = ""

        def show(progress: CatalogProgress) -> None:
            nonlocal shown
            bar.update(
                task,
                total=progress.total,
                completed=len(progress.locations),
                description=progress.trouble,
                sent=progress.sent,
            )
            if progress.trouble != shown and not console.is_terminal:
                console.print(f"Waiting: {progress.trouble}" if progress.trouble else "Going on")
            shown = progress.trouble

        yield show


def _print_counts(progress: CatalogProgress) -> None:
    for location in progress.locations:
        if location.error:
            click.echo(f"{location.name} could not be loaded: {location.error}")
            continue
        counts = sorted(location.entities.items())
        numbers = ", ".join(f"{number} {name}" for name, number in counts)
        click.echo(f"{location.name}: {numbers or 'nothing'}")
        for problem in location.problems:
            click.echo(f"  {problem.urn} {problem.aspect}: left out: {problem.reason}")


def _print_outcome(progress: CatalogProgress) -> None:
    for location in progress.locations:
        if location.error:
            click.echo(f"{location.name} could not be loaded: {location.error}")
        elif location.is_new or location.state != "delivered":
            click.echo(f"{location.name}: {OUTCOMES.get(location.state or '', location.state)}")
        else:
            click.echo(f"{location.name}: nothing has changed")
    click.echo(f"{progress.sent} proposals sent")
    if progress.trouble:
        click.echo(f"DataHub does not take them: {progress.trouble}. They wait in the ledger.")


OUTCOMES = {
    "leased": "being delivered by another process",
    "pending": "waits in the ledger",
    "parked": "parked; `datahub-eventlog status` shows why",
}
"""For the states whose names are not enough."""
