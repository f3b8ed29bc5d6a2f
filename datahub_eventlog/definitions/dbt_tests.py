"""The tests of dbt that asset checks are, out of the manifest that dagster-dbt has loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import dagster as dg

from datahub_eventlog.dbt_sources import MANIFEST
from datahub_eventlog.values import DbtTest, Json

MOST_CODE_CHARACTERS = 10_000
"""Of a test's SQL; what is beyond is left out."""

Manifest: TypeAlias = Mapping[str, Any]


def manifests(specs: Iterable[dg.AssetSpec]) -> Sequence[Manifest]:
    """The manifests of these assets, each once."""
    wrapped = (getattr(spec.metadata.get(MANIFEST), "manifest", None) for spec in specs)
    return list({id(each): each for each in wrapped if isinstance(each, Mapping)}.values())


def dbt_test(unique_id: str, asset: object, known: Sequence[Manifest]) -> DbtTest | None:
    """The test of that id on a node, whose id `asset` is, if the asset says which.

    None if no manifest has the test, or if it can't be known on which node it is.
    """
    for manifest in known:
        test = _nodes(manifest).get(unique_id)
        if test is not None:
            return _test(unique_id, test, asset, manifest)
    return None


def _test(
    unique_id: str, test: Mapping[str, Any], asset: object, manifest: Manifest
) -> DbtTest | None:
    # As DataHub's dbt source counts them: ephemeral models too, and each once.
    depends_on = dict.fromkeys((test.get("depends_on") or {}).get("nodes") or ())
    upstreams = [node for node in depends_on if _node(manifest, node) is not None]
    upstream = _upstream(upstreams, asset, test.get("attached_node"))
    node = None if upstream is None else _node(manifest, upstream)
    if upstream is None or node is None:
        return None
    generic = test.get("test_metadata") or {}
    qualified = (generic.get("namespace"), generic.get("name"))
    code = test.get("compiled_code") or test.get("raw_code") or None
    return DbtTest(
        unique_id=unique_id,
        name=test["name"],
        test=".".join(part for part in qualified if part),
        arguments=_plain(generic.get("kwargs") or {}),
        upstream=upstream,
        upstreams=len(upstreams),
        dataset=_dataset(node),
        severity=(test.get("config") or {}).get("severity"),
        code=code and code[:MOST_CODE_CHARACTERS],
        description=test.get("description") or None,
    )


def _upstream(upstreams: Sequence[str], asset: object, attached: object) -> str | None:
    """The node that dagster-dbt takes the test to be on: the only one, the asset's, the attached.

    An asset that is a source of dbt, and made elsewhere, does not know its node.
    """
    node = upstreams[0] if len(upstreams) == 1 else asset or attached
    return node if isinstance(node, str) and node in upstreams else None


def _dataset(node: Mapping[str, Any]) -> str | None:
    """The name that DataHub's dbt source gives a node, but for its letters' case."""
    parts = (node.get("database"), node.get("schema"), node.get("alias") or node.get("name"))
    return ".".join(part for part in parts if part).replace('"', "") or None


def _node(manifest: Manifest, unique_id: str) -> Mapping[str, Any] | None:
    """A model, a source or the like; manifests are large, so they are not put together."""
    node: Mapping[str, Any] | None = _nodes(manifest).get(unique_id)
    return (manifest.get("sources") or {}).get(unique_id) if node is None else node


def _nodes(manifest: Manifest) -> Mapping[str, Any]:
    return manifest.get("nodes") or {}


def _plain(arguments: Mapping[str, Any]) -> Mapping[str, Json]:
    """The arguments as JSON: what isn't any becomes a string."""
    plain: Mapping[str, Json] = json.loads(json.dumps(arguments, default=str))
    return plain
