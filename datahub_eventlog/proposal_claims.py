"""Under which claim of the ledger a proposal is sent."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from datahub_eventlog.ledger import TRANSITION, Claim
from datahub_eventlog.values import Change, Proposal

ADDED_TO = frozenset({"dataJobInputOutput", "datasetProperties", "upstreamLineage"})
"""The states that patches with a time add to."""


def claim_of(proposal: Proposal) -> Claim | None:
    """The claim under which a state is sent, or None for what is always sent.

    A patch adds to what is there, whoever sent it. It has a slot of its own, so it is not repeated
    without need and gives way only to a patch of the same places. A patch with a time adds to the
    state of that moment, and so gives way to a newer state. What is created gives way to newer
    patches on its topic, and is created again with them.
    """
    if proposal.time is None and proposal.change is not Change.PATCH:
        return None
    state = proposal.transition
    return Claim(
        proposal.urn,
        slot(proposal),
        proposal.time or 0.0,
        f"{TRANSITION}{state}" if state else content_hash(proposal),
        _base(proposal),
        takes_additions=proposal.change is Change.UPSERT and proposal.aspect in ADDED_TO,
        is_vacant=proposal.is_vacant,
    )


def repair_key(proposal: Proposal, claim: Claim | None) -> str:
    """By what a repair names a proposal: the state that it claims, or else all of its content."""
    if claim is not None:
        return claim.row_key
    return _hash(f"{proposal.urn}\0{proposal.aspect}\0{content_hash(proposal)}")


def slot(proposal: Proposal) -> str:
    """What a proposal takes the place of: an aspect, or of a patch its topic or paths."""
    if proposal.change is Change.UPSERT:
        return proposal.aspect
    if proposal.change is Change.CREATE:
        return f"{proposal.aspect}#created"
    if proposal.topic:
        return f"{proposal.aspect}#{proposal.topic}"
    return f"{proposal.aspect}#{_hash(json.dumps(_places(json.loads(proposal.body))))}"


def content_hash(proposal: Proposal) -> str:
    """The hash of everything that is sent."""
    return _hash(f"{proposal.change.value}\0{proposal.body}")


def _base(proposal: Proposal) -> str | None:
    """The slot that it adds to, if any."""
    if proposal.change is Change.CREATE:
        return f"{proposal.aspect}#{proposal.topic}" if proposal.topic else None
    is_addition = proposal.change is Change.PATCH and proposal.time is not None
    return proposal.aspect if is_addition else None


def _places(patch: Any) -> list[Any]:
    """What a patch changes, in either of the forms that DataHub knows; a user can send both.

    It may be no valid patch at all: DataHub checks that.
    """
    changes = patch.get("patch", ()) if isinstance(patch, dict) else patch
    return [
        [change.get("op"), change.get("path")] if isinstance(change, dict) else change
        for change in changes
    ]


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
