"""Secrets in text, replaced by `***` before anything leaves for DataHub, a log or the screen.

What counts as a secret: the password in the user info of a URI; the value that is given to a name
such as `password`, `token` or `X-Amz-Signature` in any notation; every value under such a key of a
mapping; tokens that are known by their shape; and what a user adds. User names, hosts and all other
text stay: `postgresql://bob:***@db/shop`.

The same text always gives the same result, and redacting twice changes nothing more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, TypeVar

from datahub_eventlog.redact.patterns import (
    HARMLESS,
    HIDDEN,
    HINTS,
    KNOWN,
    NAME_HINT,
    NAME_HINTS,
    NAMED,
    NAMES,
    USER_INFO,
    assignment_to,
    hide_value,
)

__all__ = ["DEFAULT", "HIDDEN", "USER_INFO", "Redactor"]

T = TypeVar("T")

USER_KEYED = ("customProperties", "nativeResults", "nativeParameters")
"""The fields of DataHub's aspects that are mappings with the user's keys."""
TYPE_NAME = "nativeDataType"
"""The field of a column's type, such as `struct<token:string>`, which is left as it is."""
PATTERN_SECONDS = 0.5
"""How long a user's pattern may search one text."""
MAX_PASSES = 5
"""Without the secrets that one pattern finds, another may find more: until nothing changes."""
CACHED_TEXTS = 20_000
MAX_CACHED_LENGTH = 300
"""Characters; longer texts are seldom repeated."""

