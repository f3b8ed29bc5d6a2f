"""`datahub-eventlog status`: what was captured, what was delivered, what waits, and why."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from datahub_eventlog.cli.output import examples, print_json
from datahub_eventlog.ledger import Status
from datahub_eventlog.operations import Operations

LONG_DUE_SECONDS = 120.0
"""A run that has been due for longer does not just wait for its turn."""
SHOWN = 20
"""Parked runs, and rejected proposals, that are printed as text."""


@click.command(epilog=examples("status", "status --json"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(*, as_json: bool) -> None:
    """Show what has been captured and what has been delivered."""
    with Operations.on_home() as operations:
        current = operations.status()
    if as_json:
        print_json(status_json(current))
    else:
        print_status(Console(), current)


def status_json(status: Status) -> dict[str, Any]:
    """The status as `status --json` has it; all seven counts are always there."""
    return {
        "clock_ahead_seconds": status.ahead.seconds if status.ahead else None,
        "runs": dict(status.runs),
        "oldest_pending_seconds": status.oldest_pending_seconds,
        "rejected": [
            {"run_id": row.run_id, "urn": row.urn, "aspect": row.aspect, "reason": row.reason}
            for row in status.rejected
        ],
        "parked": [{"run_id": run.run_id, "error": run.error} for run in status.parked],
        "dispatchers": [
            {
                "host": dispatcher.host,
                "pid": dispatcher.pid,
                "version": dispatcher.version,
                "last_seen_seconds": dispatcher.last_seen_seconds,
            }
            for dispatcher in status.dispatchers
        ],
        "removed": [
            {"location": row.location, "urn": row.urn, "time": row.time} for row in status.removed
        ],
        "held_back": [
            {"location": row.location, "entities": row.entities} for row in status.held_back
        ],
    }


def print_status(console: Console, status: Status) -> None:
    """The status for people: fits into 80 columns, and addresses stay in one piece."""
    console.print("[bold]Runs[/bold]")
    for name, number in status.runs.items():
        console.print(f"  {name:<10}{number:>8}  {_remark(name, status)}".rstrip(), highlight=False)
    if status.ahead:
        console.print()
        console.print("[yellow]A clock is wrong, or was wrong[/yellow]")
        _paragraph(console, f"{status.ahead}.")
    _dispatchers(console, status)
    _parked(console, status)
    _rejected(console, status)
    _gone(console, status)


def _remark(state: str, status: Status) -> str:
    oldest = status.oldest_pending_seconds
    if state == "pending" and oldest:
        return f"the oldest has been due for {duration(oldest)}"
    if state == "delivered":
        return f"{status.delivered_last_minute} in the last minute"
    return ""


def _dispatchers(console: Console, status: Status) -> None:
    if not status.dispatchers:
        console.print()
        console.print("[yellow]No dispatcher is alive[/yellow]: start dagster-daemon or a worker.")
        return
    _title(console, "Dispatchers", len(status.dispatchers))
    for dispatcher in status.dispatchers:
        seen = f"seen {duration(dispatcher.last_seen_seconds)} ago"
        name = f"{dispatcher.host}:{dispatcher.pid}"
        _line(console, f"  {name}  version {dispatcher.version}, {seen}")
    if (status.oldest_pending_seconds or 0) > LONG_DUE_SECONDS:
        console.print("[yellow]Runs are late[/yellow] although a dispatcher is alive:")
        console.print("`datahub-eventlog check` shows whether DataHub can be reached.")


def _parked(console: Console, status: Status) -> None:
    if not status.parked:
        return
    number = status.runs.get("parked", len(status.parked))
    _title(console, "Parked", number, "`datahub-eventlog retry` tries again")
    for run in status.parked[:SHOWN]:
        _line(console, f"  {run.run_id}")
        _paragraph(console, run.error)
    _more(console, number)


def _rejected(console: Console, status: Status) -> None:
    if not status.rejected:
        return
    _title(console, "Rejected", len(status.rejected), "`datahub-eventlog retry` sends it again")
    for row in status.rejected[:SHOWN]:
        _line(console, f"  {row.urn}")
        _line(console, f"    {row.aspect}, run {row.run_id or 'none'}")
        _paragraph(console, row.reason)
    _more(console, len(status.rejected))


def _gone(console: Console, status: Status) -> None:
    """What code locations do not define any more."""
    for row in status.held_back:
        console.print()
        console.print(
            "[yellow]Much is gone at once[/yellow], so it is not removed:", highlight=False
        )
        _line(console, f"  {row.entities} entities of code location {row.location}")
        console.print("`datahub-eventlog catalog --allow-removal` removes them.", highlight=False)
    if not status.removed:
        return
    _title(console, "Removed", len(status.removed), "Their definitions are gone")
    for entity in status.removed[:SHOWN]:
        _line(console, f"  {entity.urn}")
        when = datetime.fromtimestamp(entity.time, tz=timezone.utc)
        _line(console, f"    code location {entity.location}, {when:%Y-%m-%d %H:%M} UTC")
    _more(console, len(status.removed))


def _title(console: Console, name: str, number: int, advice: str = "") -> None:
    console.print()
    text = f"[bold]{name}[/bold]: {number}{'. ' if advice else ''}{advice}"
    console.print(text, highlight=False)


def _line(console: Console, text: str) -> None:
    """A line that is never broken, so that it can be copied and searched for."""
    console.print(escape(text), soft_wrap=True, highlight=False)


def _paragraph(console: Console, text: str) -> None:
    """Text that wraps on a terminal, and is one line anywhere else."""
    plain = " ".join(text.split())
    if console.is_terminal:
        console.print(Padding(Text(plain), (0, 0, 0, 4)))
    else:
        _line(console, f"    {plain}")


def _more(console: Console, number: int) -> None:
    if number > SHOWN:
        console.print(f"  and {number - SHOWN} more: see `status --json`", highlight=False)


def duration(seconds: float) -> str:
    """A duration in words, with two units at most."""
    units = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))
    rest, words = max(0, round(seconds)), []
    for name, length in units:
        number, rest = divmod(rest, length)
        if number:
            words.append(f"{number} {name}{'s' if name == 'day' and number > 1 else ''}")
    return " ".join(words[:2]) or "0 s"
