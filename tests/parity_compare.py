"""What two states of DataHub differ in, and a state as text for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from parity_sides import Told
from receiver import Json


class _Absent:
    """There is nothing."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
LINEAGE = "dataJobInputOutput"
_SIDES = ("inputDatasets", "outputDatasets", "inputDatajobs")
RUN_EVENT = "dataProcessInstanceRunEvent"
PROPERTIES = "dataProcessInstanceProperties"


@dataclass(frozen=True)
class Difference:
    """One value that is not the same on both sides."""

    urn: str
    aspect: str
    path: tuple[str, ...]
    """The names of the fields that lead to it; `*` stands for an item of a list."""
    theirs: Any
    """ABSENT where there is none; the same for `ours`."""
    ours: Any

    @property
    def kind(self) -> str:
        """The entity's type."""
        return self.urn.split(":", 3)[2]

    @property
    def place(self) -> str:
        """Such as `dataJobInfo.customProperties.x`."""
        return ".".join((self.aspect, *self.path))

    @property
    def is_gain(self) -> bool:
        """Only we say it."""
        return self.theirs is ABSENT

    @property
    def is_loss(self) -> bool:
        """Only the plugin says it."""
        return self.ours is ABSENT

    def __str__(self) -> str:
        return f"{self.urn} {self.place}: theirs {self.theirs!r}, ours {self.ours!r}"


def differences(told: Told) -> list[Difference]:
    """Entity by entity, aspect by aspect, field by field."""
    found = []
    for urn in sorted(told.theirs.keys() | told.ours.keys()):
        theirs, ours = told.theirs.get(urn, {}), told.ours.get(urn, {})
        for aspect in sorted(theirs.keys() | ours.keys()):
            pair = theirs.get(aspect, ABSENT), ours.get(aspect, ABSENT)
            if aspect == LINEAGE:
                pair = _lineage(pair[0]), _lineage(pair[1])
            for path, one, other in _differences((), *pair):
                found.append(Difference(urn, aspect, path, one, other))
    return found


def _lineage(aspect: Any) -> Any:
    """The urns on each side of a job, in whichever of DataHub's two forms they stand there."""
    if aspect is ABSENT:
        return ABSENT
    form = {"form": "edges" if "inputDatasetEdges" in aspect else "lists"}
    return {**form, **{name: _urns(aspect, name) for name in _SIDES}}


def _urns(aspect: Mapping[str, Any], name: str) -> list[str]:
    edges = aspect.get(f"{name.removesuffix('s')}Edges") or []
    return sorted({*(aspect.get(name) or ()), *(each["destinationUrn"] for each in edges)})


_Found = Iterator[tuple[tuple[str, ...], Any, Any]]


def _differences(path: tuple[str, ...], theirs: Any, ours: Any) -> _Found:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted(theirs.keys() | ours.keys()):
            pair = theirs.get(name, ABSENT), ours.get(name, ABSENT)
            yield from _differences((*path, name), *pair)
    elif isinstance(theirs, list) and isinstance(ours, list):
        yield from _of_lists((*path, "*"), theirs, ours)
    elif theirs != ours:
        yield path, theirs, ours


def _of_lists(path: tuple[str, ...], theirs: Sequence[Any], ours: Sequence[Any]) -> _Found:
    """Items that have an identity are compared with their like; the order counts nowhere."""
    one, other = (
        {_identity(each): each for each in theirs},
        {_identity(each): each for each in ours},
    )
    for name in sorted(one.keys() | other.keys()):
        yield from _differences(path, one.get(name, ABSENT), other.get(name, ABSENT))


def _identity(item: Any) -> str:
    """Of a run event its time and status, of an edge its dataset; else the item itself."""
    for names in _IDENTITIES:
        if isinstance(item, dict) and item.keys() >= set(names):
            return json.dumps([item[name] for name in names])
    return json.dumps(item, sort_keys=True)


_IDENTITIES = (
    ("timestampMillis", "status"),
    ("timestampMillis", "operationType"),
    ("destinationUrn",),
    ("dataset",),
    ("tag",),
    ("fieldPath",),
)


# --------------------------------------------------------------------------------------- for people


def frozen(told: Told) -> str:
    """Our side as YAML, without what is different each time."""
    freezing = _Freezing(told)
    state = {
        freezing.text(urn): {name: freezing.value(each) for name, each in aspects.items()}
        for urn, aspects in told.ours.items()
    }
    problems = [[freezing.text(text) for text in problem] for problem in told.problems]
    document: dict[str, Any] = {"entities": state}
    if problems:
        document["problems"] = problems
    return yaml.safe_dump(document, width=100, allow_unicode=True)


class _Freezing:
    def __init__(self, told: Told) -> None:
        self._names = {told.home: "<home>"}
        for number, run_id in enumerate(told.runs, start=1):
            self._names[run_id] = f"<run {number}>"
        for urn, aspects in told.ours.items():
            if PROPERTIES in aspects:
                name = self.text(aspects[PROPERTIES]["name"])
                self._names[urn] = f"urn:li:dataProcessInstance:({name})"

    def text(self, text: str) -> str:
        for one, other in self._names.items():
            text = text.replace(one, other)
        for pattern, name in _CHANGING:
            text = pattern.sub(name, text)
        return text

    def value(self, value: Json) -> Json:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name): self._field(name, each) for name, each in value.items()}
        if isinstance(value, list):
            return sorted((self.value(each) for each in value), key=_order)
        return value

    def _field(self, name: str, value: Json) -> Json:
        if name in _TIMES and isinstance(value, int):
            return f"<{name}>"
        return self.value(value)


_TIMES = {"timestampMillis", "time", "lastUpdatedTimestamp", "durationMillis", "startedAt"}
_CHANGING: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\b1[6-9]\d{8}\.\d+\b"), "<seconds>"),
    (re.compile(r"\b20\d\d-\d\d-\d\dT[\d:.]+\+00:00"), "<moment>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "<snapshot>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<version>"),
    (re.compile(r"(?<=:)\d+(?=:observed$)"), "<event>"),
)


def _order(item: Json) -> tuple[Any, ...]:
    """Starts before ends, attempt by attempt."""
    if isinstance(item, Mapping) and "messageId" in item:
        return (item.get("attempt", 0), item.get("status") != "STARTED", json.dumps(item))
    return (0, False, json.dumps(item, sort_keys=True))
