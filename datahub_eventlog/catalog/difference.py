"""What differs between two catalogues, and what of it breaks those who use the assets.

Assets and jobs are the same if their urns are, columns, checks and triggers if their names are: a
renamed one was removed and another added. What is compared by name is sorted by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datahub_eventlog.catalog.document import (
    Catalogue,
    CatalogueAsset,
    CatalogueColumn,
    CatalogueJob,
    CatalogueTrigger,
    ColumnEdge,
)
from datahub_eventlog.translate.assets.column_types import data_type, one_line
from datahub_eventlog.translate.assets.schemas import UNKNOWN_TYPES
from datahub_eventlog.values import Json

T = TypeVar("T")
FIELDS = (
    *("location", "table", "description", "group", "owners", "tags", "kinds", "partitions"),
    *("code_version", "external"),
)
"""The fields of an asset that are compared as a whole."""
HELD_FIELDS = ("description",)
"""Those that DataHub holds as the definition has them."""
OF_DAGSTER = "urn:li:dataset:(urn:li:dataPlatform:dagster,"
IMPLICIT_JOB = "__ASSET_JOB"
"""Begins the names of the jobs that Dagster makes of all assets: their ops say nothing more."""


@dataclass(frozen=True)
class FieldChange:
    """Something has another value now; None stands for no value."""

    name: str
    before: Json
    after: Json


@dataclass(frozen=True)
class ColumnChange:
    """A column's type, nullability or description has changed."""

    column: str
    change: FieldChange


@dataclass(frozen=True)
class AssetChange:
    """What has changed of an asset; `added` and `removed` are in the order of names."""

    before: CatalogueAsset
    after: CatalogueAsset
    fields: tuple[FieldChange, ...] = ()
    columns_added: tuple[CatalogueColumn, ...] = ()
    columns_removed: tuple[CatalogueColumn, ...] = ()
    columns_changed: tuple[ColumnChange, ...] = ()
    upstream_added: tuple[str, ...] = ()
    upstream_removed: tuple[str, ...] = ()
    column_edges_added: tuple[ColumnEdge, ...] = ()
    column_edges_removed: tuple[ColumnEdge, ...] = ()
    checks_added: tuple[str, ...] = ()
    checks_removed: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        return self == AssetChange(self.before, self.after)


@dataclass(frozen=True)
class JobChange:
    """What has changed of a job."""

    before: CatalogueJob
    after: CatalogueJob
    fields: tuple[FieldChange, ...] = ()
    ops_added: tuple[str, ...] = ()
    ops_removed: tuple[str, ...] = ()
    triggers_added: tuple[CatalogueTrigger, ...] = ()
    triggers_removed: tuple[CatalogueTrigger, ...] = ()
    triggers_changed: tuple[FieldChange, ...] = ()
    """By the names of the schedules and sensors, with what defines them as text."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        return self == JobChange(self.before, self.after)


@dataclass(frozen=True)
class Breaking:
    """Something that those downstream of an asset can't do without."""

    asset: CatalogueAsset
    """As it was before."""
    column: str | None
    reason: str
    is_removal: bool = False
    """The asset or the column is gone."""


