"""What an asset is, as its definition and its newest event describe it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from datahub.metadata.schema_classes import (
    BrowsePathEntryClass,
    BrowsePathsV2Class,
    DatasetPropertiesClass,
    SchemaMetadataClass,
    StatusClass,
    SubTypesClass,
)
from datahub.specific.dataset import DatasetPatchBuilder

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.aspects import Aspect, dagster_platform
from datahub_eventlog.translate.assets.schemas import column_schema, merged_schema, schema_metadata
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.properties import json_text, present, property_text
from datahub_eventlog.values import AssetFacts, AssetKey, Json, Materialization, Metadata, Metadatum

SUBTYPE = "Asset"
PARTITION_EXPRESSION = "partition_expr"
"""The metadata in which Dagster's I/O managers for databases find the column of the partitions."""
SYSTEM_TAGS = ("dagster/", ".dagster/")
"""Begin the tags that Dagster sets for itself."""

_EMBEDDED = re.compile(r"(data:[\w/.+-]+;base64,)[A-Za-z0-9+/=]+")
"""An image, or the like, within Markdown: it is of no use as text."""
_ELSEWHERE = frozenset({"table_schema", "column_lineage"})
"""Kinds of metadata that have an aspect of their own."""
_DEFAULT = "io_manager"


def definition_properties(facts: AssetFacts, context: Context) -> DatasetPatchBuilder:
    """The properties of an asset that only its definition knows."""
    builder = DatasetPatchBuilder(urns.asset_urn(facts.key, context))
    builder.set_display_name(facts.key[-1])
    builder.set_description(facts.description or None)
    builder.set_external_url(links.asset_link(facts.key, context))
    builder.add_custom_properties(present(_facts(facts)))
    return builder


def definition_metadata(facts: AssetFacts, context: Context) -> DatasetPatchBuilder:
    """The metadata of its definition, which that of a run may overwrite."""
    builder = DatasetPatchBuilder(urns.asset_urn(facts.key, context))
    own = _facts(facts).keys()
    texts = plain_texts(facts.metadata)
    builder.add_custom_properties({name: texts[name] for name in texts if name not in own})
    return builder


def asset_properties(
    facts: AssetFacts, newest: Materialization, context: Context
) -> DatasetPropertiesClass:
    """Its names, texts and metadata; the event's metadata wins over the definition's."""
    texts = {**_texts(facts.metadata), **_texts(newest.metadata), **_facts(facts)}
    return DatasetPropertiesClass(
        name=facts.key[-1],
        description=facts.description or newest.description,
        customProperties=present(texts),
        externalUrl=links.asset_link(facts.key, context),
    )


def plain_texts(metadata: Metadata) -> dict[str, str]:
    """Metadata as plain strings, without the kinds that have an aspect of their own."""
    return present(_texts(metadata))


def asset_schema(
    key: AssetKey, facts: AssetFacts | None, newest: Materialization
) -> SchemaMetadataClass | None:
    """The columns of the event, completed by those of the definition; None if none are known."""
    declared: Metadata = facts.metadata if facts else {}
    schema = merged_schema(column_schema(newest.metadata), column_schema(declared))
    if schema is None:
        return None
    return schema_metadata(".".join(key), schema, _partition_columns(declared))


def column_count(facts: AssetFacts | None, newest: Materialization) -> int | None:
    """How many columns the asset has, if they are known."""
    schema = column_schema(newest.metadata) or column_schema(facts.metadata if facts else {})
    return len(schema["columns"]) if schema else None


def existence(context: Context) -> Iterator[Aspect]:
    """The aspects that make the asset exist."""
    yield StatusClass(removed=False)
    yield SubTypesClass(typeNames=[SUBTYPE])
    if context.config.platform_instance:
        yield dagster_platform(context)


def browse_path(facts: AssetFacts) -> BrowsePathsV2Class:
    """Where the asset is found: its group, then the folders of its key."""
    folders = [*([facts.group] if facts.group else []), *facts.key[:-1]]
    return BrowsePathsV2Class(path=[BrowsePathEntryClass(id=folder) for folder in folders])


def tag_names(facts: AssetFacts) -> Iterator[str]:
    """The asset's group, kinds and tags, without those that Dagster sets for itself."""
    if facts.group:
        yield f"asset_group:{facts.group}"
    yield from (f"kind:{kind}" for kind in facts.kinds)
    for name, value in facts.tags.items():
        if not name.startswith(SYSTEM_TAGS):
            yield f"{name}:{value}" if value else name


def _partition_columns(metadata: Metadata) -> tuple[str, ...]:
    expression = metadata.get(PARTITION_EXPRESSION)
    values = expression.value if expression is not None else None
    if isinstance(values, str):
        return (values,)
    return tuple(str(column) for column in values.values()) if isinstance(values, Mapping) else ()


def _facts(facts: AssetFacts) -> dict[str, str | None]:
    """What only the definition knows, under names that no user's metadata have."""
    freshness = None if facts.freshness is None else json_text(facts.freshness)
    return {
        "dagster/asset_key": "/".join(facts.key),
        "dagster/group_name": facts.group,
        "dagster/kinds": ", ".join(sorted(facts.kinds)) or None,
        "dagster/code_version": facts.code_version,
        "dagster/partitions_def": facts.partitions,
        "dagster/automation_condition": facts.automation,
        "dagster/freshness_policy": freshness,
        "dagster/backfill_policy": facts.backfill,
        "dagster/io_manager_key": facts.io_manager if facts.io_manager != _DEFAULT else None,
        "dagster/is_external": "true" if facts.is_external else None,
    }


def _texts(metadata: Metadata) -> dict[str, str | None]:
    shown = {name: value for name, value in metadata.items() if value.kind not in _ELSEWHERE}
    return {name: _text(value) for name, value in shown.items()}


def _text(metadatum: Metadatum) -> str | None:
    if metadatum.kind == "code_references":
        return ", ".join(_reference(reference) for reference in metadatum.value)
    if metadatum.kind == "md":
        return _EMBEDDED.sub(r"\1…", metadatum.value)
    return property_text(metadatum)


def _reference(reference: Json) -> str:
    """A link to the code, or `file:line`."""
    if "url" in reference:
        return str(reference["url"])
    line = reference.get("line")
    return f"{reference['file']}:{line}" if line else str(reference["file"])
