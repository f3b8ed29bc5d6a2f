"""A table's columns as DataHub's schemaMetadata."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from datahub.metadata.schema_classes import (
    GlobalTagsClass,
    OtherSchemaClass,
    SchemaFieldClass,
    SchemaMetadataClass,
    TagAssociationClass,
)
from datahub.metadata.urns import TagUrn

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.assets.column_types import data_type, one_line
from datahub_eventlog.values import Json, Metadata

COLUMN_SCHEMA = "dagster/column_schema"
UNKNOWN_TYPES = ("", "?")
"""What dbt and Fivetran write where they don't know a column's type."""


def column_schema(metadata: Metadata) -> Json | None:
    """The table schema among an asset's metadata, as in `values.Metadatum`, or None.

    `dagster/column_schema` comes first. Some I/O managers use a name of their own, such as
    `dataframe_columns`: a schema by any other name counts if it is the only one.
    """
    schemas = {
        name: metadatum.value
        for name, metadatum in metadata.items()
        if metadatum.kind == "table_schema" and metadatum.value["columns"]
    }
    if COLUMN_SCHEMA in schemas:
        return schemas[COLUMN_SCHEMA]
    return next(iter(schemas.values())) if len(schemas) == 1 else None


def merged_schema(actual: Json | None, declared: Json | None) -> Json | None:
    """The columns of a run's event, completed by those of the definition."""
    if actual is None or declared is None:
        return declared if actual is None else actual
    by_name = {column["name"].lower(): column for column in declared["columns"]}
    columns = [
        _merged_column(column, by_name.get(column["name"].lower())) for column in actual["columns"]
    ]
    return {"columns": columns, "constraints": actual["constraints"] or declared["constraints"]}


def schema_metadata(
    name: str, schema: Json, partition_columns: Collection[str] = ()
) -> SchemaMetadataClass:
    """The schemaMetadata of the Dagster asset of that name; a column named twice counts once."""
    columns = list({column["name"]: column for column in schema["columns"]}.values())
    keys = primary_keys(columns, schema["constraints"])
    return SchemaMetadataClass(
        schemaName=name,
        platform=urns.platform_urn(),
        version=0,
        hash="",
        platformSchema=OtherSchemaClass(rawSchema="\n".join(schema["constraints"])),
        fields=[_field(column, keys, partition_columns) for column in columns],
        primaryKeys=[column["name"] for column in columns if column["name"].lower() in keys]
        or None,
    )


def _merged_column(actual: Json, declared: Json | None) -> Json:
    if declared is None:
        return actual
    return {
        **actual,
        "type": declared["type"] if actual["type"] in UNKNOWN_TYPES else actual["type"],
        "description": actual["description"] or declared["description"],
        "nullable": actual["nullable"] and declared["nullable"],
        "unique": actual["unique"] or declared["unique"],
        "constraints": list(dict.fromkeys([*actual["constraints"], *declared["constraints"]])),
        "tags": {**declared["tags"], **actual["tags"]},
    }


def _field(
    column: Json, keys: Collection[str], partition_columns: Collection[str]
) -> SchemaFieldClass:
    is_key = column["name"].lower() in keys
    return SchemaFieldClass(
        fieldPath=column["name"],
        type=data_type(column["type"]),
        nativeDataType=one_line(column["type"]),
        nullable=column["nullable"] and not is_key,
        description=column["description"] or None,
        globalTags=_tags(column["tags"]),
        isPartOfKey=is_key,
        isPartitioningKey=True if column["name"] in partition_columns else None,
        jsonProps=_constraints(column),
    )


def _tags(tags: Mapping[str, str]) -> GlobalTagsClass | None:
    names = sorted(f"{key}:{value}" if value else key for key, value in tags.items())
    if not names:
        return None
    return GlobalTagsClass([TagAssociationClass(TagUrn(name).urn()) for name in names])


def _constraints(column: Json) -> str | None:
    """What schemaMetadata has no field for, as the JSON that DataHub keeps beside a column."""
    kept: dict[str, Json] = {"unique": True} if column["unique"] else {}
    if column["constraints"]:
        kept["constraints"] = column["constraints"]
    return json.dumps(kept, sort_keys=True) if kept else None


_PRIMARY_KEY = re.compile(
    r"\s*(?:constraint\s+\S+\s+)?primary[\s_]*key\b\s*(?:\((.*)\))?", re.IGNORECASE
)


def primary_keys(columns: list[Json], constraints: list[str]) -> frozenset[str]:
    """The key's columns in lower case, from the columns' constraints and `PRIMARY KEY (a, b)`."""
    named = {
        column["name"].lower()
        for column in columns
        if any(_PRIMARY_KEY.match(text) for text in column["constraints"])
    }
    for text in constraints:
        match = _PRIMARY_KEY.match(text)
        parts = (match[1] or "").split(",") if match else []
        named.update(part.strip(" \"'`[]").lower() for part in parts)
    return frozenset(named - {""})
