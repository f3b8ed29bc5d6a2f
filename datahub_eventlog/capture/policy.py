"""When a process touches the runs whose events it stores."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datahub_eventlog.event_types import RUN_ENDS, RUN_EVENTS, RUN_STARTS

if TYPE_CHECKING:
    from datahub_eventlog.ledger import Facts

RUNLESS = ""
"""The run id of events that belong to no run."""
MOST_RUNS = 1000
"""Runs of which a process remembers what it touched."""
FAILED_SHARE = 0.05
"""Of a process's time that touches which fail may cost."""


class TouchPolicy:
    """Decides when to touch a run, by what this process has touched of the last `MOST_RUNS` runs.

    Safe for threads. `clock` gives seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: OrderedDict[str, _TouchedRun] = OrderedDict()
        self._missed: OrderedDict[str, None] = OrderedDict()
        self._paused_until = float("-inf")
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._runs)

    def is_due(self, run_id: str, types: Collection[str], interval: float) -> bool:
        """Whether events of these types call for a touch now; if so, the caller must touch.

        Counts as touched at once, so that of many threads only one touches. `interval` is the
        least number of seconds between two touches that are not urgent.
        """
        now = self._clock()
        with self._lock:
            run = self._run(run_id, now)
            is_due_at_once = _is_due_at_once(run, run_id, types)
            run.is_started = run.is_started or not RUN_STARTS.isdisjoint(types)
            if not (is_due_at_once or run_id in self._missed or now - run.since >= interval):
                return False
            if now < self._paused_until and RUN_ENDS.isdisjoint(types):
                self._miss(run_id)
                return False
            self._missed.pop(run_id, None)
            run.since = now
            run.is_touched = True
            return True

    def was_started(self, run_id: str) -> bool:
        """Whether this process executes the run."""
        run = self._runs.get(run_id)
        return run is not None and run.is_started

    def keep_facts(self, run_id: str, facts: Facts | None) -> None:
        """Remember the facts of a run's definitions until a touch has stored them."""
        with self._lock:
            self._run(run_id, self._clock()).facts = facts

    def facts(self, run_id: str) -> Facts | None:
        """The facts that no touch has stored yet."""
        run = self._runs.get(run_id)
        return None if run is None else run.facts

    def touch_failed(self, run_id: str, spent: float, interval: float) -> None:
        """Remember a touch that failed after `spent` seconds, and put off further ones."""
        with self._lock:
            self._miss(run_id)
            self._paused_until = self._clock() + max(interval, spent / FAILED_SHARE)

    def next_missed(self) -> str | None:
        """A run whose touch failed or was put off, if there is one; the caller must touch it."""
        with self._lock:
            return self._missed.popitem(last=False)[0] if self._missed else None

    def _miss(self, run_id: str) -> None:
        self._missed[run_id] = None
        if len(self._missed) > MOST_RUNS:
            self._missed.popitem(last=False)

    def _run(self, run_id: str, now: float) -> _TouchedRun:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _TouchedRun(since=now)
            if len(self._runs) > MOST_RUNS:
                self._runs.popitem(last=False)
        else:
            self._runs.move_to_end(run_id)
        return run


@dataclass
class _TouchedRun:
    """What this process remembers of a run."""

    since: float
    """When it was last touched, or else when its first event was stored here."""
    is_touched: bool = False
    is_started: bool = False
    facts: Facts | None = None
    """Of its definitions, until a touch has stored them."""


def _is_due_at_once(run: _TouchedRun, run_id: str, types: Collection[str]) -> bool:
    """Whether the events don't wait for the interval."""
    if run_id == RUNLESS or not RUN_ENDS.isdisjoint(types):
        return True
    if not run.is_started and not RUN_STARTS.isdisjoint(types):
        return True
    return not run.is_touched and not RUN_EVENTS.isdisjoint(types)
