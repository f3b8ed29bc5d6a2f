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
"""Where Dagster's I/O managers for databases are told the column of the partitions."""

_EMBEDDED = re.compile(r"(data:[\w/.+-]+;base64,)[A-Za-z0-9+/=]+")
"""An image, or the like, within Markdown: as text it tells nobody anything."""
_ELSEWHERE = frozenset({"table_schema", "column_lineage"})
"""Kinds of metadata that have an aspect of their own."""
_DEFAULT = "io_manager"
_SYSTEM = ("dagster/", ".dagster/")


def rank(time: float, facts: object | None, *, was_made: bool = True) -> float:
    """The time of a state that a definition completes: the event's, if the definition is known.

    Without it, a time before that of every event, but in the same order: what then is said is
    the newest among those who know as little, and replaces nothing that was said with more
    knowledge. An observation in turn knows less than a materialisation.
    """
    if facts is not None:
        return time
    return time / 1_000_000 if was_made else time / 1_000_000_000_000


def rank_alone(time: float) -> float:
    """The time of what a definition says without a run that made the asset.

    It is added to what a run says that did not know the definition, and gives way to what any
    says that did: of metadata, tables and lineage the run may have known better.
    """
    return time / 1_000


def rank_of_columns(time: float) -> float:
    """The same for columns, which can't be added to: before whatever a run found."""
    return time / 1_000_000_000_000_000


def definition_properties(facts: AssetFacts, context: Context) -> DatasetPatchBuilder:
    """What of an asset's properties only its definition can say, and no run otherwise."""
    builder = DatasetPatchBuilder(urns.asset_urn(facts.key, context))
    builder.set_display_name(facts.key[-1])
    builder.set_description(facts.description or None)
    builder.set_external_url(links.asset_link(facts.key, context))
    builder.add_custom_properties(present(_facts(facts)))
    return builder


def definition_metadata(facts: AssetFacts, context: Context) -> DatasetPatchBuilder:
    """The metadata of its definition, of which a run may say something else."""
    builder = DatasetPatchBuilder(urns.asset_urn(facts.key, context))
    own = _facts(facts).keys()
    texts = plain_texts(facts.metadata)
    builder.add_custom_properties({name: texts[name] for name in texts if name not in own})
    return builder


def asset_properties(
    facts: AssetFacts, newest: Materialization, context: Context
) -> DatasetPropertiesClass:
    """Its names, texts and metadata; of the same name, what the event says counts."""
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
    """The columns that the event found, completed by those of the definition, if any are known."""
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
    """That there is such an asset."""
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
        if not name.startswith(_SYSTEM):
            yield f"{name}:{value}" if value else name


def _partition_columns(metadata: Metadata) -> tuple[str, ...]:
    expression = metadata.get(PARTITION_EXPRESSION)
    values = expression.value if expression is not None else None
    if isinstance(values, str):
        return (values,)
    return tuple(str(column) for column in values.values()) if isinstance(values, Mapping) else ()


def _facts(facts: AssetFacts) -> dict[str, str | None]:
    """What only the definition knows, under names that no user's metadata have."""
    return {
        "dagster/asset_key": "/".join(facts.key),
        "dagster/group_name": facts.group,
        "dagster/kinds": ", ".join(sorted(facts.kinds)) or None,
        "dagster/code_version": facts.code_version,
        "dagster/partitions_def": facts.partitions,
        "dagster/automation_condition": facts.automation,
        "dagster/freshness_policy": _json(facts.freshness),
        "dagster/backfill_policy": facts.backfill,
        "dagster/io_manager_key": facts.io_manager if facts.io_manager != _DEFAULT else None,
        "dagster/is_external": "true" if facts.is_external else None,
    }


def _json(value: Json) -> str | None:
    return None if value is None else json_text(value)


def _texts(metadata: Metadata) -> dict[str, str | None]:
    return {
        name: _text(metadatum)
        for name, metadatum in metadata.items()
        if metadatum.kind not in _ELSEWHERE
    }


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
