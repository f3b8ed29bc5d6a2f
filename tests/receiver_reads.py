"""How the receiver answers reads, as GMS's source says.

| request | in GMS's source |
|---|---|
| `POST /openapi/v3/entity/{type}/batchGet` | `v3.controller.EntityController.getEntityBatch` and \
`buildEntityVersionedAspectList`: entities without any of the aspects are left out, keys included; \
of a timeseries the latest document, unless its content may not be viewed; one entity that may \
not be read and the whole request is refused (403) |
| `GET /openapi/v2/timeseries/{type}/{aspect}` | `v2.controller.TimeseriesController.getAspects`: \
the newest first, `count` (10) at once, `scrollId` for more; both ends of the time are included; \
one document that may not be read and the page is refused |
| `POST /aspects?action=getTimeseriesAspectValues` | `resources.entity.AspectResource`: the newest \
first, `limit` is needed |
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import receiver_schemas as schemas

Json = Any
BATCH = re.compile(r"/openapi/v3/entity/(\w+)/batchGet")
SERIES = re.compile(r"/openapi/v2/timeseries/(\w+)/(\w+)")
VALUES = "/aspects?action=getTimeseriesAspectValues"


class Stored(Protocol):
    versioned: dict[tuple[str, str], Json]
    series: dict[tuple[str, str], dict[str, Json]]
    metadata: dict[tuple[str, str], Mapping[str, Json]]


class Fitting(Protocol):
    kind: str
    happened: int

    def rejects(self, urn: str, aspect: str) -> bool: ...


@dataclass(frozen=True)
class Read:
    status: int
    content: Json


class _Denied(Exception):
    """403: the token may not read it."""


def read(
    store: Stored, method: str, path: str, body: bytes, faults: Sequence[Fitting]
) -> Read | None:
    """What is answered, None if that is no request for reading."""
    split = urllib.parse.urlsplit(path)
    query = {name: values[-1] for name, values in urllib.parse.parse_qs(split.query).items()}
    try:
        if method == "POST" and (match := BATCH.fullmatch(split.path)):
            with_metadata = query.get("systemMetadata") == "true"
            return _batch(store, match[1], json.loads(body), faults, with_metadata=with_metadata)
        if method == "GET" and (match := SERIES.fullmatch(split.path)):
            return _page(store, match[1], match[2], query, faults)
        if method == "POST" and path == VALUES:
            return _values(store, json.loads(body), faults)
    except _Denied as error:
        message = f"urn:li:corpuser:someone is unauthorized to READ {error}"
        return Read(403, {"error": "Forbidden", "message": message})
    return None


def _batch(
    store: Stored, kind: str, asked: Json, faults: Sequence[Fitting], *, with_metadata: bool
) -> Read:
    if kind not in schemas.entities():
        text = f"Failed to find entity with name {kind} in EntityRegistry"
        return Read(400, {"error": text})
    answer = []
    for each in asked:
        urn = each["urn"]
        if _is_denied(faults, urn, ""):
            raise _Denied("entities")
        names = [name for name in each if name != "urn"] or _all_names(store, urn)
        found = {name: _item(store, urn, name, faults) for name in names}
        there = {name: item for name, item in found.items() if item is not None}
        if there and not with_metadata:
            there = {name: {"value": item["value"]} for name, item in there.items()}
        if there:
            answer.append({"urn": urn, **there})
    return Read(200, answer)


def _item(store: Stored, urn: str, name: str, faults: Sequence[Fitting]) -> Json | None:
    place = (urn, name)
    if place in store.versioned:
        return {
            "value": schemas.with_defaults(name, store.versioned[place]),
            "systemMetadata": store.metadata[place],
            "auditStamp": {"time": 0, "actor": "urn:li:corpuser:datahub"},
        }
    if place in store.series and not _is_denied(faults, urn, name):
        return {"value": _newest_first(store.series[place].values())[0]}
    return None


def _page(
    store: Stored, kind: str, aspect: str, query: Mapping[str, str], faults: Sequence[Fitting]
) -> Read:
    if not schemas.aspects()[aspect].is_timeseries:
        return Read(400, {"error": "Only timeseries aspects are supported."})
    found = [
        (document["timestampMillis"], document.get("messageId") or "", urn, document)
        for (urn, name), documents in store.series.items()
        if name == aspect and urn.startswith(f"urn:li:{kind}:")
        for document in documents.values()
        if _is_within(document, query) and not _lags(faults, urn, aspect)
    ]
    found.sort(key=lambda row: row[:3], reverse=True)
    start, count = int(query.get("scrollId", 0)), int(query.get("count", 10))
    page = found[start : start + count]
    if any(_is_denied(faults, urn, aspect) for _, _, urn, _ in page):
        raise _Denied("TIMESERIES")
    results = [
        {"urn": urn, "messageId": message or None, "timestampMillis": time, "event": document}
        for time, message, urn, document in page
    ]
    more = {"scrollId": str(start + count)} if len(page) == count else {}
    return Read(200, {"results": results, **more})


def _values(store: Stored, asked: Json, faults: Sequence[Fitting]) -> Read:
    urn, aspect = asked["urn"], asked["aspect"]
    if "limit" not in asked:
        return Read(500, {"message": "NullPointerException", "status": 500})
    if _is_denied(faults, urn, aspect):
        raise _Denied(f"{aspect} of {urn}")
    documents = store.series.get((urn, aspect), {}).values()
    found = [
        document
        for document in _newest_first(documents)
        if _is_within(document, asked) and not _lags(faults, urn, aspect)
    ]
    values = [
        {"aspect": {"value": json.dumps(document), "contentType": "application/json"}}
        for document in found[: asked["limit"]]
    ]
    value = {"entityName": asked["entity"], "aspectName": aspect, "values": values}
    return Read(200, {"value": value})


def _all_names(store: Stored, urn: str) -> list[str]:
    return [name for owner, name in (*store.versioned, *store.series) if owner == urn]


def _newest_first(documents: Iterable[Json]) -> list[Json]:
    return sorted(documents, key=lambda each: each["timestampMillis"], reverse=True)


def _is_within(document: Json, query: Mapping[str, Any]) -> bool:
    time = document["timestampMillis"]
    since, until = (query.get(name) for name in ("startTimeMillis", "endTimeMillis"))
    return (since is None or int(since) <= time) and (until is None or time <= int(until))


def _is_denied(faults: Sequence[Fitting], urn: str, aspect: str) -> bool:
    """Entities are denied by faults that name no aspect, documents by those that do."""
    return any(each.kind == "deny" and each.rejects(urn, aspect) for each in faults)


def _lags(faults: Sequence[Fitting], urn: str, aspect: str) -> bool:
    for each in faults:
        if each.kind == "lag" and each.rejects(urn, aspect):
            each.happened += 1
            return True
    return False
