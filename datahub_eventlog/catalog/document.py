"""The JSON document of a catalogue: what `catalog --json` prints and `diff` compares.

```
{"format": 1,
 "locations": [{"name", "repositories": [{"name", "assets": [asset], "jobs": [job]}]}]}

asset: {"key": [str], "urn", "table": urn or null, "description", "group", "owners": [str],
        "tags": {str: str}, "kinds": [str], "partitions", "code_version", "external": bool,
        "columns": [{"name", "type", "description", "nullable": bool}] or null if not declared,
        "upstream": [urn], "checks": [str],
        "column_lineage": [{"column", "urn", "upstream_column"}]}
job:   {"name", "urn", "description", "ops": [handle],
        "triggers": [{"name", "kind", "cron": [str], "timezone", "interval_seconds"}]}
```

`urn` is the dataset that stands for the asset, `table` the dataset on a data platform that it is by
its definition. What the definition leaves open is null, or empty. Everything is sorted by name but
columns, which are in their own order. A later format has another number; readers ignore keys that
they don't know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datahub_eventlog.errors import ConfigurationError
from datahub_eventlog.redact import DEFAULT, Redactor
from datahub_eventlog.translate import urns
from datahub_eventlog.translate.assets.column_types import one_line
from datahub_eventlog.translate.assets.schemas import column_schema, primary_keys
from datahub_eventlog.translate.catalog import definitions_log, run_of
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_lineage import AssetLineage, asset_lineage
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.values import (
    AssetFacts,
    AssetKey,
    CatalogJob,
    CatalogPart,
    CodeRepository,
    Json,
)

FORMAT = 1
HOW_TO_MAKE = "make one with `datahub-eventlog catalog -m your.module --json > base.json`"


@dataclass(frozen=True)
class CatalogueColumn:
    """A column that an asset's definition declares."""

    name: str
    type: str = ""
    description: str | None = None
    nullable: bool = True


@dataclass(frozen=True, order=True)
class ColumnEdge:
    """A column of an asset, and one that its values come from."""

    column: str
    urn: str
    upstream_column: str


@dataclass(frozen=True)
class CatalogueAsset:
    """An asset; see the module's docstring."""

    key: AssetKey
    urn: str
    location: str = ""
    table: str | None = None
    description: str | None = None
    group: str | None = None
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    partitions: str | None = None
    code_version: str | None = None
    external: bool = False
    columns: tuple[CatalogueColumn, ...] | None = None
    upstream: tuple[str, ...] = ()
    column_lineage: tuple[ColumnEdge, ...] = ()
    checks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The key as the UI shows it."""
        return "/".join(self.key)


@dataclass(frozen=True)
class CatalogueTrigger:
    """A schedule or sensor of a job, as it is defined."""

    name: str
    kind: str
    cron: tuple[str, ...] = ()
    timezone: str | None = None
    interval_seconds: float | None = None


@dataclass(frozen=True)
class CatalogueJob:
    """A job; see the module's docstring."""

    name: str
    urn: str
    location: str = ""
    description: str | None = None
    ops: tuple[str, ...] = ()
    triggers: tuple[CatalogueTrigger, ...] = ()


@dataclass(frozen=True)
class Catalogue:
    """The assets and jobs of some code locations, by their urns."""

    assets: Mapping[str, CatalogueAsset] = field(default_factory=dict)
    jobs: Mapping[str, CatalogueJob] = field(default_factory=dict)
    is_of_datahub: bool = False
    """It is what DataHub holds of some assets: their description, columns and upstream assets."""


# ------------------------------------------------------------------------------------ writing


def document(
    parts: Iterable[CatalogPart], context: Context, redactor: Redactor = DEFAULT
) -> dict[str, Json]:
    """The document of a catalogue, without secrets.

    It must not be redacted as a whole: the types of columns stay as they are, in which field names
    such as `struct<token:string>` are no secrets. An asset whose key makes no urn is left out, as
    in delivery.
    """
    locations: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for part in parts:
        repositories = locations.setdefault(part.repository.location, {})
        content = repositories.setdefault(part.repository.name, {"assets": [], "jobs": []})
        content["assets"] += _assets(part, context, redactor)
        content["jobs"] += [_job(part.repository, job, context, redactor) for job in part.jobs]
    return {
        "format": FORMAT,
        "locations": [
            {
                "name": location,
                "repositories": [
                    {"name": name, "assets": _sorted(item["assets"]), "jobs": _sorted(item["jobs"])}
                    for name, item in sorted(repositories.items())
                ],
            }
            for location, repositories in sorted(locations.items())
        ],
    }


def _sorted(items: list[Any]) -> list[Any]:
    """Each thing once: an asset's definition is in one part only, a job might be in several."""
    by_urn = {item["urn"]: item for item in items}
    return [by_urn[urn] for urn in sorted(by_urn)]


def _assets(part: CatalogPart, context: Context, redactor: Redactor) -> Iterator[dict[str, Json]]:
    assets = RunAssets(definitions_log(part), context)
    for asset in part.assets:
        try:
            lineage = asset_lineage(asset.key, None, assets)
        except urns.InvalidUrn:
            continue
        yield _asset(asset, lineage, redactor)


def _asset(facts: AssetFacts, lineage: AssetLineage, redactor: Redactor) -> dict[str, Json]:
    return {
        "key": _shown(facts.key, redactor),
        "urn": redactor.text(lineage.urn),
        "table": lineage.dataset and redactor.text(lineage.dataset),
        **redactor.value(
            {
                "description": facts.description or None,
                "group": facts.group,
                "tags": dict(sorted(facts.tags.items())),
                "partitions": facts.partitions,
                "code_version": facts.code_version,
                "external": facts.is_external,
            }
        ),
        "owners": _shown(sorted(facts.owners), redactor),
        "kinds": _shown(sorted(facts.kinds), redactor),
        "columns": _columns(facts, redactor),
        "upstream": _shown(sorted(lineage.upstreams), redactor),
        "checks": _shown(sorted(check.check.name for check in facts.checks), redactor),
        "column_lineage": [
            dict(zip(("column", "urn", "upstream_column"), _shown(edge, redactor), strict=True))
            for edge in sorted(
                (column, *source) for column, found in lineage.columns.items() for source in found
            )
        ],
    }


