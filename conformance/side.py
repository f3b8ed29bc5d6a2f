"""One side of the comparison: pytest in a process of its own, and what it noted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from typing_extensions import Self

from conformance.archives import CACHE
from conformance.comparison import Outcome
from conformance.suites import LEFT_OUT

ROOT = Path(__file__).parent.parent
PATHS = (ROOT, ROOT / "conformance" / "unpublished", ROOT / "tests")
"""Where either side imports from, beside Dagster's tests."""
SERVER = "CONFORMANCE_POSTGRES"
"""The environment variable with the URL of the Postgres server."""
MEMORY = Path("/dev/shm")
"""A folder in memory, where there is one: SQLite waits for its files."""
ROOM = 1 << 30
"""Bytes that must be free there."""
TIMEOUT = 300
"""Seconds in which each test must end."""

PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "--disable-warnings", f"--timeout={TIMEOUT}"),
    *("-p", "conformance.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"),
    *("--continue-on-collection-errors", *(f"--deselect={test}" for test in LEFT_OUT)),
)

DONE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
"""How pytest ends after having run the tests."""

Side: TypeAlias = Literal["plain", "wrapped"]


class DidNotRun(Exception):
    """pytest ended for another reason than its tests; the message is its output."""


@dataclass(frozen=True)
class Note:
    """What is known of one test."""

    outcome: Outcome
    instances: int
    """How many instances it made on a wrapped event log."""
    touched: int
    """How many runs were in the ledger at its end."""
    complaints: int
    """How often capture went wrong."""


Notes: TypeAlias = Mapping[str, Note]
"""By the test's id."""


class Run:
    """Runs tests on one side, from its construction on."""

    def __init__(self, side: Side, root: Path, paths: Sequence[Path], tests: Iterable[str]) -> None:
        """Start; `root` is the folder of the tests, `paths` are for their imports."""
        self._side = side
        self._folder = tempfile.TemporaryDirectory(prefix=f"conformance-{side}-", dir=_scratch())
        folder = Path(self._folder.name)
        self._notes = folder / "notes.jsonl"
        self._output = folder / "output.txt"
        work = folder / "work"
        work.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n")
        command = [*PYTEST, "-c", str(folder / "pytest.ini"), "--rootdir", str(root)]
        command += ["--side", side, "--notes", str(self._notes)]
        command += [str(root / test) for test in tests]
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                command, cwd=work, env=_environment(paths, work), stdout=output, stderr=output
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def notes(self) -> Notes:
        """Wait for the end, and return what was noted.

        Raises `DidNotRun`, with pytest's own words.
        """
        code = self._process.wait()
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        if code not in DONE:
            last = json.loads(lines[-1])["test"] if lines else "nothing"
            output = self._output.read_text()[-10_000:]
            raise DidNotRun(f"{output}\npytest ended with {code}, {self._side}, after {last}")
        return dict(_note(json.loads(line)) for line in lines)


def _note(line: Mapping[str, Any]) -> tuple[str, Note]:
    outcome = Outcome(line["result"], line["reason"])
    numbers = {name: line.get(name, 0) for name in ("instances", "touched", "complaints")}
    return line["test"], Note(outcome, **numbers)


def _scratch() -> Path | None:
    """Where the tests' databases stand: in memory, if this system has such a folder."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    return MEMORY if is_roomy and os.access(MEMORY, os.W_OK) else None


def _environment(paths: Sequence[Path], work: Path) -> Mapping[str, str]:
    """This process's, without what would configure Dagster or us."""
    foreign = ("DATAHUB_", "DAGSTER_", "PYTEST_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {
        "PYTHONPATH": os.pathsep.join(map(str, (*paths, *PATHS))),
        # Alembic loads its scripts again for each instance: half the time, unless compiled.
        "PYTHONPYCACHEPREFIX": str(CACHE / "compiled"),
        "TMPDIR": str(work),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return {**kept, **own}
