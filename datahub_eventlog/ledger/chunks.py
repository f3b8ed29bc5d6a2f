"""Long lists of keys, for statements that take only so many."""

from __future__ import annotations

from collections.abc import Sequence

CHUNK = 500
"""Keys in one statement."""


def chunks(keys: Sequence[str]) -> list[Sequence[str]]:
    """The keys in their order, so many at a time."""
    return [keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK)]
