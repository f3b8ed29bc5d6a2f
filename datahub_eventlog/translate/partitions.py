"""Partitions in words: one by its name, an unbroken stretch of time as a range, others by number.

Keys that sort next to one another are no range: of `k0` to `k999` nobody knows what lies between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

NAMED = 3
"""So many of several partitions are named."""


def partitions_text(names: Iterable[str], definition: str | None = None) -> str:
    """One or several partitions; `definition` is what their definition is called, if known."""
    found = by_name(set(names))
    if len(found) == 1:
        return found[0]
    if is_unbroken(found, definition):
        return f"{found[0]}...{found[-1]}"
    more = ", ..." if len(found) > NAMED else ""
    return f"{len(found):,} partitions: {', '.join(found[:NAMED])}{more}"


def by_name(names: Iterable[str]) -> list[str]:
    """Sorted as people count: `k2` comes before `k10`."""
    return sorted(names, key=lambda name: (_parts(name), name))


def is_time(name: str, definition: str | None = None) -> bool:
    """Whether the partition is one of time."""
    return not _is_listed(definition) and _times([name]) is not None


def is_unbroken(names: Sequence[str], definition: str | None = None) -> bool:
    """Whether these are partitions of time, in their order, of which none is left out."""
    found = None if _is_listed(definition) else _times(names)
    if found is None:
        return False
    times, unit = found
    next_time = _NEXT.get(definition.partition(",")[0] if definition else unit)
    if next_time is None:
        return False
    try:
        return all(next_time(one) == other for one, other in pairwise(times))
    except (ValueError, OverflowError):  # there is no such day
        return False


def _is_listed(definition: str | None) -> bool:
    """Whether the definition lists its keys, which are no times then, whatever they look like."""
    return definition is not None and definition.startswith(("Static", "Dynamic", "Multi"))


def _times(names: Sequence[str]) -> tuple[list[datetime], str] | None:
    """The times that the keys stand for, and the unit that keys of that form count in."""
    for form, unit in _FORMS.items():
        try:
            times = [datetime.strptime(each, form) for each in names]  # noqa: DTZ007
        except ValueError:
            continue
        if all(each.strftime(form) == name for each, name in zip(times, names, strict=True)):
            return times, unit
    return None


def _parts(name: str) -> list[tuple[int, str]]:
    """Its texts and numbers, so that numbers are compared as such."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(each), "") if each.isdecimal() else (-1, each) for each in parts]


def _next_month(time: datetime) -> datetime:
    years, month = divmod(time.month, 12)
    return time.replace(year=time.year + years, month=month + 1)


_FORMS = {
    "%Y-%m-%d": "Daily",
    "%Y-%m-%d-%H:%M": "Hourly",
    "%Y-%m": "Monthly",
    "%Y%m%d": "Daily",
    "%Y-%m-%dT%H:%M:%S": "Hourly",
    "%Y-%m-%d %H:%M:%S": "Hourly",
}
"""The forms that keys of time have, the first two being Dagster's own."""
_NEXT: Mapping[str, Callable[[datetime], datetime]] = {
    "Hourly": lambda time: time + timedelta(hours=1),
    "Daily": lambda time: time + timedelta(days=1),
    "Weekly": lambda time: time + timedelta(weeks=1),
    "Monthly": _next_month,
}
"""By the first word of Dagster's description of the definition."""
