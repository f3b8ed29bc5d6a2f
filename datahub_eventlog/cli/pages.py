"""What the commands print: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from datahub_eventlog.ledger import Status
from datahub_eventlog.sinks import Finding

LONG = 120.0
"""Seconds: a run that is due for longer is not just waiting for its turn."""
SHOWN = 20
"""Parked runs, and rejected proposals, that people are shown."""


def findings(console: Console, found: Sequence[Finding]) -> None:
    """One line each: what was looked at, and how it is."""
    for each in found:
        mark = "[green]ok    [/green]" if each.is_ok else "[red]FAILED[/red]"
        text = f"{mark} {escape(each.what)}: {escape(each.text)}"
        console.print(text, soft_wrap=True, highlight=False)


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as `check --json` has it."""
    return {"ok": finding.is_ok, "what": finding.what, "text": finding.text}


def status_json(status: Status) -> dict[str, Any]:
    """The status as `status --json` has it; all seven counts are always there."""
    return {
        "clock_ahead_seconds": status.ahead.seconds if status.ahead else None,
        "runs": dict(status.runs),
        "oldest_pending_seconds": status.oldest_pending_seconds,
        "rejected": [
            {"run_id": each.run_id, "urn": each.urn, "aspect": each.aspect, "reason": each.reason}
            for each in status.rejected
        ],
        "parked": [{"run_id": each.run_id, "error": each.error} for each in status.parked],
        "dispatchers": [
            {
                "host": each.host,
                "pid": each.pid,
                "version": each.version,
                "last_seen_seconds": each.last_seen_seconds,
            }
            for each in status.dispatchers
        ],
    }


def status(console: Console, status: Status) -> None:
    """The status for people: fits into 80 columns, and addresses stay in one piece."""
    console.print("[bold]Runs[/bold]")
    for name, number in status.runs.items():
        console.print(f"  {name:<10}{number:>8}  {_remark(name, status)}".rstrip(), highlight=False)
    if status.ahead:
        console.print()
        console.print("[yellow]A clock is wrong, or was[/yellow]")
        _paragraph(console, f"{status.ahead}.")
    _dispatchers(console, status)
    _parked(console, status)
    _rejected(console, status)


def _remark(state: str, status: Status) -> str:
    oldest = status.oldest_pending_seconds
    if state == "pending" and oldest:
        return f"the oldest has been due for {duration(oldest)}"
    if state == "delivered":
        return f"{status.delivered_last_minute} in the last minute"
    return ""


def duration(seconds: float) -> str:
    """So many seconds in words, with two units at most."""
    units = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))
    rest, words = max(0, round(seconds)), []
    for name, length in units:
        number, rest = divmod(rest, length)
        if number:
            words.append(f"{number} {name}{'s' if name == 'day' and number > 1 else ''}")
    return " ".join(words[:2]) or "0 s"


def _dispatchers(console: Console, status: Status) -> None:
    if not status.dispatchers:
        console.print()
        console.print("[yellow]No dispatcher is alive[/yellow]: start dagster-daemon or a worker.")
        return
    _title(console, "Dispatchers", len(status.dispatchers))
    for each in status.dispatchers:
        seen = f"version {each.version}, seen {duration(each.last_seen_seconds)} ago"
        _line(console, f"  {each.host}:{each.pid}  {seen}")
    if (status.oldest_pending_seconds or 0) > LONG:
        console.print("[yellow]Runs have been due for long[/yellow], though somebody could deliver")
        console.print("them: `datahub-eventlog check` tells whether DataHub can be reached.")


def _parked(console: Console, status: Status) -> None:
    if not status.parked:
        return
    number = status.runs.get("parked", len(status.parked))
    _title(console, "Parked", number, "`datahub-eventlog retry` tries again")
    for each in status.parked[:SHOWN]:
        _line(console, f"  {each.run_id}")
        _paragraph(console, each.error)
    _rest(console, number)


def _rejected(console: Console, status: Status) -> None:
    if not status.rejected:
        return
    _title(console, "Rejected", len(status.rejected), "`datahub-eventlog retry` sends it again")
    for each in status.rejected[:SHOWN]:
        _line(console, f"  {each.urn}")
        _line(console, f"    {each.aspect}, run {each.run_id or 'none'}")
        _paragraph(console, each.reason)
    _rest(console, len(status.rejected))


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


def _rest(console: Console, number: int) -> None:
    if number > SHOWN:
        console.print(f"  and {number - SHOWN} more: see `status --json`", highlight=False)
