"""Delivering what is due: the only place that knows the order of things."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from datahub_eventlog import definitions, public
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.delivery import Delivery, Mark, Report, Rules
from datahub_eventlog.dispatcher.filters import has_wanted_steps, is_wanted
from datahub_eventlog.dispatcher.keeping import Keeper
from datahub_eventlog.dispatcher.outgoing import redactor_of, run_items, runless_items
from datahub_eventlog.dispatcher.pause import Pause
from datahub_eventlog.dispatcher.tables import Tables
from datahub_eventlog.dispatcher.watch import Watch
from datahub_eventlog.errors import Conflict, LeaseLost, LedgerUnavailable, Unavailable
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.ledger import Lease, Ledger, Outcome
from datahub_eventlog.log import logger
from datahub_eventlog.redact import DEFAULT
from datahub_eventlog.sinks import Sink
from datahub_eventlog.source import Source, has_ended
from datahub_eventlog.values import Definitions, Problem, Proposal, Run, RunLog

TTL = timedelta(seconds=120)
"""How long a run belongs to a dispatcher that says nothing more."""
AT_ONCE = 10
"""Runs a round."""
FIRST_DELAY = 5.0
LONGEST_DELAY = 6 * 3600.0
"""Seconds until a run that failed is tried again; three times as long after each attempt."""
CONFLICT_DELAY = timedelta(seconds=5)
"""Until a run that met another transaction again and again is tried again."""
LOOK = timedelta(seconds=10)
"""On top of `touch_interval`: when a delivered run is looked at once more."""
QUIET = timedelta(seconds=60)
"""A run that was not touched for so much longer when it is read needs no other look: nothing of
it is still to become visible. It spares a backlog half of its reading."""
LIVE_POLL = 5.0
"""Seconds until a run that is alive is looked at without a touch: steps shorter than
`touch_interval` leave none. No more often than `ledger.touches.LIVE_THROTTLE` allows."""
SHORTEST_POLL = 30.0
LONGEST_POLL = 600.0
"""The same of a run that was silent for so long, and at the most."""
PRELUDE = frozenset(
    {
        *("RUN_ENQUEUED", "RUN_DEQUEUED", "RUN_STARTING"),
        *("ASSET_MATERIALIZATION_PLANNED", "ASSET_CHECK_EVALUATION_PLANNED"),
    }
)
"""The events of a run that has not begun: there is nothing to show yet."""
FACTS = 16
"""Jobs whose definitions are kept decoded: the runs of one have the same again and again."""
REMEMBERED = 1000
"""Runs of which we know what was sent, and that it is being sent."""
CUT_SHORT = (
    "{} attempts, of which the last did not come to its end:"
    " the process that delivers was killed in the middle of it (out of memory?), or hung"
)

if TYPE_CHECKING:
    from datahub.ingestion.graph.client import DataHubGraph


@dataclass(frozen=True)
class Parts:
    """What a dispatcher works with; it owns none of it."""

    ledger: Ledger
    source: Source
    sink: Sink
    extractor: Extractor
    graph: DataHubGraph | None
    """For the user's extractor; None where the target offers none."""
    owner: str
    """Who leases, such as `host:pid`."""
    tables: Tables | None = None
    """The columns that DataHub knows, for reading SQL."""


