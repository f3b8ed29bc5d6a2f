"""What can be done with an instance from outside: the one method behind each command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef

from datahub_eventlog import definitions, public
from datahub_eventlog.backfill import Backfill, Orders, Progress, count
from datahub_eventlog.config import Block, Config, Reading
from datahub_eventlog.dispatcher import Parts, Worker, assemble, pool, run_items
from datahub_eventlog.dispatcher.translation import ForExtractor
from datahub_eventlog.errors import ConfigurationError, DataHubEventLogError
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.ledger import Ledger, Status, ddl
from datahub_eventlog.lifecycle import PATIENCE, opened, ref_of
from datahub_eventlog.placement import ledger_of
from datahub_eventlog.sinks.memory import MemorySink
from datahub_eventlog.source import Source
from datahub_eventlog.storages import DataHubEventLogStorage
from datahub_eventlog.values import Problem, Proposal


def wrapper_of(instance: DagsterInstance) -> DataHubEventLogStorage:
    """Our storage in that instance; raises `ConfigurationError` if dagster.yaml has none."""
    storage = instance.event_log_storage
    # Not isinstance: the wrapper answers that as its backend would.
    if not issubclass(type(storage), DataHubEventLogStorage):
        raise ConfigurationError(
            f"datahub_eventlog is not switched on in the dagster.yaml of {instance.root_directory}:"
            " copy a block of dagster.yaml.example into it"
        )
    assert isinstance(storage, DataHubEventLogStorage)  # noqa: S101 - for the type checker
    return storage


def _home() -> DagsterInstance:
    """The instance that DAGSTER_HOME names; raises `ConfigurationError` if it can't be loaded."""
    try:
        return DagsterInstance.get()
    except DataHubEventLogError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the instance of DAGSTER_HOME can't be loaded: {public.words(error)}"
        ) from error


class Operations:
    """The operations on one instance, which stays the caller's."""

    def __init__(self, instance: DagsterInstance) -> None:
        """Raise `ConfigurationError` if the instance doesn't use our storage."""
        self._instance = instance
        self._wrapper = wrapper_of(instance)

    @classmethod
    @contextmanager
    def on_home(cls) -> Iterator[Operations]:
        """The operations on the instance that DAGSTER_HOME names."""
        with _home() as instance:
            yield cls(instance)

    @property
    def reading(self) -> Reading:
        """The configuration as far as it can be read in this process."""
        reading: Reading = self._wrapper._datahub_reading  # noqa: SLF001 - its names are all so
        return reading

    @property
    def block(self) -> Block:
        """What stands under `datahub:` in dagster.yaml, unresolved."""
        return self._wrapper._datahub_block  # noqa: SLF001 - its names are all so

    @property
    def config(self) -> Config:
        """The configuration; raises `ConfigurationError` if anything in it is wrong."""
        return self.reading.strict()

    @property
    def ledger(self) -> Ledger:
        """The ledger beside the instance's event log."""
        return ledger_of(self._instance, patience=PATIENCE)

    def status(self) -> Status:
        """What has been captured, and what became of it."""
        return self.ledger.status()

    def worker(self, *, metrics_port: int | None = None) -> Worker:
        """A worker for this instance, to be run by the caller."""
        instance_ref = self._ref("seen by a worker")
        if not self.config.enabled:
            self._wrapper._datahub_note_off()  # noqa: SLF001 - its names are all so
        return Worker(self.config, lambda: opened(instance_ref), metrics_port=metrics_port)

    def preview(self, run_id: str) -> list[Proposal | Problem]:
        """What would be sent of that run now."""
        config = self.config
        source = Source(self._instance)
        run = source.run(run_id)
        if run is None:
            raise DataHubEventLogError(f"there is no run {run_id}")
        extractor = Extractor(config, ForExtractor(config))
        parts = Parts(self.ledger, source, MemorySink(), extractor, None, "preview")
        hash_ = self.ledger.definitions_of(run_id)
        stored = None if hash_ is None else self.ledger.facts(hash_)
        facts = None if stored is None else definitions.decode(stored)
        return list(run_items(source.log(run, facts), config, parts))

    def count(self, orders: Orders) -> Progress:
        """What a backfill would find; nothing is changed."""
        pages = Source(self._instance).history(orders.selection).pages()
        return count(self.ledger, pages, again=orders.again)

    @contextmanager
    def backfill(
        self, orders: Orders, on_progress: Callable[[Progress], None]
    ) -> Iterator[Backfill]:
        """A backfill, to be run by the caller; with an instance of its own."""
        config = self.config
        with opened(self._ref("backfilled")) as own, assemble(own, config) as parts:
            own.ledger.migrate()
            pool(own.instance)
            yield Backfill(config, parts, orders, on_progress)

    def retry(self, run_ids: Sequence[str] | None) -> int:
        """Have those runs, or all that fell short, delivered again; how many that are."""
        return self.ledger.revive(run_ids)

    def ddl(self) -> str:
        """The statements that make the ledger's tables in the event log's database."""
        return ddl(self.ledger.dialect())

    def _ref(self, verb: str) -> InstanceRef:
        """By which the instance can be opened once more."""
        found = ref_of(self._instance)
        if found is None:
            raise DataHubEventLogError(f"an instance in memory can't be {verb}")
        return found
