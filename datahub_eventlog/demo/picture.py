"""What was captured, as tables and a tree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone

from dagster import DagsterInstance
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from datahub_eventlog.operations import Operations
from datahub_eventlog.values import Proposal


def show(instance: DagsterInstance, console: Console) -> None:
    """Print the instance's runs, what they became in DataHub, and the lineage."""
    records = instance.get_run_records(ascending=True)
    operations = Operations(instance)
    proposals = [
        item
        for record in records
        for item in operations.preview(record.dagster_run.run_id)
        if isinstance(item, Proposal)
    ]
    runs = Table("job", "run", "status", "started", "seconds", title="Runs", title_justify="left")
    for record in records:
        run, start, end = record.dagster_run, record.start_time, record.end_time
        began = datetime.fromtimestamp(start, tz=timezone.utc).strftime("%H:%M:%S") if start else ""
        took = f"{end - start:.1f}" if start and end else ""
        runs.add_row(run.job_name, run.run_id[:8], run.status.value, began, took)
    console.print(runs)
    console.print(_entities(proposals))
    console.print(_tree(edges(proposals)))


def _entities(proposals: Iterable[Proposal]) -> Table:
    table = Table("entity", "number", "aspects", title="Entities", title_justify="left")
    urns: dict[str, set[str]] = {}
    aspects: dict[str, set[str]] = {}
    for proposal in proposals:
        urns.setdefault(proposal.entity_type, set()).add(proposal.urn)
        aspects.setdefault(proposal.entity_type, set()).add(proposal.aspect)
    for entity in sorted(urns):
        table.add_row(entity, str(len(urns[entity])), ", ".join(sorted(aspects[entity])))
    return table


def edges(proposals: Iterable[Proposal]) -> set[tuple[str, str]]:
    """Every (upstream urn, downstream urn) of jobs and datasets in the proposals."""
    return {edge for proposal in proposals for edge in _edges(proposal)}


def _edges(proposal: Proposal) -> Iterator[tuple[str, str]]:
    body = json.loads(proposal.body)
    if proposal.aspect == "dataJobInputOutput" and isinstance(body, dict):
        for edge in body.get("inputDatasetEdges", []):
            yield edge["destinationUrn"], proposal.urn
        for edge in body.get("outputDatasetEdges", []):
            yield proposal.urn, edge["destinationUrn"]
    elif proposal.aspect == "upstreamLineage":
        yield from ((urn, proposal.urn) for urn in _upstreams(body))


def _upstreams(body: object) -> Iterator[str]:
    """The upstream datasets of an upstreamLineage, or of a patch that adds some."""
    operations = body.get("patch", []) if isinstance(body, Mapping) else body
    if isinstance(body, Mapping) and "upstreams" in body:
        yield from (upstream["dataset"] for upstream in body["upstreams"])
    for change in operations if isinstance(operations, list) else ():
        if change.get("path", "").startswith("/upstreams/") and change.get("value"):
            yield change["value"]["dataset"]


def _tree(lineage: set[tuple[str, str]]) -> Tree:
    tree = Tree("Lineage (from upstream to downstream)")
    below: dict[str, list[str]] = {}
    for upstream, downstream in sorted(lineage):
        below.setdefault(upstream, []).append(downstream)
    for root in sorted(below.keys() - {downstream for _, downstream in lineage}):
        _grow(tree, root, below, ())
    return tree


def _grow(tree: Tree, urn: str, below: Mapping[str, list[str]], path: tuple[str, ...]) -> None:
    branch = tree.add(label(urn))
    if urn not in path:
        for downstream in below.get(urn, ()):
            _grow(branch, downstream, below, (*path, urn))


def label(urn: str) -> str:
    """An urn as a short text: its kind and name."""
    entity, _, key = urn.removeprefix("urn:li:").partition(":")
    if entity == "dataset":
        platform, name, _ = key.strip("()").split(",", 2)
        return f"[cyan]{platform.rpartition(':')[2]}[/cyan] {name}"
    return f"[green]{entity}[/green] {key.rpartition(',')[2].strip('()')}"
