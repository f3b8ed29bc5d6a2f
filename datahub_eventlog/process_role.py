"""What kind of Dagster's processes this one is."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from datahub_eventlog.config import PREFIX

IS_DAEMON_VARIABLE = f"{PREFIX}IS_DAEMON"
"""An environment variable that says whether this process is the daemon, where it isn't seen."""

_WEBSERVERS = {"dagster-webserver", "dagster_webserver"}
_PROGRAMS = _WEBSERVERS | {"dagster", "dagster-daemon", "dagster._daemon"}
"""Dagster's, as they stand in a command line; an argument can have the same name."""
_SERVERS = {("api", "grpc"), ("code-server", "start")}
_DAEMONS = {("dagster-daemon", "run"), ("dagster._daemon", "run")}
"""Its other commands, such as the liveness check, end at once and deliver nothing."""

Role = Literal["daemon", "server", "other"]


def role(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Role:
    """What this process is: Dagster's daemon, another server of Dagster's, or neither.

    A server's children are neither, although they have its environment and, if they were
    forked, its command line.
    """
    if multiprocessing.parent_process() is not None:
        return "other"
    names = [Path(argument).name.removesuffix(".exe") for argument in argv or sys.orig_argv]
    commands = set(pairwise(names))
    program = next((name for name in names if name in _PROGRAMS), "")
    if commands & _SERVERS or program in _WEBSERVERS:
        return "server"
    value = environ.get(IS_DAEMON_VARIABLE, "").lower()
    if value in {"true", "1"} or (value not in {"false", "0"} and commands & _DAEMONS):
        return "daemon"
    return "other"
