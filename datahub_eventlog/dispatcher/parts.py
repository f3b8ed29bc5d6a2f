"""What a dispatcher works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datahub_eventlog.dispatcher.catalog_facts import CatalogFacts
from datahub_eventlog.dispatcher.known_columns import KnownColumns
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.sinks import Sink
from datahub_eventlog.source import Source

if TYPE_CHECKING:
    from datahub.ingestion.graph.client import DataHubGraph


@dataclass(frozen=True)
class Parts:
    """What a dispatcher works with; it owns none of it."""

    ledger: Ledger
    source: Source
    sink: Sink
    extractor: Extractor
    graph: DataHubGraph | None
    """For the user's extractor; None where the target offers none."""
    owner: str
    """Who leases, such as `host:pid`."""
    known_columns: KnownColumns | None = None
    """For reading SQL; None where the target can't be asked."""
    catalog: CatalogFacts | None = None
    """What code locations define; None where that is not sent."""