_ENDS_AS_SECRET = re.compile(rf"(?i){NAMES}$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TAG = re.compile(r"(?s)(urn:li:tag:)([^:]+):(.+)")


@dataclass(frozen=True)
class Redactor:
    """Replaces the secrets that are known everywhere, and those that a user adds."""

    patterns: tuple[str, ...] = ()
    """Regular expressions: what they match is replaced; if they have groups, only those."""
    keys: tuple[str, ...] = ()
    """Names in addition to `password` and the like, in any case and with any separators."""

    def text(self, text: str) -> str:
        """The text without secrets; in an urn only what has the shape of a secret is replaced."""
        return self._cached_text(text) if len(text) <= MAX_CACHED_LENGTH else self._text(text)

    def value(self, value: T) -> T:
        """The same without secrets: JSON, or a frozen dataclass; its keys count as names."""
        redacted: T = self._value(value)
        return redacted

    def aspect(self, aspect: Any) -> Any:
        """An aspect's JSON, or a patch's, without secrets; only some of its keys are the user's."""
        if isinstance(aspect, str):
            return self.text(aspect)
        if isinstance(aspect, list):
            return [self.aspect(item) for item in aspect]
        if not isinstance(aspect, dict):
            return aspect
        if "op" in aspect and "path" in aspect:
            return self._change(aspect)
        return {name: self._field(name, item) for name, item in aspect.items()}

    def may_hold_secret(self, text: str) -> bool:
        """Whether `text` must be searched; False only if there is no secret in it.

        Fast for the JSON of aspects, most of whose strings are repeated.
        """
        if text in self._harmless:
            return False
        unknown = set(text.split('"')) - self._harmless
        if self._must_always_search or self._holds_hint('"'.join(unknown)):
            return True
        if len(self._harmless) > CACHED_TEXTS:
            self._harmless.clear()
        unknown.add(text)
        self._harmless.update(part for part in unknown if len(part) <= MAX_CACHED_LENGTH)
        return False

    def is_secret_name(self, name: str) -> bool:
        """Whether every value under a key of that name is a secret."""
        if _ENDS_AS_SECRET.search(name) or _ENDS_AS_SECRET.search(_CAMEL.sub("_", name)):
            return True
        return bool(self.keys) and _normalized(name) in self._normalized_keys

    def _text(self, text: str) -> str:
        if not self.may_hold_secret(text):
            return text
        if text.startswith("urn:li:") and not text.startswith("urn:li:tag:"):
            return _without_known(text)
        if text.lstrip()[:1] in ("{", "["):
            try:
                value = json.loads(text)
                redacted = self._value(value)
                return text if redacted == value else json.dumps(redacted, ensure_ascii=False)
            except (ValueError, RecursionError):
                pass  # it only begins like JSON
        return self._plain(text)

    def _plain(self, text: str) -> str:
        for _ in range(MAX_PASSES):
            redacted = self._without_named(text)
            if redacted == text:
                break
            text = redacted
        try:
            for pattern in self._patterns:
                text = _without_matches(text, pattern)
        except TimeoutError:
            return HIDDEN  # better than to show a secret
        return text

    def _without_named(self, text: str) -> str:
        """The text without what has a secret's shape, and without the values of known names."""
        is_naming = _names_secret(text.lower())
        text = _without_known(text)
        if is_naming or self._assignment:
            text = _TAG.sub(self._tag, text)
        if is_naming:
            for pattern in NAMED:
                text = pattern.sub(hide_value, text)
        if self._assignment:
            text = self._assignment.sub(partial(hide_value, is_sure=True), text)
        return text

    def _tag(self, match: re.Match[str]) -> str:
        """The urn of a tag whose name is a key and a value."""
        is_secret = self.is_secret_name(match[2]) and not HARMLESS.fullmatch(match[3])
        return f"{match[1]}{match[2]}:{HIDDEN}" if is_secret else match[0]

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple)) and self._is_pair(value):
            return type(value)((value[0], _hidden(value[1])))
        if isinstance(value, (list, tuple, frozenset)):
            return type(value)(map(self._value, value))
        if is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in fields(value)]
            changed = {name: self._value(getattr(value, name)) for name in names}
            return replace(value, **changed)
        return value

    def _mapping(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        redacted: dict[Any, Any] = {}
        # As in a list of environment variables: {"name": "DB_PASSWORD", "value": "..."}
        name = value.get("name", value.get("key"))
        is_named_secret = isinstance(name, str) and self.is_secret_name(name)
        for key, item in value.items():
            is_secret = key == "value" and is_named_secret
            is_secret |= isinstance(key, str) and self.is_secret_name(key)
            shown = self.text(key) if isinstance(key, str) else key
            while shown in redacted:
                shown = f"{shown} "  # keys that differ only in their secrets
            redacted[shown] = _hidden(item) if is_secret else self._value(item)
        return redacted

    def _is_pair(self, value: Sequence[Any]) -> bool:
        """Whether it is a secret's name and value, such as a header."""
        is_pair = len(value) == 2 and type(value) in (list, tuple)  # noqa: PLR2004
        return is_pair and isinstance(value[0], str) and self.is_secret_name(value[0])

    def _field(self, name: str, value: Any) -> Any:
        """A field of an aspect."""
        if name in USER_KEYED:
            return self._value(value)
        return value if name == TYPE_NAME else self.aspect(value)

    def _change(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """A change of a JSON patch, whose path holds urns and the user's keys (RFC 6901)."""
        _, *steps = str(change["path"]).split("/")
        names = [step.replace("~1", "/").replace("~0", "~") for step in steps]
        shown = (self.text(name).replace("~", "~0").replace("/", "~1") for name in names)
        redacted = {**change, "path": "".join(f"/{name}" for name in shown)}
        if "value" in change:
            is_keyed = len(names) > 1 and names[0] in USER_KEYED
            is_secret = is_keyed and self.is_secret_name(names[1])
            value = change["value"]
            redacted["value"] = _hidden(value) if is_secret else self._field(names[-1], value)
        return redacted

    def _holds_hint(self, text: str) -> bool:
        lower = text.lower()
        for hint in HINTS:
            if hint in lower:
                return True
        return _names_secret(lower) or bool(self._own_names and self._own_names.search(text))

    @cached_property
    def _cached_text(self) -> Callable[[str], str]:
        return lru_cache(maxsize=CACHED_TEXTS)(self._text)

    @cached_property
    def _harmless(self) -> set[str]:
        """Texts in which there is no hint of a secret."""
        return set()

    @cached_property
    def _must_always_search(self) -> bool:
        """Patterns have no hints, and JSON escapes what is not ASCII."""
        return bool(self.patterns) or not all(map(str.isascii, self.keys))

    @cached_property
    def _own_names(self) -> re.Pattern[str] | None:
        """The user's keys, however they are written."""
        names = (r"[\W_]{0,3}".join(map(re.escape, _normalized(key))) for key in self.keys)
        return re.compile(rf"(?i)(?<![a-z0-9])(?:{'|'.join(names)})") if self.keys else None

    @cached_property
    def _assignment(self) -> re.Pattern[str] | None:
        names = self._own_names
        return assignment_to(names.pattern.removeprefix("(?i)")) if names else None

    @cached_property
    def _normalized_keys(self) -> frozenset[str]:
        return frozenset(map(_normalized, self.keys))

    @cached_property
    def _patterns(self) -> tuple[Any, ...]:
        if not self.patterns:
            return ()
        import regex  # it has a timeout: in `re` a bad pattern would never end

        return tuple(regex.compile(pattern, regex.VERSION0) for pattern in self.patterns)


DEFAULT = Redactor()
"""Without a configuration, for processes that only capture."""


def _names_secret(lower: str) -> bool:
    for hint in NAME_HINTS:
        if hint in lower:
            return NAME_HINT.search(lower) is not None
    return False


def _without_known(text: str) -> str:
    lower = text.lower()
    for known in KNOWN:
        if any(hint in lower for hint in known.hints):
            text = known.pattern.sub(known.replacement, text)
    return text


def _without_matches(text: str, pattern: Any) -> str:
    """Without what a user's pattern matches, or only its groups if it has any."""
    spans: list[tuple[int, int]] = []
    for match in pattern.finditer(text, timeout=PATTERN_SECONDS, concurrent=True):
        groups = range(1, pattern.groups + 1) if pattern.groups else [0]
        spans += [match.span(group) for group in groups if match.start(group) >= 0]
    end = len(text)
    for first, last in sorted(spans, reverse=True):
        if first < last <= end:  # not a group around one that is hidden
            text, end = text[:first] + HIDDEN + text[last:], first
    return text


def _hidden(value: Any) -> Any:
    """A value under a secret's name; mappings and lists keep their shape."""
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_hidden, value))
    if value is None or isinstance(value, bool):
        return value
    return value if isinstance(value, str) and HARMLESS.fullmatch(value or "null") else HIDDEN


def _normalized(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
