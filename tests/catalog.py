"""DataHub as far as proposals change it: what is there after some deliveries.

It takes a proposal only if the real one would, and, as the dispatcher does, no state that is
older than the one that it has; a patch is applied unless the whole is newer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import receiver_schemas as schemas
from datahub.emitter.aspect import ASPECT_MAP
from datahub.emitter.serialization_helper import post_json_transform, pre_json_transform
from receiver_patches import patched

from datahub_eventlog.proposal_claims import slot
from datahub_eventlog.values import Change, Problem, Proposal


class Catalog:
    """What DataHub knows."""

    def __init__(self) -> None:
        self.state: dict[tuple[str, str], Any] = {}
        """By urn and aspect."""
        self.series: dict[tuple[str, str], dict[tuple[int, str | None], Any]] = {}
        """The same for timeseries, by timestamp and message id."""
        self.problems: set[Problem] = set()
        self._times: dict[tuple[str, str], float] = {}
        self._added: dict[tuple[str, str], dict[str, Proposal]] = {}
        """The patches with a time, by what they take the place of."""

    def deliver(self, items: Iterable[Proposal | Problem]) -> Catalog:
        """Take one translation of a run; nothing in it may stand there twice."""
        places: set[tuple[str, str]] = set()
        for each in items:
            if isinstance(each, Problem):
                self.problems.add(each)
                continue
            place = (each.urn, slot(each))
            is_series = schemas.aspects()[each.aspect].is_timeseries
            assert is_series or place not in places, f"twice: {place}"
            places.add(place)
            self._take(each)
        return self

    def of(self, urn: str, aspect: str) -> Any:
        """An aspect's value, or None."""
        return self.state.get((urn, aspect))

    def events(self, urn: str) -> list[tuple[str, str | None, int]]:
        """A process instance's run events in the order of time: status, result, attempt."""
        found = self.series.get((urn, "dataProcessInstanceRunEvent"), {})
        ordered = sorted(found.values(), key=lambda each: each["timestampMillis"])
        return [
            (each["status"], (each.get("result") or {}).get("type"), each["attempt"])
            for each in ordered
        ]

    def urns(self, kind: str) -> list[str]:
        """All entities of a type."""
        found = {urn for urn, _ in (*self.state, *self.series)}
        return sorted(each for each in found if each.split(":", 3)[2] == kind)

    def _take(self, proposal: Proposal) -> None:
        place = (proposal.urn, proposal.aspect)
        if proposal.transition and proposal.is_vacant and place not in self.state:
            return  # the ledger knows that there is nothing to take back
        value = _checked(proposal, self.state.get(place))
        if schemas.aspects()[proposal.aspect].is_timeseries:
            key = (value["timestampMillis"], value.get("messageId"))
            self.series.setdefault(place, {})[key] = value
        elif self._is_newest(proposal):
            self.state[place] = value
            if proposal.time is not None and proposal.change is Change.UPSERT:
                self._times[place] = proposal.time
                self._add_again(place, proposal.time)
            elif proposal.time is not None:
                self._added.setdefault(place, {})[slot(proposal)] = proposal

    def _is_newest(self, proposal: Proposal) -> bool:
        place, time = (proposal.urn, proposal.aspect), proposal.time
        if time is None:
            return True
        known = self._added.get(place, {}).get(slot(proposal))
        is_older = proposal.change is Change.PATCH and known and time < (known.time or 0.0)
        return not is_older and time >= self._times.get(place, time)

    def _add_again(self, place: tuple[str, str], time: float) -> None:
        """Whoever added what is newer than a whole does so again."""
        added = self._added.get(place, {}).values()
        for each in sorted(added, key=lambda one: one.time or 0.0):
            if each.time is not None and each.time > time:
                self.state[place] = _checked(each, self.state[place])


def unordered(value: Any) -> Any:
    """With sorted lists: what several deliveries added has no order."""
    if isinstance(value, dict):
        return {name: unordered(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted((unordered(each) for each in value), key=json.dumps)
    return value


def edges(value: Any, side: str) -> list[str]:
    """The destinations of one side of a dataJobInputOutput, such as `inputDataset`."""
    return [each["destinationUrn"] for each in (value or {}).get(f"{side}Edges") or []]


def proposals(items: Iterable[Proposal | Problem]) -> Iterator[Proposal]:
    """Without the problems."""
    return (each for each in items if isinstance(each, Proposal))


def _checked(proposal: Proposal, now: Any) -> Any:
    """The aspect's value after the proposal; raises `Flaw` if DataHub would refuse it."""
    kind = schemas.check_urn(proposal.urn, "/entityUrn")
    assert kind == proposal.entity_type
    assert proposal.aspect in schemas.entities()[kind], f"{kind} has no {proposal.aspect}"
    body = json.loads(proposal.body)
    assert proposal.body == json.dumps(body, sort_keys=True, separators=(",", ":"))
    if proposal.change is not Change.PATCH:
        again = ASPECT_MAP[proposal.aspect].from_obj(post_json_transform(body))
        assert pre_json_transform(again.to_obj()) == body
    value = patched(proposal.aspect, now, body) if proposal.change is Change.PATCH else body
    if proposal.change is Change.CREATE and now is not None:
        value = now
    schemas.aspects()[proposal.aspect].check(value)
    return value
