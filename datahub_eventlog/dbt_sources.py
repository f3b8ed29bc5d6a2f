"""The tables that dbt reads as its sources, out of the manifest that dagster-dbt has loaded.

To Dagster a source is only the name of a dependency. What it is stands in the manifest, which
dagster-dbt puts into the metadata of the models' assets, next to the translator that named them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

MANIFEST = "dagster_dbt/manifest"
TRANSLATOR = "dagster_dbt/dagster_dbt_translator"
PROJECT = "dagster_dbt/project"
UNIQUE_ID = "dagster_dbt/unique_id"

_SOURCE = "source."


def dbt_sources(models: Iterable[dg.AssetSpec]) -> Mapping[dg.AssetKey, dg.AssetSpec]:
    """What dbt's manifest says of the sources that these assets are made of.

    Calls the project's own translator, as dagster-dbt did for the same nodes before; what it
    raises is the caller's business.
    """
    found: dict[dg.AssetKey, dg.AssetSpec] = {}
    seen: set[tuple[int, str]] = set()
    for model in models:
        manifest = getattr(model.metadata.get(MANIFEST), "manifest", None)
        translator: Any = model.metadata.get(TRANSLATOR)
        unique_id = model.metadata.get(UNIQUE_ID)
        if not isinstance(manifest, Mapping) or not hasattr(translator, "get_asset_spec"):
            continue
        for source in _sources(manifest, str(unique_id)):
            if (id(manifest), source) not in seen:
                seen.add((id(manifest), source))
                spec = translator.get_asset_spec(manifest, source, model.metadata.get(PROJECT))
                found[spec.key] = spec
    return found


def _sources(manifest: Mapping[str, Any], unique_id: str) -> Iterator[str]:
    """The sources of a node, also those behind ephemeral models, which are no assets."""
    nodes = manifest.get("nodes", {})
    for upstream in nodes.get(unique_id, {}).get("depends_on", {}).get("nodes", ()):
        if upstream.startswith(_SOURCE):
            yield upstream
        elif nodes.get(upstream, {}).get("config", {}).get("materialized") == "ephemeral":
            yield from _sources(manifest, upstream)
