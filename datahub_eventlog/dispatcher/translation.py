"""The parts of the translation that a user's extractor may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datahub_eventlog.config import Config
from datahub_eventlog.metadata import metadatum_of
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.assets.description import browse_path
from datahub_eventlog.translate.assets.schemas import schema_metadata
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.evidence import dataset_of_key
from datahub_eventlog.translate.lineage.paths import dataset_of_path
from datahub_eventlog.values import AssetFacts, RunLog

if TYPE_CHECKING:
    from dagster import TableSchemaMetadataValue
    from datahub.metadata.schema_classes import BrowsePathsV2Class, SchemaMetadataClass


class ForExtractor:
    """Answers an extractor as the translation itself would."""

    def __init__(
        self, config: Config, log: RunLog | None = None, scratch: tuple[str, ...] = ()
    ) -> None:
        self._context = Context(config, scratch=scratch)
        self._run = log.run if log else None
        self._facts = log.definitions.assets if log and log.definitions else {}

    def of(self, log: RunLog, scratch: tuple[str, ...]) -> ForExtractor:
        """The same for that run, which knows its ids, its assets and Dagster's own storage."""
        return ForExtractor(self._context.config, log, scratch)

    def dataset_of_key(self, key: Sequence[str]) -> str | None:
        """The urn of the platform dataset that a long key names, or None if it names none."""
        return dataset_of_key(tuple(key), self._context)

    def browse_path(self, key: Sequence[str]) -> BrowsePathsV2Class:
        """Where that asset is found: its group, where that is known, and its folders."""
        return browse_path(self._facts.get(tuple(key), AssetFacts(tuple(key))))

    def dataset_of_path(self, path: str) -> str | None:
        """The urn of the dataset at that path or URL, or None if it is no valid one."""
        try:
            return dataset_of_path(path, self._run, self._context)
        except urns.InvalidUrn:
            return None

    def schema_aspect(self, name: str, schema: TableSchemaMetadataValue) -> SchemaMetadataClass:
        """The schemaMetadata of the asset of that name."""
        metadatum = metadatum_of(schema)
        assert metadatum is not None  # noqa: S101 - a schema always has a value
        return schema_metadata(name, metadatum.value)
