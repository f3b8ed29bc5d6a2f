"""Applies DataHub's PATCH: arrays are maps by their natural keys while the operations run.

So `{"op": "add", "path": "/tags/urn:li:tag:a", "value": {"tag": "urn:li:tag:a"}}` adds one tag,
however often it is sent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from receiver_schemas import Flaw

Keys: TypeAlias = Sequence[str]

EDGES: Keys = ("destinationUrn",)
TEMPLATES: Mapping[str, Mapping[str, Keys]] = {
    "globalTags": {"tags": ("tag",)},
    "glossaryTerms": {"terms": ("urn",)},
    "ownership": {"owners": ("owner", "type")},
    "siblings": {"siblings": ()},
    "domains": {"domains": ()},
    "structuredProperties": {"properties": ("propertyUrn",)},
    "institutionalMemory": {"elements": ("url",)},
    "upstreamLineage": {"upstreams": ("dataset",)},
    "dataJobInputOutput": {
        "inputDatasetEdges": EDGES,
        "outputDatasetEdges": EDGES,
        "inputDatajobEdges": EDGES,
        "inputDatasetFields": (),
        "outputDatasetFields": (),
    },
    "dataProcessInstanceInput": {"inputEdges": EDGES, "inputs": ()},
    "dataProcessInstanceOutput": {"outputEdges": EDGES, "outputs": ()},
}
"""How the items of an array are told apart; no keys: the item is its own key."""
BEGINNINGS: Mapping[str, Mapping[str, Any]] = {
    "globalTags": {"tags": []},
    "glossaryTerms": {
        "terms": [],
        "auditStamp": {"time": 0, "actor": "urn:li:corpuser:__datahub_system"},
    },
    "ownership": {"owners": []},
    "siblings": {"siblings": [], "primary": False},
    "domains": {"domains": []},
    "structuredProperties": {"properties": []},
    "institutionalMemory": {"elements": []},
    "upstreamLineage": {"upstreams": []},
    "dataJobInputOutput": {"inputDatasets": [], "outputDatasets": []},
    "dataProcessInstanceInput": {"inputs": []},
    "dataProcessInstanceOutput": {"outputs": []},
}
"""What an aspect that is not there yet begins with."""
LINEAGES = "fineGrainedLineages"


def patched(aspect: str, current: Mapping[str, Any] | None, patch: Any) -> dict[str, Any]:
    """The aspect's value after the patch; raises `Flaw` if it can't be applied."""
    operations, arrays, has_template = _read(aspect, patch)
    value = copy.deepcopy(dict(BEGINNINGS.get(aspect, {}) if current is None else current))
    was = set(value)
    for name, keys in arrays.items():
        value[name] = _as_map(value.get(name) or [], keys)
    if has_template and aspect in {"upstreamLineage", "dataJobInputOutput"}:
        value[LINEAGES] = _lineages_as_map(value.get(LINEAGES) or [])
    for each in operations:
        _apply(value, each)
    for name, keys in arrays.items():
        value[name] = _as_list(value[name], len(keys))
    if isinstance(value.get(LINEAGES), dict):
        value[LINEAGES] = _lineages_as_list(value[LINEAGES])
    return {name: each for name, each in value.items() if each != [] or name in was}


def _read(aspect: str, patch: Any) -> tuple[list[Any], Mapping[str, Keys], bool]:
    """The operations, the arrays with keys, and whether they come from the server's template."""
    if isinstance(patch, list):
        return patch, TEMPLATES.get(aspect, {}), True
    if not isinstance(patch, dict) or not isinstance(patch.get("patch"), list):
        raise Flaw("/patch", "a patch is a list of operations")
    if patch.get("forceGenericPatch") or patch.get("arrayPrimaryKeys"):
        return patch["patch"], patch.get("arrayPrimaryKeys") or {}, False
    return patch["patch"], TEMPLATES.get(aspect, {}), True


def _as_map(items: Sequence[Any], keys: Keys) -> dict[str, Any]:
    if not keys:
        return {each: each for each in items}
    found: dict[str, Any] = {}
    for each in items:
        level = found
        for key in keys[:-1]:
            level = level.setdefault(str(each.get(key, "")), {})
        level[str(each.get(keys[-1], ""))] = each
    return found


def _as_list(items: Mapping[str, Any], depth: int) -> list[Any]:
    if depth <= 1:
        return list(items.values())
    return [each for level in items.values() for each in _as_list(level, depth - 1)]


def _lineages_as_map(items: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in items:
        downstreams = each.get("downstreams") or []
        if len(downstreams) != 1:
            raise Flaw(f"/{LINEAGES}", "patching needs exactly one downstream in each")
        path = (each.get("transformOperation", "NONE"), downstreams[0], each.get("query", "NONE"))
        level = found
        for key in path:
            level = level.setdefault(key, {})
        facts = {"confidenceScore": each.get("confidenceScore", 1.0)}
        level.update(dict.fromkeys(each.get("upstreams") or [], facts))
    return found


def _lineages_as_list(found: Mapping[str, Any]) -> list[Any]:
    return [
        {
            "upstreamType": "FIELD_SET",
            "upstreams": list(upstreams),
            "downstreamType": "FIELD",
            "downstreams": [downstream],
            "transformOperation": operation,
            "confidenceScore": min(each.get("confidenceScore", 1.0) for each in upstreams.values()),
            **({} if query == "NONE" else {"query": query}),
        }
        for operation, downstreams in found.items()
        for downstream, queries in downstreams.items()
        for query, upstreams in queries.items()
        if upstreams
    ]


def _apply(value: dict[str, Any], operation: Any) -> None:
    verb = VERBS.get(operation.get("op", "")) if isinstance(operation, dict) else None
    if verb is None:
        raise Flaw("/patch", f"there is no such operation: {operation}")
    path = [_unescaped(each) for each in operation.get("path", "").split("/")[1:]]
    if not path:
        raise Flaw("/patch", "the whole aspect can't be patched")
    parent = _parent(value, path)
    verb(parent, path[-1], operation.get("value"))


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _parent(value: dict[str, Any], path: Sequence[str]) -> Any:
    """What holds the last part of the path; missing levels come into being, as on the server."""
    level: Any = value
    for part in path[:-1]:
        if isinstance(level, list):
            level = level[_index(level, part)]
        elif isinstance(level, dict):
            level = level.setdefault(part, {})
        else:
            raise Flaw("/patch", f"{part} is below a value")
    if not isinstance(level, list | dict):
        raise Flaw("/patch", f"{path[-1]} is below a value")
    return level


def _index(items: Sequence[Any], part: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise Flaw("/patch", f"there is no item {part}")
    return int(part)


def _add(parent: Any, part: str, new: Any) -> None:
    if isinstance(parent, dict):
        parent[part] = new
    elif part == "-":
        parent.append(new)
    else:
        parent.insert(_index([*parent, None], part), new)


def _remove(parent: Any, part: str, _: Any) -> None:
    if isinstance(parent, dict):
        parent.pop(part, None)
    else:
        del parent[_index(parent, part)]


def _replace(parent: Any, part: str, new: Any) -> None:
    if isinstance(parent, dict) and part not in parent:
        raise Flaw("/patch", f"there is no {part} to replace")
    parent[part if isinstance(parent, dict) else _index(parent, part)] = new


def _test(parent: Any, part: str, expected: Any) -> None:
    have = parent.get(part) if isinstance(parent, dict) else parent[_index(parent, part)]
    if have != expected:
        raise Flaw("/patch", f"the test of {part} failed")


VERBS: Mapping[str, Callable[[Any, str, Any], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "test": _test,
}
