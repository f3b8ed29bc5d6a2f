"""Compares proposals with what DataHub holds, of many runs at once.

Proposals are collected until there are enough for requests of a good size. A state is compared
only if nothing newer took its place, which the ledger knows; once, however many runs have it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

from datahub.emitter.aspect import TIMESERIES_ASPECT_MAP

from datahub_eventlog.errors import DataHubEventLogError
from datahub_eventlog.ledger import Claim, Ledger, Standing
from datahub_eventlog.proposal_claims import claim_of
from datahub_eventlog.sinks.reading import Held, HeldAspect, NotReadable, Place, Reader
from datahub_eventlog.values import Change, Json, Problem, Proposal
from datahub_eventlog.verification.columns import LINEAGE, SCHEMA, columns_of, named_columns
from datahub_eventlog.verification.comparison import differences, is_in
from datahub_eventlog.verification.findings import (
    DanglingColumn,
    FieldDifference,
    Finding,
    Kind,
    Tally,
)

ENTITIES_AT_ONCE = 2000
"""Collected before DataHub is asked: of each type, the last request is not full."""
BYTES_AT_ONCE = 16 * 2**20
"""Of collected proposals, whatever their number."""
MOST_COLLECTED = 20_000
"""Proposals; a run with more is compared in several parts."""
OLDER_BY = timedelta(minutes=10)
"""What DataHub holds is from before our last sending if it was observed so much earlier: a write
to a slow server takes minutes."""
INDEX_WAITS_SECONDS = (1.0, 3.0)
"""Until what is missing is looked for again: an index or an asynchronous write may lag."""
LAGS_FOR = timedelta(minutes=5)
"""Of what was delivered earlier, nothing is looked for again."""
USERS_FUNCTIONS = ("asset_lineage_extractor", "asset_keys_to_dataset_urn_converter")
"""The options that name them. Without them a run becomes less than what was delivered."""
SCHEMAS_KEPT = 1000
"""Datasets whose columns are remembered."""


@dataclass(frozen=True)
class Expected:
    """A proposal that DataHub must have, unless something newer took its place."""

    proposal: Proposal
    run_id: str
    claim: Claim | None = None
    is_delivered: bool = False
    """The ledger knows all that the run has claimed."""
    standing: Standing | None = None

    @property
    def sender(self) -> str:
        """The run that claimed the state last."""
        known = self.standing.run_id if self.standing else None
        return self.run_id if known is None else known

    @property
    def was_sent_otherwise(self) -> bool:
        """Whether the run has sent something else than it would send now.

        The configuration has changed since, or what DataHub knows of the columns of tables.
        """
        standing = self.standing
        return bool(
            standing
            and standing.run_id == self.run_id
            and not standing.is_same
            and standing.sent is not None
        )

    @property
    def is_timeseries(self) -> bool:
        """Whether it is one document of many."""
        return self.proposal.aspect in TIMESERIES_ASPECT_MAP


@dataclass(frozen=True)
class Found:
    """A finding with what it is about."""

    finding: Finding
    expected: Expected


@dataclass
class Comparison:
    """The result for what was collected."""

    found: list[Found] = field(default_factory=list)
    dangling: list[DanglingColumn] = field(default_factory=list)

    @property
    def faults(self) -> list[Found]:
        """What is to be sent again."""
        return [found for found in self.found if found.finding.is_fault]


class Verifier:
    """Collects what DataHub must have, and asks for it. Belongs to one thread."""

    def __init__(
        self,
        ledger: Ledger,
        reader: Reader,
        is_newer: Callable[[str, str], bool],
        wait: Callable[[float], object],
        on_full: Callable[[], object],
    ) -> None:
        """`is_newer(a, b)`: whether run `a` is newer than `b`; `wait` waits so many seconds.

        `on_full` is called within `add` when there is no room for more; it is to `compare`.
        """
        self._ledger = ledger
        self._reader = reader
        self._is_newer = is_newer
        self._wait = wait
        self._on_full = on_full
        self._collected: list[Expected] = []
        self._urns: set[str] = set()
        self._bytes = 0
        self._newest_delivery = 0.0
        self._compared: set[str] = set()
        self._columns: dict[str, frozenset[str]] = {}
        self.tally = Tally()

    @property
    def is_full(self) -> bool:
        """Whether it is time to ask DataHub."""
        return len(self._urns) >= ENTITIES_AT_ONCE or self._bytes >= BYTES_AT_ONCE

    def add(
        self, run_id: str, items: Iterable[Proposal | Problem], *, delivered: float | None
    ) -> None:
        """Take the proposals of a run; `delivered` is when its delivery ended, if it did."""
        self._newest_delivery = max(self._newest_delivery, delivered or 0.0)
        for item in items:
            if isinstance(item, Problem):
                if item.aspect in USERS_FUNCTIONS:
                    raise DataHubEventLogError(f"what it becomes is not known: {item.reason}")
                continue  # `status` has it
            if item.transition and item.change is Change.PATCH:
                continue  # people may have changed the state since
            claim = claim_of(item)
            if claim is not None and claim.row_key in self._compared:
                continue
            is_delivered = delivered is not None
            self._collected.append(Expected(item, run_id, claim, is_delivered))
            self._urns.add(item.urn)
            self._bytes += len(item.body)
            if len(self._collected) >= MOST_COLLECTED or self._bytes >= 2 * BYTES_AT_ONCE:
                self._on_full()

    def compare(self) -> Comparison:
        """Ask DataHub for all that was collected; raises `Unavailable`, and can be repeated."""
        expected = self._current(self._collected)
        found = self._compare(expected)
        if self._may_lag():
            found = self._look_again(found)
        found = self._still_current(found)
        comparison = Comparison(found, self._dangling(expected))
        self._note(expected, found)
        return comparison

    def compare_again(self, found: Sequence[Found]) -> list[Found]:
        """What of it is still not as it was sent; raises `Unavailable`."""
        again = [replace(each.expected, standing=None) for each in found]
        return self._look_again(self._compare(self._current(again)))

    def _look_again(self, found: Sequence[Found]) -> list[Found]:
        """The same, without faults that are none when DataHub is asked once more."""
        current = list(found)
        for seconds in INDEX_WAITS_SECONDS:
            faults = [each for each in current if each.finding.is_fault]
            if not faults:
                break
            self._wait(seconds)
            others = [each for each in current if not each.finding.is_fault]
            current = others + self._compare([each.expected for each in faults])
        return current

    def _may_lag(self) -> bool:
        now = self._ledger.database.read_clock()
        return self._newest_delivery > now - LAGS_FOR.total_seconds()

    def _current(self, collected: Sequence[Expected]) -> list[Expected]:
        """What nothing newer took the place of; of equal states one."""
        claims = [(each.claim, each.run_id) for each in collected if each.claim is not None]
        standings = iter(self._ledger.claims.standings(claims))
        current: list[Expected] = []
        states: dict[str, int] = {}
        for each in collected:
            if each.claim is None:
                current.append(each)
                continue
            standing = next(standings)
            if not _is_expected(each, each.claim, standing):
                continue
            with_standing = replace(each, standing=standing)
            key = each.claim.row_key
            if key not in states:
                states[key] = len(current)
                current.append(with_standing)
            elif _order(with_standing) > _order(current[states[key]]):
                current[states[key]] = with_standing
        return current

    def _compare(self, expected: Sequence[Expected]) -> list[Found]:
        states = [each for each in expected if not each.is_timeseries]
        held = self._held(states)
        found: list[Found] = []
        for each in states:
            if not self._is_not_readable(each.proposal):
                place = (each.proposal.urn, each.proposal.aspect)
                finding = self._judge(each, held.get(place))
                found += [Found(finding, each)] if finding else []
        documents = [each for each in expected if each.is_timeseries]
        return found + list(self._compare_documents(documents))

    def _held(self, expected: Sequence[Expected]) -> dict[Place, HeldAspect]:
        by_type: dict[str, dict[str, set[str]]] = {}
        for each in expected:
            proposal = each.proposal
            if not self._is_not_readable(proposal):
                wanted = by_type.setdefault(proposal.entity_type, {})
                wanted.setdefault(proposal.urn, set()).add(proposal.aspect)
        held: dict[Place, HeldAspect] = {}
        for entity_type, wanted in sorted(by_type.items()):
            held |= self._read(
                entity_type, partial(self._reader.aspects, entity_type, wanted)
            ).aspects
        return held

    def _compare_documents(self, expected: Sequence[Expected]) -> Iterator[Found]:
        series: dict[tuple[str, str], list[tuple[Expected, Json]]] = {}
        for each in expected:
            proposal = each.proposal
            if not self._is_not_readable(proposal):
                place = (proposal.entity_type, proposal.aspect)
                series.setdefault(place, []).append((each, json.loads(proposal.body)))
        for (entity_type, aspect), wanted in sorted(series.items(), key=lambda item: item[0]):
            times = [document["timestampMillis"] for _, document in wanted]
            urns, span = {each.proposal.urn for each, _ in wanted}, (min(times), max(times))
            read = partial(self._reader.documents, entity_type, aspect, urns, span)
            held = self._read(aspect, read)
            for each, document in wanted:
                if not self._is_not_readable(each.proposal):
                    there = held.documents.get(each.proposal.urn, ())
                    finding = _judge_document(each, document, there)
                    if finding is not None:
                        yield Found(finding, each)

    def _read(self, what: str, read: Callable[[], Held]) -> Held:
        """What is read; what may not be read is noted."""
        try:
            held = read()
        except NotReadable as error:
            self.tally.not_readable[what] = str(error)
            return Held()
        for urn, reason in held.refused.items():
            self.tally.not_readable[urn] = f"{urn}: {reason}"
        return held

    def _is_not_readable(self, proposal: Proposal) -> bool:
        is_series = proposal.aspect in TIMESERIES_ASPECT_MAP
        place = proposal.aspect if is_series else proposal.entity_type
        return not self.tally.not_readable.keys().isdisjoint((place, proposal.urn))

    def _judge(self, expected: Expected, held: HeldAspect | None) -> Finding | None:
        proposal = expected.proposal
        if held is None:
            return None if proposal.is_vacant else _finding("missing", expected)
        sent = expected.standing.sent if expected.standing else None
        is_older = (
            sent is not None
            and held.observed is not None
            and held.observed < sent - OLDER_BY.total_seconds()
            # Of the same run it is what we sent, whatever the clocks say.
            and held.run_id != expected.sender
        )
        if proposal.aspect == "status" and not is_older:
            return _judge_status(expected, held)
        fields = differences(proposal, held.value, is_older=is_older)
        if not fields or expected.was_sent_otherwise:
            return None
        is_of_newer = held.run_id != expected.sender and self._is_newer(
            held.run_id, expected.sender
        )
        return _finding("newer" if is_of_newer else "differs", expected, fields)

    def _still_current(self, found: Sequence[Found]) -> list[Found]:
        """Without what somebody has delivered anew while we asked."""
        claimed = [each for each in found if each.expected.claim is not None]
        claims = [(each.expected.claim, each.expected.run_id) for each in claimed]
        standings = self._ledger.claims.standings(
            [(claim, run_id) for claim, run_id in claims if claim is not None]
        )
        outdated = {
            id(each)
            for each, standing in zip(claimed, standings, strict=True)
            if standing != each.expected.standing
        }
        return [each for each in found if id(each) not in outdated]

    def _dangling(self, expected: Sequence[Expected]) -> list[DanglingColumn]:
        """The columns in lineage that neither side's schema has, where there is a schema."""
        named: dict[tuple[str, str], str] = {}
        ours: dict[str, frozenset[str]] = {}
        for each in expected:
            proposal = each.proposal
            if proposal.aspect == SCHEMA:
                ours[proposal.urn] = columns_of(json.loads(proposal.body))
            elif proposal.aspect == LINEAGE:
                for column in named_columns(proposal):
                    named.setdefault(column, proposal.urn)
        self._read_columns({dataset for dataset, _ in named} - self._columns.keys())
        dangling = [
            DanglingColumn(dataset, column, named_by)
            for (dataset, column), named_by in sorted(named.items())
            if (known := self._columns.get(dataset, frozenset()) | ours.get(dataset, frozenset()))
            and column not in known
        ]
        if len(self._columns) > SCHEMAS_KEPT:
            self._columns.clear()
        return dangling

    def _read_columns(self, datasets: set[str]) -> None:
        if not datasets or "dataset" in self.tally.not_readable:
            return
        wanted = dict.fromkeys(datasets, (SCHEMA,))
        held = self._read("dataset", partial(self._reader.aspects, "dataset", wanted)).aspects
        for dataset in datasets:
            schema = held.get((dataset, SCHEMA))
            self._columns[dataset] = columns_of(schema.value) if schema else frozenset()

    def _note(self, expected: Sequence[Expected], found: Sequence[Found]) -> None:
        self.tally.entities += len(self._urns)
        self.tally.aspects += len(expected)
        self.tally.count(each.finding for each in found)
        self._compared.update(each.claim.row_key for each in expected if each.claim is not None)
        self._collected = []
        self._urns = set()
        self._bytes = 0


