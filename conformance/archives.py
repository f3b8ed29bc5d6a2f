"""Dagster's own tests: fetched as source distributions, kept in a folder that Git ignores."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".conformance"
"""What is fetched, unpacked and compiled; may be deleted at any time."""
SINCE = (1, 12, 17)
"""The first Dagster whose source distribution has its tests; an older one runs those."""


class NotFetched(Exception):
    """A source distribution could not be had, or has no tests; the message says what to do."""


def suite_version() -> str:
    """The Dagster whose tests are run: the installed one, unless it publishes none."""
    installed = version("dagster")
    numbers = tuple(int(part) for part in installed.split(".")[:3] if part.isdigit())
    return installed if numbers >= SINCE else ".".join(map(str, SINCE))


def tests_of_dagster() -> Path:
    """The folder that has the package `dagster_tests`."""
    return _tests("dagster", suite_version())


def tests_of_dagster_postgres() -> Path:
    """The folder that has the package `dagster_postgres_tests`, of the same release."""
    major, minor, patch = suite_version().split(".", maxsplit=2)
    return _tests("dagster-postgres", f"{int(major) - 1}.{int(minor) + 16}.{patch}")


def _tests(name: str, release: str) -> Path:
    folder = CACHE / "sources" / f"{name}-{release}"
    if not folder.exists():
        archive = _archive(name, release)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            _extract(archive, f"{name.replace('-', '_')}_tests", Path(scratch, "tests"))
            folder.parent.mkdir(exist_ok=True)
            Path(scratch, "tests").rename(folder)
    return folder


def _extract(archive: Path, package: str, target: Path) -> None:
    """Unpack one top-level package, and nothing else: the rest is installed already."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.split("/")[1:2] == [package]]
        if not members:
            raise NotFetched(f"{archive.name} has no {package}")
        for member in members:
            member.name = member.name.split("/", maxsplit=1)[1]
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(target, members, **safely)  # type: ignore[arg-type]


def _archive(name: str, release: str) -> Path:
    """The source distribution in the cache, fetched by pip if it isn't there."""
    folder = CACHE / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    if not _found(folder, name, release):
        requirement = f"{name}=={release}"
        command = [_python_with_pip(), "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", name, "--dest", str(folder), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotFetched(
                f"pip could not download the source distribution of {requirement}; you can put"
                f" it into {folder} by hand.\n{done.stderr.strip()}"
            )
    return _found(folder, name, release)[0]


def _found(folder: Path, name: str, release: str) -> list[Path]:
    names = {name, name.replace("-", "_")}
    return [path for stem in names for path in folder.glob(f"{stem}-{release}.tar.gz")]


def _python_with_pip() -> str:
    """This Python, or one in an environment of its own where this one has no pip."""
    if find_spec("pip") is not None:
        return sys.executable
    folder = CACHE / "pip"
    python = folder / "bin" / "python"
    if not python.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
    return str(python)
