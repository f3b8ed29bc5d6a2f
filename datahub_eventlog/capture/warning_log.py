"""Warnings that do not fill the log of a process that stores thousands of events."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from datahub_eventlog.log import logger

REPEAT_SECONDS = 60.0
"""The same warning is not logged again within this time."""
MOST_TEXTS = 1000
"""Warnings that are remembered."""


class WarningLog:
    """Logs what goes wrong, the same text at most once in `REPEAT_SECONDS`, and counts it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: OrderedDict[str, float] = OrderedDict()
        self.count = 0

    def warn(self, text: str) -> None:
        """Count it, and log it unless that has just been done."""
        self.count += 1
        now = self._clock()
        if now - self._logged.get(text, float("-inf")) < REPEAT_SECONDS:
            return
        self._logged[text] = now
        while len(self._logged) > MOST_TEXTS:
            self._logged.popitem(last=False)
        logger.warning("%s", text)

    def warn_once(self, text: str) -> None:
        """Log it if this process never did."""
        if text not in self._logged:
            self._logged[text] = float("inf")
            logger.warning("%s", text)
