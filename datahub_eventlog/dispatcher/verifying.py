"""What a run, a catalogue or the events without a run become, handed to a `Verifier`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

from datahub_eventlog.catalog.packing import decode
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.filters import has_wanted_steps, is_wanted
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.proposals import (
    catalog_items,
    removals,
    run_items,
    runless_items,
)
from datahub_eventlog.dispatcher.run_logs import RunLogs
from datahub_eventlog.ledger import RunRow, catalog_row, location_of
from datahub_eventlog.source import Source
from datahub_eventlog.values import Problem, Proposal
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
        run = self._parts.source.run(run_id)
        if run is None:
            return "gone"
        if not is_wanted(run, self._config):
            return "filtered"
        log = self._logs.read(run, row.definitions_hash if row else None)
        if not has_wanted_steps(log, self._config):
            return "filtered"
        if not log.has_ended:
            return "going on"
        items = run_items(log, self._config, self._parts)
        self._verifier.add(run_id, items, delivered=row.settled if row else None)
        return None

    def add_runless(self, since: float) -> Skipped | None:
        """The same of the events without a run, from that time on."""
        row = self._parts.ledger.runs.rows([""]).get("")
        if row is not None and row.state in {"pending", "leased"}:
            return "waiting"
        now = self._parts.ledger.database.read_clock()
        page = self._parts.source.runless(None, since, now)
        items = runless_items(page.events, self._config, self._parts)
        self._verifier.add("", items, delivered=row.settled if row else None)
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
        now = self._parts.ledger.database.read_clock()

        def items() -> Iterator[Proposal | Problem]:
            for number in range(catalog.parts):
                blob = catalogs.part(catalog, number)
                if blob is None:  # a newer one took its place, and will be delivered
                    return
                part = decode(blob)
                yield from catalog_items(part, catalog.loaded, self._config, self._parts, now=now)
            yield from removals(catalogs.removed(location), catalog.loaded, self._config)

        self._verifier.add(row_id, items(), delivered=row.settled)
        return None


def send_again(parts: Parts, faults: Sequence[Found]) -> list[str]:
    """Have what DataHub lacks delivered by the usual way; returns the ids of the ledger's rows.

    The claims of just these states are forgotten, so that nothing else is sent that has one.
    """
    ledger, source = parts.ledger, parts.source
    keys: defaultdict[str, list[str]] = defaultdict(list)
    orphaned: list[str] = []
    senders: set[str] = set()
    for found in faults:
        expected = found.expected
        owner = expected.owner
        if not _exists(source, owner):
            owner = expected.run_id
            orphaned += [expected.claim.row_key] if expected.claim else []
        elif expected.claim is not None:
            keys[owner].append(expected.claim.row_key)
        senders.add(owner)
    ledger.claims.forget([key for own in keys.values() for key in own], owner_is_gone=False)
    ledger.claims.forget(orphaned, owner_is_gone=True)
    rows = sorted(senders - {""})
    ledger.runs.add(rows, backfilled=True)
    ledger.runs.redeliver(rows, backfilled=True, again=False)
    if "" in senders:
        ledger.runs.recall_runless(ledger.upkeep.runless_since(), again=False)
    return sorted(senders)


def _exists(source: Source, row_id: str) -> bool:
    is_run = bool(row_id) and location_of(row_id) is None
    return not is_run or source.run(row_id) is not None


def newer_run(source: Source) -> Callable[[str, str], bool]:
    """Whether the one run was created after the other; False for what is no run."""

    def is_newer(run_id: str, other_id: str) -> bool:
        run, other = source.run(run_id), source.run(other_id)
        if run is None or other is None or run.created is None or other.created is None:
            return False
        return run.created > other.created

    return is_newer
