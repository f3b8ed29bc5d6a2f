"""Imports that a fork waits for.

A child that is forked while another thread imports a module can never import that module itself:
it inherits the lock of the import, and nobody who would release it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 60.0
"""Seconds that a fork waits; then it takes its chance."""


class _Importing:
    """The lock of this process, and whether the thread that forks holds it."""

    def __init__(self) -> None:
        # The one who imports may fork, too.
        self.lock = threading.RLock()
        self.held = threading.local()


_importing = _Importing()


@contextmanager
def importing() -> Iterator[None]:
    """Import what takes long in a thread beside the main one; whoever forks waits for the end."""
    with _importing.lock:
        yield


def _before() -> None:
    _importing.held.by_fork = _importing.lock.acquire(timeout=PATIENCE)


def _in_parent() -> None:
    if _importing.held.by_fork:
        _importing.lock.release()


def _in_child() -> None:
    global _importing  # noqa: PLW0603  # the lock belongs to the process
    _importing = _Importing()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
