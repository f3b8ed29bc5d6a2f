"""Ctrl-C and SIGTERM, for commands that can be stopped and continued."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Protocol


class Stoppable(Protocol):
    """Whatever ends soon after it was asked to."""

    def stop(self) -> None:
        """Finish what is at hand, and end."""


@contextlib.contextmanager
def stopped_by_signals(running: Stoppable) -> Iterator[None]:
    """Stop it at the first Ctrl-C or SIGTERM; the second has its usual effect."""

    def stop(number: int, _frame: FrameType | None) -> None:
        running.stop()
        signal.signal(number, before[number])

    signals: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
