"""What two runs of the same tests gave, and whether that is the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


@dataclass(frozen=True)
class Outcome:
    """How a test ended: passed, failed, skipped or missing, and why."""

    result: str
    reason: str = ""
    """Of a skipped test the reason it gives; of a failed one the exception and the line."""

    def __str__(self) -> str:
        return f"{self.result}: {self.reason}" if self.reason else self.result


MISSING = Outcome("missing")
"""The test was not run, or its process died in it."""

Outcomes: TypeAlias = Mapping[str, Outcome]
"""By the test's id."""


class Verdict(Enum):
    """What the outcomes of one test say of the wrapper."""

    SAME = "same"
    UNSTEADY = "unsteady"
    """Different once, but that was the test's own doing, not the wrapper's."""
    DIFFERENT = "different"


def differing(plain: Outcomes, wrapped: Outcomes) -> list[str]:
    """The tests that did not end alike."""
    tests = sorted({*plain, *wrapped})
    return [each for each in tests if plain.get(each, MISSING) != wrapped.get(each, MISSING)]


def verdict(plain: Sequence[Outcome], wrapped: Sequence[Outcome]) -> Verdict:
    """Judge a test by its first outcome on either side, and those of its repetitions.

    Where Dagster's own storage gives several outcomes, the wrapper may give any of them; where
    it gives one, the wrapper must have given that one in every repetition.
    """
    if {*plain, *wrapped} == {plain[0]}:
        return Verdict.SAME
    if len({*plain}) > 1:
        return Verdict.UNSTEADY if {*wrapped} <= {*plain} else Verdict.DIFFERENT
    repeated = {*wrapped[1:]}
    return Verdict.UNSTEADY if repeated == {plain[0]} else Verdict.DIFFERENT


def count(outcomes: Iterable[Outcome]) -> str:
    """Such as `137 passed, 4 skipped`."""
    results = [each.result for each in outcomes]
    order = ("passed", "failed", "skipped", "missing")
    return ", ".join(f"{results.count(each)} {each}" for each in order if each in results)
