"""Runs Dagster's own storage tests with and without the wrapper, and compares test by test.

Exits with 0 if every test ends alike on both sides, with 1 if one doesn't or if the wrapper
captured nothing, and with 2 if the tests could not be run.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from conformance.archives import (
    NotFetched,
    suite_version,
    tests_of_dagster,
    tests_of_dagster_postgres,
)
from conformance.comparison import MISSING, Outcome
from conformance.report import Result, left_out, report, total
from conformance.side import SERVER, DidNotRun, Notes, Run
from conformance.suites import SUITES, Database, selected

REPETITIONS = 3
"""How often a test that ended differently is repeated, on either side."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _server(options.database):
            return _compare(options.database, options.tests)
    except (NotFetched, DidNotRun) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m conformance", description=__doc__)
    parser.add_argument("--database", choices=tuple(SUITES), default="sqlite")
    parser.add_argument("tests", nargs="*", help="ids of tests, as printed; default: all")
    return parser


@contextmanager
def _server(database: Database) -> Iterator[None]:
    """A Postgres server for both sides, if they need one."""
    if database != "postgres":
        yield
        return
    from postgres import GIVEN, PostgresServer

    if os.environ.get(GIVEN):
        os.environ[SERVER] = os.environ[GIVEN]
        yield
    else:
        with PostgresServer() as server:
            os.environ[SERVER] = server.url
            yield


@dataclass(frozen=True)
class Sources:
    """Where the tests are."""

    root: Path
    """Of the tests that are run."""
    paths: tuple[Path, ...]
    """Of all that they import."""

    def run(self, tests: Sequence[str]) -> tuple[Notes, Notes]:
        """Run tests on both sides at once; what was noted without and with the wrapper."""
        with (
            Run("plain", self.root, self.paths, tests) as plain,
            Run("wrapped", self.root, self.paths, tests) as wrapped,
        ):
            return plain.notes(), wrapped.notes()


def _sources(database: Database) -> Sources:
    dagster = tests_of_dagster()
    if database == "sqlite":
        return Sources(dagster, (dagster,))
    postgres = tests_of_dagster_postgres()
    return Sources(postgres, (postgres, dagster))


def _compare(database: Database, tests: Sequence[str]) -> int:
    print(_title(), flush=True)
    sources = _sources(database)
    plain, wrapped = sources.run(tests or selected(database))
    results = _results(sources, plain, wrapped)
    reports = [report(suite, results, wrapped) for suite in SUITES[database]]
    shown = [one for one in reports if one.results or not tests]
    for one in shown:
        print("\n".join(one.lines()))
    print("\n".join((*left_out(database), total(shown))))
    return 0 if shown and all(one.is_good for one in shown) else 1


def _title() -> str:
    installed, suite = version("dagster"), suite_version()
    other = "" if suite == installed else f" (that of {suite}: it publishes none of its own)"
    python = platform.python_version()
    return f"The test suite of Dagster {installed}{other} on Python {python}, plain and wrapped"


def _results(sources: Sources, plain: Notes, wrapped: Notes) -> dict[str, Result]:
    """The outcomes of all tests; those that ended differently are repeated."""
    tests = sorted({*plain, *wrapped})
    seen = {name: ([_outcome(plain, name)], [_outcome(wrapped, name)]) for name in tests}
    doubtful = [name for name, (one, other) in seen.items() if one != other]
    for _ in range(REPETITIONS if doubtful else 0):
        once_more = sources.run(doubtful)
        for test in doubtful:
            for outcomes, notes in zip(seen[test], once_more, strict=True):
                outcomes.append(_outcome(notes, test))
    return {test: Result(*outcomes) for test, outcomes in seen.items()}


def _outcome(notes: Notes, test: str) -> Outcome:
    return notes[test].outcome if test in notes else MISSING


if __name__ == "__main__":
    sys.exit(main())
