"""How large a text and a proposal may be; what exceeds that is left out and reported.

Where the sizes come from:

- GMS takes requests of 16 MB, and strings of 16,000,000 characters. The sink makes requests of at
  most 15 MiB out of several proposals.
- Kafka's producer takes messages of 1,000,000 bytes by default, its brokers 1,048,588; DataHub's
  own topics take 5 MiB. GMS in turn writes each change on Kafka, with what was there before.
- The search index takes terms of 32,766 bytes, and DataHub's keeps 4,096 characters of a property.

A text that is too long is cut. Where many texts are too much for a proposal together, all are
cut shorter, and then entries of its longest list are left out, from the end. A patch becomes
several patches instead: its additions are independent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from datahub_eventlog.values import Change, Json, Problem, Proposal

LONGEST_PROPERTY = 20_000
"""Characters of a custom property."""
LONGEST_TEXT = 100_000
"""Characters of any other text: descriptions, SQL, native types."""
SHORTEST_TEXT = 100
"""Texts are never cut to fewer characters than this."""
LARGEST_BODY = 900_000
"""Bytes of an aspect or patch; the rest of a message on Kafka needs room as well."""

MAP_FIELDS = frozenset({"customProperties", "nativeResults"})
"""Fields that map names of the user's own to texts."""
NAMING_FIELDS = frozenset(
    {"fieldPath", "id", "messageId", "name", "partition", "primaryKeys", "schemaName", "url"}
)
"""Fields that name something. Like urns they are never cut: they would name something else."""
UNCUT_FIELDS = frozenset({"externalUrl", "jsonProps"})
"""Fields whose texts are useless once cut: links, and JSON that is parsed."""
EXPENDABLE_FIELDS = frozenset({"fineGrainedLineages"})
"""Fields whose entries are left out before those of others."""

_TOO_LARGE = f"more than the {LARGEST_BODY:,} bytes that go into one message"
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def cut(text: str, length: int = LONGEST_TEXT) -> str:
    """A text of at most `length` characters: the beginning, and how much is left out."""
    if len(text) <= length:
        return text
    # The mark displaces text, and so its number can only be estimated: by the largest possible.
    end = max(0, length - len(_mark(len(text))))
    if "\ud800" <= text[end - 1 : end] <= "\udbff" and "\udc00" <= text[end] <= "\udfff":
        end -= 1
    return text[:end] + _mark(len(text) - end)


def within_limits(items: Iterable[Proposal | Problem]) -> Iterator[Proposal | Problem]:
    """The same items, each proposal cut to what DataHub takes, with a problem for the rest."""
    for item in items:
        # No text in the body is longer than the body.
        if isinstance(item, Problem) or len(item.body) <= LONGEST_PROPERTY:
            yield item
        elif item.change is Change.PATCH:
            yield from _patches(item, json.loads(item.body))
        else:
            yield from _aspect(item, json.loads(item.body))


def _mark(count: int) -> str:
    return f"… [{count:,} more characters are left out]"


def _aspect(proposal: Proposal, value: Json) -> Iterator[Proposal | Problem]:
    body, left_out = _fitted(value)
    if len(body) > LARGEST_BODY:
        yield Problem(proposal.urn, proposal.aspect, f"it has {_TOO_LARGE}, and is left out")
        return
    yield replace(proposal, body=body)
    if left_out:
        reason = f"it has {_TOO_LARGE}: left out are {', '.join(left_out)}"
        yield Problem(proposal.urn, proposal.aspect, reason)


