"""Delivering runs of an instance anew, each time as if to another DataHub."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import dagster as dg
from ledgers import counts_of, facts_of
from receiver import Receiver
from typing_extensions import Self

from datahub_eventlog.config import Config, RestTarget
from datahub_eventlog.dispatcher import Dispatcher, Opened, assemble
from datahub_eventlog.ledger import Facts, Ledger
from datahub_eventlog.ledger_location import ledger_of


class DataHub:
    """A receiver with a ledger of its own, so that the same runs can be delivered anew."""

    def __init__(self, instance: dg.DagsterInstance, directory: Path, config: Config) -> None:
        self._stack = ExitStack()
        self.receiver = self._stack.enter_context(Receiver())
        self._captured = ledger_of(instance, patience=5)
        self._ledger = Ledger.in_file(str(directory), patience=5)
        self._ledger.database.migrate()
        target = RestTarget(self.receiver.url)
        config = replace(config, target=target)
        parts = self._stack.enter_context(assemble(Opened(instance, self._ledger), config))
        self._dispatcher = Dispatcher(config, parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def deliver(self, run_id: str, *, knows: bool = True) -> None:
        """Deliver a run; `knows` its definitions, or is an old one of which nobody took them."""
        self._ledger.runs.touch(run_id, definitions=self._facts(run_id) if knows else None)
        self._dispatcher.deliver([run_id])
        while self._dispatcher.run_once():
            pass
        assert not self._ledger.reports.status().rejected
        assert counts_of(self._ledger).keys() <= {"delivered", "filtered"}

    def _facts(self, run_id: str) -> Facts:
        facts = facts_of(self._captured, run_id)
        assert facts is not None
        return facts

    def deliver_runless(self) -> None:
        self._ledger.runs.touch("")
        self._dispatcher.deliver([""])
