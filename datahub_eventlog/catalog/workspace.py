"""The code locations of a workspace, as the process that has it knows them."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dagster import DagsterInstance

from datahub_eventlog import error_text
from datahub_eventlog.dagster_internals import daemon_workspace_context, workspace_context
from datahub_eventlog.log import logger

CLOSING = timedelta(seconds=5)
"""How long the code servers of a workspace may take to end."""


@dataclass(frozen=True)
class LocationState:
    """A code location at a moment."""

    name: str
    version: str
    """Another one whenever the location's code has been loaded anew, and while it fails to load
    another one for each error. A mere refresh of the workspace keeps it."""
    location: Any = None
    """Dagster's CodeLocation; None if it failed to load, or is loading."""
    error: str | None = None
    """The first line of why it failed to load."""


class Workspace:
    """A workspace that this process has; reading it changes and loads nothing."""

    def __init__(self, context: Any) -> None:
        """`context` is Dagster's process context of the workspace."""
        self._context = context

    def locations(self) -> list[LocationState]:
        """All code locations, sorted by name."""
        entries = self._context.create_request_context().get_code_location_entries()
        return [_state(name, entry) for name, entry in sorted(entries.items())]


def daemon_workspace() -> Workspace | None:
    """The workspace of the daemon that runs in this process; None while it has not loaded it.

    It is the daemon's own: no second code server is started, and the daemon keeps it up to date.
    """
    context = daemon_workspace_context()
    return None if context is None else Workspace(context)


@contextmanager
def open_workspace(instance: DagsterInstance, options: Mapping[str, Any]) -> Iterator[Workspace]:
    """Load the workspace that the values of `dagster_internals.workspace_options` name.

    It has its own code servers unless its locations are served already. They end with it.
    Raises click's UsageError if the options name no workspace, or contradict each other.
    """
    with warnings.catch_warnings(), _stdout_to_stderr():
        # A location that fails to load is a warning of Dagster's; its state has the error.
        warnings.simplefilter("ignore")
        context = workspace_context(instance, options)
    with context:
        yield Workspace(context)


@contextmanager
def loading_workspace(
    instance: DagsterInstance, options: Mapping[str, Any]
) -> Iterator[Callable[[], Workspace | None]]:
    """What returns the workspace that these options name, once a thread has loaded it.

    To load one can take minutes, in which runs are delivered already. It is None without options.
    """
    if not any(options.values()):
        yield lambda: None
        return
    loaded: list[Workspace] = []
    is_over = threading.Event()

    def load() -> None:
        try:
            with open_workspace(instance, options) as workspace:
                loaded.append(workspace)
                is_over.wait()
        except Exception as error:  # noqa: BLE001 - runs are delivered all the same
            logger.error(  # noqa: TRY400 - the reason says it all
                "The workspace can't be loaded, so its definitions are not sent: %s",
                error_text.describe(error),
            )

    thread = threading.Thread(target=load, name="datahub-eventlog-workspace", daemon=True)
    thread.start()
    try:
        yield lambda: loaded[0] if loaded else None
    finally:
        is_over.set()
        thread.join(CLOSING.total_seconds())


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Let processes that begin now write to stderr: a command's own output may be a document."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def _state(name: str, entry: Any) -> LocationState:
    if entry.load_error is not None:
        error = _first_line(entry.load_error.message)
        digest = hashlib.blake2b(error.encode(errors="replace"), digest_size=8).hexdigest()
        return LocationState(name, version=f"error {digest}", error=error)
    return LocationState(name, version=entry.version_key, location=entry.code_location)


def _first_line(message: str) -> str:
    lines = message.strip().splitlines() or [""]
    return error_text.one_line(error_text.without_secrets(lines[0]))
