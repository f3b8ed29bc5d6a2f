"""Interleaved pairs of measurements, and what they say: the median ratio and how sure it is."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Cost:
    """Seconds that something took: on the clock, and of the processor."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Pair:
    """The same work twice, one directly after the other."""

    plain: Cost
    other: Cost


@dataclass(frozen=True)
class Median:
    """The median, and the bounds between which it is with `CONFIDENCE`."""

    value: float
    low: float
    high: float

    def text(self, form: str = ".3f") -> str:
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def median(values: Iterable[float]) -> Median:
    """By order statistics, which assume nothing about the distribution.

    With fewer than six values no two of them are bounds of that confidence: then the whole range.
    """
    ordered = sorted(values)
    rank = _rank(len(ordered))
    return Median(statistics.median(ordered), ordered[rank], ordered[-1 - rank])


def wall(pairs: Sequence[Pair]) -> Median:
    return median(pair.other.wall / pair.plain.wall for pair in pairs)


def cpu(pairs: Sequence[Pair]) -> Median:
    return median(pair.other.cpu / pair.plain.cpu for pair in pairs)


def _rank(count: int) -> int:
    """How many values at each end can be left out."""
    tail, rank = 0.0, 0
    while rank < count // 2:
        tail += comb(count, rank) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            break
        rank += 1
    return max(0, rank - 1) if rank else 0
