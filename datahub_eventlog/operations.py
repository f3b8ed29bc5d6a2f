"""What can be done with an instance from outside: one method for each command.

What needs DataHub's client is imported where it is used: the base package alone can run `check`,
`status` and `ddl`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dagster import DagsterInstance

from datahub_eventlog import error_text
from datahub_eventlog.catalog.workspace import (
    LocationState,
    Workspace,
    loading_workspace,
    open_workspace,
)
from datahub_eventlog.config import Block, Config, Reading, readable_target
from datahub_eventlog.dagster_internals import InstanceRef, instance_ref
from datahub_eventlog.errors import ConfigurationError, DataHubEventLogError
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.ledger import Ledger, Status, ddl
from datahub_eventlog.ledger_location import LEDGER_LOCK_SECONDS, ledger_of
from datahub_eventlog.redact import DEFAULT
from datahub_eventlog.reopening import opened
from datahub_eventlog.sinks.memory import MemorySink
from datahub_eventlog.source import Source
from datahub_eventlog.storages import DataHubEventLogStorage
from datahub_eventlog.values import (
    BACKFILL_TAG,
    AssetKey,
    Json,
    Materialization,
    Problem,
    Proposal,
    Run,
    RunLog,
)

if TYPE_CHECKING:
    from datahub_eventlog.backfill import Backfill, Orders, Progress
    from datahub_eventlog.catalog_delivery import CatalogDelivery, CatalogProgress
    from datahub_eventlog.dispatcher import Parts, Worker
    from datahub_eventlog.translate.explain import Explanation
    from datahub_eventlog.verify import Verification, VerifyOrders, VerifyProgress

FILTERED = (
    "nothing of it is sent: job_pattern, asset_pattern or its tag datahub/ignore leaves it out"
)
NO_HOME = "DAGSTER_HOME is not set: set it to the folder that has your dagster.yaml"


class Operations:
    """The operations on one instance, which stays the caller's."""

    def __init__(self, instance: DagsterInstance) -> None:
        """Raise `ConfigurationError` if the instance doesn't use our storage."""
        self._instance = instance
        self._wrapper = wrapper_of(instance)

    @classmethod
    @contextmanager
    def on_home(cls) -> Iterator[Operations]:
        """The operations on the instance that DAGSTER_HOME names.

        Raises `ConfigurationError` if it can't be loaded.
        """
        if not os.environ.get("DAGSTER_HOME"):
            raise ConfigurationError(NO_HOME)
        try:
            home = DagsterInstance.get()
        except DataHubEventLogError:
            raise
        except Exception as error:
            reason = error_text.describe(error)
            text = f"the instance of DAGSTER_HOME can't be loaded: {reason}"
            raise ConfigurationError(text) from error
        with home as instance:
            yield cls(instance)

    @property
    def reading(self) -> Reading:
        """The configuration as far as it can be read in this process."""
        return self._wrapper.datahub.reading

    @property
    def block(self) -> Block:
        """What stands under `datahub:` in dagster.yaml, unresolved."""
        return self._wrapper.datahub.settings.block

    @property
    def config(self) -> Config:
        """The configuration; raises `ConfigurationError` if anything in it is wrong."""
        return self.reading.strict()

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger beside the instance's event log."""
        return ledger_of(self._instance, patience=LEDGER_LOCK_SECONDS)

    def status(self) -> Status:
        """What has been captured, and what became of it."""
        # An older version may have written secrets there.
        return DEFAULT.value(self.ledger.reports.status())

    def worker(
        self,
        *,
        metrics_port: int | None = None,
        find_workspace: Callable[[], Workspace | None] = lambda: None,
    ) -> Worker:
        """A worker for this instance, which the caller runs.

        It also delivers what the code locations of the workspace define, once that is found.
        """
        from datahub_eventlog.dispatcher import Worker

        ref = self._ref("seen by a worker")
        if not self.config.enabled:
            self._wrapper.datahub.note_off()
        return Worker(
            self.config,
            lambda: opened(ref),
            metrics_port=metrics_port,
            find_workspace=find_workspace,
        )

    def loading_workspace(
        self, options: Mapping[str, Any]
    ) -> AbstractContextManager[Callable[[], Workspace | None]]:
        """What returns the workspace that Dagster's options name, once it is loaded."""
        return loading_workspace(self._instance, options)

    def preview(self, run_id: str) -> list[Proposal | Problem]:
        """What would be sent for a run now, and for the backfill that it belongs to.

        Raises `DataHubEventLogError` for an unknown run.
        """
        from datahub_eventlog.dispatcher import backfill_items, run_items
        from datahub_eventlog.dispatcher.filters import has_wanted_steps, is_wanted

        config = self.config
        parts = self._parts(config)
        log = self._log(parts, run_id)
        if log is None:
            raise DataHubEventLogError(f"there is no run {run_id}")
        if not (is_wanted(log.run, config) and has_wanted_steps(log, config)):
            return [Problem(run_id, "run", FILTERED)]
        backfill_id = log.run.tags.get(BACKFILL_TAG)
        backfill = parts.source.backfill(backfill_id) if backfill_id else None
        items = [
            item
            for item in run_items(log, config, parts)
            if isinstance(item, Problem) or not self._resolves_nothing(item)
        ]
        return items if backfill is None else [*items, *backfill_items(backfill, config)]

    def explain(self, key: AssetKey) -> Explanation:
        """Why an asset is linked to its datasets, as of its newest materialization.

        Raises `DataHubEventLogError` for an asset that the event log does not know.
        """
        from datahub_eventlog.dispatcher import redactor_of
        from datahub_eventlog.dispatcher.context import context_of
        from datahub_eventlog.translate.explain import explain
        from datahub_eventlog.translate.urns import InvalidUrn

        config = self.config
        parts = self._parts(config)
        newest = parts.source.newest(key)
        if newest is None:
            raise DataHubEventLogError(_not_materialized(key, parts.source.asset_keys()))
        run_id, event = newest
        assert isinstance(event.data, Materialization)  # noqa: S101 - for the type checker
        gone = RunLog(Run(run_id, "", ""), None, (), (event,))
        log = (self._log(parts, run_id) if run_id else None) or gone
        context, extracted = context_of(log, config, parts)
        redactor = redactor_of(config.redact) or DEFAULT
        try:
            explanation = explain(key, event, event.data, log, context)
            reasons = tuple(problem.reason for problem in extracted.problems)
            return redactor.value(replace(explanation, remarks=(*explanation.remarks, *reasons)))
        except InvalidUrn as error:
            raise DataHubEventLogError(f"nothing of it is sent to DataHub: {error}") from error

    def count(self, orders: Orders) -> Progress:
        """How many runs a backfill would deliver; changes nothing."""
        from datahub_eventlog.backfill import count

        pages = Source(self._instance).history(orders.selection).pages()
        return count(self.ledger, pages, again=orders.again)

    @contextmanager
    def backfill(
        self, orders: Orders, on_progress: Callable[[Progress], None]
    ) -> Iterator[Backfill]:
        """A backfill, which the caller runs; it has an instance of its own."""
        from datahub_eventlog.backfill import Backfill
        from datahub_eventlog.dispatcher import assemble, pool

        config = self.config
        with opened(self._ref("backfilled")) as own, assemble(own, config) as parts:
            own.ledger.database.migrate()
            pool(own.instance)
            yield Backfill(config, parts, orders, on_progress)

    @contextmanager
    def verify(
        self, orders: VerifyOrders, on_progress: Callable[[VerifyProgress], None]
    ) -> Iterator[Verification]:
        """A verification, which the caller runs; it has an instance of its own."""
        from datahub_eventlog.dispatcher import assemble, pool
        from datahub_eventlog.sinks.reading import RestReader
        from datahub_eventlog.verify import Verification

        config = self.config
        target = readable_target(config)
        with opened(self._ref("verified")) as own, assemble(own, config) as parts:
            own.ledger.database.migrate()
            pool(own.instance)
            reader = RestReader(target)
            try:
                yield Verification(config, parts, reader, orders, on_progress)
            finally:
                reader.close()

    def count_catalog(self, workspace: Mapping[str, Any]) -> CatalogProgress:
        """How many entities the catalogues of these code locations have; changes nothing."""
        from datahub_eventlog.catalog_delivery import count

        config = self.config
        with open_workspace(self._instance, workspace) as loaded:
            return count(loaded.locations(), config, self._parts(config), self._instance)

    def catalog_document(self, workspace: Mapping[str, Any]) -> dict[str, Json]:
        """What these code locations define, as `diff` reads it.

        Raises `DataHubEventLogError` if one of them can't be loaded.
        """
        from datahub_eventlog.catalog.document import document
        from datahub_eventlog.catalog_delivery import readings
        from datahub_eventlog.dispatcher import redactor_of
        from datahub_eventlog.translate.context import Context

        config = self.config
        with open_workspace(self._instance, workspace) as loaded:
            states = loaded.locations()
            for state in states:
                if state.location is None:
                    reason = f"code location {state.name} could not be loaded: {state.error}"
                    raise DataHubEventLogError(reason)
            found = readings(states, self._instance)
            parts = (part for _, reading in found if reading for part in reading.parts())
            return document(parts, Context(config), redactor_of(config.redact) or DEFAULT)

    @contextmanager
    def catalog(
        self, workspace: Mapping[str, Any], on_progress: Callable[[CatalogProgress], None]
    ) -> Iterator[tuple[CatalogDelivery, list[LocationState]]]:
        """The delivery of these code locations, which the caller runs."""
        from datahub_eventlog.catalog_delivery import CatalogDelivery
        from datahub_eventlog.dispatcher import assemble, pool

        config = self.config
        with (
            open_workspace(self._instance, workspace) as loaded,
            opened(self._ref("catalogued")) as own,
            assemble(own, config) as parts,
        ):
            own.ledger.database.migrate()
            pool(own.instance)
            running = CatalogDelivery(config, parts, self._instance, on_progress)
            yield running, loaded.locations()

    def retry(self, run_ids: Sequence[str] | None) -> int:
        """Deliver these runs, or all that fell short, again; return their number."""
        return self.ledger.runs.revive(run_ids)

    def ddl(self) -> str:
        """The SQL that creates the ledger's tables in the event log's database."""
        return ddl(self.ledger.database.dialect())

    def _parts(self, config: Config) -> Parts:
        """What a translation needs, with a sink in memory."""
        from datahub_eventlog.dispatcher import Parts
        from datahub_eventlog.dispatcher.catalog_facts import CatalogFacts
        from datahub_eventlog.dispatcher.translation import ForExtractor

        extractor = Extractor(config, ForExtractor(config))
        source = Source(self._instance)
        catalog = CatalogFacts(self.ledger, config.catalog.interval)
        return Parts(
            self.ledger,
            source,
            MemorySink(),
            extractor,
            None,
            "preview",
            catalog=catalog if config.catalog.enabled else None,
        )

    def _resolves_nothing(self, proposal: Proposal) -> bool:
        """Whether it would resolve an incident that was never opened, and so is not sent."""
        from datahub_eventlog.proposal_claims import claim_of

        claim = claim_of(proposal) if proposal.transition and proposal.is_vacant else None
        if claim is None:
            return False
        (standing,) = self.ledger.claims.standings([(claim, proposal.run_id)])
        return standing.sent is None

    def _log(self, parts: Parts, run_id: str) -> RunLog | None:
        """A run with the facts of its definitions; None if there is no such run."""
        from datahub_eventlog.dispatcher.run_logs import RunLogs

        run = parts.source.run(run_id)
        if run is None:
            return None
        hash_ = self.ledger.runs.definitions_of(run_id)
        return RunLogs(self.ledger, parts.source, parts.catalog).read(run, hash_)

    def _ref(self, verb: str) -> InstanceRef:
        """From which the instance can be opened again."""
        ref = instance_ref(self._instance)
        if ref is None:
            raise DataHubEventLogError(f"an instance in memory can't be {verb}")
        return ref


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


def _not_materialized(key: AssetKey, known: Sequence[AssetKey]) -> str:
    """What to do about an asset that was never materialized, or that the event log lacks."""
    name = "/".join(key)
    if key in known:
        return (
            f"{name} was never materialized, and its links are only known then. Materialize it"
            " once, then try again"
        )
    names = ["/".join(other) for other in known]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"the event log knows no asset {name}. Did you mean {' or '.join(close)}?"
    return (
        f"the event log knows no asset {name}: write the key as in the UI, parts joined by /. An"
        " asset is known after its first materialization"
    )
