"""Dagster's metadata values as plain frozen ones; see `values.Metadatum` for the kinds.

Both the process that runs user code (definitions) and the dispatcher (events) convert here,
so that a fact looks the same wherever it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from datahub_eventlog.dagster_internals import DagsterInvalidMetadata, normalize_metadata_value
from datahub_eventlog.values import Json, Metadata, Metadatum


def metadata_of(raw: Mapping[str, Any] | None) -> Metadata:
    """Convert a mapping of Dagster metadata, raw or normalised; what has no plain form is left out.

    Objects that only the user's process could read (Dagster allows them in definitions) are
    left out rather than shown as their Python repr.
    """
    converted = {str(name): metadatum_of(value) for name, value in (raw or {}).items()}
    return {name: value for name, value in converted.items() if value is not None}


def metadatum_of(raw: Any) -> Metadatum | None:
    """Convert one value, or None if it has no meaning outside its process."""
    try:
        value = normalize_metadata_value(raw)
    except DagsterInvalidMetadata:
        return None
    known = _BY_TYPE.get(type(value).__name__)
    if known is None:
        return None
    kind, read = known
    content = read(value)
    return Metadatum("null", None) if content is None else Metadatum(kind, content)


def _json(value: dg.JsonMetadataValue) -> Json:
    """The JSON as it can be stored: what it holds that isn't JSON becomes a string."""
    return json.loads(json.dumps(value.data, default=str))


def _schema(schema: dg.TableSchema) -> Json:
    return {
        "columns": [_column(column) for column in schema.columns],
        "constraints": list(getattr(schema.constraints, "other", None) or []),
    }


def _column(column: dg.TableColumn) -> Json:
    return {
        "name": column.name,
        "type": column.type,
        "description": column.description,
        "nullable": column.constraints.nullable,
        "unique": column.constraints.unique,
        "constraints": list(column.constraints.other or []),
        "tags": dict(getattr(column, "tags", None) or {}),
    }


def _table(value: dg.TableMetadataValue) -> Json:
    return {
        "records": [dict(record.data) for record in value.records],
        "columns": _schema(value.schema)["columns"],
    }


def _column_lineage(value: dg.TableColumnLineageMetadataValue) -> Json:
    deps = value.column_lineage.deps_by_column
    return {
        column: [
            {"asset_key": list(source.asset_key.path), "column": source.column_name}
            for source in sources
        ]
        for column, sources in deps.items()
    }


def _code_reference(reference: Any) -> Json:
    if hasattr(reference, "url"):
        return {"url": reference.url, "label": reference.label}
    return {
        "file": reference.file_path,
        "line": reference.line_number,
        "label": reference.label,
    }


# By the classes' names, since not every Dagster version has every class.
_BY_TYPE: Mapping[str, tuple[str, Callable[[Any], Json]]] = {
    "TextMetadataValue": ("text", lambda value: value.text),
    "MarkdownMetadataValue": ("md", lambda value: value.md_str),
    "UrlMetadataValue": ("url", lambda value: value.url),
    "PathMetadataValue": ("path", lambda value: value.path),
    "NotebookMetadataValue": ("notebook", lambda value: value.path),
    "PythonArtifactMetadataValue": (
        "python_artifact",
        lambda value: f"{value.module}:{value.name}",
    ),
    "PoolMetadataValue": ("pool", lambda value: value.pool),
    "IntMetadataValue": ("int", lambda value: value.value),
    "FloatMetadataValue": ("float", lambda value: value.value),
    "BoolMetadataValue": ("bool", lambda value: value.value),
    "NullMetadataValue": ("null", lambda _: None),
    "TimestampMetadataValue": ("timestamp", lambda value: value.value),
    "JsonMetadataValue": ("json", _json),
    "DagsterAssetMetadataValue": ("asset", lambda value: list(value.asset_key.path)),
    "DagsterJobMetadataValue": ("job", lambda value: value.job_name),
    "DagsterRunMetadataValue": ("run", lambda value: value.run_id),
    "TableMetadataValue": ("table", _table),
    "TableSchemaMetadataValue": ("table_schema", lambda value: _schema(value.schema)),
    "TableColumnLineageMetadataValue": ("column_lineage", _column_lineage),
    "CodeReferencesMetadataValue": (
        "code_references",
        lambda value: [_code_reference(reference) for reference in value.code_references],
    ),
}
