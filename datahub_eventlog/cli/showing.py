"""What `datahub-eventlog show` prints: proposals, entity by entity."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from rich.console import Console

from datahub_eventlog.cli.lines import Lines
from datahub_eventlog.values import Change, Json, Problem, Proposal

STEP = 2
"""Columns by which what belongs to something stands further to the right."""
MOMENTS = frozenset({"timestampMillis", "lastUpdatedTimestamp", "time"})
"""Names of what is a time, in milliseconds."""


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
    """The proposals for people, with everything about an entity in one place."""
    lines = Lines(console)
    entities: dict[str, list[Proposal | Problem]] = {}
    for item in found:
        entities.setdefault(item.urn, []).append(item)
    for urn, about in entities.items():
        lines.title(urn)
        for item in about:
            _item(lines, item)
    problems = sum(isinstance(each, Problem) for each in found)
    lines.title(_summary(len(found) - problems, problems, len(entities)))


def _summary(proposals: int, problems: int, entities: int) -> str:
    left_out = f", {problems} left out" if problems else ""
    return f"{proposals} proposals about {entities} entities{left_out}; nothing was sent"


def _item(lines: Lines, item: Proposal | Problem) -> None:
    if isinstance(item, Problem):
        lines.whole(f"{item.aspect}: left out", style="red")
        lines.paragraph(item.reason, indent=2 * STEP)
        return
    is_patch = item.change is Change.PATCH
    lines.whole(f"{item.aspect} (patch)" if is_patch else item.aspect, style="cyan")
    body = json.loads(item.body)
    told = _patch(body) if is_patch else _named(body, 0)
    for depth, text in told:
        lines.paragraph(text, indent=(2 + depth) * STEP)


def _patch(body: Json) -> Iterator[tuple[int, str]]:
    """What a patch does, line by line, with how far in a line stands."""
    for each in body["patch"] if isinstance(body, Mapping) else body:
        yield 0, f"{each['op']} {each['path']}"
        if "value" in each:
            yield from _value(each["value"], 1)


def _named(values: Mapping[str, Json], depth: int) -> Iterator[tuple[int, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping | list) and value:
            yield depth, f"{name}:"
            yield from _value(value, depth + 1)
        else:
            yield from _scalar(f"{name}: ", value, depth, name)


def _value(value: Json, depth: int) -> Iterator[tuple[int, str]]:
    if isinstance(value, Mapping):
        yield from _named(value, depth)
    elif isinstance(value, list):
        for each in value:
            yield from _entry(list(_value(each, depth)))
    else:
        yield from _scalar("", value, depth)


def _entry(told: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """An item of a list: a dash before its first line, the others under it."""
    if told:
        depth, text = told[0]
        yield depth, f"- {text}"
        yield from ((depth + 1, text) for depth, text in told[1:])


def _scalar(label: str, value: Json, depth: int, name: str = "") -> Iterator[tuple[int, str]]:
    if isinstance(value, str):
        first, *rest = value.splitlines() or [""]
        yield depth, f"{label}{first}"
        yield from ((depth + 1, each) for each in rest)
    elif name in MOMENTS and isinstance(value, int) and value:
        yield depth, f"{label}{value} ({_moment(value)})"
    else:
        yield depth, f"{label}{json.dumps(value)}"


def _moment(milliseconds: int) -> str:
    found = datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)
    return found.strftime("%Y-%m-%d %H:%M:%S UTC")
