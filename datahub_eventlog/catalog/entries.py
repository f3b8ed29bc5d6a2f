"""A difference as entries with details, from which its text and its Markdown are made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from datahub_eventlog.catalog.difference import AssetChange, Difference, FieldChange, in_words
from datahub_eventlog.catalog.document import CatalogueTrigger, ColumnEdge
from datahub_eventlog.catalog.impact import Dependent, Impact, Impacts
from datahub_eventlog.redact import DEFAULT
from datahub_eventlog.values import Json

Mark: TypeAlias = Literal["+", "-", "~"]


@dataclass(frozen=True)
class Detail:
    """One change: `what` is our own text, all else comes from the code or from DataHub."""

    mark: Mark
    what: str
    subject: str = ""
    values: tuple[str, ...] = ()
    """What it was before and what it is now, or nothing."""
    is_breaking: bool = False


@dataclass(frozen=True)
class Entry:
    """An asset or a job with what happened to it."""

    mark: Mark
    kind: Literal["asset", "job"]
    name: str
    details: tuple[Detail, ...] = ()
    impacts: tuple[Impact, ...] = ()
    is_removal_of_asset: bool = False

    @property
    def is_breaking(self) -> bool:
        """Whether those downstream of it have to act."""
        return self.is_removal_of_asset or any(detail.is_breaking for detail in self.details)


def entries(difference: Difference, impacts: Impacts) -> list[Entry]:
    """All entries: what is removed first, then what has changed, then what is new."""
    by_urn: dict[str, list[Impact]] = {}
    for impact in impacts.items:
        by_urn.setdefault(impact.asset, []).append(impact)
    removed = [
        Entry(
            "-",
            "asset",
            shown(asset.name),
            (),
            tuple(by_urn.get(asset.urn, ())),
            is_removal_of_asset=True,
        )
        for asset in difference.assets_removed
    ]
    changed = [
        Entry(
            "~",
            "asset",
            shown(change.after.name),
            tuple(_asset_details(change)),
            tuple(by_urn.get(change.before.urn, ())),
        )
        for change in difference.assets_changed
    ]
    added = [Entry("+", "asset", shown(asset.name)) for asset in difference.assets_added]
    return [*removed, *changed, *added, *_jobs(difference)]


def headline(difference: Difference) -> str:
    """The numbers in one line."""
    counts = (
        (len(difference.assets_removed), "asset", "removed"),
        (len(difference.assets_changed), "asset", "changed"),
        (len(difference.assets_added), "asset", "added"),
        (len(difference.jobs_removed), "job", "removed"),
        (len(difference.jobs_changed), "job", "changed"),
        (len(difference.jobs_added), "job", "added"),
    )
    texts = [f"{_number(count, noun)} {verb}" for count, noun, verb in counts if count]
    return ", ".join(texts) or "no difference"


def breaking_line(difference: Difference) -> str:
    """How many changes are breaking."""
    return _number(len(difference.breaking), "breaking change")


def dependent_text(dependent: Dependent) -> str:
    """A dependent in one line."""
    owners = ", ".join(
        owner.removeprefix("urn:li:").partition(":")[2] for owner in dependent.owners
    )
    owned = f"owned by {owners}" if owners else "without an owner"
    return shown(f"{dependent.platform} {dependent.name}, {owned}")


def shown(text: str) -> str:
    """A text of the code's or of DataHub's without secrets."""
    return DEFAULT.text(text)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _asset_details(change: AssetChange) -> Iterator[Detail]:
    for field in change.fields:
        is_breaking = field.name == "table" and field.before is not None
        yield _field(field, is_breaking=is_breaking)
    for column in change.columns_removed:
        yield Detail("-", "column", shown(column.name), is_breaking=True)
    for changed in change.columns_changed:
        name = changed.change.name
        values = (changed.change.before, changed.change.after)
        # A type's field names are no secrets.
        texts = tuple(map(str, values)) if name == "type" else tuple(map(_text, values))
        what = f"{name} of column"
        yield Detail("~", what, shown(changed.column), texts, is_breaking=name == "type")
    yield from (Detail("+", "column", shown(column.name)) for column in change.columns_added)
    yield from _names("-", "upstream", change.upstream_removed)
    yield from _names("+", "upstream", change.upstream_added)
    yield from _names("-", "column lineage", map(_edge_text, change.column_edges_removed))
    yield from _names("+", "column lineage", map(_edge_text, change.column_edges_added))
    yield from _names("-", "check", change.checks_removed)
    yield from _names("+", "check", change.checks_added)


def _jobs(difference: Difference) -> Iterator[Entry]:
    yield from (Entry("-", "job", shown(job.name)) for job in difference.jobs_removed)
    for change in difference.jobs_changed:
        details = (
            *map(_field, change.fields),
            *_names("-", "op", change.ops_removed),
            *_names("+", "op", change.ops_added),
            *_triggers("-", change.triggers_removed),
            *_triggers("+", change.triggers_added),
            *(
                Detail("~", "trigger", shown(field.name), (_text(field.before), _text(field.after)))
                for field in change.triggers_changed
            ),
        )
        yield Entry("~", "job", shown(change.after.name), details)
    yield from (Entry("+", "job", shown(job.name)) for job in difference.jobs_added)


def _edge_text(edge: ColumnEdge) -> str:
    return f"{edge.column} from {edge.upstream_column} of {edge.urn}"


def _field(field: FieldChange, *, is_breaking: bool = False) -> Detail:
    values = (_text(field.before), _text(field.after))
    return Detail("~", field.name.replace("_", " "), "", values, is_breaking)


def _names(mark: Mark, what: str, names: Iterable[str]) -> Iterator[Detail]:
    return (Detail(mark, what, shown(name)) for name in names)


def _triggers(mark: Mark, triggers: Iterable[CatalogueTrigger]) -> Iterator[Detail]:
    return (Detail(mark, "trigger", shown(f"{one.name}: {in_words(one)}")) for one in triggers)


def _text(value: Json) -> str:
    """A value of a field for people."""
    if value is None or value in ([], {}, ""):
        return "nothing"
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return shown(", ".join(map(str, value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown(json.dumps(value, ensure_ascii=False, sort_keys=True))
