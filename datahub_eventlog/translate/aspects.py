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
    DataPlatformInstanceClass,
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
from datahub_eventlog.translate.context import Context
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
    """An aspect of an entity's state since `time`, the time of the event that it comes from.

    A vacant one takes back what was sent before, see `Proposal`.
    """
    return _upsert(urn, aspect, time, run_id, is_vacant=is_vacant)


def instance(urn: str, aspect: Aspect, run_id: str = "") -> Proposal | Problem:
    """An aspect that is always sent: of a process instance, or of a timeseries."""
    return _upsert(urn, aspect, None, run_id)


def created(
    urn: str,
    aspect: Aspect,
    time: float,
    run_id: str = "",
    *,
    state: str = "",
    is_vacant: bool = False,
) -> Proposal | Problem:
    """An aspect that is written only where DataHub has none, as of `time`.

    With the `state` of the entity, it is sent only when that changes, see `Proposal.transition`.
    """
    made = _upsert(urn, aspect, time, run_id, is_vacant=is_vacant)
    if isinstance(made, Problem):
        return made
    topic = STATE if state else ""
    return replace(made, change=Change.CREATE, topic=topic, transition=state)


STATE = "state"
"""The topic of patches that bring an entity to another state."""


def patches(
    builder: MetadataPatchProposal,
    run_id: str = "",
    *,
    time: float | None = None,
    topic: str = "",
) -> Iterator[Proposal | Problem]:
    """What one of DataHub's patch builders holds, one proposal an aspect.

    Add to the builder in a sorted order: equal content is to be equal text. With a `time`, that
    of the event it comes from, a patch is dropped where a newer whole of its aspect was sent, and
    with a `topic` where a newer patch on that topic was.
    """
    for change in builder.build():
        urn, name = str(change.entityUrn), str(change.aspectName)
        body = json_of(json.loads(change.aspect.value)) if change.aspect else "[]"
        yield _unfit(urn, name) or Proposal(
            urn, change.entityType, name, body, Change.PATCH, time, run_id, topic=topic
        )


def dagster_platform(context: Context) -> DataPlatformInstanceClass:
    """The platform Dagster, and the instance of it that is configured."""
    name = context.config.platform_instance
    return DataPlatformInstanceClass(
        platform=urns.platform_urn(), instance=urns.platform_instance_urn(name) if name else None
    )


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
    yield from (replace(fault, urn=urn) for fault in added.faults)


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
    source = OwnershipSourceClass(type=OwnershipSourceTypeClass.SERVICE)
    kind = OwnershipTypeClass.TECHNICAL_OWNER
    for owner in _urns(urns.owner_urn, owners, Problem(_ANY, "ownership", "owner"), faults):
        builder.add_owner(OwnerClass(owner=owner, type=kind, source=source))
    made = list(patches(builder))
    bodies = [(item.aspect, item.body) for item in made if isinstance(item, Proposal)]
    return _Added(bodies, [*faults, *(item for item in made if isinstance(item, Problem))])


def _urns(
    convert: Callable[[str], str], names: Iterable[str], about: Problem, faults: list[Problem]
) -> list[str]:
    """The urns of those names, sorted; a name that makes none becomes a fault."""
    converted = set()
    for name in sorted(names):
        try:
            converted.add(convert(name))
        except urns.InvalidUrn as error:
            faults.append(replace(about, reason=f"{about.reason} {error}"))
    return sorted(converted)


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


def _unfit(urn: str, aspect: str) -> Problem | None:
    if not urns.is_too_long(urn):
        return None
    reason = f"the urn is longer than the {urns.LONGEST_BYTES} bytes that DataHub takes"
    return Problem(urn, aspect, reason)


def json_of(value: Json) -> str:
    """The one form in which aspects and patches are sent: equal content is equal text."""
    return _ENCODER.encode(value)
