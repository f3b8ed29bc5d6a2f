"""`datahub-eventlog backfill`, and its progress bar."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from types import FrameType
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from datahub_eventlog.operations import Operations
from datahub_eventlog.source import statuses
from datahub_eventlog.source.history import Selection
from datahub_eventlog.values import AssetKey

if TYPE_CHECKING:
    from datahub_eventlog import backfill as history

EXAMPLES = """
\b
Examples:
  datahub-eventlog backfill --dry-run
  datahub-eventlog backfill --since 2026-01-01 --status SUCCESS
  datahub-eventlog backfill --job daily_sales --rate 60
  datahub-eventlog backfill --asset sales/orders --again
"""


def _keys(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[AssetKey, ...]:
    """The parts of keys as the UI shows them, such as `sales/orders`."""
    keys = tuple(tuple(part.strip() for part in each.split("/")) for each in values)
    for value, key in zip(values, keys, strict=True):
        if not all(key):
            raise click.BadParameter(f"{value}: expected parts joined by /, as in sales/orders")
    return keys


class Rate(ProgressColumn):
    """Runs a second, of all that have passed."""

    def render(self, task: Task) -> Text:
        """The rate of the last seconds."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} runs/s", style="progress.data.speed")


@click.command(epilog=EXAMPLES)
@click.option("--since", type=click.DateTime(), help="Runs created at this time (UTC) or later.")
@click.option("--until", type=click.DateTime(), help="Runs created before this time (UTC).")
@click.option("--job", "jobs", multiple=True, metavar="NAME", help="Runs of this job; repeatable.")
@click.option(
    "--asset",
    "assets",
    multiple=True,
    metavar="KEY",
    callback=_keys,
    help="Runs that materialised or observed this asset; repeatable.",
)
@click.option(
    "--status",
    "states",
    multiple=True,
    type=click.Choice(statuses(), case_sensitive=False),
    help="Runs with this status; repeatable.",
)
@click.option("--again", is_flag=True, help="Also what was delivered already, all of it.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="At most N runs a minute.",
)
@click.option("--dry-run", is_flag=True, help="Only count; deliver nothing.")
def backfill(  # noqa: PLR0913 - one for each option
    *,
    since: datetime | None,
    until: datetime | None,
    jobs: tuple[str, ...],
    assets: tuple[AssetKey, ...],
    states: tuple[str, ...],
    again: bool,
    rate: float | None,
    dry_run: bool,
) -> None:
    """Bring the instance's history into DataHub, the newest run first.

    What was delivered is left out, so the same command goes on where Ctrl-C stopped it. Runs keep
    their original times, and never overwrite what is newer. Live runs come first.
    """
    selection = Selection(_utc(since), _utc(until), jobs, assets, states)
    from datahub_eventlog.backfill import Orders

    orders = Orders(selection, again=again, rate=rate)
    with Operations.on_home() as operations:
        if dry_run:
            _print_count(operations.count(orders))
            return
        progress = _deliver(operations, orders)
    _print_end(progress)
    sys.exit(1 if progress.fell_short else 0)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=timezone.utc)


def _deliver(operations: Operations, orders: history.Orders) -> history.Progress:
    # The bar has the screen; what goes wrong is said at its end, and in `status`.
    logging.getLogger("dagster.datahub_eventlog").setLevel(logging.CRITICAL)
    with (
        _shown() as show,
        operations.backfill(orders, show) as running,
        _stoppable(running),
    ):
        return running.run()


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[history.Progress], None]]:
    """A progress bar; nothing where the output is not a terminal."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("[yellow]{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(progress: history.Progress) -> None:
            bar.update(
                task,
                total=progress.selected,
                completed=progress.passed,
                description=progress.trouble,
            )

        yield show


@contextlib.contextmanager
def _stoppable(running: history.Backfill) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM lets the run at hand come to its end; the second doesn't."""

    def stop(number: int, _frame: FrameType | None) -> None:
        running.stop()
        signal.signal(number, before[number])

    ends: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, stop) for each in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_count(found: history.Progress) -> None:
    click.echo(f"{found.selected} runs selected")
    click.echo(f"{found.skipped} delivered already")
    click.echo(f"{found.selected - found.skipped} to be delivered")


def _print_end(progress: history.Progress) -> None:
    for state, number in sorted(progress.outcomes.items()):
        click.echo(f"{number} {WORDS.get(state, state)}")
    click.echo(f"{progress.skipped} were delivered already")
    if not progress.is_complete:
        click.echo(
            f"Stopped after {progress.passed} of {progress.selected} runs;"
            " the same command goes on from there."
        )
    if progress.outcomes["parked"]:
        click.echo("See `datahub-eventlog status` for the parked ones.")


WORDS = {
    "leased": "being delivered elsewhere",
    "pending": "still going on, or to be tried again by a dispatcher",
}
"""What can't be said by the state's name alone."""
