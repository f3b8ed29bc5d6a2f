"""`datahub-eventlog backfill`: delivers the history."""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from datahub_eventlog.cli.output import examples
from datahub_eventlog.cli.selection import rate_option, runs_bar, selection_options
from datahub_eventlog.cli.signals import stopped_by_signals
from datahub_eventlog.log import LOGGER_NAME
from datahub_eventlog.operations import Operations
from datahub_eventlog.source import statuses
from datahub_eventlog.source.history import Selection
from datahub_eventlog.values import AssetKey

if TYPE_CHECKING:
    from datahub_eventlog import backfill as history


@click.command(
    epilog=examples(
        "backfill --dry-run",
        "backfill --since 2026-01-01 --status SUCCESS",
        "backfill --job daily_sales --rate 60",
        "backfill --asset sales/orders --again",
    )
)
@selection_options
@click.option(
    "--status",
    "states",
    multiple=True,
    type=click.Choice(statuses(), case_sensitive=False),
    help="Runs with this status; repeatable.",
)
@click.option(
    "--again", is_flag=True, help="Include runs that were delivered already; send everything again."
)
@rate_option
@click.option("--dry-run", is_flag=True, help="Only count the runs; deliver nothing.")
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
    """Deliver the instance's history to DataHub, the newest run first.

    Runs that were delivered are skipped, so the same command continues where Ctrl-C stopped it.
    Runs keep their original times and never overwrite newer metadata. Live runs come first.
    """
    from datahub_eventlog.backfill import Orders

    selection = Selection(since, until, jobs, assets, states)
    orders = Orders(selection, again=again, rate=rate)
    with Operations.on_home() as operations:
        if dry_run:
            count = operations.count(orders)
            click.echo(f"{count.selected} runs selected")
            click.echo(f"{count.skipped} delivered already")
            click.echo(f"{count.selected - count.skipped} to be delivered")
            return
        # The bar has the screen; errors are shown at its end, and by `status`.
        logging.getLogger(LOGGER_NAME).setLevel(logging.CRITICAL)
        with (
            runs_bar() as show,
            operations.backfill(orders, show) as running,
            stopped_by_signals(running),
        ):
            progress = running.run()
    _print_summary(progress)
    sys.exit(1 if progress.fell_short else 0)


def _print_summary(progress: history.Progress) -> None:
    for state, number in sorted(progress.outcomes.items()):
        click.echo(f"{number} {STATE_TEXTS.get(state, state)}")
    click.echo(f"{progress.skipped} were delivered already")
    if not progress.is_complete:
        click.echo(
            f"Stopped after {progress.passed} of {progress.selected} runs;"
            " the same command continues from there."
        )
    if progress.outcomes["parked"]:
        click.echo("`datahub-eventlog status` shows why runs are parked.")


STATE_TEXTS = {
    "leased": "being delivered by another process",
    "pending": "still running, or to be tried again by a dispatcher",
}
"""For the states whose names are not enough."""
