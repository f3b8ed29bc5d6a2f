"""What stands downstream of what was removed, with its owners, as DataHub knows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from datahub.metadata.urns import DataPlatformUrn, SchemaFieldUrn, Urn

from datahub_eventlog import error_text
from datahub_eventlog.catalog.difference import Breaking, Difference
from datahub_eventlog.translate.urns import entity_type

if TYPE_CHECKING:
    from datahub.ingestion.graph.client import DataHubGraph

MAX_DEPENDENTS = 20
"""Of one removed asset or column that are named; the others are counted."""
MAX_ASKED = 100
"""Removed assets and columns that DataHub is asked about."""
BATCH = 100
"""Entities whose owners are asked for at once."""
TYPES = ("DATASET", "DATA_JOB", "CHART", "DASHBOARD", "MLMODEL")
LINEAGE = """
query downstream($input: SearchAcrossLineageInput!) {
  searchAcrossLineage(input: $input) { total searchResults { entity { urn } } }
}
"""
NAMES: Mapping[str, tuple[str, str]] = {
    "dataset": ("datasetProperties", "name"),
    "dataJob": ("dataJobInfo", "name"),
    "chart": ("chartInfo", "title"),
    "dashboard": ("dashboardInfo", "title"),
    "mlModel": ("mlModelProperties", "name"),
}
"""The aspect and field with the name that people read, by the type of the entity."""


@dataclass(frozen=True)
class Dependent:
    """An entity that stands downstream, at any distance."""

    urn: str
    name: str
    platform: str
    owners: tuple[str, ...] = ()
    """The urns of users and groups."""


@dataclass(frozen=True)
class Impact:
    """What stands downstream of an asset or column that is removed, and of its table."""

    asset: str
    """The urn."""
    column: str | None
    dependents: tuple[Dependent, ...]
    more: int = 0
    """How many there are beside those."""


@dataclass(frozen=True)
class Impacts:
    """What DataHub says; `trouble` is why it does not say everything."""

    items: tuple[Impact, ...] = ()
    trouble: str | None = None


def impacts_of(difference: Difference, graph: DataHubGraph) -> Impacts:
    """What stands downstream of each removed asset and column.

    What is removed itself is left out. Never raises: `trouble` says what could not be asked.
    """
    removed = [item for item in difference.breaking if item.is_removal]
    gone = {urn for asset in difference.assets_removed for urn in (asset.urn, asset.table) if urn}
    items: list[Impact] = []
    try:
        items.extend(_impact(item, gone, graph) for item in removed[:MAX_ASKED])
        items = _named(items, graph)
    except Exception as error:  # noqa: BLE001 - the difference is worth having without it
        reason = error_text.describe(error)
        return Impacts(tuple(items), f"DataHub could not be asked: {reason}")
    left_out = len(removed) - MAX_ASKED
    trouble = f"{left_out} more removed assets and columns were not asked about"
    return Impacts(tuple(items), trouble if left_out > 0 else None)


def _impact(removed: Breaking, gone: set[str], graph: DataHubGraph) -> Impact:
    asset = removed.asset
    seeds = [urn for urn in (asset.urn, asset.table) if urn]
    known: dict[str, None] = {}
    more = 0
    for seed in seeds:
        of = seed if removed.column is None else SchemaFieldUrn(seed, removed.column).urn()
        urns, total = _downstream(of, graph)
        more = max(more, total - len(urns))
        known |= dict.fromkeys(map(_owning_dataset, urns))
    dependents = [urn for urn in sorted(known) if urn not in gone and urn not in seeds]
    return Impact(
        asset.urn,
        removed.column,
        tuple(Dependent(urn, "", "") for urn in dependents[:MAX_DEPENDENTS]),
        more + max(0, len(dependents) - MAX_DEPENDENTS),
    )


def _downstream(urn: str, graph: DataHubGraph) -> tuple[list[str], int]:
    """Some of the entities downstream of a dataset or column, and their number."""
    asked = {
        "urn": urn,
        "direction": "DOWNSTREAM",
        "types": list(TYPES),
        "query": "*",
        "start": 0,
        "count": 2 * MAX_DEPENDENTS,
    }
    answer = graph.execute_graphql(LINEAGE, variables={"input": asked})["searchAcrossLineage"]
    urns = [result["entity"]["urn"] for result in answer["searchResults"]]
    return urns, max(len(urns), int(answer.get("total") or 0))


def _owning_dataset(urn: str) -> str:
    """Of a column, its dataset; of anything else, itself."""
    return SchemaFieldUrn.from_string(urn).parent if entity_type(urn) == "schemaField" else urn


def _named(items: Iterable[Impact], graph: DataHubGraph) -> list[Impact]:
    """The same with names, platforms and owners."""
    items = list(items)
    urns = sorted({dependent.urn for item in items for dependent in item.dependents})
    dependents = dict(_described(urns, graph))
    return [
        replace(item, dependents=tuple(dependents[one.urn] for one in item.dependents))
        for item in items
    ]


def _described(urns: Sequence[str], graph: DataHubGraph) -> Iterator[tuple[str, Dependent]]:
    by_type: dict[str, list[str]] = {}
    for urn in urns:
        by_type.setdefault(entity_type(urn), []).append(urn)
    for kind, its_urns in by_type.items():
        aspect, field = NAMES.get(kind, ("", ""))
        for batch in batches(its_urns, BATCH):
            aspects = ["ownership", *([aspect] if aspect else [])]
            answer = graph.get_entities(kind, batch, aspects)
            for urn in batch:
                entity = answer.get(urn, {})
                name = getattr(_value(entity, aspect), field, None)
                owners = getattr(_value(entity, "ownership"), "owners", ())
                platform, plain = _parts(urn)
                yield (
                    urn,
                    Dependent(urn, name or plain, platform, tuple(own.owner for own in owners)),
                )


def _value(entity: Mapping[str, Any], aspect: str) -> Any:
    return entity[aspect][0] if aspect in entity else None


def _parts(urn: str) -> tuple[str, str]:
    """The platform and the name that an urn has in it."""
    first, *others = Urn.from_string(urn).entity_ids
    if first.startswith("urn:li:dataPlatform:"):
        first = DataPlatformUrn.from_string(first).platform_name
    elif first.startswith("urn:li:dataFlow:"):
        first = Urn.from_string(first).entity_ids[0]
    return first, others[0] if others else first


def batches(urns: Sequence[str], size: int) -> Iterator[list[str]]:
    """The urns in lists of that size at most."""
    rest = iter(urns)
    while batch := list(islice(rest, size)):
        yield batch
