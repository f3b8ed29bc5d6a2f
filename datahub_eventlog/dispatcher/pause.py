"""One pause for all deliveries while DataHub is unavailable."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from datahub_eventlog.errors import Unavailable
from datahub_eventlog.log import logger

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_ASKED_SECONDS = 3600.0
"""However long a server asks to wait: one wrong answer must not stop deliveries for a day."""


class Pause:
    """Growing from 1 s to 60 s with jitter; one line in the log when it begins, one at its end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._kind: type[Unavailable] | None = None
        self.reason = ""
        """Why it is on, or was the last time."""

    @property
    def is_on(self) -> bool:
        """Whether it is too early to try again."""
        return self._failures > 0 and self._clock() < self._until

    @property
    def is_probing(self) -> bool:
        """Whether DataHub was away the last time: one run is enough to find out."""
        return self._failures > 0

    @property
    def remaining(self) -> float:
        """Seconds until the next attempt."""
        return max(0.0, self._until - self._clock())

    def begin(self, error: Unavailable) -> None:
        """Wait longer than the last time, and at least as long as the server asked for."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self._failures)
        wait = longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        asked = min(error.retry_after or 0.0, LONGEST_ASKED_SECONDS)
        self._until = self._clock() + max(wait, asked)
        self._failures += 1
        self.reason = str(error)
        # Not by the message: it can name the proposal at hand, which is another one each time.
        if type(error) is not self._kind:
            logger.error("%s Runs wait in the ledger until it is back.", error)
        self._kind = type(error)

    def end(self) -> None:
        """Note that DataHub has taken something."""
        if self._failures:
            logger.info("DataHub is back; delivering what has waited.")
        self._failures = 0
        self._kind = None
