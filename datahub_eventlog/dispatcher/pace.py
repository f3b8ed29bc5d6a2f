"""So many runs a minute, and no more."""

from __future__ import annotations

import threading
import time


class Pace:
    """Waits until the next runs may be taken; None for no limit."""

    def __init__(self, rate: float | None) -> None:
        """`rate`: runs a minute, counted from now on."""
        self._rate = rate
        self._begun = time.monotonic()
        self._taken = 0

    def wait(self, number: int, stop: threading.Event) -> None:
        """Take so many runs when their time has come, or at once if `stop` is set."""
        if self._rate is not None:
            due = self._begun + self._taken * 60 / self._rate
            stop.wait(max(0.0, due - time.monotonic()))
        self._taken += number