def _fitted(value: Json) -> tuple[str, Sequence[str]]:
    """The aspect within its size, and what had to be left out of it."""
    whole = _TextCutter(LONGEST_TEXT)
    if len(body := _text(whole.of(value))) <= LARGEST_BODY:
        return body, whole.left_out
    length, least = LONGEST_TEXT, _TextCutter(SHORTEST_TEXT)
    shortest = least.of(value)
    if len(body := _text(shortest)) > LARGEST_BODY:
        trimmed = list(_trim(shortest, len(body) - LARGEST_BODY))
        return _text(shortest), [*least.left_out, *trimmed]
    while (length := length // 2) > SHORTEST_TEXT:
        cutting = _TextCutter(length)
        if len(longer := _text(cutting.of(value))) <= LARGEST_BODY:
            return longer, cutting.left_out
    return body, least.left_out


def _trim(aspect: Json, excess: int) -> Iterator[str]:
    """Remove so many bytes from the ends of its lists; yields what was removed."""
    lists = sorted(
        _lists(aspect),
        key=lambda entries: (entries[0] not in EXPENDABLE_FIELDS, -len(_text(entries[1]))),
    )
    for name, entries in lists:
        total = len(entries)
        while entries and excess > 0:
            last = dict([entries.popitem()]) if isinstance(entries, dict) else [entries.pop()]
            excess -= len(_text(last)) - len("[]") + len(",")
        if len(entries) < total:
            yield f"{total - len(entries):,} of {total:,} {name}"


def _lists(value: Json) -> Iterator[tuple[str, list[Json] | dict[str, Json]]]:
    """The lists and maps in a record, with the names of their fields."""
    for name, entry in value.items() if isinstance(value, dict) else ():
        if isinstance(entry, list) or (isinstance(entry, dict) and name in MAP_FIELDS):
            yield name, entry
        elif isinstance(entry, dict):
            yield from _lists(entry)


def _patches(proposal: Proposal, patch: Json) -> Iterator[Proposal | Problem]:
    """The patch in as many proposals as needed; DataHub has two forms of patches."""
    frame = {**patch, "patch": []} if isinstance(patch, dict) else {}
    changes: Json = patch.get("patch") if isinstance(patch, dict) else patch
    if not _are_changes(changes):
        yield proposal  # made by a user's extractor in an unknown form: DataHub decides
        return
    cutting = _TextCutter(LONGEST_TEXT)
    for chunk in _chunks(map(cutting.of_change, changes), LARGEST_BODY - len(_text(frame))):
        body = _text({**frame, "patch": chunk} if frame else chunk)
        if len(body) <= LARGEST_BODY:
            yield replace(proposal, body=body)
        else:
            reason = f"a change of {chunk[0]['path']} has {_TOO_LARGE}, and is left out"
            yield Problem(proposal.urn, proposal.aspect, reason)


def _are_changes(value: Json) -> bool:
    return isinstance(value, list) and all(
        isinstance(change, dict) and str(change.get("path")).startswith("/") for change in value
    )


def _chunks(entries: Iterable[Json], room: int) -> Iterator[list[Json]]:
    """The entries in lists of at most so many bytes, or of one entry."""
    chunk: list[Json] = []
    size = len("[]")
    for entry in entries:
        length = len(_text(entry)) + len(",")
        if chunk and size + length > room:
            yield chunk
            chunk, size = [], len("[]")
        chunk.append(entry)
        size += length
    if chunk:
        yield chunk


class _TextCutter:
    """Copies JSON with texts of at most `length`, and counts what it leaves out."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._dropped: Counter[str] = Counter()

    @property
    def left_out(self) -> list[str]:
        """What was left out."""
        return [f"{count:,} {name}" for name, count in sorted(self._dropped.items()) if count]

    def of(self, value: Json, name: str = "") -> Json:
        """A value with its texts cut; `name` is that of the field that holds it."""
        if isinstance(value, list):
            return [self.of(item, name) for item in value]
        if isinstance(value, dict) and name in MAP_FIELDS:
            return {key: self._property(text) for key, text in value.items()}
        if isinstance(value, dict):
            kept = {key: field for key, field in value.items() if not self._drops(key, field)}
            return {key: self.of(field, key) for key, field in kept.items()}
        is_name = name in NAMING_FIELDS or not isinstance(value, str) or value.startswith("urn:li:")
        return value if is_name else cut(value, self._length)

    def of_change(self, change: Json) -> Json:
        """One change of a patch with its texts cut; its path is a name."""
        if "value" not in change:
            return change
        _, field, *within = change["path"].split("/")
        in_map = field in MAP_FIELDS and within
        value = change["value"]
        return {**change, "value": self._property(value) if in_map else self.of(value, field)}

    def _property(self, value: Json) -> Json:
        return cut(value, min(self._length, LONGEST_PROPERTY)) if isinstance(value, str) else value

    def _drops(self, name: str, value: Json) -> bool:
        is_dropped = name in UNCUT_FIELDS and isinstance(value, str) and len(value) > self._length
        self._dropped[name] += is_dropped
        return is_dropped


def _text(value: Json) -> str:
    return _ENCODER.encode(value)
