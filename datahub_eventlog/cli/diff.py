"""`datahub-eventlog diff`: what differs between two catalogues."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from datahub_eventlog import error_text
from datahub_eventlog.cli.output import Lines, examples, print_json
from datahub_eventlog.config import Config, RestTarget, read
from datahub_eventlog.errors import ConfigurationError, DataHubEventLogError
from datahub_eventlog.operations import Operations

if TYPE_CHECKING:
    from datahub.ingestion.graph.client import DataHubGraph

    from datahub_eventlog.catalog.difference import Difference
    from datahub_eventlog.catalog.document import Catalogue
    from datahub_eventlog.catalog.entries import Entry
    from datahub_eventlog.catalog.impact import Impacts

DATAHUB = "datahub"
STDIN = "-"
NO_DATAHUB = (
    "no DataHub is configured here: set DATAHUB_GMS_URL, and DATAHUB_GMS_TOKEN if it asks for a"
    " token, or DAGSTER_HOME"
)
HELD_REMARK = (
    "DataHub was asked about the assets of HEAD only: assets that are gone from the code, jobs,"
    " checks and column lineage are not compared"
)
STYLES = {"+": "green", "-": "red", "~": "yellow"}


@dataclass(frozen=True)
class Outcome:
    """What is printed."""

    difference: Difference
    impacts: Impacts
    remarks: tuple[str, ...] = ()


@click.command(
    epilog=examples(
        "diff base.json head.json",
        "diff base.json head.json --format markdown --fail-on breaking",
        "diff datahub head.json --no-impact",
    )
)
@click.argument("base")
@click.argument("head")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="markdown is for the comment of a pull request.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["breaking", "any"]),
    help="Exit with 1 if there is a breaking change, or any.",
)
@click.option("--no-impact", is_flag=True, help="Don't ask DataHub what stands downstream.")
def diff(base: str, head: str, *, form: str, fail_on: str | None, no_impact: bool) -> None:
    """Compare two catalogues: assets, columns, lineage, checks, jobs and their schedules.

    BASE and HEAD are files that `catalog --json` has made, or - for standard input. BASE may also
    be the word datahub: what DataHub holds of the assets of HEAD. Removed assets and columns,
    columns of another type and assets in another table are breaking changes; for what is removed,
    DataHub is asked what stands downstream.
    """
    outcome = compare(base, head, asks_impact=not no_impact)
    if form == "json":
        from datahub_eventlog.cli.diff_json import outcome_json

        print_json(outcome_json(outcome))
    elif form == "markdown":
        from datahub_eventlog.cli.diff_markdown import markdown

        click.echo(markdown(outcome))
    else:
        print_outcome(Lines(Console()), outcome)
    is_failure = bool(outcome.difference.breaking) or (
        fail_on == "any" and not outcome.difference.is_empty
    )
    sys.exit(1 if fail_on and is_failure else 0)


def compare(base: str, head: str, *, asks_impact: bool) -> Outcome:
    """Read both, compare them, and ask DataHub if it is needed.

    Raises `DataHubEventLogError` if one can't be read.
    """
    from datahub_eventlog.catalog.difference import difference
    from datahub_eventlog.catalog.held import held
    from datahub_eventlog.catalog.impact import Impacts, impacts_of

    if head == DATAHUB or base == head == STDIN:
        raise click.UsageError("only BASE can be datahub, and only one of the two can be -")
    after = _read(head)
    remarks: tuple[str, ...] = ()
    if base == DATAHUB:
        found = difference(held(after, _graph()), after)
        remarks = (HELD_REMARK,)
    else:
        found = difference(_read(base), after)
    impacts = Impacts()
    if asks_impact and any(item.is_removal for item in found.breaking):
        try:
            impacts = impacts_of(found, _graph())
        except DataHubEventLogError as error:
            reason = error_text.without_secrets(str(error))
            impacts = Impacts(trouble=f"What stands downstream is not known: {reason}")
    return Outcome(found, impacts, remarks)


def _read(name: str) -> Catalogue:
    from datahub_eventlog.catalog.document import HOW_TO_MAKE, parse

    if name == STDIN:
        return parse(sys.stdin.buffer.read(), "the standard input")
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - as the shell opens it
            return parse(file.read(), name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{name} can't be read ({reason}): {HOW_TO_MAKE}") from error


def _graph() -> DataHubGraph:
    """DataHub's own client; raises `ConfigurationError` if no DataHub is configured."""
    target = _config().target
    if not isinstance(target, RestTarget):
        raise ConfigurationError(NO_DATAHUB)
    from datahub_eventlog.sinks.rest import graph

    try:
        return graph(target)
    except DataHubEventLogError:
        raise
    except Exception as error:
        text = f"DataHub could not be asked: {error_text.describe(error)}"
        raise DataHubEventLogError(text) from error


def _config() -> Config:
    """The instance's configuration; without an instance, that of the environment."""
    if os.environ.get("DAGSTER_HOME"):
        with Operations.on_home() as operations:
            return operations.config
    # A secret that is not set is an empty variable for GitHub.
    if not os.environ.get("DATAHUB_GMS_URL"):
        return read({}).strict()
    block: dict[str, Any] = {"server": {"env": "DATAHUB_GMS_URL"}}
    if os.environ.get("DATAHUB_GMS_TOKEN"):
        block["token"] = {"env": "DATAHUB_GMS_TOKEN"}
    return read({"datahub_client_config": block}).strict()


# ---------------------------------------------------------------------------------------- the text


def print_outcome(lines: Lines, outcome: Outcome) -> None:
    """The difference as text."""
    from datahub_eventlog.catalog.entries import breaking_line, entries, headline

    found = outcome.difference
    style = "bold red" if found.breaking else "bold"
    suffix = f"; {breaking_line(found)}" if found.breaking else ""
    lines.title(f"{headline(found)}{suffix}", style)
    for entry in entries(found, outcome.impacts):
        _print_entry(lines, entry)
    remarks = filter(None, (*outcome.remarks, outcome.impacts.trouble))
    _print_remarks(lines, remarks)


def _print_entry(lines: Lines, entry: Entry) -> None:
    from datahub_eventlog.catalog.entries import dependent_text

    lines.title(f"{entry.mark} {entry.kind} {entry.name}", STYLES[entry.mark])
    for detail in entry.details:
        breaking = " (breaking)" if detail.is_breaking else ""
        values = f": {' → '.join(detail.values)}" if detail.values else ""
        subject = f" {detail.subject}" if detail.subject else ""
        text = f"{detail.mark} {detail.what}{subject}{values}{breaking}"
        lines.paragraph(text, indent=2, style="red" if detail.is_breaking else "")
    for impact in entry.impacts:
        of = f"column {impact.column}" if impact.column else "the asset"
        count = len(impact.dependents) + impact.more
        lines.paragraph(f"downstream of {of}: {count or 'nothing'}", indent=2)
        for dependent in impact.dependents:
            lines.paragraph(dependent_text(dependent), indent=4, style="dim")
        if impact.more:
            lines.paragraph(f"and {impact.more} more", indent=4, style="dim")


def _print_remarks(lines: Lines, remarks: Iterable[str]) -> None:
    for index, remark in enumerate(remarks):
        if index == 0:
            lines.title("Remarks")
        lines.paragraph(remark, indent=2, style="yellow")