@dataclass(frozen=True)
class Difference:
    """Everything that differs, by the order of urns."""

    assets_added: tuple[CatalogueAsset, ...] = ()
    assets_removed: tuple[CatalogueAsset, ...] = ()
    assets_changed: tuple[AssetChange, ...] = ()
    jobs_added: tuple[CatalogueJob, ...] = ()
    jobs_removed: tuple[CatalogueJob, ...] = ()
    jobs_changed: tuple[JobChange, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return self == Difference()

    @property
    def breaking(self) -> tuple[Breaking, ...]:
        """Removed assets and columns, columns of another type, and assets in another table."""
        removed = (
            Breaking(asset, None, "asset removed", is_removal=True) for asset in self.assets_removed
        )
        changed = (item for change in self.assets_changed for item in _breaking(change))
        return (*removed, *changed)


def difference(base: Catalogue, head: Catalogue) -> Difference:
    """What `head` has added to `base`, removed from it and changed.

    If one of them is what DataHub holds, only that is compared which DataHub can know, and jobs
    are not: what runs have added to it differs from the definitions.
    """
    is_held = base.is_of_datahub or head.is_of_datahub
    compared = HELD_FIELDS if is_held else FIELDS
    assets = [
        _asset_change(base.assets[urn], head.assets[urn], compared, is_held=is_held)
        for urn in sorted(base.assets.keys() & head.assets.keys())
    ]
    jobs = [] if is_held else _job_changes(base.jobs, head.jobs)
    jobs_before, jobs_after = ({}, {}) if is_held else (base.jobs, head.jobs)
    return Difference(
        assets_added=_only_in(head.assets, base.assets),
        assets_removed=_only_in(base.assets, head.assets),
        assets_changed=tuple(change for change in assets if not change.is_empty),
        jobs_added=_only_in(jobs_after, jobs_before),
        jobs_removed=_only_in(jobs_before, jobs_after),
        jobs_changed=tuple(change for change in jobs if not change.is_empty),
    )


def is_same_type(one: str, other: str) -> bool:
    """Whether two types of a column differ in their spelling only, or one is not known."""
    if one == other or one_line(one) in UNKNOWN_TYPES or one_line(other) in UNKNOWN_TYPES:
        return True
    return _plain_type(one) == _plain_type(other)


def _breaking(change: AssetChange) -> Iterator[Breaking]:
    asset = change.before
    for field in change.fields:
        if field.name == "table" and field.before is not None:
            after = field.after or "no table that is known"
            yield Breaking(asset, None, f"its table was {field.before} and is {after}")
    for column in change.columns_removed:
        yield Breaking(asset, column.name, "column removed", is_removal=True)
    for changed in change.columns_changed:
        if changed.change.name == "type":
            types = f"{changed.change.before} to {changed.change.after}"
            yield Breaking(asset, changed.column, f"type changed from {types}")


def _asset_change(
    before: CatalogueAsset, after: CatalogueAsset, compared: Sequence[str], *, is_held: bool
) -> AssetChange:
    columns_before, columns_after = _columns(before), _columns(after)
    if before.columns is None or after.columns is None:
        columns_before = columns_after = {}
    upstream = [
        {urn for urn in asset.upstream if not is_held or urn.startswith(OF_DAGSTER)}
        for asset in (before, after)
    ]
    edges = [() if is_held else asset.column_lineage for asset in (before, after)]
    checks = [() if is_held else asset.checks for asset in (before, after)]
    return AssetChange(
        before,
        after,
        fields=(
            *_field_changes(before, after, compared),
            *(() if is_held else _declaring_columns(before, after)),
        ),
        columns_added=_only_in(columns_after, columns_before),
        columns_removed=_only_in(columns_before, columns_after),
        columns_changed=tuple(
            ColumnChange(name, change)
            for name in sorted(columns_before.keys() & columns_after.keys())
            for change in _column_changes(columns_before[name], columns_after[name])
        ),
        upstream_added=_minus(upstream[1], upstream[0]),
        upstream_removed=_minus(upstream[0], upstream[1]),
        column_edges_added=_minus(edges[1], edges[0]),
        column_edges_removed=_minus(edges[0], edges[1]),
        checks_added=_minus(checks[1], checks[0]),
        checks_removed=_minus(checks[0], checks[1]),
    )


def _field_changes(before: Any, after: Any, names: Iterable[str]) -> Iterator[FieldChange]:
    for name in names:
        one, other = _json(getattr(before, name)), _json(getattr(after, name))
        if one != other:
            yield FieldChange(name, one, other)


def _declaring_columns(before: CatalogueAsset, after: CatalogueAsset) -> Iterator[FieldChange]:
    """That columns are declared now, or not any more: the table itself may be as it was."""
    if (before.columns is None) != (after.columns is None):
        yield FieldChange("columns", _column_names(before), _column_names(after))


def _column_names(asset: CatalogueAsset) -> Json:
    return None if asset.columns is None else [column.name for column in asset.columns]


def _columns(asset: CatalogueAsset) -> dict[str, CatalogueColumn]:
    """By name; a column named twice counts once, as in delivery."""
    return {column.name: column for column in asset.columns or ()}


def _column_changes(before: CatalogueColumn, after: CatalogueColumn) -> Iterator[FieldChange]:
    if not is_same_type(before.type, after.type):
        yield FieldChange("type", before.type, after.type)
    yield from _field_changes(before, after, ("nullable", "description"))


def _job_changes(
    before: Mapping[str, CatalogueJob], after: Mapping[str, CatalogueJob]
) -> list[JobChange]:
    return [_job_change(before[urn], after[urn]) for urn in sorted(before.keys() & after.keys())]


def _job_change(before: CatalogueJob, after: CatalogueJob) -> JobChange:
    is_implicit = before.name.startswith(IMPLICIT_JOB)
    ops = [() if is_implicit else job.ops for job in (before, after)]
    old = {trigger.name: trigger for trigger in before.triggers}
    new = {trigger.name: trigger for trigger in after.triggers}
    return JobChange(
        before,
        after,
        fields=tuple(_field_changes(before, after, ("location", "description"))),
        ops_added=_minus(ops[1], ops[0]),
        ops_removed=_minus(ops[0], ops[1]),
        triggers_added=_only_in(new, old),
        triggers_removed=_only_in(old, new),
        triggers_changed=tuple(
            FieldChange(name, in_words(old[name]), in_words(new[name]))
            for name in sorted(old.keys() & new.keys())
            if old[name] != new[name]
        ),
    )


def in_words(trigger: CatalogueTrigger) -> str:
    """What defines a schedule or sensor beside its name."""
    words = [trigger.kind, *trigger.cron, trigger.timezone or ""]
    if trigger.interval_seconds is not None:
        words.append(f"every {trigger.interval_seconds:g} seconds")
    return " ".join(filter(None, words))


def _only_in(one: Mapping[str, T], other: Mapping[str, T]) -> tuple[T, ...]:
    return tuple(one[name] for name in sorted(one.keys() - other.keys()))


def _minus(one: Iterable[Any], other: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(set(one) - set(other)))


def _json(value: Any) -> Json:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _plain_type(native: str) -> tuple[str, str]:
    """The type in one spelling, and DataHub's type of it."""
    text = re.sub(r"\s*([,:<>()\[\]{}])\s*", r"\1", one_line(native).lower())
    name, _, rest = text.partition("(")
    arguments = f"({rest}" if rest else ""
    return f"{_SYNONYMS.get(name, name)}{arguments}", type(data_type(native).type).__name__


_SYNONYMS = {
    "integer": "int",
    "int4": "int",
    "boolean": "bool",
    "character varying": "varchar",
    "character": "char",
    "bpchar": "char",
    "numeric": "decimal",
    "dec": "decimal",
    "double precision": "double",
    "float8": "double",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
}
"""Names that mean the same in every engine that has both."""
