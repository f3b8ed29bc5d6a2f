"""Comparing what DataHub holds with Dagster's event log, and sending again what it lacks.

Runs are read and translated as for a delivery, the newest first, and compared with what DataHub
answers. What is sent again goes through the ledger, as everything does.
"""

from __future__ import annotations

import hashlib
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

from datahub_eventlog import error_text
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher import Dispatcher, Parts, redactor_of
from datahub_eventlog.dispatcher.pace import Pace
from datahub_eventlog.dispatcher.pause import Pause
from datahub_eventlog.dispatcher.verifying import Expectations, Skipped, newer_run, send_again
from datahub_eventlog.errors import LedgerUnavailable, Misconfigured, Unavailable
from datahub_eventlog.ledger import backfill_row, catalog_row
from datahub_eventlog.redact import DEFAULT, HIDDEN
from datahub_eventlog.sinks.reading import Reader
from datahub_eventlog.source.history import RUNS_PER_PAGE, SelectedRuns, Selection
from datahub_eventlog.verification.findings import DanglingColumn, Finding, Tally
from datahub_eventlog.verification.verifier import Comparison, Verifier

T = TypeVar("T")

MOST_FINDINGS = 10_000
"""Of each kind of result that are kept to be shown; all are counted."""
EVER = timedelta(days=36_500)


@dataclass(frozen=True)
class VerifyOrders:
    """What is to be compared, and what follows."""

    selection: Selection
    sample: int | None = None
    """So many runs of the selection, chosen by chance; None for all."""
    rate: float | None = None
    """Runs a minute, at most; None for no limit."""
    fix: bool = False
    """What DataHub lacks or has otherwise is sent again."""
    resume: bool = False
    """Go on where the same was stopped."""

    @property
    def name(self) -> str:
        """What the ledger remembers a stopped one by."""
        what = repr((self.selection, self.fix))
        digest = hashlib.blake2b(what.encode(), digest_size=12).hexdigest()
        return f"verify_{digest}"


@dataclass
class VerifyProgress:
    """How far it has come, and what was found."""

    selected: int = 0
    """Runs; of a sample, those in it."""
    passed: int = 0
    """Runs that are done, or were before a stop."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Runs that were not compared, by the reason."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Runs that could not be read or translated, and why."""
    findings: list[Finding] = field(default_factory=list)
    dangling: list[DanglingColumn] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    fixed: int = 0
    """Faults that are gone since they were sent again."""
    before: int = 0
    """Faults that were found, and not mended, before it was stopped."""
    trouble: str = ""
    """Why nothing can be read just now, or at all."""
    is_complete: bool = False

    @property
    def faults(self) -> int:
        """How much DataHub still lacks, or has otherwise."""
        return self.before + self.tally.faults - self.fixed

    @property
    def fell_short(self) -> bool:
        """Whether DataHub does not show what Dagster knows, or that is not known."""
        is_unknown = not self.is_complete or self.failed or self.tally.not_readable
        return bool(self.faults or is_unknown)


class _Stopped(Exception):
    """`stop` was called."""


