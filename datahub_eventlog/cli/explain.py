"""`datahub-eventlog explain`: why an asset is linked to its datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from datahub_eventlog.cli.output import Lines, asset_key, examples, print_json
from datahub_eventlog.operations import Operations
from datahub_eventlog.preview.sections import moment
from datahub_eventlog.values import AssetKey

if TYPE_CHECKING:
    from datahub_eventlog.translate.explain import Explanation, Related, Verdict

_STYLES = {"found": "green", "lost": "dim", "not found": "dim", "no dataset": "yellow"}


@click.command(epilog=examples("explain sales/orders", "explain sales/orders --json"))
@click.argument("asset", callback=asset_key)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(asset: AssetKey, *, as_json: bool) -> None:
    """Explain which table an asset is linked to, and why.

    Also shows the asset's upstreams and downstreams, as of its newest materialization, by the
    rules that delivery uses. ASSET is a key as the UI shows it, its parts joined by /.
    """
    with Operations.on_home() as operations:
        explanation = operations.explain(asset)
    if as_json:
        print_json(explanation_json(explanation))
    else:
        print_explanation(Lines(Console()), explanation)


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """The explanation as `explain --json` prints it; every key is always there."""
    return {
        "asset": "/".join(explanation.key),
        "urn": explanation.urn,
        "run_id": explanation.run_id or None,
        "time": explanation.time,
        "partition": explanation.partition,
        "definition_known": explanation.is_defined,
        "dataset": explanation.dataset,
        "siblings": list(explanation.siblings),
        "evidence": list(map(_verdict_json, explanation.verdicts)),
        "upstreams": list(map(_related_json, explanation.upstreams)),
        "downstreams": list(map(_related_json, explanation.downstreams)),
        "columns": {
            name: [{"dataset": dataset, "column": column} for dataset, column in columns]
            for name, columns in explanation.columns.items()
        },
        "op": {"inputs": sorted(explanation.op.inputs), "outputs": sorted(explanation.op.outputs)},
        "remarks": list(explanation.remarks),
    }


def _verdict_json(verdict: Verdict) -> dict[str, str | None]:
    return {
        "source": verdict.source,
        "state": verdict.state,
        "found": verdict.found,
        "urn": verdict.urn,
        "reason": verdict.reason,
    }


def _related_json(dataset: Related) -> dict[str, Any]:
    return {"urn": dataset.urn, "sources": list(dataset.sources)}


def print_explanation(lines: Lines, explanation: Explanation) -> None:
    """The explanation as text."""
    lines.title("/".join(explanation.key))
    lines.whole(explanation.urn)
    lines.paragraph(_occasion(explanation), indent=2)
    _print_verdicts(lines, explanation.verdicts)
    lines.title("Its table" if explanation.dataset else "No table is known to be this asset")
    if explanation.dataset:
        lines.whole(explanation.dataset)
        link = "sibling of the asset" if explanation.siblings else "not connected as a sibling"
        lines.paragraph(link, indent=4, style="dim")
    _print_related(lines, "Upstream", explanation.upstreams)
    _print_related(lines, "Downstream", explanation.downstreams)
    _print_op(lines, explanation)
    _print_columns(lines, explanation)
    if explanation.remarks:
        lines.title("Remarks")
    for remark in explanation.remarks:
        lines.paragraph(remark, indent=2, style="yellow")


def _occasion(explanation: Explanation) -> str:
    run = f"in run {explanation.run_id}" if explanation.run_id else "outside of any run"
    partition = f", partition {explanation.partition}" if explanation.partition else ""
    dbt = ", by dbt" if explanation.is_of_dbt else ""
    return f"materialized {moment(explanation.time * 1000)} UTC {run}{partition}{dbt}"


def _print_verdicts(lines: Lines, verdicts: Sequence[Verdict]) -> None:
    lines.title("What names its table, strongest first")
    for verdict in verdicts:
        style = _STYLES.get(verdict.state, "red")
        if verdict.state == "not found":
            lines.pair(verdict.state, f"{verdict.source}: {verdict.reason}", style=style, width=12)
            continue
        lines.pair(verdict.state, verdict.source, style=style, width=12)
        for text in filter(None, (verdict.found, verdict.reason)):
            lines.paragraph(text, indent=14, style="" if text is verdict.found else "dim")
        if verdict.urn:
            lines.whole(verdict.urn, indent=14)


def _print_related(lines: Lines, title: str, datasets: Sequence[Related]) -> None:
    if datasets:
        lines.title(title)
    for dataset in datasets:
        lines.whole(dataset.urn)
        lines.paragraph(", ".join(dataset.sources), indent=4, style="dim")


def _print_op(lines: Lines, explanation: Explanation) -> None:
    """The datasets that only the op is linked to, if there is one."""
    for title, urns in (
        ("Its op also reads", explanation.op.inputs),
        ("Its op also writes", explanation.op.outputs),
    ):
        if urns:
            lines.title(title)
        for urn in sorted(urns):
            lines.whole(urn)


def _print_columns(lines: Lines, explanation: Explanation) -> None:
    if explanation.columns:
        lines.title("Columns")
    for name, columns in explanation.columns.items():
        for dataset, column in columns:
            lines.pair(name, f"from {column}", width=20)
            lines.whole(dataset, indent=22)
