"""`datahub-eventlog explain`: why an asset is linked to its datasets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from datahub_eventlog.cli.lines import Lines
from datahub_eventlog.operations import Operations
from datahub_eventlog.values import AssetKey

if TYPE_CHECKING:
    from datahub_eventlog.translate.explain import Explanation, Related, Verdict

EXAMPLES = """
\b
Examples:
  datahub-eventlog explain sales/orders
  datahub-eventlog explain sales/orders --json
"""

_STYLES = {"found": "green", "lost": "dim", "not found": "dim", "no dataset": "yellow"}


def asset_key(_context: click.Context, _parameter: click.Parameter, value: str) -> AssetKey:
    """The parts of a key as the UI shows it."""
    key = tuple(part.strip() for part in value.split("/"))
    if not all(key):
        raise click.BadParameter(f"{value!r}: expected parts joined by /, as in sales/orders")
    return key


@click.command(epilog=EXAMPLES)
@click.argument("asset", callback=asset_key)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(asset: AssetKey, *, as_json: bool) -> None:
    """Tell which table an asset is linked to, and what says so.

    Also what it is made of. As of its newest materialisation, by the same rules that deliver it.
    ASSET is a key as the UI shows it, its parts joined by /.
    """
    with Operations.on_home() as operations:
        found = operations.explain(asset)
    if as_json:
        click.echo(json.dumps(explanation_json(found), indent=2))
    else:
        show(Lines(Console()), found)


def explanation_json(found: Explanation) -> dict[str, Any]:
    """The explanation as `explain --json` has it; all names are always there."""
    return {
        "asset": "/".join(found.key),
        "urn": found.urn,
        "run_id": found.run_id or None,
        "time": found.time,
        "partition": found.partition,
        "definition_known": found.is_defined,
        "dataset": found.dataset,
        "siblings": list(found.siblings),
        "evidence": [_verdict_json(each) for each in found.verdicts],
        "upstreams": [{"urn": each.urn, "sources": [*each.sources]} for each in found.upstreams],
        "downstreams": [
            {"urn": each.urn, "sources": [*each.sources]} for each in found.downstreams
        ],
        "columns": {
            name: [{"dataset": dataset, "column": column} for dataset, column in columns]
            for name, columns in found.columns.items()
        },
        "op": {"inputs": sorted(found.op.inputs), "outputs": sorted(found.op.outputs)},
        "remarks": list(found.remarks),
    }


def _verdict_json(verdict: Verdict) -> dict[str, str | None]:
    return {
        "source": verdict.source,
        "state": verdict.state,
        "found": verdict.found,
        "urn": verdict.urn,
        "reason": verdict.reason,
    }


def show(lines: Lines, found: Explanation) -> None:
    """The explanation for people."""
    lines.title("/".join(found.key))
    lines.whole(found.urn)
    lines.paragraph(_occasion(found), indent=2)
    _show_verdicts(lines, found.verdicts)
    lines.title("Its table" if found.dataset else "No table is known to be this asset")
    if found.dataset:
        lines.whole(found.dataset)
        said = "sibling of the asset" if found.siblings else "not connected as a sibling"
        lines.paragraph(said, indent=4, style="dim")
    _show_related(lines, "Made of", found.upstreams)
    _show_related(lines, "Makes", found.downstreams)
    _show_op(lines, found)
    _show_columns(lines, found)
    if found.remarks:
        lines.title("Remarks")
    for each in found.remarks:
        lines.paragraph(each, indent=2, style="yellow")


def _occasion(found: Explanation) -> str:
    moment = datetime.fromtimestamp(found.time, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    run = f"in run {found.run_id}" if found.run_id else "outside of any run"
    partition = f", partition {found.partition}" if found.partition else ""
    dbt = ", by dbt" if found.is_of_dbt else ""
    return f"materialised {moment} UTC {run}{partition}{dbt}"


def _show_verdicts(lines: Lines, verdicts: Iterable[Verdict]) -> None:
    lines.title("What names its table, the strongest first")
    for each in verdicts:
        style = _STYLES.get(each.state, "red")
        if each.state == "not found":
            lines.pair(each.state, f"{each.source}: {each.reason}", style=style, width=12)
            continue
        lines.pair(each.state, each.source, style=style, width=12)
        for text in filter(None, (each.found, each.reason)):
            lines.paragraph(text, indent=14, style="" if text is each.found else "dim")
        if each.urn:
            lines.whole(each.urn, indent=14)


def _show_related(lines: Lines, title: str, found: Iterable[Related]) -> None:
    related = list(found)
    if related:
        lines.title(title)
    for each in related:
        lines.whole(each.urn)
        lines.paragraph(", ".join(each.sources), indent=4, style="dim")


def _show_op(lines: Lines, found: Explanation) -> None:
    """What only the op is linked to: without it, the asset alone is explained."""
    for title, urns in (
        ("Its op also reads", found.op.inputs),
        ("Its op also writes", found.op.outputs),
    ):
        if urns:
            lines.title(title)
        for urn in sorted(urns):
            lines.whole(urn)


def _show_columns(lines: Lines, found: Explanation) -> None:
    if found.columns:
        lines.title("Columns")
    for name, columns in found.columns.items():
        for dataset, column in columns:
            lines.pair(name, f"from {column}", width=20)
            lines.whole(dataset, indent=22)
