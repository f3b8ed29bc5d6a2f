"""What is too small to show in a run: a call through the wrapper, the import, definition facts.

In processor time, for all of it is shorter than what a busy machine adds on the clock.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.storage.event_log import InMemoryEventLogStorage

from benchmarks.pairs import Median, median
from benchmarks.storing import run_of
from datahub_eventlog import DataHubEventLogStorage
from datahub_eventlog.definitions import LoadedJob, pack

CALLS = 2000
COLUMNS = 30


@dataclass(frozen=True)
class Measured:
    """A figure, how often it was measured, and what is aimed at."""

    count: int
    median: Median
    unit: str
    goal: float | None = None


IMPORT = """
import sys, time
from dagster import DagsterInstance
import dagster._core.storage.legacy_storage, dagster._core.storage.sqlite_storage
sys.dont_write_bytecode, sys.pycache_prefix = False, sys.argv[1]
start = time.process_time()
import datahub_eventlog
datahub_eventlog.DataHubEventLogStorage
print(1000 * (time.process_time() - start))
"""


def _called(place: int, count: int) -> Measured:
    """By an event at that place of a run, which touches nothing."""
    event = run_of(9, "a run")[place]
    return Measured(count, median(_call(event) for _ in range(count)), "µs", 3)


def _imported(count: int) -> Measured:
    repeats = max(2, count // 3)
    with tempfile.TemporaryDirectory() as compiled:
        _import(compiled)
        return Measured(repeats, median(_import(compiled) for _ in range(repeats)), "ms", 20)


def _packed(assets: int, goal: float | None, count: int) -> Measured:
    work = partial(pack, _loaded(assets))
    work()
    return Measured(count, median(1000 * _seconds(work) for _ in range(count)), "ms", goal)


class _Nothing(InMemoryEventLogStorage):
    """Stores nothing, so that only the wrapper takes time."""

    def store_event(self, event: dg.EventLogEntry) -> None:
        pass


def _call(event: dg.EventLogEntry) -> float:
    """Microseconds that the wrapper adds."""
    plain = _Nothing()
    wrapped = DataHubEventLogStorage.around(plain, {"touch_interval": 3600, "dispatch": "off"})
    seconds = _calls(wrapped, event) - _calls(plain, event)
    plain.dispose()
    return 1e6 * seconds / CALLS


def _calls(storage: Any, event: dg.EventLogEntry) -> float:
    storage.store_event(event)
    return _seconds(lambda: _repeat(storage, event))


def _repeat(storage: Any, event: dg.EventLogEntry) -> None:
    for _ in range(CALLS):
        storage.store_event(event)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _import(compiled: str) -> float:
    """Milliseconds; after the first time there is compiled code in that folder, as installed."""
    return float(subprocess.check_output([sys.executable, "-c", IMPORT, compiled], text=True))


def _loaded(count: int) -> LoadedJob:
    """A repository of that many assets, each with columns and metadata."""
    assets = [_asset(number) for number in range(count)]
    repository = dg.Definitions(assets=assets).get_repository_def()
    return LoadedJob(repository.get_job("__ASSET_JOB"), repository)


def _asset(number: int) -> dg.AssetsDefinition:
    columns: Sequence[dg.TableColumn] = [
        dg.TableColumn(f"column_{index}", "varchar", description=f"The column number {index}.")
        for index in range(COLUMNS)
    ]

    @dg.asset(
        name=f"asset_{number:04}",
        # A chain of a thousand can be deeper than Dagster recurses.
        deps=[f"asset_{number // 2:04}"] if number else [],
        owners=["team:data"],
        tags={"layer": "raw"},
        metadata={"dagster/column_schema": dg.TableSchema(columns=columns)},
    )
    def one() -> None: ...

    return one


MEASUREMENTS: Mapping[str, Callable[[int], Measured]] = {
    "the wrapper's own part of a call: a message": partial(_called, 2),
    "the wrapper's own part of a call: an event that is captured": partial(_called, 1),
    "importing the storage, over dagster": _imported,
    "definition facts of 100 assets": partial(_packed, 100, 10),
    "definition facts of 1000 assets": partial(_packed, 1000, None),
}
"""Each is given how often to measure; what takes long is measured less often."""
