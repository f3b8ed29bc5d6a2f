"""The package on every Python and Dagster that it allows: `make matrix`, and `make corners` for CI.

A cell installs the built wheel as users do: without extras, to capture a run; then with the one
that delivers it; then with what the tests need. Interpreters are found on PATH or among those of
pyenv; one that is absent is an error that names it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nox
from nox.command import CommandFailed

from matrix.findings import Findings
from matrix.refusals import refusal

HERE = Path(__file__).parent
FOLDER = HERE / ".nox" / "matrix"
"""The built wheel, and a folder for each cell."""
PROGRAMS = FOLDER / "programs"
"""A copy of the package `matrix`. Cells import it from here: beside the checkout they would import
the checkout's `datahub_eventlog` instead of the wheel's."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
NEWEST = "newest"
DAGSTERS = ("1.10.0", "1.10.21", "1.11.16", "1.12.22", NEWEST)
"""The oldest, the last of each minor version that is over, and the newest of today."""
PROJECT = nox.project.load_toml("pyproject.toml")
TOOLS = PROJECT["dependency-groups"]["quick"]
TESTS = (
    *("capture", "definitions", "forwarding", "metadata", "source", "storages", "transparency"),
    *("ledger_database", "ledger_runs", "sinks_file"),
)
"""What is quick and depends on Python, Dagster or SQLAlchemy."""
MORE_TESTS = (
    *("translate_assets", "translate_checks", "translate_jobs", "translate_lineage"),
    *("translate_runs", "translate_schemas", "translate_steps", "ledger_states"),
    *("json_writer", "sinks_lanes", "config", "event_types"),
    *("catalog_packing", "catalog_reading", "catalog_workspace", "verification"),
)
"""What is added in the corners, with `-- more`."""

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["wheel", "cell", "table"]

# pyenv shows the interpreters that are active, which is usually one.
if versions := sorted(
    Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.*")
):
    os.environ.setdefault("PYENV_VERSION", ":".join(path.name for path in reversed(versions)))


@nox.session
def wheel(session: nox.Session) -> None:
    """Build what the cells install, and delete the results of the last run."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(HERE / "matrix", PROGRAMS / "matrix")
    session.install("build", *PROJECT["build-system"]["requires"])
    build = ("python", "-m", "build", "--wheel", "--no-isolation")
    session.run(*build, "--outdir", str(FOLDER), str(HERE), silent=True)


@nox.session(python=PYTHONS, download_python="never")
@nox.parametrize("dagster", DAGSTERS, ids=DAGSTERS)
def cell(session: nox.Session, dagster: str) -> None:
    """One Python with one Dagster, and the newest acryl-datahub that goes with both."""
    pins = ["dagster" if dagster == NEWEST else f"dagster=={dagster}"]
    Cell(session, dagster, pins).run()


@nox.session(python="3.10", download_python="never")
def oldest(session: nox.Session) -> None:
    """CI's first corner: all as old as pyproject.toml allows."""
    pins = ["--constraint", str(HERE / "matrix" / "oldest.txt")]
    Cell(session, "1.10.0", pins, corner_tests(session)).run()


@nox.session(python="3.13", download_python="never")
def newest(session: nox.Session) -> None:
    """CI's second corner: all as new as constraints.txt knows it."""
    pins = ["--constraint", str(HERE / "constraints.txt")]
    Cell(session, NEWEST, pins, corner_tests(session)).run()


def corner_tests(session: nox.Session) -> Sequence[str]:
    """What is tested in a corner."""
    return (*TESTS, *MORE_TESTS) if "more" in session.posargs else TESTS


@nox.session(python=False)
def table(session: nox.Session) -> None:
    """Print the results of the cells."""
    session.run(sys.executable, "-m", "matrix.table", str(FOLDER), *DAGSTERS)


@dataclass(frozen=True)
class Cell:
    """One combination of versions: installed and tested step by step."""

    session: nox.Session
    dagster: str
    """Its row in the table."""
    pins: Sequence[str]
    """Part of every installation: a later one must not change what was tested before."""
    tests: Sequence[str] = TESTS

    def run(self) -> None:
        """Run all steps. A combination that can't be installed is skipped, with its reason."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.session.chdir(self.folder)
        self.findings.note(python=self.session.python, dagster=self.dagster, result="failed")
        self.install("")
        self.program("capture")
        self.install("[datahub]")
        self.program("deliver")
        self.install("[datahub,postgres]", *TOOLS)
        self.run_tests()
        self.findings.note(result="passed")

    @property
    def folder(self) -> Path:
        """Where its programs work."""
        return FOLDER / self.session.name.replace("(", "-").rstrip(")")

    @cached_property
    def findings(self) -> Findings:
        """Its results so far."""
        return Findings(self.folder / "findings.json")

    def install(self, extra: str, *others: str) -> None:
        """Install the wheel with an extra, unless a package refuses this Python."""
        (wheel,) = FOLDER.glob("*.whl")
        log = self.folder / "install.txt"
        try:
            with log.open("w") as output:
                wanted = (*self.pins, f"{wheel}{extra}", *others)
                self.session.install(*wanted, silent=False, stdout=output)
        except CommandFailed:
            self.exclude(refusal(log.read_text()))
            raise
        self.program("inspect_packages")
        self.exclude(self.findings.known.get("refusal"))

    def exclude(self, reason: str | None) -> None:
        """Skip the cell, if there is a reason."""
        if reason:
            self.findings.note(result="excluded", reason=reason)
            self.session.skip(reason)

    def program(self, name: str) -> None:
        """Run a module of `matrix` on the cell's Python."""
        self.session.run("python", "-m", f"matrix.{name}", env={"PYTHONPATH": str(PROGRAMS)})

    def run_tests(self) -> None:
        """Run the checkout's tests on the installed package, which must not be the checkout's."""
        tests = [str(HERE / "tests" / f"test_{name}.py") for name in self.tests]
        self.session.run(
            *("pytest", "-q", "-m", "not postgres", "-p", "no:cacheprovider"),
            *("--hypothesis-profile", "quick", "--numprocesses", "2", "--dist", "loadfile"),
            *("-c", str(HERE / "pyproject.toml"), "--rootdir", str(HERE), *tests),
        )
