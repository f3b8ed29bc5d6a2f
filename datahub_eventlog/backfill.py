"""Bringing the history of an instance into DataHub, the newest run first.

The ledger remembers what was delivered, so the same command continues a backfill that was stopped.
Runs are added a few at a time: however long the history is, live runs come first, and other
dispatchers help without exceeding the rate.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import get_args

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher import Dispatcher, Parts
from datahub_eventlog.dispatcher.pace import Pace
from datahub_eventlog.ledger import Ledger, Outcome, State, backfill_row
from datahub_eventlog.source.history import Selection

RUNS_AT_ONCE = 10
"""Runs that are added to the ledger at a time."""
DONE: frozenset[State] = frozenset({*get_args(Outcome), "parked"})
"""The states that need nothing more of a backfill."""


@dataclass(frozen=True)
class Orders:
    """What is to be delivered, and how."""

    selection: Selection
    again: bool = False
    """Also runs that were delivered, with the state that has not changed since."""
    rate: float | None = None
    """Runs a minute, at most; None for no limit."""

    @property
    def name(self) -> str:
        """What the ledger remembers an interrupted one by."""
        digest = hashlib.blake2b(repr(self.selection).encode(), digest_size=12).hexdigest()
        return f"backfill_{digest}"


@dataclass
class Progress:
    """How far it has come, in runs."""

    selected: int = 0
    passed: int = 0
    """Of the selected ones, those that need nothing more."""
    skipped: int = 0
    """Of the passed ones, those that had been delivered, or are in hand, already."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of the others by state: `pending` are those that go on, or failed and are tried again."""
    trouble: str = ""
    """Why nothing can be delivered just now."""
    is_complete: bool = False

    @property
    def fell_short(self) -> bool:
        """Whether there is something to look at in `status`."""
        return not self.is_complete or self.outcomes["parked"] > 0


class Backfill:
    """One backfill; `stop` may come from another thread or a signal."""

    def __init__(
        self, config: Config, parts: Parts, orders: Orders, on_progress: Callable[[Progress], None]
    ) -> None:
        """Read what is selected; nothing is changed yet."""
        self._ledger = parts.ledger
        self._orders = orders
        self._on_progress = on_progress
        self._dispatcher = Dispatcher(config, parts)
        self._history = parts.source.history(orders.selection)
        self._stop = threading.Event()
        self._pace = Pace(orders.rate)
        self.progress = Progress()

    def run(self) -> Progress:
        """Deliver all of it, or as much as there is time for until `stop`."""
        try:
            return self._run()
        finally:
            self._dispatcher.abandon()

    def stop(self) -> None:
        """Finish the run at hand and end; the rest waits for the next time."""
        self._stop.set()
        self._dispatcher.stop()

    def _run(self) -> Progress:
        self.progress.selected = self._history.count()
        settled_before = (
            self._ledger.upkeep.begin(self._orders.name) if self._orders.again else None
        )
        if self._orders.selection.has_runless:
            self._recall_runless()
        for run_ids in self._portions():
            self._deliver_portion(run_ids, settled_before)
            if self._stop.is_set():
                return self.progress
        # Dagster's backfills, which the deliveries of their runs asked for.
        rows = [backfill_row(each) for each in self._ledger.runs.backfills(are_due=True)]
        self._dispatcher.deliver_until_done(rows, self._stop, self._show)
        self._ledger.upkeep.finish(self._orders.name)
        self.progress.is_complete = True
        self._on_progress(self.progress)
        return self.progress

    def _recall_runless(self) -> None:
        """Deliver events without a run, all one row of the ledger, as far back as is asked for."""
        wanted = self._orders.selection.since
        oldest = 0.0 if wanted is None else wanted.timestamp()
        if self._orders.again or oldest < self._ledger.upkeep.runless_since():
            since = min(oldest, self._ledger.upkeep.runless_since())
            self._ledger.runs.recall_runless(since, again=self._orders.again)
            self._dispatcher.deliver_until_done([""], self._stop, self._show)

    def _portions(self) -> Iterator[Sequence[str]]:
        for page in self._history.pages():
            for start in range(0, len(page), RUNS_AT_ONCE):
                yield page[start : start + RUNS_AT_ONCE]

    def _deliver_portion(self, run_ids: Sequence[str], settled_before: float | None) -> None:
        """Add those that need it to the ledger, and wait until they are delivered."""
        needed = _needed(self._ledger, run_ids, settled_before)
        self.progress.skipped += len(run_ids) - len(needed)
        self.progress.passed += len(run_ids) - len(needed)
        if needed and self._may_ask_for(len(needed)):
            if settled_before is not None:
                self._ledger.runs.redeliver(needed, backfilled=True, settled_before=settled_before)
            self._ledger.runs.add(needed, backfilled=True)
            self._dispatcher.deliver_until_done(needed, self._stop, self._show)
            self._count(needed)
        self._on_progress(self.progress)

    def _show(self, trouble: str) -> None:
        self.progress.trouble = trouble
        if trouble:
            self._on_progress(self.progress)

    def _count(self, run_ids: Sequence[str]) -> None:
        """Note what became of them; those that a stop left undone are not passed."""
        states = self._ledger.runs.states(run_ids)
        done = [run_id for run_id, state in states.items() if state in DONE]
        counted = done if self._stop.is_set() else run_ids
        self.progress.passed += len(counted)
        self.progress.outcomes.update(states.get(run_id, "pending") for run_id in counted)

    def _may_ask_for(self, number: int) -> bool:
        """Wait as long as the rate demands; False if `stop` was called."""
        self._pace.wait(number, self._stop)
        return not self._stop.is_set()


def _needed(ledger: Ledger, run_ids: Sequence[str], settled_before: float | None) -> Sequence[str]:
    """Those that are not delivered yet; with a time, all but what was settled since."""
    known = ledger.runs.states(run_ids)
    if settled_before is None:
        done = {run_id for run_id, state in known.items() if state in DONE}
    else:
        done = set(ledger.runs.settled_since(run_ids, settled_before))
    return [run_id for run_id in run_ids if run_id not in done]


def count(ledger: Ledger, history: Iterator[Sequence[str]], *, again: bool) -> Progress:
    """What a backfill would find: nothing is changed."""
    progress = Progress()
    for page in history:
        progress.selected += len(page)
        if not again:
            progress.skipped += len(page) - len(_needed(ledger, page, None))
    return progress
