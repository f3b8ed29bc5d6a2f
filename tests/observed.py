"""What Dagster's own processes load and ask of the database, told by themselves when they end.

A `sitecustomize` on their path does it, so that it is there before Dagster is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FOLDER = "OBSERVED_FOLDER"
"""Names the folder where each process leaves a file."""
STANDARD = {*sys.stdlib_module_names, "sitecustomize"}
"""Packages that come with Python, and our own way to look."""
WITHOUT = "OBSERVED_WITHOUT"
"""Names packages, with spaces between, that can't be imported."""

SITE = '''
import atexit, json, multiprocessing, os, sys

for name in os.environ.get("OBSERVED_WITHOUT", "").split():
    sys.modules[name] = None

statements, connections = [], []
PASSING = ("capture/__init__.py", "default_storage.py", "forwarding.py", "storages.py")

def is_ours():
    """Whether our package wants it for itself, and does not only pass it on."""
    frame = sys._getframe(2)
    while frame:
        _, package, path = frame.f_code.co_filename.rpartition("datahub_eventlog" + os.sep)
        if package and path.replace(os.sep, "/") not in PASSING:
            return True
        frame = frame.f_back
    return False

def role():
    parent = multiprocessing.parent_process()
    if parent is not None:
        return "child of %d" % parent.pid
    for name in ("webserver", "daemon", "grpc"):
        if any(name in each for each in sys.orig_argv):
            return name
    return "program"

def leave():
    told = {"role": role(), "pid": os.getpid(), "modules": sorted(sys.modules)}
    told |= {"statements": statements, "connections": len(connections)}
    path = os.path.join(os.environ["OBSERVED_FOLDER"], "%d.json" % os.getpid())
    with open(path, "w") as file:
        json.dump(told, file)

if "OBSERVED_FOLDER" in os.environ:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "before_cursor_execute")
    def _(connection, cursor, statement, *rest):
        if is_ours():
            statements.append(statement)

    @event.listens_for(Engine, "do_connect")
    def _(*rest):
        if is_ours():
            connections.append(1)

    atexit.register(leave)
'''


@dataclass(frozen=True)
class Process:
    """What one process left."""

    role: str
    """webserver, daemon, grpc, run, step, or program."""
    modules: frozenset[str]
    statements: tuple[str, ...]
    """Those that our package made for itself."""
    connections: int
    """Those that our package opened for itself."""


def environment(folder: Path, *, without: Iterable[str] = ()) -> dict[str, str]:
    """The variables for processes that leave what they did in the folder's `observed`."""
    (folder / "observed").mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, FOLDER: str(folder / "observed"), WITHOUT: " ".join(without)}


def processes(folder: Path) -> list[Process]:
    """All that have ended."""
    records = [json.loads(each.read_text()) for each in (folder / "observed").glob("*.json")]
    servers = {record["pid"] for record in records if record["role"] in {"grpc", "program"}}
    return [_process(record, servers) for record in records]


def _process(record: dict[str, object], servers: set[int]) -> Process:
    role = str(record["role"])
    if role.startswith("child of "):
        is_run = int(role.removeprefix("child of ")) in servers
        role = "run" if is_run else "step"
    modules, statements = record["modules"], record["statements"]
    assert isinstance(modules, list)
    assert isinstance(statements, list)
    connections = int(str(record["connections"]))
    return Process(role, frozenset(modules), tuple(statements), connections)
