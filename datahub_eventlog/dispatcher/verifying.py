"""What a run, a catalogue or the events without a run become, handed to a `Verifier`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.proposals import backfill_items, run_items, runless_items
from datahub_eventlog.dispatcher.repairing import whole_catalog_items
from datahub_eventlog.dispatcher.run_logs import RunLogs
from datahub_eventlog.ledger import RunRow, backfill_row, catalog_row, repair_row
from datahub_eventlog.proposal_claims import repair_key
from datahub_eventlog.source import Source
from datahub_eventlog.values import RunLog
from datahub_eventlog.verification.verifier import Found, Verifier

Skipped: TypeAlias = Literal["going on", "waiting", "filtered", "gone"]
"""Why a run is not compared: it is not over; it waits for its delivery; it is left out on purpose;
it is no longer in the event log."""


class Expectations:
    """Translates what is stored, as a delivery does, for a verifier to compare."""

    def __init__(self, config: Config, parts: Parts, verifier: Verifier) -> None:
        self._config = config
        self._parts = parts
        self._verifier = verifier
        self._logs = RunLogs(parts.ledger, parts.source, parts.catalog)

    def add_run(self, run_id: str, row: RunRow | None) -> Skipped | None:
        """Take what a run becomes, and return why if it is not to be compared.

        `row` is what the ledger has of it. Raises what reading or translating it raises.
        """
        if row is not None and row.state in {"pending", "leased"}:
            return "waiting"
        log = self._logs.wanted(run_id, row.definitions_hash if row else None, self._config)
        if not isinstance(log, RunLog):
            return log
        if not log.has_ended:
            return "going on"
        items = run_items(log, self._config, self._parts, opens_since=math.inf)
        self._verifier.add(run_id, items, delivered=_delivered(row))
        return None

    def add_runless(self, since: float, until: float) -> Skipped | None:
        """The same of the events without a run between these times."""
        row = self._parts.ledger.runs.rows([""]).get("")
        if row is not None and row.state in {"pending", "leased"}:
            return "waiting"
        now = self._parts.ledger.database.read_clock()
        page = self._parts.source.runless(None, since, now)
        events = [event for event in page.events if event.time < until]
        items = runless_items(events, self._config, self._parts, opens_since=math.inf)
        self._verifier.add("", items, delivered=_delivered(row))
        return None

    def add_backfill(self, backfill_id: str) -> Skipped | None:
        """The same of the runs of a backfill together."""
        row_id = backfill_row(backfill_id)
        row = self._parts.ledger.runs.rows([row_id]).get(row_id)
        if row is None or row.state in {"pending", "leased"}:
            return "waiting"
        backfill = self._parts.source.backfill(backfill_id)
        if backfill is None or backfill.status is None:
            return "gone"
        items = backfill_items(backfill, self._config)
        self._verifier.add(row_id, items, delivered=_delivered(row))
        return None

    def add_catalog(self, location: str) -> Skipped | None:
        """The same of what a code location defines, and of what it defines no longer."""
        catalogs, row_id = self._parts.ledger.catalogs, catalog_row(location)
        catalog = catalogs.find(location) if self._config.catalog.enabled else None
        if catalog is None:
            return "filtered"
        row = self._parts.ledger.runs.rows([row_id]).get(row_id)
        if row is None or row.state in {"pending", "leased"}:
            return "waiting"
        items = whole_catalog_items(catalog, self._config, self._parts)
        self._verifier.add(row_id, items, delivered=_delivered(row))
        return None


def _delivered(row: RunRow | None) -> float | None:
    return row.settled if row is not None and row.state == "delivered" else None


def send_again(parts: Parts, faults: Sequence[Found]) -> list[str]:
    """Have just what DataHub lacks delivered; returns the ids of the ledger's rows for it."""
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for found in faults:
        expected = found.expected
        keys[expected.run_id].add(repair_key(expected.proposal, expected.claim))
    parts.ledger.repairs.request(keys)
    return sorted(map(repair_row, keys))


def newer_run(source: Source) -> Callable[[str, str], bool]:
    """Whether the one run was created after the other; False for what is no run."""

    def is_newer(run_id: str, other_id: str) -> bool:
        run, other = source.run(run_id), source.run(other_id)
        if run is None or other is None or run.created is None or other.created is None:
            return False
        return run.created > other.created

    return is_newer
