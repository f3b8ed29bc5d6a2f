"""What the commands print: for people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datahub_eventlog.ledger import Status
from datahub_eventlog.sinks import Finding
from datahub_eventlog.values import Problem, Proposal


def findings(console: Console, found: Sequence[Finding]) -> None:
    """One line each: what was looked at, and how it is."""
    for each in found:
        mark = "[green]ok    [/green]" if each.is_ok else "[red]FAILED[/red]"
        console.print(f"{mark} {escape(each.what)}: {escape(each.text)}", soft_wrap=True)


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as `check --json` has it."""
    return {"ok": finding.is_ok, "what": finding.what, "text": finding.text}


def status_json(status: Status) -> dict[str, Any]:
    """The status as `status --json` has it; all seven counts are always there."""
    return {
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
    """The status for people."""
    runs = Table("state", "runs", title="Runs", title_justify="left")
    for name, number in status.runs.items():
        runs.add_row(name, str(number))
    console.print(runs)
    if status.oldest_pending_seconds:
        console.print(f"The oldest has been due for {status.oldest_pending_seconds:.0f} s.")
    _dispatchers(console, status)
    _parked(console, status)
    _rejected(console, status)


def _dispatchers(console: Console, status: Status) -> None:
    if not status.dispatchers:
        console.print("[yellow]No dispatcher is alive[/yellow]: start dagster-daemon or a worker.")
        return
    table = Table("host", "pid", "version", "seen", title="Dispatchers", title_justify="left")
    for each in status.dispatchers:
        seen = f"{each.last_seen_seconds:.0f} s ago"
        table.add_row(each.host, str(each.pid), each.version, seen)
    console.print(table)


def _parked(console: Console, status: Status) -> None:
    if status.parked:
        table = Table("run", "error", title="Parked (see: retry)", title_justify="left")
        for each in status.parked:
            table.add_row(each.run_id, escape(each.error))
        console.print(table)


def _rejected(console: Console, status: Status) -> None:
    if status.rejected:
        table = Table("run", "urn", "aspect", "reason", title="Rejected (see: retry)")
        for each in status.rejected:
            table.add_row(each.run_id, escape(each.urn), each.aspect, escape(each.reason))
        console.print(table)


def item_json(item: Proposal | Problem) -> dict[str, Any]:
    """A proposal as a file for `datahub ingest mcps` has it, or a problem."""
    if isinstance(item, Problem):
        return {"problem": item.reason, "entityUrn": item.urn, "aspectName": item.aspect}
    return {
        "entityType": item.entity_type,
        "entityUrn": item.urn,
        "changeType": item.change.value,
        "aspectName": item.aspect,
        "aspect": {"json": json.loads(item.body)},
    }


def items(console: Console, found: Sequence[Proposal | Problem]) -> None:
    """The proposals for people: entity by entity."""
    urn = ""
    for item in found:
        if item.urn != urn:
            urn = item.urn
            console.print(f"[bold]{escape(urn)}[/bold]", soft_wrap=True)
        if isinstance(item, Problem):
            console.print(f"  [red]left out[/red] {item.aspect}: {escape(item.reason)}")
        else:
            text = f"  {item.change.value.lower()} {item.aspect} {item.body}"
            console.print(escape(text), soft_wrap=True)
