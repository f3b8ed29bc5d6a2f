"""The parts of the translation that a user's extractor may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datahub_eventlog.config import Config
from datahub_eventlog.metadata import metadatum_of
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.paths import dataset_of_path
from datahub_eventlog.translate.schemas import schema_metadata

if TYPE_CHECKING:
    from dagster import TableSchemaMetadataValue
    from datahub.metadata.schema_classes import SchemaMetadataClass


class ForExtractor:
    """Answers an extractor as the translation itself would."""

    def __init__(self, config: Config) -> None:
        self._context = Context(config)

    def dataset_of_path(self, path: str) -> str | None:
        """The urn of the dataset at that path or URL, or None if it is no valid one."""
        try:
            return dataset_of_path(path, None, self._context)
        except urns.InvalidUrn:
            return None

    def schema_aspect(self, name: str, schema: TableSchemaMetadataValue) -> SchemaMetadataClass:
        """The schemaMetadata of the asset of that name."""
        metadatum = metadatum_of(schema)
        assert metadatum is not None  # noqa: S101 - a schema always has a value
        return schema_metadata(name, metadatum.value)
