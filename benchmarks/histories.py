"""Runs to deliver: executed once, then repeated in the event log as often as need be.

What Dagster writes for a run is written again under other ids, in statements for many rows, since
what is measured is the delivery and not Dagster.
"""

import itertools
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import dagster as dg
from dagster import EventLogEntry
from dagster._core.events import StepMaterializationData
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import serialize_value
from ledgers import facts_of
from sqlalchemy import insert
from typing_extensions import Self

from datahub_eventlog.ledger import Facts, Ledger

WIDTH = 10
"""Assets side by side; each reads `READ` of the row before it, through the I/O manager."""
READ = 4
ROWS = 2000
"""In one statement."""
MATERIALIZATION = "ASSET_MATERIALIZATION"
ENDS = {"RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED"}


def assets(count: int) -> list[dg.AssetsDefinition]:
    """So many, with columns, metadata and dependencies."""
    return [_asset(number) for number in range(count)]


def _asset(number: int) -> dg.AssetsDefinition:
    columns = [dg.TableColumn(f"column_{index}", "varchar") for index in range(5)]

    @dg.asset(
        name=f"asset_{number:05}",
        ins={f"input_{index}": dg.AssetIn(_before(number, index)) for index in range(READ)}
        if number >= WIDTH
        else {},
        group_name="benchmark",
        description="An asset of the benchmark.",
        owners=["team:data"],
        metadata={"dagster/column_schema": dg.TableSchema(columns=columns)},
    )
    def made(**inputs: Any) -> Any:
        metadata = {"dagster/row_count": number, "rows": len(inputs)}
        return dg.MaterializeResult(value=number, metadata=metadata)

    return made


def _before(number: int, which: int) -> str:
    row, place = divmod(number, WIDTH)
    return f"asset_{(row - 1) * WIDTH + (place + which) % WIDTH:05}"


@dg.op
def first() -> int:
    return 1


@dg.op
def following(number: int) -> int:
    return number


@dg.job
def ten_steps() -> None:
    number = first()
    for _ in range(9):
        number = following(number)


@dg.op
def several() -> Iterator[Any]:
    yield dg.AssetMaterialization("made", metadata={"rows": 1, "path": "/data/made"})
    yield dg.Output(None)


@dg.job
def one_step() -> None:
    several()


@dataclass(frozen=True)
class Template:
    """A run that was executed, to be repeated."""

    run: DagsterRun
    entries: Sequence[EventLogEntry]
    facts: Facts | None

    @classmethod
    def of(cls, instance: dg.DagsterInstance, ledger: Ledger, job: dg.JobDefinition) -> Self:
        """Execute the job once; its facts are those that were captured."""
        run_id = job.execute_in_process(instance=instance).run_id
        run = instance.get_run_by_id(run_id)
        assert run is not None
        entries = [log for log in instance.all_logs(run_id) if log.is_dagster_event]
        return cls(run, entries, facts_of(ledger, run_id))

    def unfinished(self) -> Self:
        """The same run before its end."""
        going_on = self.run.with_status(dg.DagsterRunStatus.STARTED)
        entries = [entry for entry in self.entries if _kind(entry) not in ENDS]
        return replace(self, run=going_on, entries=entries)

    def with_assets(self, count: int) -> Self:
        """The same with so many materialisations, each of another asset."""
        entries = [many for entry in self.entries for many in _materialized(entry, count)]
        return replace(self, entries=entries)

    def repeat(self, instance: dg.DagsterInstance, ledger: Ledger, number: int) -> list[str]:
        """So many runs like it, one after the other, as records, events and rows of the ledger."""
        run_ids = [str(uuid.uuid4()) for _ in range(number)]
        for run_id in run_ids:
            instance.add_run(self.run._replace(run_id=run_id, root_run_id=None, parent_run_id=None))
        _store(instance, itertools.chain.from_iterable(map(self._entries, run_ids)))
        for run_id in run_ids:
            ledger.runs.touch(run_id, definitions=self.facts)
        return run_ids

    def _entries(self, run_id: str) -> Iterator[EventLogEntry]:
        """Its events as if it had just ended."""
        shift = time.time() - self.entries[-1].timestamp
        for entry in self.entries:
            yield entry._replace(run_id=run_id, timestamp=entry.timestamp + shift)


def _kind(entry: EventLogEntry) -> str:
    event = entry.dagster_event
    return event.event_type.name if event else ""


def _materialized(entry: EventLogEntry, count: int) -> Iterator[EventLogEntry]:
    event = entry.dagster_event
    if event is None or _kind(entry) != MATERIALIZATION:
        yield entry
        return
    for number in range(count):
        made = dg.AssetMaterialization(
            f"made_{number:06}", metadata={"rows": number, "path": f"/data/made_{number:06}"}
        )
        data = StepMaterializationData(made)
        yield entry._replace(dagster_event=event._replace(event_specific_data=data))


def _store(instance: dg.DagsterInstance, entries: Iterable[EventLogEntry]) -> None:
    """Write events of any runs; there is one table for all of them on Postgres."""
    storage: Any = instance.event_log_storage
    rows = map(_row, entries)
    with storage.index_connection() as connection:
        while chunk := list(itertools.islice(rows, ROWS)):
            connection.execute(insert(SqlEventLogStorageTable), chunk)


def _row(entry: EventLogEntry) -> dict[str, Any]:
    event = entry.dagster_event
    key = event.asset_key if event else None
    moment = datetime.fromtimestamp(entry.timestamp, timezone.utc)
    return {
        "run_id": entry.run_id,
        "event": serialize_value(entry),
        "dagster_event_type": event.event_type_value if event else None,
        "timestamp": moment.replace(tzinfo=None),
        "step_key": entry.step_key,
        "asset_key": key.to_string() if key else None,
        "partition": event.partition if event else None,
    }
