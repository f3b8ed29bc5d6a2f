"""An instance with its ledger, and any number of dispatchers on it; what varies is the sink."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from deployment import postgres_yaml, sqlite_yaml
from instances import configured
from ledgers import counts_of

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher import Dispatcher, Parts
from datahub_eventlog.dispatcher.translation import ForExtractor
from datahub_eventlog.errors import Rejected
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.source import Source
from datahub_eventlog.testing import MemorySink
from datahub_eventlog.values import Proposal


class Scripted(MemorySink):
    """A memory sink that does something else first, when there is something to do."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Callable[[Sequence[Proposal]], Sequence[Rejected] | None]] = []

    def emit(
        self, batch: Sequence[Proposal], proceed: Callable[[], None] = lambda: None
    ) -> Sequence[Rejected]:
        rejected = self.script.pop(0)(batch) if self.script else None
        refused = {(each.urn, each.aspect) for each in rejected or ()}
        super().emit([each for each in batch if (each.urn, each.aspect) not in refused], proceed)
        return rejected or ()


class Scene:
    """An instance with its ledger, and any number of dispatchers."""

    def __init__(
        self, instance: dg.DagsterInstance, plain: Callable[[], dg.DagsterInstance]
    ) -> None:
        self.instance = instance
        self.plain = plain
        """The same instance without our storage: what it stores is not noted."""
        self.ledger: Ledger = ledger_of(instance, patience=5)
        self.ledger.database.migrate()
        self.source = Source(instance)
        self.sink = Scripted()

    def dispatcher(
        self, config: Config | None = None, sink: MemorySink | None = None, owner: str = "one"
    ) -> Dispatcher:
        config = config or Config()
        return Dispatcher(config, self.parts(config, sink, owner))

    def parts(self, config: Config, sink: MemorySink | None = None, owner: str = "one") -> Parts:
        extractor = Extractor(config, ForExtractor(config))
        return Parts(self.ledger, self.source, sink or self.sink, extractor, None, owner)

    def counts(self) -> dict[str, int]:
        return counts_of(self.ledger)


@pytest.fixture(params=["sqlite", "postgres"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    datahub = {"dispatch": "off"}
    plain: dict[str, Any] = {"telemetry": {"enabled": False}}
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        storage = postgres_yaml(url, datahub)
        plain["storage"] = {"postgres": {"postgres_url": url}}
    else:
        storage = sqlite_yaml(datahub)
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    with configured(tmp_path, **storage) as instance:
        yield Scene(instance, lambda: dg.DagsterInstance.from_config(str(tmp_path), "plain.yaml"))
