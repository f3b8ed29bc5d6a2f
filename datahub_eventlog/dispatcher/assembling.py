"""Putting together what a dispatcher works with."""

from __future__ import annotations

import inspect
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from dagster import DagsterInstance

from datahub_eventlog import extractor, extras, sinks
from datahub_eventlog.config import Config, RestTarget, obstacle_in
from datahub_eventlog.dispatcher.catalog_facts import CatalogFacts
from datahub_eventlog.dispatcher.known_columns import KnownColumns
from datahub_eventlog.dispatcher.observer import Observer
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.proposals import redactor_of
from datahub_eventlog.dispatcher.translation import ForExtractor
from datahub_eventlog.errors import ConfigurationError
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.fork_safe_import import importing
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.log import redact_with
from datahub_eventlog.redact import DEFAULT
from datahub_eventlog.source import Source

if TYPE_CHECKING:
    from datahub.ingestion.graph.client import DataHubGraph

STATEMENT_TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True)
class Opened:
    """An instance of the dispatcher's own, and the ledger beside its event log."""

    instance: DagsterInstance
    ledger: Ledger


Open: TypeAlias = Callable[[], AbstractContextManager[Opened]]


def require_delivery(config: Config) -> None:
    """Raise `ConfigurationError` if nothing can be delivered from this process, and say why."""
    if obstacle := obstacle_in(config):
        raise ConfigurationError(obstacle)
    if missing := extras.missing():
        raise ConfigurationError(
            f"{' and '.join(missing)} can't be imported in this process, so it delivers nothing:"
            f" {extras.command()}"
        )


@contextmanager
def assemble(
    opened: Opened,
    config: Config,
    observer: Observer | None = None,
    *,
    deadline: timedelta = extractor.DEADLINE,
) -> Iterator[Parts]:
    """What a dispatcher works with, closed at the end.

    `observer` is notified of each request, and `deadline` is how long the user's functions may
    take.
    Raises `ConfigurationError` if the target or the user's functions can't be used.
    """
    require_delivery(config)
    assert config.target is not None  # noqa: S101 - require_delivery has seen to it
    # It logs the text of SQL that it doesn't understand, where there may be secrets.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    redact_with(redactor_of(config.redact) or DEFAULT)
    calls = Extractor(config, ForExtractor(config), deadline)
    on_answer = (observer or Observer()).requested
    with importing():
        sink = sinks.connect(config.target, config.emit_mode, on_answer=on_answer)
    try:
        yield Parts(
            ledger=opened.ledger,
            source=Source(opened.instance),
            sink=sink,
            extractor=calls,
            graph=_graph(config) if calls.has_extractor else None,
            owner=f"{socket.gethostname()}:{os.getpid()}",
            known_columns=_known_columns(config),
            catalog=_catalog_facts(opened.ledger, config),
        )
    finally:
        sink.close()


def pool(instance: DagsterInstance) -> None:
    """Keep one connection open, as the webserver does, instead of one for each query."""
    wanted = {
        "statement_timeout": int(STATEMENT_TIMEOUT.total_seconds() * 1000),
        "pool_recycle": 3600,
        "max_overflow": 2,
    }
    # Dagster 1.10 has no `max_overflow`.
    known = inspect.signature(instance.optimize_for_webserver).parameters
    instance.optimize_for_webserver(**{key: wanted[key] for key in known})


def _catalog_facts(ledger: Ledger, config: Config) -> CatalogFacts | None:
    return CatalogFacts(ledger, config.catalog.interval) if config.catalog.enabled else None


def _known_columns(config: Config) -> KnownColumns | None:
    if not isinstance(config.target, RestTarget):
        return None
    return KnownColumns(config.target) if config.enable_asset_query_metadata_parsing else None


def _graph(config: Config) -> DataHubGraph | None:
    if not isinstance(config.target, RestTarget):
        return None
    from datahub_eventlog.sinks.rest import graph

    return graph(config.target)
