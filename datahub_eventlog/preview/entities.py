"""The state that proposals leave in DataHub, entity by entity."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datahub_eventlog.values import Change, Json, Problem, Proposal


@dataclass
class Entity:
    """An entity as the proposals make it; grows while they are read."""

    urn: str
    aspects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Its state: what was sent whole, with what was added to it."""
    series: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Its timeseries, in the order of their times."""
    sent: list[Proposal] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def aspect(self, name: str) -> Mapping[str, Any]:
        """An aspect; empty if none was sent."""
        return self.aspects.get(name, {})

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of a timeseries, the oldest first."""
        return sorted(self.series.get(name, ()), key=lambda event: event["timestampMillis"])


def entities_of(items: Iterable[Proposal | Problem]) -> dict[str, Entity]:
    """The entities of the proposals, by urn, in the order of their first mention."""
    entities: dict[str, Entity] = {}
    for item in items:
        entity = entities.setdefault(item.urn, Entity(item.urn))
        if isinstance(item, Problem):
            entity.problems.append(item)
        else:
            _apply(entity, item)
    return entities


def _apply(entity: Entity, proposal: Proposal) -> None:
    entity.sent.append(proposal)
    body = json.loads(proposal.body)
    if proposal.change is Change.PATCH:
        aspect = entity.aspects.setdefault(proposal.aspect, {})
        for path, value in _additions(body):
            _add(aspect, path, value)
    elif "timestampMillis" in body:
        entity.series.setdefault(proposal.aspect, []).append(body)
    else:
        entity.aspects[proposal.aspect] = body


def _additions(body: Json) -> Iterator[tuple[list[str], Json]]:
    """What a patch adds: the parts of the path, and the value."""
    operations = body["patch"] if isinstance(body, Mapping) else body
    for operation in operations:
        if operation["op"] == "add":
            parts = operation["path"].removeprefix("/").split("/")
            plain = [part.replace("~1", "/").replace("~0", "~") for part in parts]
            yield plain, operation.get("value")


def _add(aspect: dict[str, Any], path: list[str], value: Json) -> None:
    """Add to one of an aspect's lists: the parts of the path are only its item's key."""
    name, *key = path
    if not key:
        aspect[name] = value
    elif name in {"customProperties", "status"}:
        aspect.setdefault(name, {})["/".join(key)] = value
    elif name == "fineGrainedLineages" and len(key) == _COLUMN_KEY:
        _, downstream, _, upstream = key
        edge = {"downstreams": [downstream], "upstreams": [upstream]}
        aspect.setdefault(name, []).append(edge)
    else:
        aspect.setdefault(name, []).append(value)


_COLUMN_KEY = 4
"""A column's edge is identified by its operation, downstream, query and upstream."""
