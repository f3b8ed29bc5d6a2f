"""Long lists, for statements that take only so many keys and transactions of a certain length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

CHUNK = 500
"""Keys in one statement."""


def chunks(items: Sequence[T], size: int = CHUNK) -> list[Sequence[T]]:
    """The items in their order, so many at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]
