"""How a `Proposal` is made from one of DataHub's schema classes.

Every aspect is serialised here, once, in the form that is sent: sorted keys, no spaces.
An aspect that cannot be made becomes a `Problem`, and costs nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

from avro.errors import AvroException
from datahub.emitter.mcp_patch_builder import MetadataPatchProposal
from datahub.metadata.schema_classes import (
    MetadataChangeProposalClass,
    OwnerClass,
    OwnershipSourceClass,
    OwnershipSourceTypeClass,
    OwnershipTypeClass,
    TagAssociationClass,
)
from datahub.specific.aspect_helpers.ownership import HasOwnershipPatch
from datahub.specific.aspect_helpers.tags import HasTagsPatch

from datahub_eventlog import error_text
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.json_writer import to_json
from datahub_eventlog.values import Change, Json, Problem, Proposal

Aspect: TypeAlias = Any
"""An instance of one of DataHub's aspect classes, which share no public base class, or one that
is `Prepared`."""

Proposals: TypeAlias = Iterator[Proposal | Problem]
"""What the parts of translation yield."""

_ANY = "urn:li:dataset:any"
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Prepared:
    """An aspect that many entities have alike, serialised once for all of them."""

    name: str
    body: str


def prepared(aspect: Aspect) -> Prepared:
    """Serialise an aspect; raises what DataHub's classes raise if it cannot be."""
    if isinstance(aspect, Prepared):
        return aspect
    return Prepared(aspect.get_aspect_name(), json_of(to_json(aspect)))


def state(
    urn: str, aspect: Aspect, time: float, run_id: str = "", *, is_vacant: bool = False
) -> Proposal | Problem:
    """An aspect that says how something is since `time`, the time of the event that says so.

    One that is vacant says that there is nothing, see `Proposal`.
    """
    return _upsert(urn, aspect, time, run_id, is_vacant=is_vacant)


def instance(urn: str, aspect: Aspect, run_id: str = "") -> Proposal | Problem:
    """An aspect that is always sent: of a process instance, or of a timeseries."""
    return _upsert(urn, aspect, None, run_id)


def patches(
    builder: MetadataPatchProposal,
    run_id: str = "",
    *,
    time: float | None = None,
    topic: str = "",
) -> Iterator[Proposal | Problem]:
    """What one of DataHub's patch builders holds, one proposal an aspect.

    Add to the builder in a sorted order: equal content is to be equal text. With a `time`, of
    the event that says so, it is for nobody who knows a newer whole of that aspect, and with a
    `topic` for nobody who knows a newer one on that.
    """
    for change in builder.build():
        found = _patch(change, run_id, time)
        yield found if isinstance(found, Problem) else replace(found, topic=topic)


class TagAndOwnerPatch(HasTagsPatch, HasOwnershipPatch):
    """Tags and owners that are added to those an entity has, of whatever type it is."""


def additions(
    urn: str,
    *,
    tags: Iterable[str] = (),
    owners: Iterable[str] = (),
    run_id: str = "",
    time: float | None = None,
) -> Iterator[Proposal | Problem]:
    """Add tags, by their names, and owners, as Dagster writes them; nothing if there are none.

    Doing it again changes nothing, and what people set in DataHub stays.
    """
    added = _added(frozenset(tags), frozenset(owners))
    for name, body in added.bodies:
        yield _unfit(urn, name) or Proposal(
            urn, urns.entity_type(urn), name, body, Change.PATCH, time=time, run_id=run_id
        )
    yield from (replace(each, urn=urn) for each in added.faults)


@dataclass(frozen=True)
class _Added:
    """Tags and owners to add, for whatever entity: many have the same."""

    bodies: Sequence[tuple[str, str]]
    """Aspects and patches."""
    faults: Sequence[Problem]


@lru_cache(maxsize=1000)
def _added(tags: frozenset[str], owners: frozenset[str]) -> _Added:
    builder = TagAndOwnerPatch(_ANY)
    faults: list[Problem] = []
    for tag in _urns(urns.tag_urn, tags, Problem(_ANY, "globalTags", "tag"), faults):
        builder.add_tag(TagAssociationClass(tag=tag))
    for owner in _urns(urns.owner_urn, owners, Problem(_ANY, "ownership", "owner"), faults):
        builder.add_owner(_owner(owner))
    made = list(patches(builder))
    bodies = [(each.aspect, each.body) for each in made if isinstance(each, Proposal)]
    return _Added(bodies, [*faults, *(each for each in made if isinstance(each, Problem))])


def _urns(
    convert: Callable[[str], str], names: Iterable[str], about: Problem, faults: list[Problem]
) -> list[str]:
    """The urns of those names, sorted; each that makes none is a fault of its own."""
    found = set()
    for name in sorted(names):
        try:
            found.add(convert(name))
        except urns.InvalidUrn as error:
            faults.append(replace(about, reason=f"{about.reason} {error}"))
    return sorted(found)


def _owner(urn: str) -> OwnerClass:
    source = OwnershipSourceClass(type=OwnershipSourceTypeClass.SERVICE)
    return OwnerClass(owner=urn, type=OwnershipTypeClass.TECHNICAL_OWNER, source=source)


def _upsert(
    urn: str, aspect: Aspect, time: float | None, run_id: str, *, is_vacant: bool = False
) -> Proposal | Problem:
    name = aspect.name if isinstance(aspect, Prepared) else aspect.get_aspect_name()
    if problem := _unfit(urn, name):
        return problem
    try:
        body = prepared(aspect).body
    except (AvroException, TypeError, ValueError) as error:
        return Problem(urn, name, error_text.describe(error))
    kind = urns.entity_type(urn)
    return Proposal(urn, kind, name, body, time=time, run_id=run_id, is_vacant=is_vacant)


def _patch(
    change: MetadataChangeProposalClass, run_id: str, time: float | None
) -> Proposal | Problem:
    urn, name = str(change.entityUrn), str(change.aspectName)
    if problem := _unfit(urn, name):
        return problem
    body = json_of(json.loads(change.aspect.value)) if change.aspect else "[]"
    kind = change.entityType
    return Proposal(urn, kind, name, body, change=Change.PATCH, time=time, run_id=run_id)


def _unfit(urn: str, aspect: str) -> Problem | None:
    if not urns.is_too_long(urn):
        return None
    reason = f"the urn is longer than the {urns.LONGEST} bytes that DataHub takes"
    return Problem(urn, aspect, reason)


def json_of(value: Json) -> str:
    """The one form in which aspects and patches are sent: equal content is equal text."""
    return _ENCODER.encode(value)