class Dispatcher:
    """Takes runs from the ledger and brings them to DataHub, one after the other."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        on_request: Callable[[], None] = lambda: None,
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch or Watch()
        self._config = config
        self._parts = parts
        self._on_request = on_request
        self._under_way: OrderedDict[str, _UnderWay] = OrderedDict()
        self._facts = lru_cache(maxsize=FACTS)(self._decoded)
        self._held: list[Lease] = []
        self._is_stopping = False
        self._redacted = (redactor_of(config.redact) or DEFAULT).text
        self.pause = Pause()
        if config.debug_mode:  # its parent's level is Dagster's, and hides them
            logger.setLevel(logging.DEBUG)

    def run_once(self) -> int:
        """Deliver what is due and return how many runs that was; raises `LedgerUnavailable`."""
        if self.pause.is_on:
            return 0
        self.abandon()  # what the ledger's database kept us from giving back
        limit = 1 if self.pause.is_probing else AT_ONCE
        leases = self._parts.ledger.lease(self._parts.owner, limit, TTL)
        self._deliver_all(leases)
        return len(leases)

    def deliver(self, run_ids: Sequence[str]) -> None:
        """Deliver those runs if they are due and nobody else is at it.

        Raises `LedgerUnavailable`.
        """
        self._deliver_all(
            self._parts.ledger.lease(self._parts.owner, len(run_ids), TTL, run_ids=run_ids)
        )

    def stop(self) -> None:
        """Finish the run at hand and give the others back."""
        self._is_stopping = True

    def abandon(self) -> None:
        """Give back every run at hand; another thread calls this when a delivery hangs.

        Whoever is still sending one finds its lease lost. Raises `LedgerUnavailable`.
        """
        at_hand, others = self._held[:1], self._held[1:]
        # It may be the one at hand alone that the ledger can't be told of: others come first then.
        for lease in (*others, *at_hand):
            with suppress(LeaseLost):
                self._parts.ledger.release(lease)
        self._held.clear()

    def _deliver_all(self, leases: Sequence[Lease]) -> None:
        self._held = list(leases)
        for lease in leases:
            self._deliver(lease)
            with suppress(ValueError):  # abandoned
                self._held.remove(lease)

    def _deliver(self, lease: Lease) -> None:
        try:
            self._try(lease)
        except LeaseLost:
            logger.info("Run %s belongs to another dispatcher now.", lease.run_id)

    def _try(self, lease: Lease) -> None:
        if self._is_stopping or self.pause.is_on:
            self._parts.ledger.release(lease)
            return
        if lease.attempts >= self._config.max_attempts:
            self._park(lease, CUT_SHORT.format(lease.attempts))
            return
        try:
            self._parts.ledger.attempt(lease, TTL)
            if _is_counted(lease):
                self._watch.attempted()
            self._look_at(lease)
        except Unavailable as error:
            self.pause.begin(error)
            self._parts.ledger.release(lease)
        except Conflict as error:  # DataHub is up, and so are the others
            logger.info("Run %s is tried again soon: %s", lease.run_id, error)
            reason = self._redacted(public.words(error))
            self._parts.ledger.defer(lease, CONFLICT_DELAY, reason, counts=False)
        except (LeaseLost, LedgerUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - one bad run must not hold up the others
            self._put_off(lease, error)

    def _put_off(self, lease: Lease, error: Exception) -> None:
        reason = self._redacted(public.words(error))
        if lease.attempts + 1 >= self._config.max_attempts:
            self._park(lease, reason, error)
            return
        delay = timedelta(seconds=min(FIRST_DELAY * 3**lease.attempts, LONGEST_DELAY))
        logger.warning("Run %s failed, again in %s: %s", lease.run_id, delay, reason)
        self._parts.ledger.defer(lease, delay, reason, counts=True)

    def _park(self, lease: Lease, reason: str, error: Exception | None = None) -> None:
        trace = f"\n{public.traced(error)}" if error else ""
        logger.error("Run %s is parked: %s%s", lease.run_id, reason, trace)
        if self._parts.ledger.park(lease, reason):
            self._under_way.pop(lease.run_id, None)
            self._watch.parked()

    def _look_at(self, lease: Lease) -> None:
        """Decide what a leased run needs, and do it."""
        if not lease.run_id:
            self._deliver_runless(lease)
            return
        run = self._parts.source.run(lease.run_id)
        if run is None:
            self._settle(lease, "gone")
        elif not is_wanted(run, self._config):
            self._settle(lease, "filtered")
        else:
            self._deliver_run(lease, run)

    def _deliver_run(self, lease: Lease, run: Run) -> None:
        is_quiet = lease.begun - lease.last_touch > (self._look_again + QUIET).total_seconds()
        keep = self._keeper(lease).keep
        log = self._parts.source.log(run, self._definitions(lease), keep)
        keep()  # the user's functions may take long
        if not has_wanted_steps(log, self._config):
            self._settle(lease, "filtered")
            return
        mark = _mark(log)
        is_over = has_ended(log) or self._is_abandoned(log)
        # Over, but not delivered: somebody asks for it again, such as an older run that came late.
        is_asked_for = lease.again or (is_over and lease.was != "delivered")
        is_seen = (lease.cursor == mark or _is_waiting(log)) and not is_asked_for
        if not is_seen:
            self._emit(lease, log)
        if not is_over:
            self._parts.ledger.wait(lease, _patience(log, lease), mark)
        else:
            look_again = None if is_seen or is_quiet else self._look_again
            self._settle(lease, "delivered", look_again, mark)

    def _emit(self, lease: Lease, log: RunLog) -> None:
        if has_ended(log):
            self._announce(lease, log.run)
        report = self._send(lease, run_items(log, self._config, self._parts))
        if report.rejected or not _is_first(lease):
            self._parts.ledger.rejected(lease.run_id, report.rejected)

    def _announce(self, lease: Lease, run: Run) -> None:
        """Log that the run is sent, once however often that is tried."""
        known = self._known(lease.run_id)
        if not known.is_announced and lease.was != "delivered":
            logger.info("Emitting metadata... job %s, run %s", run.job_name, run.run_id)
        known.is_announced = True

    def _deliver_runless(self, lease: Lease) -> None:
        since = self._parts.ledger.runless_since()
        keep = self._keeper(lease).keep
        found = self._parts.source.runless(
            lease.cursor or None, since, lease.begun, keep, noted=lease.last_touch
        )
        report = self._send(lease, runless_items(found.events, self._config, self._parts))
        self._parts.ledger.rejected(lease.run_id, report.rejected, is_whole=not lease.cursor)
        self._settle(lease, "delivered", cursor=found.cursor)

    def _send(self, lease: Lease, items: Iterator[Proposal | Problem]) -> Report:
        rules = Rules(
            TTL,
            self._config.resend_after,
            self._on_request,
            is_logged=self._config.debug_mode,
        )
        known = self._known(lease.run_id)
        if lease.again:
            known.marks.clear()
        begun = time.monotonic()
        delivery = Delivery(self._parts.ledger, self._parts.sink, lease, rules, known.marks)
        try:
            report = delivery.send(items)
        finally:
            known.add(delivery.report, time.monotonic() - begun)
        report.rejected = [
            (urn, aspect, self._redacted(reason)) for urn, aspect, reason in report.rejected
        ]
        self._watch.sent(report.sent, len(report.rejected))
        if report.sent:
            self.pause.end()
        return report

    def _keeper(self, lease: Lease) -> Keeper:
        return Keeper(self._parts.ledger, lease, TTL, self._on_request)

    def _settle(
        self,
        lease: Lease,
        outcome: Outcome,
        look_again: timedelta | None = None,
        cursor: str | None = None,
    ) -> None:
        if self._parts.ledger.settle(lease, outcome, look_again=look_again, cursor=cursor):
            known = self._under_way.pop(lease.run_id, None)
            if known is not None and known.proposals:
                name = f"Run {lease.run_id}" if lease.run_id else "Events without a run"
                logger.info("%s delivered: %s", name, known)
            if _is_counted(lease):
                self._watch.settled(outcome)

    @property
    def _look_again(self) -> timedelta:
        return self._config.touch_interval + LOOK

    def _is_abandoned(self, log: RunLog) -> bool:
        """Whether nothing was heard of the run for so long that nothing will be."""
        return _silence(log) > self._config.retention.total_seconds()

    def _definitions(self, lease: Lease) -> Definitions | None:
        return None if lease.definitions is None else self._facts(lease.definitions)

    def _decoded(self, name: str) -> Definitions | None:
        stored = self._parts.ledger.facts(name)
        return None if stored is None else definitions.decode(stored)

    def _known(self, run_id: str) -> _UnderWay:
        known = self._under_way.setdefault(run_id, _UnderWay())
        self._under_way.move_to_end(run_id)
        if len(self._under_way) > REMEMBERED:
            self._under_way.popitem(last=False)
        return known


@dataclass
class _UnderWay:
    """What this process has sent of a run that is not settled yet."""

    marks: set[Mark] = field(default_factory=set)
    urns: set[str] = field(default_factory=set)
    proposals: int = 0
    seconds: float = 0.0
    is_announced: bool = False

    def add(self, report: Report, seconds: float) -> None:
        """Count one delivery, whether or not it came to its end."""
        self.urns |= report.urns
        self.proposals += report.sent
        self.seconds += seconds

    def __str__(self) -> str:
        return f"{len(self.urns)} entities, {self.proposals} proposals, {self.seconds:.1f} s"


def _mark(log: RunLog) -> str:
    """What tells whether there is anything new in a run's log."""
    ids = [each.storage_id for each in log.events]
    return f"{len(ids)}:{max(ids, default=0)}:{'ended' if has_ended(log) else 'going on'}"


def _silence(log: RunLog) -> float:
    """Seconds since the run was last heard of."""
    last = max((each.time for each in log.events), default=log.run.created or 0.0)
    return time.time() - last


def _is_counted(lease: Lease) -> bool:
    """Whether it is a run's delivery: no look for events without one, or at a delivered run."""
    return bool(lease.run_id) and lease.was != "delivered"


def _is_first(lease: Lease) -> bool:
    """Whether nothing of the run was ever delivered, so that nothing can be noted of it."""
    return not lease.cursor and not (lease.attempts or lease.again or lease.is_unfinished)


def _is_waiting(log: RunLog) -> bool:
    return all(each.type in PRELUDE for each in log.events)


def _patience(log: RunLog, lease: Lease) -> timedelta:
    """The longer a run is silent, the less often it is looked at."""
    silences = (_silence(log), time.time() - lease.last_touch)
    # What a clock that was ahead has stored would keep us looking until its time has come.
    silence = min((each for each in silences if each >= 0), default=0.0)
    if silence < SHORTEST_POLL:
        return timedelta(seconds=LIVE_POLL)
    return timedelta(seconds=min(silence, LONGEST_POLL))