def _columns(facts: AssetFacts, redactor: Redactor) -> list[dict[str, Json]] | None:
    """The columns as DataHub gets them: those of a primary key are never null."""
    schema = column_schema(facts.metadata)
    if schema is None:
        return None
    columns = list({column["name"]: column for column in schema["columns"]}.values())
    keys = primary_keys(columns, schema["constraints"])
    return [
        {
            "name": redactor.text(column["name"]),
            "type": one_line(column["type"]),
            "description": redactor.text(column["description"] or "") or None,
            "nullable": column["nullable"] and column["name"].lower() not in keys,
        }
        for column in columns
    ]


def _shown(texts: Iterable[str], redactor: Redactor) -> list[str]:
    """Each text by itself: two in a row are not the name and the value of a secret."""
    return list(map(redactor.text, texts))


def _job(
    repository: CodeRepository, job: CatalogJob, context: Context, redactor: Redactor
) -> dict[str, Json]:
    triggers = sorted(job.triggers, key=lambda trigger: (trigger.name, trigger.kind))
    description = job.job.description or None
    return {
        "name": redactor.text(job.job.name),
        "urn": redactor.text(urns.flow_urn(run_of(repository, job), context)),
        "description": description and redactor.text(description),
        "ops": _shown(sorted(op.handle for op in job.job.ops), redactor),
        "triggers": [
            {
                "name": redactor.text(trigger.name),
                "kind": trigger.kind,
                "cron": list(trigger.cron),
                "timezone": trigger.timezone,
                "interval_seconds": trigger.interval_seconds,
            }
            for trigger in triggers
        ],
    }


# ------------------------------------------------------------------------------------ reading


def parse(text: str | bytes, source: str) -> Catalogue:
    """The catalogue of a document.

    Raises `ConfigurationError`, which names `source`, for anything else.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source} is no JSON ({error}): {HOW_TO_MAKE}") from error
    number = content.get("format") if isinstance(content, dict) else None
    if number is None:
        raise ConfigurationError(f"{source} is no catalogue: {HOW_TO_MAKE}")
    if number != FORMAT:
        raise ConfigurationError(
            f"{source} has the format {number!r}, and this version of datahub-eventlog reads"
            f" {FORMAT}: make both catalogues with the same version"
        )
    try:
        return _catalogue(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"{source} is a broken catalogue ({what}): {HOW_TO_MAKE}") from (
            error
        )


def _catalogue(content: Mapping[str, Any]) -> Catalogue:
    assets: dict[str, CatalogueAsset] = {}
    jobs: dict[str, CatalogueJob] = {}
    for location in content["locations"]:
        name = _text(location["name"])
        for repository in location["repositories"]:
            for item in repository["assets"]:
                asset = _read_asset(item, name)
                # Other locations may know the asset as one that Dagster doesn't make.
                if asset.urn not in assets or assets[asset.urn].external:
                    assets[asset.urn] = asset
            for item in repository["jobs"]:
                job = _read_job(item, name)
                jobs[job.urn] = job
    return Catalogue(assets, jobs)


def _read_asset(item: Mapping[str, Any], location: str) -> CatalogueAsset:
    columns = item["columns"]
    return CatalogueAsset(
        key=_texts(item["key"]),
        urn=_text(item["urn"]),
        location=location,
        table=_text_or_none(item["table"]),
        description=_text_or_none(item["description"]),
        group=_text_or_none(item["group"]),
        owners=_texts(item["owners"]),
        tags={_text(name): _text(value) for name, value in item["tags"].items()},
        kinds=_texts(item["kinds"]),
        partitions=_text_or_none(item["partitions"]),
        code_version=_text_or_none(item["code_version"]),
        external=bool(item["external"]),
        columns=None if columns is None else tuple(map(_read_column, columns)),
        upstream=_texts(item["upstream"]),
        column_lineage=tuple(map(_read_edge, item["column_lineage"])),
        checks=_texts(item["checks"]),
    )


def _read_column(item: Mapping[str, Any]) -> CatalogueColumn:
    return CatalogueColumn(
        _text(item["name"]),
        _text(item["type"]),
        _text_or_none(item["description"]),
        bool(item["nullable"]),
    )


def _read_edge(item: Mapping[str, Any]) -> ColumnEdge:
    return ColumnEdge(_text(item["column"]), _text(item["urn"]), _text(item["upstream_column"]))


def _read_job(item: Mapping[str, Any], location: str) -> CatalogueJob:
    return CatalogueJob(
        name=_text(item["name"]),
        urn=_text(item["urn"]),
        location=location,
        description=_text_or_none(item["description"]),
        ops=_texts(item["ops"]),
        triggers=tuple(map(_read_trigger, item["triggers"])),
    )


def _read_trigger(item: Mapping[str, Any]) -> CatalogueTrigger:
    seconds = item["interval_seconds"]
    return CatalogueTrigger(
        name=_text(item["name"]),
        kind=_text(item["kind"]),
        cron=_texts(item["cron"]),
        timezone=_text_or_none(item["timezone"]),
        interval_seconds=None if seconds is None else float(seconds),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, not {value!r:.50}")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"expected a list, not {values!r:.50}")
    return tuple(map(_text, values))