class Verification:
    """One verification; `stop` may come from another thread or a signal."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        reader: Reader,
        orders: VerifyOrders,
        on_progress: Callable[[VerifyProgress], None],
    ) -> None:
        """Take what delivers and what reads; nothing is read or changed yet."""
        self._parts = parts
        self._orders = orders
        self._on_progress = on_progress
        self._stop = threading.Event()
        self._redactor = redactor_of(config.redact) or DEFAULT
        self._pause = Pause()
        self._pace = Pace(orders.rate)
        self._verifier = Verifier(
            parts.ledger, reader, newer_run(parts.source), self._stop.wait, self._compare
        )
        self._expectations = Expectations(config, parts, self._verifier)
        self._dispatcher = Dispatcher(config, parts)
        self.progress = VerifyProgress(tally=self._verifier.tally)

    def run(self) -> VerifyProgress:
        """Compare all of it, or as much as there is time for until `stop`."""
        try:
            with suppress(_Stopped):
                self._run()
            return self.progress
        finally:
            self._dispatcher.abandon()

    def stop(self) -> None:
        """End soon; what was not compared yet can be compared the next time."""
        self._stop.set()
        self._dispatcher.stop()

    def _run(self) -> None:
        for page in self._pages():
            rows = self._parts.ledger.runs.rows(page)
            for run_id in page:
                self._pace.wait(1, self._stop)
                self._end_if_stopped()
                self._add(run_id, partial(self._expectations.add_run, run_id, rows.get(run_id)))
                self.progress.passed += 1
                if self._verifier.is_full:
                    self._compare()
            self._on_progress(self.progress)
        if self._orders.selection.has_runless and self._orders.sample is None:
            self._add_others()
        self._compare()
        if self._orders.sample is None:
            self._parts.ledger.upkeep.finish(self._orders.name)
        self.progress.is_complete = True
        self._on_progress(self.progress)

    def _pages(self) -> Iterator[Sequence[str]]:
        """The runs that are to be compared, the newest first."""
        selection, upkeep, name = (
            self._orders.selection,
            self._parts.ledger.upkeep,
            self._orders.name,
        )
        if self._orders.sample is not None:
            yield from self._sample(self._parts.source.history(selection), self._orders.sample)
            return
        left = upkeep.left(name) if self._orders.resume else None
        if left is None:
            upkeep.finish(name)
            upkeep.begin(name)
        else:
            self.progress.before = left.faults
            selection = selection.created_before(upkeep.begin(name))
        history = self._parts.source.history(selection)
        self.progress.selected = history.count()
        self._note_unknown(history)
        # Counted from the end, deletions meanwhile leave no run out.
        done = max(0, self.progress.selected - left.number) if left else 0
        self.progress.passed = done
        for page in history.pages():
            yield page[done:]
            done = max(0, done - len(page))

    def _sample(self, history: SelectedRuns, number: int) -> Iterator[Sequence[str]]:
        run_ids = [run_id for page in history.pages() for run_id in page]
        chosen = set(random.sample(run_ids, min(number, len(run_ids))))
        self.progress.selected = len(chosen)
        for start in range(0, len(run_ids), RUNS_PER_PAGE):
            yield [run_id for run_id in run_ids[start : start + RUNS_PER_PAGE] if run_id in chosen]

    def _note_unknown(self, history: SelectedRuns) -> None:
        asked = self._orders.selection.run_ids
        known = {run_id for page in history.pages() for run_id in page} if asked else set()
        self.progress.failed += [
            (run_id, "there is no such run among those selected")
            for run_id in asked
            if run_id not in known
        ]

    def _add(self, row_id: str, add: Callable[[], Skipped | None]) -> None:
        try:
            reason = add()
        except (LedgerUnavailable, _Stopped):
            raise
        except Exception as error:  # noqa: BLE001 - one bad run must not hold up the others
            why = self._redactor.text(error_text.describe(error))
            self.progress.failed.append((row_id, why))
            return
        if reason is not None:
            self.progress.skipped[reason] += 1

    def _add_others(self) -> None:
        """What belongs to no single run: backfills, catalogues, and events without a run."""
        selected, ledger = self._orders.selection, self._parts.ledger
        since, until = ledger.upkeep.runless_since(), math.inf
        if selected.since is not None:
            since = max(since, selected.since.timestamp())
        if selected.until is not None:
            until = selected.until.timestamp()
        self._add("events without a run", partial(self._expectations.add_runless, since, until))
        for backfill_id in ledger.runs.backfills():
            add_backfill = partial(self._expectations.add_backfill, backfill_id)
            self._add(backfill_row(backfill_id), add_backfill)
        for location in ledger.catalogs.locations(EVER):
            self._add(catalog_row(location), partial(self._expectations.add_catalog, location))

    def _end_if_stopped(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _compare(self) -> None:
        """Compare what was collected, and have mended what is to be."""
        comparison = self._reading(self._verifier.compare)
        self._keep(comparison)
        if self._orders.fix and comparison.faults:
            self._fix(comparison)
        if self._orders.sample is None:
            left = self.progress.selected - self.progress.passed
            self._parts.ledger.upkeep.note_left(self._orders.name, left, self.progress.faults)
        self._on_progress(self.progress)

    def _reading(self, read: Callable[[], T]) -> T:
        """What is read, however long DataHub is away."""
        while True:
            self._end_if_stopped()
            try:
                result = read()
            except Misconfigured as error:  # to wait would not help
                self.progress.trouble = str(error)
                raise _Stopped from error
            except Unavailable as error:
                self._pause.begin(error)
                self._show(str(error))
                self._stop.wait(self._pause.remaining)
            else:
                self._pause.end()
                self._show("")
                return result

    def _keep(self, comparison: Comparison) -> None:
        room = MOST_FINDINGS - len(self.progress.findings)
        self.progress.findings += [self._shown(found.finding) for found in comparison.found[:room]]
        room = MOST_FINDINGS - len(self.progress.dangling)
        self.progress.dangling += comparison.dangling[:room]

    def _shown(self, finding: Finding) -> Finding:
        """The finding without the secrets that others may have written into DataHub."""
        fields = tuple(
            replace(row, ours=HIDDEN, theirs=HIDDEN)
            if self._redactor.is_secret_name(row.path.rpartition("/")[2])
            else self._redactor.value(row)
            for row in finding.fields
        )
        return replace(finding, fields=fields)

    def _fix(self, comparison: Comparison) -> None:
        faults = comparison.faults
        rows = send_again(self._parts, faults)
        self._dispatcher.deliver_until_done(rows, self._stop, self._show)
        still = self._reading(partial(self._verifier.compare_again, faults))
        self.progress.fixed += len(faults) - len(still)

    def _show(self, trouble: str) -> None:
        self.progress.trouble = trouble
        self._on_progress(self.progress)
