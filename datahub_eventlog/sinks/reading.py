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

import contextlib
import functools
import json
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import requests
from datahub.emitter.rest_emitter import DatahubRestEmitter

from datahub_eventlog import error_text
from datahub_eventlog.config import RestTarget
from datahub_eventlog.errors import Conflict, DeliveryError, Misconfigured, Unavailable
from datahub_eventlog.sinks.answers import (
    Refused,
    ServerError,
    TimedOut,
    Unending,
    judge,
    request_failure,
)
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

T = TypeVar("T")

ENTITIES = 200
"""Asked for in one request, unless the server finds that too much."""
DOCUMENTS = 1000
"""Of a timeseries, in one answer."""
SPARE_PAGES = 5
"""Answers with documents of others that are read before each entity is asked for by itself."""
FEW = 2
"""Entities that are asked for by themselves at once."""
MOST_REFUSED = 8
"""Entities that may not be read before their whole type is taken for unreadable."""
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
LATEST_MILLIS = 10**15
"""No time that a server means."""


@dataclass(frozen=True)
class HeldAspect:
    """An aspect as DataHub holds it."""

    value: Json
    run_id: str = ""
    """The run that its writer named last."""
    observed: float | None = None
    """When its writer saw it last, as that writer said; UTC epoch seconds."""


@dataclass
class Held:
    """What DataHub holds of what was asked for."""

    aspects: dict[Place, HeldAspect] = field(default_factory=dict)
    documents: dict[str, list[Json]] = field(default_factory=dict)
    """Of one timeseries aspect, by urn."""
    refused: dict[str, DeliveryError] = field(default_factory=dict)
    """The entities that could not be read, and why."""

    def refuse(self, urn: str, error: DeliveryError, asked: int) -> None:
        """Note one of so many entities; raises the error if it seems to be about all of them."""
        self.refused[urn] = error
        denied = sum(isinstance(known, NotReadable) for known in self.refused.values())
        if denied >= min(asked, MOST_REFUSED):
            raise error


class NotReadable(DeliveryError):
    """The token may not read something; the rest can be read."""

    def __init__(self, what: str, privilege: str) -> None:
        """`what` can't be read without `privilege`."""
        super().__init__(f"the token may not read {what}: give its owner the privilege {privilege}")
        self.what = what


class Reader(Protocol):
    """Reads what DataHub holds. Used by one thread at a time."""

    def aspects(self, entity_type: str, wanted: Mapping[str, Collection[str]]) -> Held:
        """The aspects that there are of these names, by the urns of entities of one type.

        Raises `Unavailable`, `Misconfigured`, or `NotReadable` if no entity may be read.
        """
        ...

    def documents(self, entity_type: str, aspect: str, urns: Collection[str], span: Span) -> Held:
        """The documents of a timeseries aspect within the span; raises as `aspects`."""
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


def _refusal(read: Callable[[], Held]) -> list[str]:
    try:
        return [str(error) for error in read().refused.values()]
    except NotReadable as error:
        return [str(error)]


