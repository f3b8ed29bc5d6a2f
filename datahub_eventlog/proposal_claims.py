"""Under which claim of the ledger a proposal is sent."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from datahub_eventlog.ledger import Claim
from datahub_eventlog.values import Change, Proposal

ADDED_TO = frozenset({"dataJobInputOutput", "datasetProperties", "upstreamLineage"})
"""The states that patches with a time add to."""


def claim_of(proposal: Proposal) -> Claim | None:
    """The claim under which a state is sent, or None for what is always sent.

    A patch adds to what is there, whoever sent it. It has a slot of its own, so it is not repeated
    without need and gives way only to a patch of the same places. A patch with a time adds to the
    state of that moment, and so gives way to a newer state.
    """
    if proposal.change is Change.PATCH:
        base = None if proposal.time is None else proposal.aspect
        return Claim(
            proposal.urn, slot(proposal), proposal.time or 0.0, content_hash(proposal), base
        )
    if proposal.time is None:
        return None
    return Claim(
        proposal.urn,
        proposal.aspect,
        proposal.time,
        content_hash(proposal),
        takes_additions=proposal.aspect in ADDED_TO,
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
    if proposal.topic:
        return f"{proposal.aspect}#{proposal.topic}"
    return f"{proposal.aspect}#{_hash(json.dumps(_places(json.loads(proposal.body))))}"


def content_hash(proposal: Proposal) -> str:
    """The hash of everything that is sent."""
    return _hash(f"{proposal.change.value}\0{proposal.body}")


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
