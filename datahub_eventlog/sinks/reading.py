"""Reading back what DataHub's GMS holds, of many entities in one request.

| what | request | in GMS's source |
|---|---|---|
| aspects | `POST /openapi/v3/entity/{type}/batchGet` | `v3.controller.EntityController` |
| documents of a timeseries, of all entities | `GET /openapi/v2/timeseries/{type}/{aspect}` | \
`v2.controller.TimeseriesController` |
| the same of one entity | `POST /aspects?action=getTimeseriesAspectValues` | \
`resources.entity.AspectResource` |

An entity that has none of the aspects asked for is left out of the answer. A request for several
entities is refused as a whole if one of them may not be read. There is no timeseries in OpenAPI v3.
"""

from __future__ import annotations

import functools
import itertools
import json
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import requests
from datahub.emitter.rest_emitter import DatahubRestEmitter

from datahub_eventlog import error_text
from datahub_eventlog.config import RestTarget
from datahub_eventlog.errors import DeliveryError, Misconfigured, Unavailable
from datahub_eventlog.sinks.answers import Refused, ServerError, TimedOut, judge, request_failure
from datahub_eventlog.sinks.lanes import in_parallel
from datahub_eventlog.sinks.rest import (
    is_500_or_outage,
    open_emitter,
    retrying,
    session_of,
    unusable,
)
from datahub_eventlog.sinks.session import GRAPH_BYTES
from datahub_eventlog.values import Json

ENTITIES = 200
"""Asked for in one request."""
DOCUMENTS = 1000
"""Of a timeseries, in one answer."""
SPARE_PAGES = 5
"""Answers with documents of others that are read before each entity is asked for by itself."""
FEW = 2
"""Entities that are asked for by themselves at once."""
READ_LANES = 4
"""Parallel requests, half of those that deliver."""

Place: TypeAlias = tuple[str, str]
"""The urn of an entity and the name of an aspect."""
Span: TypeAlias = tuple[int, int]
"""From the first moment to the last, both included, in milliseconds since 1970."""

PRIVILEGES: Mapping[str, str] = {
    "datasetProfile": "View Dataset Profile",
    "operation": "View Dataset Operations",
}
"""What reading these aspects needs since GMS 1.7, beside what every timeseries needs."""
READ_ENTITIES = "View Entity Page or Get Entity + Relationships API"
READ_TIMESERIES = "Get Timeseries Aspect API"


@dataclass(frozen=True)
class HeldAspect:
    """An aspect as DataHub holds it."""

    value: Json
    run_id: str = ""
    """The run that its writer named last."""
    observed: float | None = None
    """When its writer saw it last, as that writer said; UTC epoch seconds."""


class NotReadable(DeliveryError):
    """The token may not read something; the rest can be read."""

    def __init__(self, what: str, privilege: str) -> None:
        super().__init__(f"the token may not read {what}: give its owner the privilege {privilege}")
        self.what = what


