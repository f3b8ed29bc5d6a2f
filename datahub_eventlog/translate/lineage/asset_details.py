"""The asset whose table is looked for, with all that may name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from datahub_eventlog.values import AssetFacts, AssetKey, Materialization, Metadata, Run

DATAHUB_URN = "datahub_urn"
TABLE_NAME = "dagster/table_name"
OLD_TABLE_NAME = "dagster/relation_identifier"
STORAGE_KIND = "dagster/storage_kind"
TABLE_URI = "table_uri"
URI = "dagster/uri"
PATH = "path"
NAMING_TABLES = (DATAHUB_URN, TABLE_NAME, OLD_TABLE_NAME, STORAGE_KIND, TABLE_URI, URI, PATH)
"""The metadata that can name an asset's table."""

_KIND_TAG = "dagster/kind/"


@dataclass(frozen=True)
class AssetDetails:
    """An asset by its definition and its materialisation, where there are any."""

    key: AssetKey
    metadata: Metadata = field(default_factory=dict)
    """Of its definition, overwritten by that of its materialisation."""
    tags: Mapping[str, str] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()
    run: Run | None = None
    partition: str | None = None

    def text(self, name: str) -> str | None:
        """The metadata of that name, if it is a text that isn't empty."""
        metadatum = self.metadata.get(name)
        if metadatum is None or not isinstance(metadatum.value, str):
            return None
        return metadatum.value.strip() or None

    @property
    def table_name(self) -> str | None:
        """The table's name as an I/O manager or an integration writes it."""
        return self.text(TABLE_NAME) or self.text(OLD_TABLE_NAME)

    @property
    def storage_kind(self) -> str | None:
        """The platform's name as an I/O manager or an integration writes it."""
        return self.text(STORAGE_KIND) or self.tags.get(STORAGE_KIND)

    @property
    def is_of_dbt(self) -> bool:
        """Whether dagster-dbt made the asset."""
        names = any(name.startswith(("dagster_dbt/", "dagster-dbt/")) for name in self.metadata)
        return names or "dbt" in self.kinds

    @property
    def is_of_delta_io_manager(self) -> bool:
        """Whether the I/O manager of Delta Lake wrote the table's name."""
        return (self.table_name or "").lower().startswith("deltalake.")


def details_of(
    key: AssetKey,
    facts: AssetFacts | None,
    materialization: Materialization | None = None,
    run: Run | None = None,
) -> AssetDetails:
    """Put together what the definition and the materialisation hold."""
    declared, tags = (facts.metadata, facts.tags) if facts else ({}, {})
    metadata = {**declared, **(materialization.metadata if materialization else {})}
    tags = {**tags, **(materialization.tags if materialization else {})}
    kinds = {name[len(_KIND_TAG) :] for name in tags if name.startswith(_KIND_TAG)}
    kinds.update(facts.kinds if facts else ())
    partition = materialization.partition if materialization else None
    return AssetDetails(key, metadata, tags, frozenset(map(str.lower, kinds)), run, partition)
