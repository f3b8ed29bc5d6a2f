"""Whether an aspect in DataHub is as it was sent. Pure: values in, differences out.

Ours must be in theirs. What DataHub adds (defaults) and what others add to lists and maps that
are meant for it (lineage by hand, tags, owners, properties) is no difference. Only where DataHub
provably holds something from before our last sending, as after the restore of a backup, must such
lists and maps be the same: then `is_older` is set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datahub_eventlog.values import Change, Json, Proposal
from datahub_eventlog.verification.findings import FieldDifference

ADDITIVE: Mapping[str, frozenset[str]] = {
    "dataFlowInfo": frozenset({"customProperties"}),
    "dataJobInfo": frozenset({"customProperties"}),
    "dataJobInputOutput": frozenset(
        {
            *("inputDatasets", "outputDatasets", "inputDatajobs", "inputDatasetFields"),
            *("inputDatasetEdges", "outputDatasetEdges", "inputDatajobEdges"),
            *("outputDatasetFields", "fineGrainedLineages"),
        }
    ),
    "datasetProperties": frozenset({"customProperties", "tags"}),
    "globalTags": frozenset({"tags"}),
    "ownership": frozenset({"owners", "ownerTypes"}),
    "siblings": frozenset({"siblings"}),
    "upstreamLineage": frozenset({"upstreams", "fineGrainedLineages"}),
}
"""The lists and maps of our aspects that others add to as well."""
DECIDED_BY_DATAHUB: Mapping[str, frozenset[str]] = {"siblings": frozenset({"primary"})}
"""What DataHub sets by itself afterwards: it has a hook that makes siblings of dbt's models."""
IDENTITIES = ("dataset", "destinationUrn", "owner", "tag", "urn", "fieldPath", "propertyUrn")
"""The fields by which the items of a list are told apart."""
STAMPS = frozenset({"created", "lastModified", "deleted"})
"""The fields that DataHub fills in with times of its own."""
UNION = frozenset({"string", "boolean", "int", "long", "float", "double", "array", "map"})
"""The names of the plain types in a union; a value may stand with or without its type."""
LINEAGES = "fineGrainedLineages"


def differences(
    proposal: Proposal, theirs: Json, *, is_older: bool = False
) -> tuple[FieldDifference, ...]:
    """The fields of a proposal that are not in the aspect that DataHub holds.

    What is created once is others' to change.
    """
    if proposal.change is Change.CREATE:
        return ()
    ours = json.loads(proposal.body)
    if proposal.change is Change.PATCH:
        return tuple(_unpatched(ours, theirs))
    additive = ADDITIVE.get(proposal.aspect, frozenset())
    if decided := DECIDED_BY_DATAHUB.get(proposal.aspect):
        ours = {name: value for name, value in ours.items() if name not in decided}
    found = list(_fields(ours, theirs, additive))
    if is_older and isinstance(ours, dict) and isinstance(theirs, dict):
        found += _surplus(proposal.aspect, ours, theirs)
    return tuple(found)


def is_in(ours: Json, theirs: Json) -> bool:
    """Whether all of ours is in theirs."""
    return next(_differences("", ours, theirs), None) is None


def _fields(ours: Json, theirs: Json, additive: frozenset[str]) -> Iterator[FieldDifference]:
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        yield from _differences("", ours, theirs)
        return
    for name, value in ours.items():
        path, other = f"/{name}", theirs.get(name)
        if name in additive and isinstance(value, list):
            yield from _items(path, value, other)
        else:
            yield from _differences(path, value, other)


def _differences(path: str, ours: Json, theirs: Json) -> Iterator[FieldDifference]:
    if isinstance(ours, dict) is not isinstance(theirs, dict):
        ours, theirs = _plain(ours), _plain(theirs)
    if _is_empty(ours):
        return
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            yield from _differences(f"{path}/{_escaped(name)}", value, theirs.get(name))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(f"{path}/{number}", one, other)
    elif ours != theirs or isinstance(ours, bool) is not isinstance(theirs, bool):
        yield FieldDifference(path, ours, theirs)


