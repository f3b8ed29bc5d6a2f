"""`datahub-eventlog check`: what is set up, and what to do where it isn't."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.markup import escape

from datahub_eventlog.checks import check_instance
from datahub_eventlog.cli.output import examples, print_json


@click.command(epilog=examples("check", "check --json"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(*, as_json: bool) -> None:
    """Check that everything is set up right.

    Prints a line for each thing, with what to do where it is wrong; the exit code is 1 then.
    """
    findings = check_instance()
    if as_json:
        print_json(
            [
                {"ok": finding.is_ok, "what": finding.what, "text": finding.text}
                for finding in findings
            ]
        )
    else:
        console = Console()
        for finding in findings:
            mark = "[green]ok    [/green]" if finding.is_ok else "[red]FAILED[/red]"
            text = f"{mark} {escape(finding.what)}: {escape(finding.text)}"
            console.print(text, soft_wrap=True, highlight=False)
    sys.exit(0 if all(finding.is_ok for finding in findings) else 1)
