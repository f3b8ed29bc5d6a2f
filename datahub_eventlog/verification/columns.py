"""Column lineage that leads to columns which no schema has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote

from datahub.metadata.urns import SchemaFieldUrn, Urn
from datahub.utilities.urns.error import InvalidUrnError
from datahub.utilities.urns.field_paths import get_simple_field_path_from_v2_field_path

from datahub_eventlog.values import Json, Proposal

LINEAGE = "upstreamLineage"
SCHEMA = "schemaMetadata"


def named_columns(proposal: Proposal) -> set[tuple[str, str]]:
    """The datasets and their columns that an asset's or table's lineage names."""
    if proposal.aspect != LINEAGE or "schemaField" not in proposal.body:
        return set()
    body = json.loads(proposal.body)
    found = set()
    for urn in _texts(body):
        if urn.startswith("urn:li:schemaField:"):
            # What an extractor writes may be no urn at all; DataHub has judged it.
            with suppress(InvalidUrnError):
                field = Urn.from_string(urn)
                assert isinstance(field, SchemaFieldUrn)  # noqa: S101 - its prefix says so
                found.add((field.parent, unquote(field.field_path)))
    return found


def columns_of(schema: Json) -> frozenset[str]:
    """The names of the columns of a schema, both as DataHub writes them and without types."""
    fields = schema.get("fields") if isinstance(schema, dict) else None
    known = fields if isinstance(fields, list) else ()
    names = [str(field.get("fieldPath", "")) for field in known if isinstance(field, dict)]
    return frozenset((*names, *map(get_simple_field_path_from_v2_field_path, names)))


def _texts(value: Json) -> Iterator[str]:
    """Every text in a value; the parts of a patch's path among them."""
    if isinstance(value, str):
        for part in value.split("/") if value.startswith("/") else (value,):
            yield part.replace("~1", "/").replace("~0", "~")
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
