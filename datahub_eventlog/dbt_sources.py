"""The tables that dbt reads as its sources, out of the manifest that dagster-dbt has loaded.

To Dagster a source is only the name of a dependency, or an asset that something else makes. Its
table stands in the manifest, which dagster-dbt puts into the metadata of the models' assets,
next to the translator that named them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

MANIFEST = "dagster_dbt/manifest"
TRANSLATOR = "dagster_dbt/dagster_dbt_translator"
PROJECT = "dagster_dbt/project"
UNIQUE_ID = "dagster_dbt/unique_id"
TABLE_NAME = "dagster/table_name"
TABLE_KEYS = (TABLE_NAME, "dagster/storage_kind", UNIQUE_ID)

_SOURCE = "source."


def dbt_sources(specs: Iterable[dg.AssetSpec]) -> Mapping[dg.AssetKey, dg.AssetSpec]:
    """The sources of the dbt models among these assets, as dbt's manifest describes them.

    An asset that is two sources is left out. Calls the project's own translator, as
    dagster-dbt did for the same nodes before; what it raises is the caller's business.
    """
    sources: dict[str, dg.AssetSpec] = {}
    for spec in specs:
        if MANIFEST in spec.metadata:
            sources.update(_sources_of(spec, sources))
    counts = Counter(source.key for source in sources.values())
    return {source.key: source for source in sources.values() if counts[source.key] == 1}


def table_metadata(source: dg.AssetSpec) -> Mapping[str, Any]:
    """The part of a source's metadata that names its table."""
    return {name: source.metadata[name] for name in TABLE_KEYS if name in source.metadata}


def _sources_of(
    model: dg.AssetSpec, known: Mapping[str, dg.AssetSpec]
) -> Iterator[tuple[str, dg.AssetSpec]]:
    manifest = getattr(model.metadata[MANIFEST], "manifest", None)
    translator: Any = model.metadata.get(TRANSLATOR)
    if isinstance(manifest, Mapping) and hasattr(translator, "get_asset_spec"):
        project = model.metadata.get(PROJECT)
        for source in _sources(manifest, str(model.metadata.get(UNIQUE_ID))):
            if source not in known:
                yield source, translator.get_asset_spec(manifest, source, project)


def _sources(manifest: Mapping[str, Any], unique_id: str) -> Iterator[str]:
    """The sources of a node, also those behind ephemeral models, which are no assets."""
    nodes = manifest.get("nodes", {})
    for upstream in nodes.get(unique_id, {}).get("depends_on", {}).get("nodes", ()):
        if upstream.startswith(_SOURCE):
            yield upstream
        elif nodes.get(upstream, {}).get("config", {}).get("materialized") == "ephemeral":
            yield from _sources(manifest, upstream)
