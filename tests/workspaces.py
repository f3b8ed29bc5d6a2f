"""Code locations that are loaded by real code servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from datahub_eventlog.catalog import LocationState, open_workspace


def options(*files: Path, modules: Sequence[str] = (), folder: Path | None = None) -> Any:
    """What the command line gives for these files and modules."""
    return {
        "workspace": (),
        "python_file": tuple(map(str, files)),
        "module_name": tuple(modules),
        "package_name": (),
        "working_directory": None if folder is None else str(folder),
    }


@contextmanager
def loaded(instance: dg.DagsterInstance, *files: Path) -> Iterator[list[LocationState]]:
    """The locations of a workspace, one for each file, named after it."""
    with open_workspace(instance, options(*files)) as opened:
        yield opened.locations()
