"""Secrets in text, replaced by `***` before anything leaves for DataHub, a log or the screen.

What counts as a secret: the password in the user info of a URI; the value that is given to a name
such as `password`, `token` or `X-Amz-Signature` in any notation; whatever stands under such a key
of a mapping; tokens that are known by their shape; and what a user adds. User names, hosts and all
other text stay: `postgresql://bob:***@db/shop`.

The same text always gives the same result, and redacting twice changes nothing more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from datahub_eventlog.redact.patterns import (
    HARMLESS,
    HIDDEN,
    HINTS,
    KEY_HINT,
    KNOWN,
    NAME_HINTS,
    NAMED,
    NAMES,
    assignment_to,
    hide_value,
)

__all__ = ["DEFAULT", "HIDDEN", "Redactor"]

T = TypeVar("T")

USER_KEYED = ("customProperties", "nativeResults", "nativeParameters")
"""The fields of DataHub's aspects that are mappings with keys of the user's own."""
PATTERN_SECONDS = 0.5
"""How long a user's pattern may look for what it matches in one text."""
REMEMBERED_TEXTS = 20_000
REMEMBERED_LENGTH = 300
"""Characters. Longer texts are seldom the same."""

_ENDS_AS_SECRET = re.compile(rf"(?i){NAMES}$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TAG = re.compile(r"(?s)(urn:li:tag:)([^:]+):(.+)")
_PATCHED = re.compile(rf"(?s)/(?:{'|'.join(USER_KEYED)})/(.+)")


@dataclass(frozen=True)
class Redactor:
    """Replaces the secrets that are known everywhere, and those that a user adds."""

    patterns: tuple[str, ...] = ()
    """Regular expressions: what they match is replaced; if they have groups, only those."""
    keys: tuple[str, ...] = ()
    """Names beside `password` and the like; case, `_`, `-`, `.` and spaces don't matter."""

    def text(self, text: str) -> str:
        """The text without secrets."""
        if not self.may_hold_secret(text):
            return text
        if text[:1] in ("{", "["):
            try:
                return self._json(text)
            except (ValueError, RecursionError):
                pass  # it only begins like JSON
        return self._plain(text)

    def value(self, value: T) -> T:
        """The same without secrets: JSON, or a frozen dataclass; its keys count as names."""
        redacted: T = self._value(value)
        return redacted

    def aspect(self, aspect: Any) -> Any:
        """The JSON of an aspect, or of a patch of one: only some of its keys are the user's."""
        if isinstance(aspect, str):
            return self.text(aspect)
        if isinstance(aspect, list):
            return [self.aspect(item) for item in aspect]
        if not isinstance(aspect, dict):
            return aspect
        patched = _PATCHED.fullmatch(str(aspect.get("path"))) if "op" in aspect else None
        if patched and self.is_secret_name(patched[1]):
            return {**aspect, "value": _hidden(aspect.get("value"))}
        return {
            key: self._value(item) if key in USER_KEYED else self.aspect(item)
            for key, item in aspect.items()
        }

    def may_hold_secret(self, text: str) -> bool:
        """Whether a closer look is worth its time; False only where there is no secret.

        For the JSON of aspects, most of whose strings are the same again and again.
        """
        if text in self._harmless:
            return False
        unknown = set(text.split('"')) - self._harmless
        if self.patterns or self._holds_hint('"'.join(unknown)):
            return True
        if len(self._harmless) > REMEMBERED_TEXTS:
            self._harmless.clear()
        unknown.add(text)
        self._harmless.update(part for part in unknown if len(part) <= REMEMBERED_LENGTH)
        return False

    def is_secret_name(self, name: str) -> bool:
        """Whether what stands under a key of that name is a secret, whatever it is."""
        if _ENDS_AS_SECRET.search(name) or _ENDS_AS_SECRET.search(_CAMEL.sub("_", name)):
            return True
        return _squeezed(name) in self._squeezed_keys

    @cached_property
    def _harmless(self) -> set[str]:
        """Texts that hold no hint of a secret."""
        return set()

    def _holds_hint(self, text: str) -> bool:
        lower = text.lower()
        for hint in HINTS:
            if hint in lower:
                return True
        return _names_secret(lower) or bool(self._own_names and self._own_names.search(text))

    @cached_property
    def _own_names(self) -> re.Pattern[str] | None:
        """The user's keys, however they are written."""
        names = ("[ _.-]?".join(map(re.escape, _words(key))) for key in self.keys)
        return re.compile(rf"(?i)(?<![a-z0-9])(?:{'|'.join(names)})") if self.keys else None

    @cached_property
    def _assignment(self) -> re.Pattern[str] | None:
        names = self._own_names
        return assignment_to(names.pattern.removeprefix("(?i)")) if names else None

    @cached_property
    def _squeezed_keys(self) -> frozenset[str]:
        return frozenset(map(_squeezed, self.keys))

    @cached_property
    def _patterns(self) -> tuple[Any, ...]:
        if not self.patterns:
            return ()
        import regex  # with Python's own a bad pattern would hold up everything for ever

        return tuple(regex.compile(pattern, regex.VERSION0) for pattern in self.patterns)

    def _plain(self, text: str) -> str:
        lower = text.lower()
        for known in KNOWN:
            if any(hint in lower for hint in known.hints):
                text = known.pattern.sub(known.replacement, text)
        if _names_secret(lower):
            text = _TAG.sub(self._tag, text)
            for pattern in NAMED:
                text = pattern.sub(hide_value, text)
        if self._assignment:
            text = self._assignment.sub(hide_value, text)
        try:
            for pattern in self._patterns:
                text = pattern.sub(_hide_groups, text, timeout=PATTERN_SECONDS, concurrent=True)
        except TimeoutError:
            return HIDDEN  # what can't be told from a secret in time is taken for one
        return text

    def _json(self, text: str) -> str:
        """A text that is JSON, its keys taken as names; as it is where nothing is hidden."""
        value = json.loads(text)
        redacted = self._value(value)
        if redacted == value:
            return text
        return json.dumps(redacted, sort_keys=True, ensure_ascii=False)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._key(key): self._item(key, item) for key, item in value.items()}
        if isinstance(value, (list, tuple, frozenset)):
            return type(value)(map(self._value, value))
        if is_dataclass(value) and not isinstance(value, type):
            return replace(
                value,
                **{each.name: self._value(getattr(value, each.name)) for each in fields(value)},
            )
        return value

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) else key

    def _item(self, key: Any, item: Any) -> Any:
        is_secret = isinstance(key, str) and self.is_secret_name(key)
        return _hidden(item) if is_secret else self._value(item)

    def _tag(self, match: re.Match[str]) -> str:
        """The urn of a tag whose name is a key and a value."""
        is_secret = self.is_secret_name(match[2]) and not HARMLESS.fullmatch(match[3])
        return f"{match[1]}{match[2]}:{HIDDEN}" if is_secret else match[0]


DEFAULT = Redactor()
"""For whoever does not know the configuration, such as the processes that only capture."""


def _names_secret(lower: str) -> bool:
    for hint in NAME_HINTS:
        if hint in lower:
            return True
    return "key" in lower and KEY_HINT.search(lower) is not None


def _hide_groups(match: Any) -> str:
    """What a pattern of the user's matches without its groups, or all of it if it has none."""
    if not match.re.groups:
        return HIDDEN
    text, start = str(match[0]), match.start()
    for number in sorted(range(1, match.re.groups + 1), key=match.start, reverse=True):
        first, last = match.span(number)
        if first >= 0:
            text = text[: first - start] + HIDDEN + text[last - start :]
    return text


def _hidden(value: Any) -> Any:
    """A value under a secret's name; the shape of what has one stays."""
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_hidden, value))
    if value is None or isinstance(value, bool):
        return value
    return value if isinstance(value, str) and HARMLESS.fullmatch(value or "null") else HIDDEN


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[ _.-]+", _CAMEL.sub("_", name)) if word]


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
