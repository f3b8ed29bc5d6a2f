"""Our proposals as the client's; the bytes of an aspect are not changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from datahub.metadata.schema_classes import (
    GenericAspectClass,
    MetadataChangeProposalClass,
    SystemMetadataClass,
)

from datahub_eventlog.values import Change, Proposal

CONTENT_TYPES: Mapping[Change, str] = {
    Change.UPSERT: "application/json",
    Change.CREATE: "application/json",
    Change.PATCH: "application/json-patch+json",
}


class Mcp(MetadataChangeProposalClass):
    """The client's form of a proposal, which can be sent repeatedly."""

    def to_obj(self, tuples: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        """Its JSON for Rest.li, or with `tuples` its fields for Avro.

        The client would validate each field against the schema at each attempt, which takes ten
        times as long.
        """
        if tuples:
            return dict(super().to_obj(tuples))
        fields: dict[str, Any] = dict(self.items())
        for name in ("aspect", "systemMetadata"):
            fields[name] = dict(fields[name].items())
        fields["aspect"]["value"] = fields["aspect"]["value"].decode()
        return fields


def observed(run_id: str) -> SystemMetadataClass:
    """The metadata of what was seen just now, and in which run; proposals may share it."""
    metadata = SystemMetadataClass(lastObserved=int(time.time() * 1000))
    if run_id:
        metadata.runId = run_id
    return metadata


def mcp(
    proposal: Proposal,
    headers: Mapping[str, str] | None = None,
    metadata: SystemMetadataClass | None = None,
) -> Mcp:
    """The client's form of a proposal, observed just now unless its `metadata` says otherwise.

    `headers` are added to those of the proposal. Raises `ValueError` for what can't be written as
    UTF-8.
    """
    return Mcp(
        entityType=proposal.entity_type,
        entityUrn=proposal.urn,
        changeType=proposal.change.value,
        aspectName=proposal.aspect,
        aspect=GenericAspectClass(proposal.body.encode(), CONTENT_TYPES[proposal.change]),
        systemMetadata=metadata or observed(proposal.run_id),
        headers={**(headers or {}), **proposal.headers} or None,
    )