def _is_expected(expected: Expected, claim: Claim, standing: Standing) -> bool:
    """Whether DataHub must have the state of a claim, or a run is still to send it."""
    if claim.is_vacant:  # where there was nothing, nothing was sent
        return standing.is_same and standing.sent is not None
    if standing.run_id is None and expected.is_delivered:  # it was not among what was delivered
        return False
    return standing.is_same or standing.is_newest


def _order(expected: Expected) -> tuple[bool, float, str]:
    assert expected.claim is not None and expected.standing is not None  # noqa: S101, PT018 - of states only
    return expected.standing.is_same, expected.claim.time, expected.run_id


def _judge_status(expected: Expected, held: HeldAspect) -> Finding | None:
    """Whether an entity exists is for people to decide, too."""
    ours = json.loads(expected.proposal.body).get("removed", False)
    theirs = isinstance(held.value, dict) and held.value.get("removed", False)
    if not theirs or ours:
        return None
    return _finding("removed", expected, (FieldDifference("/removed", ours, theirs),))


def _judge_document(expected: Expected, document: Json, held: Sequence[Json]) -> Finding | None:
    """Documents are told apart as in DataHub's index, by what their id is made of."""
    same = [
        other for other in held if isinstance(other, dict) and _is_same_document(document, other)
    ]
    if not same:
        return _finding("missing", expected, detail=_document_name(document))
    if any(is_in(document, other) for other in same):
        return None
    fields = differences(expected.proposal, same[0])
    return _finding("differs", expected, fields, detail=_document_name(document))


def _is_same_document(ours: Json, theirs: Json) -> bool:
    # A partition is part of the id, too; DataHub names one where we don't.
    partition = (ours.get("partitionSpec") or {}).get("partition")
    there = theirs.get("partitionSpec")
    held = there.get("partition") if isinstance(there, dict) else None
    if partition is not None and held != partition:
        return False
    names = ("timestampMillis", "messageId")
    return all(ours.get(name) == theirs.get(name) for name in names)


def _document_name(document: Json) -> str:
    return f"{document.get('messageId') or ''} at {document['timestampMillis']}".strip()


def _finding(
    kind: Kind,
    expected: Expected,
    fields: tuple[FieldDifference, ...] = (),
    detail: str = "",
) -> Finding:
    proposal = expected.proposal
    return Finding(kind, proposal.urn, proposal.aspect, expected.run_id, fields, detail)
