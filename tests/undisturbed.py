"""What an event log becomes in DataHub when nothing goes wrong: the measure of everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from catalog import unordered
from dagster import DagsterInstance
from ledgers import facts_of
from receiver import Receiver

from datahub_eventlog import sinks
from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.dispatcher import Dispatcher, Parts
from datahub_eventlog.dispatcher.catalog_facts import CatalogFacts
from datahub_eventlog.dispatcher.translation import ForExtractor
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.ledger import Ledger, catalog_row
from datahub_eventlog.source import Source

State = dict[str, dict[str, Any]]
"""As `Receiver.state` returns it: values by urn and aspect."""
DEADLINE = timedelta(seconds=60)
EVER = timedelta(days=36_500)


@contextmanager
def dispatcher_of(
    config: Config,
    instance: DagsterInstance,
    ledger: Ledger,
    *,
    owner: str = "one",
    sleep: Callable[[float], None] = lambda _: None,
    deadline: timedelta = DEADLINE,
) -> Iterator[Dispatcher]:
    """A dispatcher with a real sink, put together by hand; `deadline` is the extractor's."""
    assert config.target is not None
    sink = sinks.connect(config.target, config.emit_mode, sleep=sleep)
    extractor = Extractor(config, ForExtractor(config), deadline)
    catalog = CatalogFacts(ledger, config.catalog.interval) if config.catalog.enabled else None
    parts = Parts(ledger, Source(instance), sink, extractor, None, owner, catalog=catalog)
    yield Dispatcher(config, parts)
    sink.close()


def undisturbed(instance: DagsterInstance, ledger: Ledger, config: Config | None = None) -> State:
    """What a quiet DataHub has after the instance's runs came one by one, in order of their ends.

    Then come the catalogues of its code locations. `ledger` lends only these, what the runs' own
    processes stored of their definitions, and when it was made, since older runless events are
    nobody's business.
    """
    created = ledger.upkeep.created()
    with TemporaryDirectory() as folder, Receiver() as quiet:
        path = str(Path(folder, "ledger.db"))
        Ledger.in_file(path, patience=30, clock=lambda: created).database.migrate()
        fresh = Ledger.in_file(path, patience=30)
        assert fresh.upkeep.created() == created
        quietly = replace(config or Config(), target=RestTarget(server=quiet.url))
        with dispatcher_of(quietly, instance, fresh) as dispatcher:
            for run_id in (*_by_end(instance), ""):
                fresh.runs.touch(run_id, definitions=facts_of(ledger, run_id))
                dispatcher.deliver([run_id])
            dispatcher.deliver(_copy_catalogs(ledger, fresh))
        return quiet.state()


def _copy_catalogs(ledger: Ledger, fresh: Ledger) -> list[str]:
    """Store the catalogues in the other ledger, and return the ids of their rows."""
    locations = ledger.catalogs.locations(EVER)
    for location in locations:
        catalog = ledger.catalogs.find(location)
        assert catalog is not None
        blobs = [ledger.catalogs.part(catalog, number) for number in range(catalog.parts)]
        whole = [blob for blob in blobs if blob is not None]
        assert len(whole) == catalog.parts
        fresh.catalogs.store(location, whole, catalog.loaded, is_whole=catalog.is_whole)
    return list(map(catalog_row, locations))


def differences(found: State, expected: State) -> list[str]:
    """One line for each aspect that is missing, not the same, or too much."""
    places = sorted(
        {(urn, name) for each in (found, expected) for urn in each for name in each[urn]}
    )
    lines = []
    for urn, name in places:
        ours, theirs = (each.get(urn, {}).get(name) for each in (found, expected))
        if unordered(ours) != unordered(theirs):
            lines.append(f"{urn} {name}: {ours} instead of {theirs}")
    return lines


def _by_end(instance: DagsterInstance) -> list[str]:
    records = instance.get_run_records()
    ordered = sorted(records, key=lambda each: (each.end_time or float("inf"), each.storage_id))
    return [each.dagster_run.run_id for each in ordered]
