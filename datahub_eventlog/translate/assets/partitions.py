"""Partitions in words: one by its name, an unbroken stretch of time as a range, others by number.

Other keys are never shown as a range: what lies between `k0` and `k999` is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

NAMED_PARTITIONS = 3
"""The number of partitions that are named, of several."""


def partitions_text(names: Iterable[str], definition: str | None = None) -> str:
    """One or several partitions; `definition` is as in `AssetFacts.partitions`, if known."""
    ordered = by_name(set(names))
    if len(ordered) == 1:
        return ordered[0]
    if is_unbroken(ordered, definition):
        return f"{ordered[0]}...{ordered[-1]}"
    more = ", ..." if len(ordered) > NAMED_PARTITIONS else ""
    return f"{len(ordered):,} partitions: {', '.join(ordered[:NAMED_PARTITIONS])}{more}"


def by_name(names: Iterable[str]) -> list[str]:
    """Sorted as people count: `k2` comes before `k10`."""
    return sorted(names, key=lambda name: (_parts(name), name))


def is_time(name: str, definition: str | None = None) -> bool:
    """Whether the partition is one of time."""
    return not _is_listed(definition) and any(_time(name, form) for form in _FORMS)


def is_unbroken(names: Sequence[str], definition: str | None = None) -> bool:
    """Whether these are consecutive partitions of time, in order."""
    form = next((known for known in _FORMS if _time(names[0], known)), None)
    time = _time(names[0], form) if form else None
    if form is None or time is None or _is_listed(definition):
        return False
    next_time = _NEXT.get(definition.partition(",")[0] if definition else _FORMS[form])
    if next_time is None:
        return False
    for name in names[1:]:
        try:
            time = next_time(time)
        except (ValueError, OverflowError):  # there is no such day
            return False
        if time.strftime(form) != name:
            return False
    return True


def _is_listed(definition: str | None) -> bool:
    """Whether the definition lists its keys: then they are no times, even if they look like it."""
    return definition is not None and definition.startswith(("Static", "Dynamic", "Multi"))


def _time(name: str, form: str) -> datetime | None:
    """The time that the key stands for, if it has that form."""
    try:
        time = datetime.strptime(name, form)  # noqa: DTZ007
    except ValueError:
        return None
    return time if time.strftime(form) == name else None


def _parts(name: str) -> list[tuple[int, str]]:
    """Its texts and numbers, so that numbers, however long, are compared as such."""
    parts = re.split(r"([0-9]+)", name)
    return [_number(part) if part.isdecimal() else (-1, part) for part in parts]


def _number(digits: str) -> tuple[int, str]:
    """Of two numbers the one of more digits is the greater; `int` takes no more than 4300."""
    digits = digits.lstrip("0")
    return len(digits), digits


def _next_month(time: datetime) -> datetime:
    return time.replace(year=time.year + time.month // 12, month=time.month % 12 + 1)


_FORMS = {
    "%Y-%m-%d": "Daily",
    "%Y-%m-%d-%H:%M": "Hourly",
    "%Y-%m": "Monthly",
    "%Y%m%d": "Daily",
    "%Y-%m-%dT%H:%M:%S": "Hourly",
    "%Y-%m-%d %H:%M:%S": "Hourly",
}
"""The forms of keys of time, the first two being Dagster's own, and their units."""
_NEXT: Mapping[str, Callable[[datetime], datetime]] = {
    "Hourly": lambda time: time + timedelta(hours=1),
    "Daily": lambda time: time + timedelta(days=1),
    "Weekly": lambda time: time + timedelta(weeks=1),
    "Monthly": _next_month,
}
"""By the first word of Dagster's description of the definition."""