class Reader(Protocol):
    """Reads what DataHub holds. Used by one thread at a time."""

    def aspects(
        self, entity_type: str, wanted: Mapping[str, Collection[str]]
    ) -> dict[Place, HeldAspect]:
        """The aspects that there are of these names, by the urns of entities of one type.

        Raises `Unavailable`, `Misconfigured` or `NotReadable`.
        """
        ...

    def documents(
        self, entity_type: str, aspect: str, urns: Collection[str], span: Span
    ) -> dict[str, list[Json]]:
        """The documents of a timeseries aspect within the span, by urn; raises as `aspects`."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def unreadable(target: RestTarget) -> list[str]:
    """Why some of what is delivered can't be read back by the target's token; none if all can.

    Raises `Unavailable` or `Misconfigured`.
    """
    reasons: list[str] = []
    reader = RestReader(target)
    urns = {kind: urn for kind, _, urn in _PROBES}
    try:
        for kind, urn in urns.items():
            reasons += _refusal(functools.partial(reader.aspects, kind, {urn: ("status",)}))
        for kind, aspect, urn in _PROBES:
            reasons += _refusal(functools.partial(reader.documents, kind, aspect, [urn], (0, 0)))
    finally:
        reader.close()
    return reasons


_PROBES = (
    ("dataset", "operation", "urn:li:dataset:(urn:li:dataPlatform:dagster,a,PROD)"),
    ("dataset", "datasetProfile", "urn:li:dataset:(urn:li:dataPlatform:dagster,a,PROD)"),
    ("dataProcessInstance", "dataProcessInstanceRunEvent", "urn:li:dataProcessInstance:a"),
    ("assertion", "assertionRunEvent", "urn:li:assertion:a"),
)
"""Entities that need not exist: whether they may be read is answered all the same."""


def _refusal(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except NotReadable as error:
        return [str(error)]
    return []


class RestReader:
    """Reads over HTTP, a few requests at a time; one is repeated a few times within seconds."""

    def __init__(
        self,
        target: RestTarget,
        *,
        sleep: Callable[[float], None] = time.sleep,
        on_request: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a target; `sleep` waits between tries, `on_request` is called before each."""
        self._target = target
        self._url = error_text.address(target.server)
        self._retrying = retrying(is_500_or_outage, sleep)
        self._on_request = on_request
        self._emitters: list[DatahubRestEmitter] = []
        self._entities = ENTITIES
        self._can_scroll = True

    def aspects(
        self, entity_type: str, wanted: Mapping[str, Collection[str]]
    ) -> dict[Place, HeldAspect]:
        """See `Reader`."""
        urns = sorted(wanted)
        while True:
            size = self._entities
            parts = [urns[start : start + size] for start in range(0, len(urns), size)]
            tasks = [functools.partial(self._part, entity_type, part, wanted) for part in parts]
            try:
                return dict(itertools.chain(*self._in_parallel(tasks)))
            except (TimedOut, Refused) as error:  # too much at once?
                if size == 1:
                    raise Unavailable(str(error)) from error
                self._entities = max(1, size // 2)

    def documents(
        self, entity_type: str, aspect: str, urns: Collection[str], span: Span
    ) -> dict[str, list[Json]]:
        """See `Reader`."""
        found = None
        if self._can_scroll and len(urns) > FEW:
            found = self._scroll(entity_type, aspect, set(urns), span)
        if found is not None:
            return found
        ordered = sorted(urns)
        tasks = [
            functools.partial(self._documents_of, entity_type, aspect, urn, span) for urn in ordered
        ]
        return dict(zip(ordered, self._in_parallel(tasks), strict=True))

    def close(self) -> None:
        """Close the connections."""
        for emitter in self._emitters:
            emitter.close()

    def _in_parallel(self, tasks: Sequence[Callable[[int], Any]]) -> list[Any]:
        while len(self._emitters) < min(READ_LANES, max(1, len(tasks))):
            self._emitters.append(open_emitter(self._target, GRAPH_BYTES))
        return in_parallel(tasks, READ_LANES)

    def _part(
        self,
        entity_type: str,
        urns: Sequence[str],
        wanted: Mapping[str, Collection[str]],
        lane: int,
    ) -> list[tuple[Place, HeldAspect]]:
        asked = [{"urn": urn, **{name: {} for name in sorted(wanted[urn])}} for urn in urns]
        path = f"/openapi/v3/entity/{entity_type}/batchGet?systemMetadata=true"
        entities = self._ask(lane, path, asked, f"entities of type {entity_type}", READ_ENTITIES)
        return [
            ((entity["urn"], name), _held(aspect))
            for entity in _objects(entities)
            if isinstance(entity.get("urn"), str)
            for name, aspect in entity.items()
            if name != "urn" and isinstance(aspect, dict)
        ]

    def _scroll(
        self, entity_type: str, aspect: str, urns: Collection[str], span: Span
    ) -> dict[str, list[Json]] | None:
        """The documents of these and all other entities; None if there are too many others."""
        found: dict[str, list[Json]] = {urn: [] for urn in urns}
        scroll_id, pages = "", SPARE_PAGES + len(urns) // ENTITIES
        what, privilege = _timeseries(aspect)
        for _ in range(pages):
            query = {
                "count": DOCUMENTS,
                "startTimeMillis": span[0],
                "endTimeMillis": span[1],
                **({"scrollId": scroll_id} if scroll_id else {}),
            }
            path = f"/openapi/v2/timeseries/{entity_type}/{aspect}?{urllib.parse.urlencode(query)}"
            try:
                ask = functools.partial(
                    self._ask, path=path, body=None, what=what, privilege=privilege
                )
                (page,) = self._in_parallel([ask])
            except _NoSuchPath:
                self._can_scroll = False
                return None
            results = _objects(page.get("results") if isinstance(page, dict) else None)
            for document in results:
                if document.get("urn") in urns:
                    found[document["urn"]].append(document.get("event"))
            scroll_id = str(page.get("scrollId") or "")
            if not scroll_id or not results:
                return found
        return None

    def _documents_of(
        self, entity_type: str, aspect: str, urn: str, span: Span, lane: int
    ) -> list[Json]:
        what, privilege = _timeseries(aspect)
        asked = {
            "urn": urn,
            "entity": entity_type,
            "aspect": aspect,
            "startTimeMillis": span[0],
            "endTimeMillis": span[1],
            "limit": DOCUMENTS,
        }
        path = "/aspects?action=getTimeseriesAspectValues"
        answer = self._ask(lane, path, asked, what, privilege)
        value = answer.get("value") if isinstance(answer, dict) else None
        values = _objects(value.get("values") if isinstance(value, dict) else None)
        return [json.loads(found["aspect"]["value"]) for found in values]

    def _ask(self, lane: int, path: str, body: Json, what: str, privilege: str) -> Json:
        """The content of the answer; a request with a body is a POST."""

        def attempt() -> Json:
            self._on_request()
            session = session_of(self._emitters[lane])
            url = f"{self._target.server}{path}"
            try:
                if body is None:
                    response = session.get(url)
                else:
                    response = session.post(url, data=json.dumps(body), headers=_JSON)
            except requests.RequestException as error:
                raise request_failure(error, self._url, self._target.timeout_sec) from None
            except (OSError, UnicodeError) as error:
                raise unusable(error) from None
            return self._content(response, path, what, privilege)

        try:
            return self._retrying(attempt)
        except ServerError as error:
            raise Unavailable(str(error)) from error

    def _content(self, response: requests.Response, path: str, what: str, privilege: str) -> Json:
        for redirect in response.history:
            judge(redirect, self._url)
        if response.status_code == requests.codes.forbidden:
            raise NotReadable(what, privilege)
        if response.status_code == requests.codes.not_found and path.startswith("/openapi/v2/"):
            raise _NoSuchPath(f"{self._url} has no {path}")
        if response.status_code == requests.codes.ok:
            try:
                return json.loads(response.content)
            except ValueError:
                pass
        return judge(response, self._url)


class _NoSuchPath(Misconfigured):
    """The server is too old for a request, or its proxy doesn't let it through."""


_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


def _timeseries(aspect: str) -> tuple[str, str]:
    """What is read of a timeseries, and the privileges for it."""
    special = PRIVILEGES.get(aspect)
    return aspect, f"{READ_TIMESERIES}{f' and {special}' if special else ''}"


def _objects(values: Json) -> Iterable[dict[str, Any]]:
    return [value for value in values or () if isinstance(value, dict)]


def _held(aspect: Mapping[str, Any]) -> HeldAspect:
    metadata = aspect.get("systemMetadata") or {}
    observed = metadata.get("lastObserved")
    return HeldAspect(
        value=aspect.get("value"),
        run_id=str(metadata.get("runId") or ""),
        observed=observed / 1000 if isinstance(observed, int | float) and observed > 0 else None,
    )
