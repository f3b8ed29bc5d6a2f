"""What two runs of the same tests gave, and whether that is the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


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


class Verdict(Enum):
    """What the outcomes of one test say of the wrapper."""

    SAME = "same"
    UNSTEADY = "unsteady"
    """Different once, but that was the test's own doing, not the wrapper's."""
    DIFFERENT = "different"


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
