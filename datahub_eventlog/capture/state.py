"""What capture remembers in a process. It is not a storage's, for Dagster makes several of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from datahub_eventlog.capture.policy import TouchPolicy
from datahub_eventlog.capture.warning_log import WarningLog

if TYPE_CHECKING:
    from datahub_eventlog.capture import Capture
    from datahub_eventlog.ledger import Ledger


class ProcessState:
    """The state of one process; a forked child starts with a new one."""

    def __init__(self) -> None:
        self.policy = TouchPolicy()
        self.warnings = WarningLog()
        self.ledgers: WeakKeyDictionary[Capture, Ledger] = WeakKeyDictionary()
        self.is_off_noted = False
        """Whether this process has noted in the ledger that capture is off."""


_process = ProcessState()


def process() -> ProcessState:
    """The state of this process."""
    return _process


def forget() -> None:
    """Start with a new state, as a new process does."""
    global _process  # noqa: PLW0603  # the documented process state
    _process = ProcessState()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)