def _items(path: str, ours: Sequence[Json], theirs: Json) -> Iterator[FieldDifference]:
    """The items of ours that are not in a list that others add to."""
    there = theirs if isinstance(theirs, list) else []
    for item in ours:
        if any(is_in(item, other) for other in there):
            continue
        name = _identity(item)
        same = next((other for other in there if name and _identity(other) == name), None)
        place = f"{path}/{_escaped(name)}" if name else path
        if same is None:
            yield FieldDifference(place, item, None)
        else:
            yield from _differences(place, item, same)


def _surplus(
    aspect: str, ours: Mapping[str, Json], theirs: Mapping[str, Json]
) -> Iterator[FieldDifference]:
    """What is there and not in ours, apart from what DataHub fills in."""
    additive = ADDITIVE.get(aspect, frozenset())
    for name, there in sorted(theirs.items()):
        here = ours.get(name)
        if name in additive and isinstance(there, list):
            known = here if isinstance(here, list) else []
            for item in there:
                if not any(is_in(one, item) for one in known):
                    yield FieldDifference(f"/{name}/{_escaped(_identity(item))}", None, item)
        elif name in additive and isinstance(there, dict):
            for key in sorted(there.keys() - (here.keys() if isinstance(here, dict) else ())):
                yield FieldDifference(f"/{name}/{_escaped(key)}", None, there[key])
        elif _is_empty(here) and there and name not in STAMPS:
            yield FieldDifference(f"/{name}", None, there)


def _unpatched(patch: Json, theirs: Json) -> Iterator[FieldDifference]:
    """The additions of a patch that the aspect lacks."""
    operations = patch.get("patch", ()) if isinstance(patch, dict) else patch
    for operation in operations:
        if not isinstance(operation, dict) or operation.get("op") not in {"add", "replace"}:
            continue  # nobody can say whether something is gone since we removed it
        path = str(operation.get("path", ""))
        parts = [_unescaped(part) for part in path.strip("/").split("/")]
        value = operation.get("value")
        if not _has(parts, value, theirs):
            yield FieldDifference(path, value, _there(parts, theirs))


def _has(parts: Sequence[str], value: Json, theirs: Json) -> bool:
    there = theirs.get(parts[0]) if isinstance(theirs, dict) else None
    if parts[0] == LINEAGES and len(parts) > _LINEAGE_PARTS:
        _, _, downstream, _, upstream = parts[: _LINEAGE_PARTS + 1]
        return any(
            downstream in _list(edge, "downstreams") and upstream in _list(edge, "upstreams")
            for edge in (there if isinstance(there, list) else ())
        )
    if isinstance(there, list):
        return any(is_in(value, item) for item in there)
    return is_in(value, _there(parts, theirs))


_LINEAGE_PARTS = 4
"""Of the path of a column edge before its source: field, operation, column, query."""


def _list(record: Json, name: str) -> Sequence[Json]:
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, list) else ()


def _there(parts: Sequence[str], theirs: Json) -> Json:
    value = theirs
    for part in parts:
        if isinstance(value, list):
            value = next((item for item in value if _identity(item) == part), None)
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def _plain(value: Json) -> Json:
    """The value of a union without the name of its type."""
    if isinstance(value, dict) and len(value) == 1:
        ((name, inner),) = value.items()
        if name in UNION:
            return inner
    return value


def _is_empty(value: Json) -> bool:
    return value is None or value in ("", [], {})


def _identity(item: Any) -> str:
    """What tells an item of a list from the others; an empty text where nothing does."""
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        return ""
    return next((item[name] for name in IDENTITIES if isinstance(item.get(name), str)), "")


def _escaped(part: str) -> str:
    """A part of a path, as in RFC 6901."""
    return part.replace("~", "~0").replace("/", "~1")


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
