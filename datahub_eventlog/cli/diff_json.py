"""A difference as `diff --format json` prints it; every key is always there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from datahub_eventlog.catalog.entries import shown
from datahub_eventlog.values import Json

if TYPE_CHECKING:
    from datahub_eventlog.catalog.difference import (
        AssetChange,
        FieldChange,
        JobChange,
    )
    from datahub_eventlog.catalog.document import CatalogueAsset, CatalogueColumn, CatalogueJob
    from datahub_eventlog.cli.diff import Outcome

FORMAT = 1


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """The whole outcome as one JSON document."""
    found, impacts = outcome.difference, outcome.impacts
    document = {
        "format": FORMAT,
        "breaking": [
            {**_asset(item.asset), "column": item.column, "reason": item.reason}
            for item in found.breaking
        ],
        "assets": {
            "added": list(map(_asset, found.assets_added)),
            "removed": list(map(_asset, found.assets_removed)),
            "changed": list(map(_asset_change, found.assets_changed)),
        },
        "jobs": {
            "added": list(map(_job, found.jobs_added)),
            "removed": list(map(_job, found.jobs_removed)),
            "changed": list(map(_job_change, found.jobs_changed)),
        },
        "impact": [asdict(impact) for impact in impacts.items],
        "remarks": [text for text in (*outcome.remarks, impacts.trouble) if text],
    }
    return {name: _without_secrets(value) for name, value in document.items()}


def _asset(asset: CatalogueAsset) -> dict[str, Json]:
    return {"asset": asset.name, "urn": asset.urn, "table": asset.table}


def _asset_change(change: AssetChange) -> dict[str, Json]:
    columns = _lists(change.columns_added, change.columns_removed, _column)
    columns["changed"] = [
        {"column": each.column, **_field(each.change)} for each in change.columns_changed
    ]
    edges = _lists(change.column_edges_added, change.column_edges_removed, asdict)
    return {
        **_asset(change.after),
        "fields": list(map(_field, change.fields)),
        "columns": columns,
        "upstream": _lists(change.upstream_added, change.upstream_removed, str),
        "column_lineage": edges,
        "checks": _lists(change.checks_added, change.checks_removed, str),
    }


def _job(job: CatalogueJob) -> dict[str, Json]:
    return {"job": job.name, "urn": job.urn}


def _job_change(change: JobChange) -> dict[str, Json]:
    triggers = _lists(change.triggers_added, change.triggers_removed, asdict)
    triggers["changed"] = list(map(_field, change.triggers_changed))
    return {
        **_job(change.after),
        "fields": list(map(_field, change.fields)),
        "ops": _lists(change.ops_added, change.ops_removed, str),
        "triggers": triggers,
    }


def _lists(
    added: Iterable[Any], removed: Iterable[Any], to_json: Callable[[Any], Json]
) -> dict[str, list[Json]]:
    return {"added": list(map(to_json, added)), "removed": list(map(to_json, removed))}


def _column(column: CatalogueColumn) -> dict[str, Json]:
    return asdict(column)


def _field(change: FieldChange) -> dict[str, Json]:
    return {"name": change.name, "before": change.before, "after": change.after}


def _without_secrets(value: Json) -> Json:
    """The same without secrets in its texts; types of columns stay as they are."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list | tuple):
        return list(map(_without_secrets, value))
    if isinstance(value, Mapping):
        is_type = "column" in value and value.get("name") == "type"
        kept = ("type", *(("before", "after") if is_type else ()))
        return {
            name: item if name in kept else _without_secrets(item) for name, item in value.items()
        }
    return value