class RestReader:
    """Reads over HTTP, a few requests at a time; one is repeated a few times within seconds."""

    def __init__(self, target: RestTarget, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take a target; `sleep` waits between tries."""
        self._target = target
        self._url = error_text.address(target.server)
        self._retrying = retrying(is_500_or_outage, sleep)
        self._emitters: list[DatahubRestEmitter] = []
        self._entities = ENTITIES
        self._can_scroll = True

    def aspects(self, entity_type: str, wanted: Mapping[str, Collection[str]]) -> Held:
        """See `Reader`. What can't be read at once is asked for in halves."""
        read = functools.partial(self._read_part, entity_type, wanted)
        parts = _portions(sorted(wanted), self._entities)
        answers = self._in_parallel([functools.partial(read, part) for part in parts])
        self._entities = min(ENTITIES, 2 * self._entities)
        held = Held()
        failed: list[tuple[Sequence[str], DeliveryError]] = []
        for part, answer in zip(parts, answers, strict=True):
            _take(held, failed, part, answer)
        while failed:
            part, error = failed.pop()
            if len(part) == 1:
                if isinstance(error, TimedOut):
                    raise Unavailable(str(error)) from error
                held.refuse(part[0], error, len(wanted))
                continue
            half = (len(part) + 1) // 2
            if isinstance(error, TimedOut):
                self._entities = min(self._entities, half)
            for smaller in (part[half:], part[:half]):
                _take(held, failed, smaller, read(smaller, 0))
        return held

    def documents(self, entity_type: str, aspect: str, urns: Collection[str], span: Span) -> Held:
        """See `Reader`."""
        if self._can_scroll and len(urns) > FEW:
            found = self._scroll(entity_type, aspect, set(urns), span)
            if found is not None:
                return Held(documents=found)
        held = Held()
        for portion in _portions(sorted(urns), 2 * READ_LANES):
            tasks = [
                functools.partial(self._documents_of, entity_type, aspect, urn, span)
                for urn in portion
            ]
            for urn, answer in zip(portion, self._in_parallel(tasks), strict=True):
                if isinstance(answer, DeliveryError):
                    held.refuse(urn, answer, len(urns))
                else:
                    held.documents[urn] = answer
        return held

    def close(self) -> None:
        """Close the connections."""
        for emitter in self._emitters:
            emitter.close()

    def _in_parallel(self, tasks: Sequence[Callable[[int], T]]) -> list[T]:
        while len(self._emitters) < min(READ_LANES, max(1, len(tasks))):
            self._emitters.append(open_emitter(self._target, GRAPH_BYTES))
        return in_parallel(tasks, READ_LANES)

    def _read_part(
        self,
        entity_type: str,
        wanted: Mapping[str, Collection[str]],
        urns: Sequence[str],
        lane: int,
    ) -> dict[Place, HeldAspect] | DeliveryError:
        """The aspects of some entities, or why they can't be read together."""
        asked = [{"urn": urn, **{name: {} for name in sorted(wanted[urn])}} for urn in urns]
        path = f"/openapi/v3/entity/{entity_type}/batchGet?systemMetadata=true"
        try:
            what = f"entities of type {entity_type}"
            entities = self._ask(lane, path, asked, what, READ_ENTITIES)
        except (NotReadable, Refused, TimedOut, Unending) as error:
            return error
        return {
            (entity["urn"], name): _held(aspect)
            for entity in self._objects(entities, path)
            if isinstance(entity.get("urn"), str)
            for name, aspect in entity.items()
            if name != "urn" and isinstance(aspect, dict)
        }

    def _scroll(
        self, entity_type: str, aspect: str, urns: Collection[str], span: Span
    ) -> dict[str, list[Json]] | None:
        """The documents of these entities among those of all.

        None if there are too many others, one of them may not be read, or the server can't do it.
        """
        found: dict[str, list[Json]] = {urn: [] for urn in urns}
        query: dict[str, Json] = {
            "count": DOCUMENTS,
            "startTimeMillis": span[0],
            "endTimeMillis": span[1],
        }
        for _ in range(SPARE_PAGES + len(urns) // ENTITIES):
            path = f"/openapi/v2/timeseries/{entity_type}/{aspect}?{urllib.parse.urlencode(query)}"
            ask = functools.partial(
                self._ask, path=path, body=None, what=aspect, privilege=_privileges(aspect)
            )
            try:
                (page,) = self._in_parallel([ask])
            except _NoSuchPath:
                self._can_scroll = False
                return None
            except (NotReadable, Refused, TimedOut, Unending):
                return None
            results = self._objects(page.get("results") if isinstance(page, dict) else page, path)
            for document in results:
                urn = document.get("urn")
                if isinstance(urn, str) and urn in found:
                    found[urn].append(document.get("event"))
            if not results or not page.get("scrollId"):
                return found
            query["scrollId"] = page["scrollId"]
        return None

    def _documents_of(
        self, entity_type: str, aspect: str, urn: str, span: Span, lane: int
    ) -> list[Json] | DeliveryError:
        """The documents of one entity, the newest first, or why they can't be read."""
        path, end = "/aspects?action=getTimeseriesAspectValues", span[1]
        documents: list[Json] = []
        while True:
            asked = {
                "urn": urn,
                "entity": entity_type,
                "aspect": aspect,
                "startTimeMillis": span[0],
                "endTimeMillis": end,
                "limit": DOCUMENTS,
            }
            try:
                answer = self._ask(lane, path, asked, aspect, _privileges(aspect))
            except TimedOut as error:
                raise Unavailable(str(error)) from error
            except (NotReadable, Refused, Unending) as error:
                return error
            value = answer.get("value") if isinstance(answer, dict) else None
            values = self._objects(value.get("values") if isinstance(value, dict) else None, path)
            page = [document for found in values if (document := _document(found)) is not None]
            documents += page
            times = [time for each in page if isinstance(time := each.get("timestampMillis"), int)]
            if len(values) < DOCUMENTS or not times or min(times) >= end:
                return documents
            end = min(times)

    def _objects(self, values: Json, path: str) -> list[dict[str, Any]]:
        """The objects in a list; raises `Misconfigured` for an answer that has none."""
        if not isinstance(values, list):
            what = path.partition("?")[0]
            raise Misconfigured(f"{self._url} gives no list at {what}: is it DataHub's GMS?")
        return [value for value in values if isinstance(value, dict)]

    def _ask(self, lane: int, path: str, body: Json, what: str, privilege: str) -> Json:
        """The content of the answer; a request with a body is a POST."""

        def attempt() -> Json:
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
        except (Conflict, ServerError) as error:
            raise Unavailable(str(error)) from error

    def _content(self, response: requests.Response, path: str, what: str, privilege: str) -> Json:
        for redirect in response.history:
            judge(redirect, self._url)
        if response.status_code == requests.codes.forbidden:
            raise NotReadable(what, privilege)
        if response.status_code == requests.codes.not_found and path.startswith("/openapi/v2/"):
            raise _NoSuchPath(f"{self._url} has no {path}")
        if response.status_code == requests.codes.ok:
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(response.content)
        return judge(response, self._url)


class _NoSuchPath(Misconfigured):
    """The server is too old for a request, or its proxy doesn't let it through."""


_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


def _privileges(aspect: str) -> str:
    """What reading a timeseries needs."""
    special = PRIVILEGES.get(aspect)
    return f"{READ_TIMESERIES} and {special}" if special else READ_TIMESERIES


def _portions(urns: Sequence[str], size: int) -> list[Sequence[str]]:
    return [urns[start : start + size] for start in range(0, len(urns), size)]


def _take(
    held: Held,
    failed: list[tuple[Sequence[str], DeliveryError]],
    part: Sequence[str],
    answer: dict[Place, HeldAspect] | DeliveryError,
) -> None:
    if isinstance(answer, DeliveryError):
        failed.append((part, answer))
    else:
        held.aspects.update(answer)


def _document(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """A document as `getTimeseriesAspectValues` has it, None for what is none."""
    aspect = found.get("aspect")
    text = aspect.get("value") if isinstance(aspect, dict) else None
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        document = json.loads(text)  # type: ignore[arg-type]
        return document if isinstance(document, dict) else None
    return None


def _held(aspect: Mapping[str, Any]) -> HeldAspect:
    metadata = aspect.get("systemMetadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    observed = metadata.get("lastObserved")
    is_time = isinstance(observed, int | float) and 0 < observed < LATEST_MILLIS
    return HeldAspect(
        value=aspect.get("value"),
        run_id=str(metadata.get("runId") or ""),
        observed=observed / 1000 if is_time else None,  # type: ignore[operator]
    )
