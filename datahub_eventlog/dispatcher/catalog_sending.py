"""What the ledger has of a code location, read and translated part by part."""

from __future__ import annotations

from collections.abc import Iterator

from datahub_eventlog.catalog.packing import decode
from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.proposals import catalog_items, redactor_of
from datahub_eventlog.ledger import StoredCatalog
from datahub_eventlog.translate.catalog import defined_urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import CatalogPart, Problem, Proposal

_MAKE_ENTITIES = frozenset({"assertionInfo", "status"})
"""The aspects with which an entity begins to exist."""


class CatalogSending:
    """The proposals of one catalogue, and which entities were among them."""

    def __init__(self, catalog: StoredCatalog, config: Config, parts: Parts, *, now: float) -> None:
        self._catalog = catalog
        self._config = config
        self._context = Context(config)
        self._parts = parts
        self._now = now
        self._redactor = redactor_of(config.redact)
        self.sent: set[str] = set()
        """The urns of the entities that the proposals make, and of those that others deliver."""
        self.defined: set[str] = set()
        """The urns of all that is defined, also of what the configuration leaves out."""
        self.is_replaced = False
        """A newer catalogue took the place of this one before all of it was read."""

    def items(self) -> Iterator[Proposal | Problem]:
        """All proposals; one part is in memory at a time."""
        for number in range(self._catalog.parts):
            blob = self._parts.ledger.catalogs.part(self._catalog, number)
            if blob is None:
                self.is_replaced = True
                return
            part = decode(blob)
            self.defined.update(self._urns(part))
            shared = CatalogPart(part.repository, shared=part.shared)
            self.sent.update(self._urns(shared))
            for item in catalog_items(
                part, self._catalog.loaded, self._config, self._parts, now=self._now
            ):
                if isinstance(item, Proposal) and item.aspect in _MAKE_ENTITIES:
                    self.sent.add(item.urn)
                yield item

    def _urns(self, part: CatalogPart) -> Iterator[str]:
        """What a part defines, by the urns that are sent."""
        for urn in defined_urns(part, self._context):
            yield self._redactor.text(urn) if self._redactor else urn
