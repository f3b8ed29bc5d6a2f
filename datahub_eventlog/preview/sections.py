"""The tables in which the facts of an entity are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TypeAlias

from datahub_eventlog.preview.names import name_of
from datahub_eventlog.values import Json


@dataclass(frozen=True)
class Link:
    """A text that leads to another entity of the picture, or out of it."""

    text: str
    urn: str | None = None
    url: str | None = None


Cell: TypeAlias = str | Link
Row: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """A table of facts under a title."""

    title: str
    rows: tuple[Row, ...]
    head: tuple[str, ...] = ()
    """The names of the columns; without any, the rows are names and values."""


def pairs(title: str, values: Mapping[str, Json]) -> Section:
    """Names and values, without empty ones."""
    rows = [(name, _cell(value)) for name, value in values.items() if value not in (None, "", [])]
    return Section(title, tuple(rows))


def entity_list(title: str, urns: Iterable[str]) -> Section:
    """A section that links to other entities."""
    return Section(title, tuple((entity_link(urn),) for urn in sorted(set(urns))))


def entity_link(urn: str) -> Link:
    """A link to an entity, by its name."""
    return Link(name_of(urn), urn=urn)


def moment(milliseconds: float) -> str:
    """A time in UTC, to the second."""
    time = datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)
    return time.strftime("%Y-%m-%d %H:%M:%S")


def duration(milliseconds: float | None) -> str:
    """A time span in the unit that fits it."""
    if milliseconds is None:
        return ""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def text(value: Json) -> str:
    """A string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(value: Json) -> Cell:
    if isinstance(value, Link):
        return value
    plain = text(value)
    return Link(plain, url=plain) if is_web(plain) else plain


def is_web(url: str) -> bool:
    """Whether it is safe to follow: `javascript:` and the like are not."""
    plain = url.lower()
    return plain.startswith(("http://", "https://")) and not any(c.isspace() for c in plain)


_MINUTE = 60
