"""What is printed of a comparison, and whether it is good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from conformance.comparison import Outcome, Verdict, verdict
from conformance.side import Notes
from conformance.suites import LEFT_OUT, SUITES, Database, Suite, suite_of


@dataclass(frozen=True)
class Result:
    """The outcomes of one test, of its first run and of its repetitions."""

    plain: Sequence[Outcome]
    wrapped: Sequence[Outcome]

    @property
    def verdict(self) -> Verdict:
        """What they say of the wrapper."""
        return verdict(self.plain, self.wrapped)


@dataclass(frozen=True)
class Report:
    """One suite: its results by the tests' ids, and how much the wrapper captured."""

    suite: Suite
    results: Mapping[str, Result]
    instances: int
    """Made on a wrapped event log."""
    touched: int
    """Runs that were found in ledgers."""
    complaints: int
    """Of the capture; what goes wrong there must not go wrong silently here."""

    @property
    def different(self) -> list[str]:
        """The tests that end differently with the wrapper."""
        return [
            test for test, result in self.results.items() if result.verdict is Verdict.DIFFERENT
        ]

    @property
    def is_captured(self) -> bool:
        """Whether the wrapped side was what it should be."""
        if not self.suite.is_captured:
            return self.instances > 0
        return self.instances > 0 and self.touched > 0 and self.complaints == 0

    @property
    def is_good(self) -> bool:
        """Whether the suite shows that the wrapper is transparent."""
        is_run = any(result.plain[0].result == "passed" for result in self.results.values())
        return is_run and not self.different and self.is_captured

    def lines(self) -> Iterator[str]:
        """What there is to say, the summary first."""
        counts = _count(result.plain[0] for result in self.results.values())
        yield (
            f"{self.suite.title}: {len(self.results)} tests, {len(self.different)} differences"
            f" ({counts}; {self.touched} runs captured by {self.instances} instances)"
        )
        if not self.is_captured:
            yield f"  the wrapper did not do what it should: {self.complaints} complaints"
        for test, result in self.results.items():
            if result.verdict is not Verdict.SAME:
                yield f"  {result.verdict.value}: {test}"
                yield f"    plain:   {_words(result.plain)}"
                yield f"    wrapped: {_words(result.wrapped)}"
        yield from self._failing()

    def _failing(self) -> Iterator[str]:
        """Dagster's own failures: nothing to do with us, but good to know."""
        for test, result in self.results.items():
            if result.verdict is Verdict.SAME and result.plain[0].result == "failed":
                yield f"  fails on both sides: {test} ({result.plain[0].reason})"


def report(suite: Suite, results: Mapping[str, Result], wrapped: Notes) -> Report:
    """The part of a suite in the whole."""
    tests = [test for test in results if suite_of(test) == suite]
    notes = [wrapped[test] for test in tests if test in wrapped]
    return Report(
        suite,
        {test: results[test] for test in tests},
        instances=sum(note.instances for note in notes),
        touched=sum(note.touched for note in notes),
        complaints=sum(note.complaints for note in notes),
    )


def total(reports: Sequence[Report]) -> str:
    """The last line: all suites together."""
    results = [result for report in reports for result in report.results.values()]
    counts = _count(result.plain[0] for result in results)
    differences = sum(len(one.different) for one in reports)
    return f"All together: {len(results)} tests, {differences} differences ({counts})"


def left_out(database: Database) -> Iterator[str]:
    """A line for each test of the suites that is run on neither side."""
    packages = {test.partition("/")[0] for suite in SUITES[database] for test in suite.tests}
    for test, reason in LEFT_OUT.items():
        if test.partition("/")[0] in packages:
            yield f"left out: {test} ({reason})"


def _count(outcomes: Iterator[Outcome]) -> str:
    """Such as `137 passed, 4 skipped`."""
    results = [outcome.result for outcome in outcomes]
    order = ("passed", "failed", "skipped", "missing")
    return ", ".join(f"{results.count(result)} {result}" for result in order if result in results)


def _words(outcomes: Sequence[Outcome]) -> str:
    return ", then ".join(str(outcome) for outcome in outcomes)
