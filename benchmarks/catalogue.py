"""The catalogue of a large code location, and its proposals by the client alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.environment import Environment
from benchmarks.one_run import by_client, cost, object_of
from benchmarks.pairs import Pair, cpu, wall
from benchmarks.rows import Row
from datahub_eventlog.catalog.packing import decode, encode
from datahub_eventlog.ledger import catalog_row
from datahub_eventlog.translate.catalog import catalog_proposals
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import (
    AssetFacts,
    CatalogJob,
    CatalogPart,
    CodeRepository,
    Job,
    Metadatum,
    Op,
    Proposal,
    Step,
    StepOutput,
)

SHARE_OF_CLIENT = 0.8
"""Of the speed of the client's own batches."""
MOST_MEGABYTES = 300
PERCENT_OF_FIRST = 1.0
PART_SIZE = 100
COLUMNS = 30
LOCATION = "large"
REPOSITORY = CodeRepository(LOCATION, "__repository__", module="large.defs")


@dataclass(frozen=True)
class Catalogue:
    """A code location with that many assets of thirty columns, and the job of them all."""

    environment: Environment
    count: int
    repeats: int

    @property
    def name(self) -> str:
        """What stands in the table."""
        return f"a catalogue of {self.count} assets with {COLUMNS} columns"

    def rows(self) -> Iterator[Row]:
        """All of them."""
        parts = list(_parts(self.count))
        yield from self._counts(parts)
        yield self._memory(parts)
        yield self._beside_client(parts)

    def _counts(self, parts: Sequence[bytes]) -> Iterator[Row]:
        endpoint = self.environment.endpoint
        endpoint.reset(keep=True)
        self._store(parts, 0)
        self._deliver()
        first = sum(len(write.proposals) for write in endpoint.writes())
        endpoint.reset(keep=True)
        self._store(parts, 1)
        self._deliver()
        second = sum(len(write.proposals) for write in endpoint.writes())
        percent = 100 * second / first
        yield Row(
            f"{self.name}: proposals, and % of them when one asset has changed",
            ours=f"{first}, {percent:.2f}",
            goal=f"at most {PERCENT_OF_FIRST:g} %",
            is_met=percent <= PERCENT_OF_FIRST,
        )

    def _memory(self, parts: Sequence[bytes]) -> Row:
        self.environment.forget()
        self.environment.endpoint.reset()
        self._store(parts, 2)
        worker = self.environment.worker()
        row = catalog_row(LOCATION)
        while self.environment.ledger.runs.state(row) != "delivered":
            time.sleep(0.5)
        most = worker.memory("VmHWM")
        os.kill(worker.pid, signal.SIGTERM)
        worker.wait()
        return Row(
            f"{self.name}: memory of the worker at most, MB",
            ours=f"{most:.0f}",
            goal=f"at most {MOST_MEGABYTES}",
            is_met=most <= MOST_MEGABYTES,
        )

    def _beside_client(self, parts: Sequence[bytes]) -> Row:
        """Pairs of the whole delivery and of the client's batches, in turn."""
        proposals = [
            item
            for blob in parts
            for item in catalog_proposals(decode(blob), 1.0, Context())
            if isinstance(item, Proposal)
        ]
        self.environment.endpoint.reset()
        pairs = []
        for number in range(self.repeats):
            self.environment.forget()
            self._store(parts, 3 + number)
            ours = cost(self._deliver)
            objects = [object_of(proposal) for proposal in proposals]
            client = cost(partial(by_client, self.environment, objects))
            pairs.append(Pair(plain=ours, other=client))
        on_clock, of_processor = wall(pairs), cpu(pairs)
        return Row(
            f"{self.name}: speed of the whole delivery, the client's own batches being 1",
            ours=f"{on_clock.text('.2f')}, of the processor {of_processor.text('.2f')}",
            goal=f"at least {SHARE_OF_CLIENT}",
            is_met=on_clock.value >= SHARE_OF_CLIENT,
        )

    def _store(self, parts: Sequence[bytes], version: int) -> None:
        """Store it, with one asset that no other version has."""
        marker = AssetFacts((f"version_{version}",))
        ledger = self.environment.ledger
        blobs = [*parts, encode(CatalogPart(REPOSITORY, assets=(marker,)))]
        ledger.catalogs.store(LOCATION, blobs, ledger.database.read_clock(), is_whole=False)

    def _deliver(self) -> None:
        with self.environment.dispatcher() as dispatcher:
            dispatcher.deliver([catalog_row(LOCATION)])


def _parts(count: int) -> Iterator[bytes]:
    """The assets, a hundred at a time, each of the one before; then their job."""
    for start in range(0, count, PART_SIZE):
        numbers = range(start, min(start + PART_SIZE, count))
        assets = tuple(_asset(number, has_columns=True) for number in numbers)
        yield encode(CatalogPart(REPOSITORY, assets=assets))
    handles = [f"asset_{number}" for number in range(count)]
    steps = [Step(handle, handle, outputs=(StepOutput("result", (handle,)),)) for handle in handles]
    job = CatalogJob(
        Job("__ASSET_JOB", ops=tuple(Op(handle, handle) for handle in handles)),
        tuple(steps),
        tuple(_asset(number, has_columns=False) for number in range(count)),
    )
    yield encode(CatalogPart(REPOSITORY, jobs=(job,)))


def _asset(number: int, *, has_columns: bool) -> AssetFacts:
    column = {"type": "int", "description": "A column.", "nullable": True, "unique": False}
    more: dict[str, object] = {"constraints": [], "tags": {}}
    columns = [{"name": f"column_{place}", **column, **more} for place in range(COLUMNS)]
    schema = Metadatum("table_schema", {"columns": columns, "constraints": []})
    return AssetFacts(
        (f"asset_{number}",),
        group="large",
        owners=("team:data",),
        deps=((f"asset_{number - 1}",),) if number else (),
        description=f"Asset {number}.",
        metadata={"dagster/column_schema": schema} if has_columns else {},
    )
