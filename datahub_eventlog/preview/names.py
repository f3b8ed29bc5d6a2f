"""The names for people of the entities that urns stand for."""

from __future__ import annotations

from typing import Literal, TypeAlias
from urllib.parse import unquote

Kind: TypeAlias = Literal["job", "op", "asset", "dataset", "check"]

_KINDS: dict[str, Kind] = {"dataFlow": "job", "dataJob": "op", "assertion": "check"}


def kind_of(urn: str) -> Kind:
    """What the entity is in the picture; a dataset, unless it is a part of Dagster."""
    kind = _KINDS.get(entity_type(urn))
    if kind is None:
        return "asset" if platform_of(urn) == "dagster" else "dataset"
    return kind


def entity_type(urn: str) -> str:
    """The type of the entity, such as `dataset`."""
    return urn.removeprefix("urn:li:").partition(":")[0]


def platform_of(urn: str) -> str:
    """A dataset's platform, such as `snowflake`; of anything else, its type."""
    if entity_type(urn) != "dataset":
        return entity_type(urn)
    return _inside(urn).partition(",")[0].rpartition(":")[2]


def environment_of(urn: str) -> str:
    """A dataset's environment, such as `PROD`."""
    return _inside(urn).rpartition(",")[2]


def name_of(urn: str) -> str:
    """The name in the urn: of a dataset the whole one, of a job or op without its module."""
    inside = _inside(urn)
    kind = entity_type(urn)
    if kind == "dataset":
        return unquote(inside.partition(",")[2].rpartition(",")[0])
    if kind == "dataFlow":
        inside = inside.partition(",")[2].rpartition(",")[0]
    elif kind == "dataJob":
        inside = inside.rpartition("),")[2]
    elif kind == "schemaField":
        return unquote(inside.rpartition("),")[2])
    return unquote(inside.rpartition("/")[2] if kind in _KINDS else inside)


def dataset_of(field_urn: str) -> str:
    """The dataset that a column belongs to."""
    return f"{_inside(field_urn).rpartition('),')[0]})"


def flow_of(job_urn: str) -> str:
    """The dataFlow that a dataJob belongs to."""
    return f"{_inside(job_urn).rpartition('),')[0]})"


def _inside(urn: str) -> str:
    """What stands after the type, without the parentheses around it."""
    key = urn.removeprefix("urn:li:").partition(":")[2]
    return key[1:-1] if key.startswith("(") and key.endswith(")") else key
