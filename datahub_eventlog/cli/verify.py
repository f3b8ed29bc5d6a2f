"""`datahub-eventlog verify`: whether DataHub shows what Dagster knows."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from datahub_eventlog.cli.output import EXAMPLE_RUN, Lines, examples, print_json
from datahub_eventlog.cli.selection import rate_option, runs_bar, selection_options
from datahub_eventlog.cli.signals import stopped_by_signals
from datahub_eventlog.log import LOGGER_NAME
from datahub_eventlog.operations import Operations
from datahub_eventlog.source.history import Selection
from datahub_eventlog.values import AssetKey, Json

if TYPE_CHECKING:
    from datahub_eventlog.verification.findings import Finding
    from datahub_eventlog.verify import VerifyProgress

SHOWN = 20
"""Findings of a kind that are printed as text."""
LONGEST_VALUE = 200
"""Characters of a value that are printed as text."""
TITLES = {
    "missing": "Missing in DataHub",
    "differs": "Different in DataHub",
    "removed": "Marked as removed by others, and left so",
    "newer": "Of a newer run in DataHub, and left so",
}
SKIPPED = {
    "going on": "going on",
    "waiting": "waiting for delivery",
    "filtered": "left out by the configuration",
    "gone": "deleted",
}


@click.command(
    epilog=examples(
        "verify --since 2026-01-01",
        "verify --sample 100 --json",
        f"verify --run {EXAMPLE_RUN}",
        "verify --since 2026-01-01 --fix",
    )
)
@selection_options
@click.option(
    "--run", "run_ids", multiple=True, metavar="RUN_ID", help="This run only; repeatable."
)
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Only N of the runs, by chance."
)
@click.option("--fix", is_flag=True, help="Send again what is missing or different.")
@click.option("--dry-run", is_flag=True, help="With --fix: only count what would be sent.")
@click.option("--resume", is_flag=True, help="Go on where the same command was stopped.")
@rate_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verify(  # noqa: PLR0913 - one for each option
    *,
    since: datetime | None,
    until: datetime | None,
    jobs: tuple[str, ...],
    assets: tuple[AssetKey, ...],
    run_ids: tuple[str, ...],
    sample: int | None,
    fix: bool,
    dry_run: bool,
    resume: bool,
    rate: float | None,
    as_json: bool,
) -> None:
    """Compare what DataHub holds with Dagster's event log, the newest run first.

    Prints what is missing or different; the exit code is 1 then. What others have added in
    DataHub, such as tags, owners and lineage, is no difference. Nothing is changed without --fix.
    """
    from datahub_eventlog.verify import VerifyOrders

    if dry_run and not fix:
        raise click.UsageError("--dry-run belongs to --fix")
    if sample is not None and resume:
        raise click.UsageError("--sample chooses anew each time, and can't be resumed")
    selection = Selection(since, until, jobs, assets, run_ids=run_ids)
    orders = VerifyOrders(selection, sample, rate, fix=fix and not dry_run, resume=resume)
    # The bar has the screen; what went wrong is shown at its end.
    logging.getLogger(LOGGER_NAME).setLevel(logging.CRITICAL)
    with (
        Operations.on_home() as operations,
        runs_bar() as show,
        operations.verify(orders, show) as running,
        stopped_by_signals(running),
    ):
        progress = running.run()
    if as_json:
        print_json(verify_json(progress))
    else:
        print_progress(Lines(Console()), progress, is_dry_run=dry_run)
    sys.exit(1 if progress.fell_short else 0)


def verify_json(progress: VerifyProgress) -> dict[str, Any]:
    """The result as `verify --json` has it."""
    tally = progress.tally
    return {
        "complete": progress.is_complete,
        "trouble": progress.trouble,
        "runs": {
            "selected": progress.selected,
            "compared": _compared(progress),
            "skipped": dict(progress.skipped),
            "failed": [{"run_id": run_id, "reason": why} for run_id, why in progress.failed],
        },
        "entities": tally.entities,
        "aspects": tally.aspects,
        **{kind: tally.found[kind] for kind in TITLES},
        "fixed": progress.fixed,
        "findings": [_finding_json(finding) for finding in progress.findings],
        "dangling_columns": [
            {"dataset": row.dataset, "column": row.column, "named_by": row.named_by}
            for row in progress.dangling
        ],
        "not_readable": list(tally.not_readable.values()),
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "urn": finding.urn,
        "aspect": finding.aspect,
        "run_id": finding.run_id,
        "detail": finding.detail,
        "fields": [
            {"path": row.path, "ours": row.ours, "theirs": row.theirs} for row in finding.fields
        ],
    }


def _compared(progress: VerifyProgress) -> int:
    return progress.passed - sum(progress.skipped.values()) - len(progress.failed)


def print_progress(lines: Lines, progress: VerifyProgress, *, is_dry_run: bool = False) -> None:
    """The result for people."""
    tally = progress.tally
    lines.title(
        f"{_compared(progress)} runs compared: {tally.entities} entities, {tally.aspects} aspects"
    )
    for reason, number in sorted(progress.skipped.items()):
        lines.whole(f"{number} {SKIPPED[reason]}, not compared")
    for run_id, why in progress.failed[:SHOWN]:
        lines.whole(f"{run_id} could not be compared:", style="red")
        lines.paragraph(why, indent=4)
    for reason in tally.not_readable.values():
        lines.paragraph(f"Not compared: {reason}", indent=2, style="yellow")
    for kind, title in TITLES.items():
        its = [finding for finding in progress.findings if finding.kind == kind]
        if its:
            lines.title(f"{title}: {tally.found[kind]}")
            _print_findings(lines, its, tally.found[kind])
    if progress.dangling:
        lines.title(f"Column lineage to columns that no schema has: {len(progress.dangling)}")
        for row in progress.dangling[:SHOWN]:
            lines.whole(f"{row.column} of {row.dataset}")
            lines.whole(f"named by {row.named_by}", indent=4)
    lines.title(_conclusion(progress, is_dry_run=is_dry_run))


def _print_findings(lines: Lines, findings: Sequence[Finding], number: int) -> None:
    shown = ""
    for finding in sorted(findings[:SHOWN], key=lambda finding: finding.urn):
        if finding.urn != shown:
            lines.whole(finding.urn)
        shown = finding.urn
        source = finding.detail or finding.run_id or "an event without a run"
        lines.whole(f"{finding.aspect}, of {source}", indent=4)
        for row in finding.fields[:SHOWN]:
            lines.paragraph(
                f"{row.path or '/'}: {_shown(row.ours)}; in DataHub: {_shown(row.theirs)}", indent=6
            )
    if number > SHOWN:
        lines.whole(f"and {number - SHOWN} more: see `verify --json`")


def _shown(value: Json) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _conclusion(progress: VerifyProgress, *, is_dry_run: bool) -> str:
    if not progress.is_complete:
        why = f": {progress.trouble}" if progress.trouble else ""
        return (
            f"Stopped after {progress.passed} of {progress.selected} runs{why}."
            " The same command with --resume goes on from there"
        )
    faults, fixed = progress.faults, progress.fixed
    if not faults:
        if fixed:
            return f"{fixed} aspects were sent again, and DataHub has them now"
        return "DataHub has everything that was compared"
    if is_dry_run:
        return f"{faults} aspects would be sent again"
    if fixed:
        return (
            f"{fixed} aspects were sent again; {faults} are still not as sent:"
            " `datahub-eventlog status` shows whether DataHub refuses them"
        )
    return f"{faults} aspects are not as sent: `datahub-eventlog verify --fix` sends them again"
