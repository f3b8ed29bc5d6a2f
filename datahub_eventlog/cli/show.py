"""`datahub-eventlog show`: what would be sent for a run, entity by entity."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.console import Console

from datahub_eventlog.cli.output import EXAMPLE_RUN, Lines, examples, print_json
from datahub_eventlog.operations import Operations
from datahub_eventlog.preview.sections import moment
from datahub_eventlog.sinks.file import aspect_json
from datahub_eventlog.values import Change, Json, Problem, Proposal

STEP = 2
"""Columns of one level of indentation."""
TIME_FIELDS = frozenset({"timestampMillis", "lastUpdatedTimestamp", "startedAt", "time"})
"""Fields that hold a time in milliseconds."""


@click.command(epilog=examples(f"show {EXAMPLE_RUN}", f"show {EXAMPLE_RUN} --json > run.json"))
@click.argument("run_id")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON array that `datahub ingest mcps` reads."
)
def show(run_id: str, *, as_json: bool) -> None:
    """Print what would be sent for a run, without sending it."""
    with Operations.on_home() as operations:
        items = operations.preview(run_id)
    if as_json:
        print_json([item_json(item) for item in items])
    else:
        print_items(Lines(Console()), items)


def item_json(item: Proposal | Problem) -> dict[str, Any]:
    """A proposal as a file for `datahub ingest mcps` has it, or a problem."""
    if isinstance(item, Problem):
        return {"problem": item.reason, "entityUrn": item.urn, "aspectName": item.aspect}
    return {
        "entityType": item.entity_type,
        "entityUrn": item.urn,
        "changeType": item.change.value,
        "aspectName": item.aspect,
        "aspect": aspect_json(item),
        **({"headers": dict(item.headers)} if item.headers else {}),
    }


def print_items(lines: Lines, items: Sequence[Proposal | Problem]) -> None:
    """The proposals as text, with everything about an entity in one place."""
    entities: dict[str, list[Proposal | Problem]] = {}
    for item in items:
        entities.setdefault(item.urn, []).append(item)
    for urn, its_items in entities.items():
        lines.title(urn)
        for item in its_items:
            _print_item(lines, item)
    problems = sum(isinstance(item, Problem) for item in items)
    left_out = f", {problems} left out" if problems else ""
    proposals = len(items) - problems
    lines.title(f"{proposals} proposals about {len(entities)} entities{left_out}; nothing was sent")


def _print_item(lines: Lines, item: Proposal | Problem) -> None:
    if isinstance(item, Problem):
        lines.whole(f"{item.aspect}: left out", style="red")
        lines.paragraph(item.reason, indent=2 * STEP)
        return
    is_patch = item.change is Change.PATCH
    lines.whole(f"{item.aspect}{_HOW.get(item.change, '')}", style="cyan")
    body = json.loads(item.body)
    for depth, text in _patch(body) if is_patch else _fields(body, 0):
        lines.paragraph(text, indent=(2 + depth) * STEP)


_HOW = {Change.PATCH: " (patch)", Change.CREATE: " (only if there is none)"}


def _patch(body: Json) -> Iterator[tuple[int, str]]:
    """The changes of a patch as lines of text, each with its depth of indentation."""
    for change in body["patch"] if isinstance(body, Mapping) else body:
        yield 0, f"{change['op']} {change['path']}"
        if "value" in change:
            yield from _value(change["value"], 1)


def _fields(values: Mapping[str, Json], depth: int) -> Iterator[tuple[int, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping | list) and value:
            yield depth, f"{name}:"
            yield from _value(value, depth + 1)
        else:
            yield from _scalar(f"{name}: ", value, depth, name)


def _value(value: Json, depth: int) -> Iterator[tuple[int, str]]:
    if isinstance(value, Mapping):
        yield from _fields(value, depth)
    elif isinstance(value, list):
        for item in value:
            yield from _list_item(list(_value(item, depth)))
    else:
        yield from _scalar("", value, depth)


def _list_item(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """An item of a list: a dash before its first line, the others under it."""
    if lines:
        depth, text = lines[0]
        yield depth, f"- {text}"
        yield from ((depth + 1, text) for depth, text in lines[1:])


def _scalar(label: str, value: Json, depth: int, name: str = "") -> Iterator[tuple[int, str]]:
    if isinstance(value, str):
        first, *rest = value.splitlines() or [""]
        yield depth, f"{label}{first}"
        yield from ((depth + 1, line) for line in rest)
    elif name in TIME_FIELDS and isinstance(value, int) and value:
        yield depth, f"{label}{value} ({moment(value)} UTC)"
    else:
        yield depth, f"{label}{json.dumps(value)}"
