"""What a dispatcher asks of the database while nothing happens, and while many runs go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import event
from sqlalchemy.pool import Pool
from statements import statements

from benchmarks.environment import Environment
from benchmarks.histories import Template, ten_steps
from benchmarks.rows import Row
from datahub_eventlog.dispatcher import Dispatcher

IDLE = 10
"""Polls that are looked at."""
MOST = 1
"""Statements an idle poll."""
PERIOD = 15.0
"""Seconds in which live runs are watched; each is looked at every five."""
BEHIND = 5.0
"""Seconds that a live run may be due for."""


@dataclass(frozen=True)
class Polling:
    """A dispatcher in this process, so that its statements can be counted."""

    environment: Environment
    live: int
    period: float = PERIOD

    def rows(self) -> Iterator[Row]:
        """Idle, then with live runs."""
        self.environment.forget()
        self.environment.endpoint.reset()
        with self.environment.dispatcher() as dispatcher:
            yield self._idle(dispatcher)
            yield from self._busy(dispatcher)

    def _idle(self, dispatcher: Dispatcher) -> Row:
        dispatcher.run_once()
        with statements() as seen, connections() as opened:
            for _ in range(IDLE):
                dispatcher.run_once()
        statements_a_poll = len(seen) / IDLE
        return Row(
            "an idle poll: statements, new connections",
            ours=f"{statements_a_poll:g}, {len(opened) / IDLE:g}",
            goal=f"at most {MOST}, 0",
            is_met=statements_a_poll <= MOST and not opened,
        )

    def _busy(self, dispatcher: Dispatcher) -> Iterator[Row]:
        template = Template.of(
            self.environment.instance, self.environment.ledger, ten_steps
        ).unfinished()
        self.environment.forget()
        template.repeat(self.environment.instance, self.environment.ledger, self.live)
        while dispatcher.run_once():  # shown for the first time
            pass
        with statements() as seen:
            busy = self._watched(dispatcher)
        behind = self.environment.ledger.reports.status().oldest_pending_seconds or 0.0
        yield Row(
            f"{self.live} live runs: statements a second, seconds behind",
            ours=f"{len(seen) / self.period:.0f}, {behind:.1f} (busy {100 * busy:.0f} %)",
            goal=f"at most {BEHIND:g} s behind",
            is_met=behind <= BEHIND,
        )

    def _watched(self, dispatcher: Dispatcher) -> float:
        """Poll for that long; the share of the time in which there was something to do."""
        began, busy = time.monotonic(), 0.0
        while (now := time.monotonic()) < began + self.period:
            if dispatcher.run_once():
                busy += time.monotonic() - now
            else:
                time.sleep(min(1.0, self.period / 10))
        return busy / self.period


@contextmanager
def connections() -> Iterator[list[object]]:
    """The connections that this process opens meanwhile."""
    opened: list[object] = []

    def note(connection: object, _: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", note)
    try:
        yield opened
    finally:
        event.remove(Pool, "connect", note)
