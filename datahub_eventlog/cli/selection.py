"""The options that select runs of the history, and the progress over them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any, Protocol, TypeVar

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

from datahub_eventlog.cli.output import asset_key
from datahub_eventlog.values import AssetKey

Command = TypeVar("Command", bound=Callable[..., Any])


def _keys(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[AssetKey, ...]:
    return tuple(asset_key(context, parameter, value) for value in values)


def _utc(
    _context: click.Context, _parameter: click.Parameter, moment: datetime | None
) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=timezone.utc)


def selection_options(command: Command) -> Command:
    """The options `since`, `until`, `jobs` and `assets` of a command, as `Selection` has them."""
    moment = click.DateTime()
    options = (
        click.option(
            "--since", type=moment, callback=_utc, help="Runs created at this time (UTC) or later."
        ),
        click.option(
            "--until", type=moment, callback=_utc, help="Runs created before this time (UTC)."
        ),
        click.option(
            "--job", "jobs", multiple=True, metavar="NAME", help="Runs of this job; repeatable."
        ),
        click.option(
            "--asset",
            "assets",
            multiple=True,
            metavar="KEY",
            callback=_keys,
            help="Runs that materialized or observed this asset; repeatable.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


rate_option = click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="At most N runs a minute.",
)


class RunsProgress(Protocol):
    """How far something has come with the selected runs."""

    selected: int
    passed: int
    trouble: str


class Rate(ProgressColumn):
    """Runs a second, those that are skipped among them."""

    def render(self, task: Task) -> Text:
        """The rate over the last seconds."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} runs/s", style="progress.data.speed")


@contextlib.contextmanager
def runs_bar() -> Iterator[Callable[[RunsProgress], None]]:
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

        def show(progress: RunsProgress) -> None:
            bar.update(
                task,
                total=progress.selected,
                completed=progress.passed,
                description=progress.trouble,
            )

        yield show
