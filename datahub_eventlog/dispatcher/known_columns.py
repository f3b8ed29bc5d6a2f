"""The columns of the tables that DataHub knows, which say what a `SELECT *` reads.

They help, but no delivery waits for them: after a refusal or slow answers DataHub is not asked for
a while, and SQL is read without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from datahub_eventlog.config import RestTarget
from datahub_eventlog.log import logger

if TYPE_CHECKING:
    from datahub.ingestion.graph.client import DataHubGraph

    from datahub_eventlog.translate.lineage.schema_resolver import ColumnResolver

REQUEST_TIMEOUT = timedelta(seconds=5)
"""For one request; less where the target's own timeout is short."""
TIMEOUTS_ALLOWED = 3
"""So many times `REQUEST_TIMEOUT` may be spent on requests within `ANSWER_LIFETIME`."""
ASKING_PAUSE = timedelta(minutes=5)
"""How long DataHub is not asked after a failure."""
ANSWER_LIFETIME = timedelta(hours=1)
"""How long an answer counts."""

Key = tuple[str, str, str | None]


class KnownColumns:
    """Asks DataHub for columns. Belongs to one thread."""

    def __init__(self, target: RestTarget, clock: Callable[[], float] = time.monotonic) -> None:
        """Connect to nothing yet. `clock` counts seconds."""
        timeout = min(REQUEST_TIMEOUT.total_seconds(), target.timeout_sec / 4)
        self._target = replace(target, timeout_sec=max(1.0, timeout))
        self._allowance = TIMEOUTS_ALLOWED * self._target.timeout_sec
        self._clock = clock
        self._graph: DataHubGraph | None = None
        self._resolvers: dict[Key, ColumnResolver] = {}
        self._columns: dict[str, Mapping[str, str] | None] = {}
        self._since = clock()
        self._spent = 0.0
        self._off_until = clock()

    def resolver(self, platform: str, env: str, instance: str | None) -> ColumnResolver | None:
        """What DataHub's parser asks for tables of a platform; None while DataHub is not asked."""
        from datahub_eventlog.translate.lineage.schema_resolver import ColumnResolver
        from datahub_eventlog.translate.lineage.sql import Dialect

        if self._clock() - self._since >= ANSWER_LIFETIME.total_seconds():
            self._forget()
        if self._is_off:
            return None
        key = (platform, env, instance)
        if key not in self._resolvers:
            self._resolvers[key] = ColumnResolver(Dialect(*key), self.columns)
        return self._resolvers[key]

    def columns(self, urn: str) -> Mapping[str, str] | None:
        """The native types of a dataset's columns by their names, if DataHub has them."""
        if urn not in self._columns and not self._is_off:
            self._columns[urn] = self._ask(urn)
        return self._columns.get(urn)

    @property
    def _is_off(self) -> bool:
        return self._clock() < self._off_until

    def _ask(self, urn: str) -> Mapping[str, str] | None:
        began = self._clock()
        try:
            return self._request(urn)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run must be delivered
            self._pause(f"{type(error).__name__}")
            return None
        finally:
            self._spent += self._clock() - began
            if self._spent > self._allowance and not self._is_off:
                self._pause("it answers slowly")

    def _request(self, urn: str) -> Mapping[str, str] | None:
        from datahub.metadata.schema_classes import SchemaMetadataClass

        from datahub_eventlog.sinks.rest import graph
        from datahub_eventlog.translate.lineage.schema_resolver import columns_of

        self._graph = self._graph or graph(self._target)
        schema = self._graph.get_aspect(urn, SchemaMetadataClass)
        return None if schema is None else columns_of(schema)

    def _pause(self, reason: str) -> None:
        logger.info("SQL is read without the columns of DataHub's tables for a while: %s", reason)
        self._forget()
        self._off_until = self._clock() + ASKING_PAUSE.total_seconds()

    def _forget(self) -> None:
        """The parser remembers what it read with a resolver, so they go with their answers."""
        self._resolvers.clear()
        self._columns.clear()
        self._since = self._clock()
        self._spent = 0.0
