"""Imports that a fork waits for.

A child that is forked while another thread imports a module can never import that module itself:
it inherits the lock of the import, but not the thread that would release it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FORK_WAIT_SECONDS = 60.0
"""How long a fork waits for an import at most; then it goes on."""


class _ImportLock:
    """The lock of this process, and whether the thread that forks holds it."""

    def __init__(self) -> None:
        # Reentrant, since the thread that imports may fork, too.
        self.lock = threading.RLock()
        self.held = threading.local()


_import_lock = _ImportLock()


@contextmanager
def importing() -> Iterator[None]:
    """Import in a thread beside the main one what takes long; forks wait for its end."""
    with _import_lock.lock:
        yield


def _before() -> None:
    _import_lock.held.by_fork = _import_lock.lock.acquire(timeout=FORK_WAIT_SECONDS)


def _in_parent() -> None:
    if _import_lock.held.by_fork:
        _import_lock.lock.release()


def _in_child() -> None:
    global _import_lock  # noqa: PLW0603  # the lock belongs to the process
    _import_lock = _ImportLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
