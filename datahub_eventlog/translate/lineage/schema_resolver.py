"""Gives DataHub's SQL parser the columns of the tables that DataHub knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from datahub.metadata.schema_classes import SchemaMetadataClass
from datahub.utilities.urns.field_paths import get_simple_field_path_from_v2_field_path

from datahub_eventlog.translate.lineage.sql import Dialect, OfflineResolver


class ColumnResolver(OfflineResolver):
    """Names tables as DataHub has them, with their columns; others as `OfflineResolver` does."""

    def __init__(
        self, dialect: Dialect, columns: Callable[[str], Mapping[str, str] | None]
    ) -> None:
        """Take where the SQL runs, and a function from a dataset's urn to its columns."""
        super().__init__(dialect)
        self._columns = columns

    def resolve_table(self, table: Any) -> tuple[str, Any]:
        """The urn of a table as written or in lower case, whichever DataHub has."""
        usual, _ = super().resolve_table(table)
        for urn in dict.fromkeys((self.get_urn_for_table(table), usual)):
            if columns := self._columns(urn):
                return urn, dict(columns)
        return usual, None

    def __eq__(self, other: object) -> bool:
        """No two are equal: the parser caches what it read with the columns of one."""
        return self is other

    def __hash__(self) -> int:
        return id(self)


def columns_of(schema: SchemaMetadataClass) -> dict[str, str]:
    """The native types of the columns by their names."""
    return {
        get_simple_field_path_from_v2_field_path(column.fieldPath): column.nativeDataType
        for column in schema.fields
    }
