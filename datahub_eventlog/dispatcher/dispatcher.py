"""Delivering what is due: the only place that knows the order of things."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from datahub_eventlog import error_text
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.catalog_sending import CatalogSending
from datahub_eventlog.dispatcher.delivery import Delivery, Report, Rules, SentKey
from datahub_eventlog.dispatcher.lease_keeper import LeaseKeeper
from datahub_eventlog.dispatcher.observer import Observer
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.pause import Pause
from datahub_eventlog.dispatcher.proposals import (
    backfill_items,
    redactor_of,
    removals,
    run_items,
    runless_items,
)
from datahub_eventlog.dispatcher.repairing import repair_items
from datahub_eventlog.dispatcher.run_logs import RunLogs
from datahub_eventlog.errors import Conflict, LeaseLost, LedgerUnavailable, Unavailable
from datahub_eventlog.event_types import PLANNED
from datahub_eventlog.ledger import (
    Lease,
    Outcome,
    StoredCatalog,
    backfill_of,
    location_of,
)
from datahub_eventlog.log import logger
from datahub_eventlog.redact import DEFAULT
from datahub_eventlog.values import BACKFILL_TAG, Problem, Proposal, RunLog

LEASE_TTL = timedelta(seconds=120)
"""How long a run belongs to a dispatcher that does not extend its lease."""
RUNS_A_ROUND = 10
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 6 * 3600.0
"""Until a run that failed is tried again; three times as long after each attempt."""
CONFLICT_RETRY = timedelta(seconds=5)
"""Until a run that met another transaction again and again is tried again."""
POLL_INTERVAL = timedelta(seconds=0.2)
"""Until we look again at what another dispatcher is delivering."""
SECOND_LOOK = timedelta(seconds=10)
"""On top of `touch_interval`: when a delivered run is looked at once more."""
QUIET = timedelta(seconds=60)
"""A run that was not touched for so much longer when it is read needs no second look: all of its
events are visible by then. It spares a backlog half of its reading."""
LIVE_POLL_SECONDS = 5.0
"""Until a run that is alive is looked at without a touch: steps shorter than `touch_interval`
leave none. No more often than `ledger.touches.LIVE_THROTTLE_SECONDS` allows."""
SILENT_AFTER_SECONDS = 30.0
"""A run without news for so long is looked at after as long again."""
LONGEST_POLL_SECONDS = 600.0
OTHER_CATALOGS = timedelta(seconds=15)
"""Until a catalogue is looked at again that waits for the delivery of others."""
RUNS_UNDER_WAY = 1000
"""Of which we know what was sent, and that it is being sent."""
CUT_SHORT = (
    "{} attempts, of which the last did not come to its end:"
    " the process that delivers was killed in the middle of it (out of memory?), or hung"
)

TOO_MUCH_GONE = (
    "Code location %s does not define %d of its %d entities any more. That is more than"
    " `fail_safe_threshold`, so they are not removed from DataHub. If that is right, remove them"
    " with `datahub-eventlog catalog --allow-removal`"
)


class Dispatcher:
    """Takes runs from the ledger and brings them to DataHub, one after the other."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        on_request: Callable[[], None] = lambda: None,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or Observer()
        self._config = config
        self._parts = parts
        self._on_request = on_request
        self._sendings: OrderedDict[str, _RunSending] = OrderedDict()
        self._logs = RunLogs(parts.ledger, parts.source, parts.catalog)
        self._held: list[Lease] = []
        self._is_stopping = False
        self._redacted = (redactor_of(config.redact) or DEFAULT).text
        self._look_again = config.touch_interval + SECOND_LOOK
        self.pause = Pause()
        if config.debug_mode:  # its parent's level is Dagster's, and hides them
            logger.setLevel(logging.DEBUG)

    def run_once(self) -> int:
        """Deliver what is due and return how many runs that was; raises `LedgerUnavailable`."""
        if self.pause.is_on:
            return 0
        self.abandon()  # what the ledger's database kept us from giving back
        limit = 1 if self.pause.is_probing else RUNS_A_ROUND
        leases = self._parts.ledger.leases.take(self._parts.owner, limit, LEASE_TTL)
        self._work_off(leases)
        return len(leases)

    def deliver(self, run_ids: Sequence[str]) -> None:
        """Deliver those runs that are due and that no other dispatcher has leased.

        Raises `LedgerUnavailable`.
        """
        leases = self._parts.ledger.leases.take(
            self._parts.owner, len(run_ids), LEASE_TTL, run_ids=run_ids
        )
        self._work_off(leases)

    def deliver_until_done(
        self, run_ids: Sequence[str], stop: threading.Event, on_round: Callable[[str], None]
    ) -> None:
        """Deliver until none of them is due or leased, or until `stop`; others may help.

        `on_round` gets why nothing can be delivered just now, or an empty text. Raises
        `LedgerUnavailable`.
        """
        while not stop.is_set():
            self.deliver(run_ids)
            on_round(self.pause.reason if self.pause.is_on else "")
            if self._parts.ledger.leases.is_drained(run_ids):
                return
            stop.wait(max(self.pause.remaining, POLL_INTERVAL.total_seconds()))

    def stop(self) -> None:
        """Finish the run at hand and give the others back."""
        self._is_stopping = True

    def abandon(self) -> None:
        """Give back every run at hand; another thread calls this when a delivery hangs.

        Whoever is still sending one finds its lease lost. Raises `LedgerUnavailable`.
        """
        at_hand, others = self._held[:1], self._held[1:]
        # The ledger may fail for the run at hand alone, so the others come first.
        for lease in (*others, *at_hand):
            with suppress(LeaseLost):
                self._parts.ledger.leases.release(lease)
        self._held.clear()

    def _work_off(self, leases: Sequence[Lease]) -> None:
        self._held = list(leases)
        for lease in leases:
            try:
                self._attempt(lease)
            except LeaseLost:
                logger.info("%s belongs to another dispatcher now.", _name(lease))
            with suppress(ValueError):  # abandoned
                self._held.remove(lease)

    def _attempt(self, lease: Lease) -> None:
        """Deliver one run, and decide what follows if that fails."""
        if self._is_stopping or self.pause.is_on:
            self._parts.ledger.leases.release(lease)
            return
        if lease.attempts >= self._config.max_attempts:
            self._park(lease, CUT_SHORT.format(lease.attempts))
            return
        try:
            self._parts.ledger.leases.attempt(lease, LEASE_TTL)
            if _is_counted(lease):
                self._observer.attempted()
            self._deliver_leased(lease)
        except Unavailable as error:
            self.pause.begin(error)
            self._parts.ledger.leases.release(lease)
        except Conflict as error:  # DataHub is up, so no pause
            logger.info("%s is tried again soon: %s", _name(lease), error)
            reason = self._redacted(error_text.describe(error))
            self._parts.ledger.leases.defer(lease, CONFLICT_RETRY, reason, counts=False)
        except (LeaseLost, LedgerUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - one bad run must not hold up the others
            self._put_off(lease, error)

    def _deliver_leased(self, lease: Lease) -> None:
        location, backfill_id = location_of(lease.run_id), backfill_of(lease.run_id)
        if not lease.run_id:
            self._send_runless_events(lease)
        elif location is not None:
            self._send_catalog(lease, location)
        elif backfill_id is not None:
            self._send_backfill(lease, backfill_id)
        elif lease.is_repair:
            self._send_repair(lease)
        else:
            self._deliver_run(lease)

    def _deliver_run(self, lease: Lease) -> None:
        """Read a run, send it unless DataHub has all of it, and settle it or wait for more."""
        keep = LeaseKeeper(self._parts.ledger, lease, LEASE_TTL, self._on_request).keep
        log = self._logs.wanted(lease.run_id, lease.definitions_hash, self._config, keep)
        if not isinstance(log, RunLog):
            self._settle(lease, log)
            return
        keep()  # the user's functions, which come next, may take long
        cursor = _cursor_of(log)
        is_over = log.has_ended or _silence(log) > self._config.retention.total_seconds()
        # Over, but not delivered: it was asked for again, such as by an older run that came late.
        is_asked_for = lease.again or (is_over and lease.was != "delivered")
        is_seen = (lease.cursor == cursor or _has_not_begun(log)) and not is_asked_for
        if not is_seen:
            self._send_run(lease, log)
        # Nothing else says when there is news of its backfill.
        if not lease.cursor or (is_over and lease.was != "delivered"):
            self._note_backfill(log)
        if not is_over:
            self._parts.ledger.leases.wait(lease, _poll_delay(log, lease), cursor)
            return
        is_quiet = lease.begun - lease.last_touch > (self._look_again + QUIET).total_seconds()
        look_again = None if is_seen or is_quiet else self._look_again
        self._settle(lease, "delivered", look_again, cursor)

    def _send_run(self, lease: Lease, log: RunLog) -> None:
        if log.has_ended:
            sending = self._sending_of(lease.run_id)
            # Once, however often it is tried.
            if not sending.is_announced and lease.was != "delivered":
                logger.info("Emitting metadata... job %s, run %s", log.run.job_name, lease.run_id)
            sending.is_announced = True
        items = run_items(log, self._config, self._parts, opens_since=self._opens_since(lease))
        report = self._send_items(lease, items)
        is_first = not (lease.cursor or lease.attempts or lease.again or lease.is_unfinished)
        if report.rejected or not is_first:  # of a first delivery there are no older ones
            self._parts.ledger.reports.record_rejections(lease.run_id, report.rejected)

    def _opens_since(self, lease: Lease) -> float:
        """From when on what fails opens an incident; never, where history is delivered."""
        if lease.backfilled or not self._config.incidents.are_wanted:
            return math.inf
        return self._parts.ledger.upkeep.live_since()

    def _note_backfill(self, log: RunLog) -> None:
        """Have the backfill of a run looked at, if it belongs to one."""
        backfill_id = log.run.tags.get(BACKFILL_TAG)
        if backfill_id and self._config.health.backfills:
            self._parts.ledger.runs.touch_backfill(backfill_id)

    def _send_backfill(self, lease: Lease, backfill_id: str) -> None:
        """Send what Dagster's record of a backfill says, and look again until that has ended.

        Dagster sets it to its end some time after the last run has ended, without an event.
        """
        if not self._config.health.backfills:
            self._settle(lease, "filtered")
            return
        backfill = self._parts.source.backfill(backfill_id)
        is_recorded = backfill is not None and backfill.status is not None
        # What was sent while there was a record is more than the runs alone know.
        if backfill is not None and (is_recorded or lease.cursor is None):
            report = self._send_items(lease, backfill_items(backfill, self._config))
            self._parts.ledger.reports.record_rejections(lease.run_id, report.rejected)
        if backfill is None or not is_recorded:
            self._settle(lease, "gone")
            return
        silence = lease.begun - lease.last_touch
        if backfill.has_ended or silence > self._config.retention.total_seconds():
            self._settle(lease, "delivered", cursor=backfill.status)
        else:
            self._parts.ledger.leases.wait(lease, _delay_after(silence), backfill.status)

    def _send_runless_events(self, lease: Lease) -> None:
        since = self._parts.ledger.upkeep.runless_since()
        keep = LeaseKeeper(self._parts.ledger, lease, LEASE_TTL, self._on_request).keep
        page = self._parts.source.runless(
            lease.cursor or None, since, lease.begun, keep, noted=lease.last_touch
        )
        items = runless_items(
            page.events, self._config, self._parts, opens_since=self._opens_since(lease)
        )
        report = self._send_items(lease, items)
        self._parts.ledger.reports.record_rejections(
            lease.run_id, report.rejected, is_whole=not lease.cursor
        )
        self._settle(lease, "delivered", cursor=page.cursor)

    def _send_catalog(self, lease: Lease, location: str) -> None:
        """Send what a code location defines, and that what it defines no longer is removed."""
        options, catalogs = self._config.catalog, self._parts.ledger.catalogs
        catalog = catalogs.find(location) if options.enabled else None
        if catalog is None:
            self._settle(lease, "filtered")
            return
        sending = CatalogSending(catalog, self._config, self._parts, now=lease.begun)
        try:
            report = self._send_items(lease, sending.items())
        finally:  # whatever was sent is ours to remove
            catalogs.note_defined(location, sending.sent)
        if sending.is_replaced:  # it was touched with the newer one
            self._settle(lease, "delivered")
            return
        if options.remove_stale_metadata and catalog.is_whole:
            if catalogs.others_wait(location):
                # What is gone here may be defined there, and is not noted yet.
                self._parts.ledger.leases.wait(lease, OTHER_CATALOGS, catalog.hash)
                return
            report.rejected += self._remove_gone(lease, catalog, sending.defined)
        self._parts.ledger.reports.record_rejections(lease.run_id, report.rejected)
        self._settle(lease, "delivered", cursor=catalog.hash)

    def _remove_gone(
        self, lease: Lease, catalog: StoredCatalog, defined: set[str]
    ) -> list[tuple[str, str, str]]:
        """Send that what is not defined any more is removed; return what was rejected of it."""
        catalogs = self._parts.ledger.catalogs
        gone = catalogs.gone(catalog.location, defined)
        percent = 100 * gone.newly / max(1, gone.known)
        if percent > self._config.catalog.fail_safe_threshold and not catalog.is_confirmed:
            logger.warning(TOO_MUCH_GONE, catalog.location, gone.newly, gone.known)
            catalogs.hold_back(catalog.location, gone.newly)
            return []
        report = self._send_items(lease, removals(gone.urns, catalog.loaded, self._config))
        catalogs.note_removed(catalog, gone)
        return report.rejected

    def _send_repair(self, lease: Lease) -> None:
        """Send what DataHub was found to lack."""
        repairs, row_id = self._parts.ledger.repairs, lease.sender
        keys = repairs.keys(row_id)
        if keys:
            items = repair_items(row_id, keys, self._config, self._parts, self._logs)
            report = self._send_items(lease, items)
            self._parts.ledger.reports.record_rejections(row_id, report.rejected, is_whole=False)
            repairs.done(row_id, keys)
        self._settle(lease, "delivered")

    def _send_items(self, lease: Lease, items: Iterator[Proposal | Problem]) -> Report:
        rules = Rules(
            LEASE_TTL,
            self._config.resend_after,
            self._on_request,
            is_logged=self._config.debug_mode,
        )
        sending = self._sending_of(lease.run_id)
        if lease.again:
            sending.sent_keys.clear()
        begun = time.monotonic()
        delivery = Delivery(self._parts.ledger, self._parts.sink, lease, rules, sending.sent_keys)
        try:
            report = delivery.send(items)
        finally:
            sending.add(delivery.report, time.monotonic() - begun)
        report.rejected = [
            (urn, aspect, self._redacted(reason)) for urn, aspect, reason in report.rejected
        ]
        self._observer.sent(report.sent, len(report.rejected))
        if report.sent:
            self.pause.end()
        return report

    def _settle(
        self,
        lease: Lease,
        outcome: Outcome,
        look_again: timedelta | None = None,
        cursor: str | None = None,
    ) -> None:
        leases = self._parts.ledger.leases
        if not leases.settle(lease, outcome, look_again=look_again, cursor=cursor):
            return
        sending = self._sendings.pop(lease.run_id, None)
        if sending is not None and sending.proposals:
            name = _name(lease)
            logger.info("%s delivered: %s", name, sending)
        if _is_counted(lease):
            self._observer.settled(outcome)

    def _put_off(self, lease: Lease, error: Exception) -> None:
        """Try the run again later, or park it after its last attempt."""
        reason = self._redacted(error_text.describe(error))
        if lease.attempts + 1 >= self._config.max_attempts:
            self._park(lease, reason, error)
            return
        seconds = min(FIRST_RETRY_SECONDS * 3**lease.attempts, LONGEST_RETRY_SECONDS)
        delay = timedelta(seconds=seconds)
        logger.warning("%s failed, again in %s: %s", _name(lease), delay, reason)
        self._parts.ledger.leases.defer(lease, delay, reason, counts=True)

    def _park(self, lease: Lease, reason: str, error: Exception | None = None) -> None:
        trace = f"\n{error_text.trace(error)}" if error else ""
        logger.error("%s is parked: %s%s", _name(lease), reason, trace)
        if self._parts.ledger.leases.park(lease, reason):
            self._sendings.pop(lease.run_id, None)
            self._observer.parked()

    def _sending_of(self, run_id: str) -> _RunSending:
        sending = self._sendings.setdefault(run_id, _RunSending())
        self._sendings.move_to_end(run_id)
        if len(self._sendings) > RUNS_UNDER_WAY:
            self._sendings.popitem(last=False)
        return sending


@dataclass
class _RunSending:
    """What this process has sent of a run that is not settled yet."""

    sent_keys: set[SentKey] = field(default_factory=set)
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


def _cursor_of(log: RunLog) -> str:
    """The cursor of a run's log: it changes with every new event."""
    ids = [event.storage_id for event in log.events]
    return f"{len(ids)}:{max(ids, default=0)}:{'ended' if log.has_ended else 'going on'}"


def _silence(log: RunLog) -> float:
    """Seconds since the run's last event."""
    last = max((event.time for event in log.events), default=log.run.created or 0.0)
    return time.time() - last


def _is_counted(lease: Lease) -> bool:
    """Whether it is a run's delivery: not of what is no run, no repair, no second look."""
    is_other = location_of(lease.run_id) is not None or backfill_of(lease.run_id) is not None
    is_run = bool(lease.run_id) and not (is_other or lease.is_repair)
    return is_run and lease.was != "delivered"


def _name(lease: Lease) -> str:
    """What is delivered, in words."""
    row_id, repair = lease.sender, "Repair: " if lease.is_repair else ""
    if not row_id:
        return f"{repair}Events without a run"
    location, backfill_id = location_of(row_id), backfill_of(row_id)
    if location is not None:
        return f"{repair}Catalogue of {location}"
    return f"{repair}{f'Run {row_id}' if backfill_id is None else f'Backfill {backfill_id}'}"


def _has_not_begun(log: RunLog) -> bool:
    return all(event.type in PLANNED for event in log.events)


def _poll_delay(log: RunLog, lease: Lease) -> timedelta:
    """The longer a run is silent, the less often it is looked at."""
    silences = (_silence(log), time.time() - lease.last_touch)
    # A negative one was stored by a clock that was ahead: we would look until its time has come.
    return _delay_after(min((seconds for seconds in silences if seconds >= 0), default=0.0))


def _delay_after(silence: float) -> timedelta:
    is_silent = silence >= SILENT_AFTER_SECONDS
    seconds = min(silence, LONGEST_POLL_SECONDS) if is_silent else LIVE_POLL_SECONDS
    return timedelta(seconds=seconds)
