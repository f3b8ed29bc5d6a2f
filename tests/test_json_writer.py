"""One pass over DataHub's objects writes what the client's own three write."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest
from datahub.emitter.serialization_helper import pre_json_transform
from datahub.metadata import schema_classes
from datahub.metadata.schema_classes import (
    ASPECT_NAME_MAP,
    DataJobInfoClass,
    DatasetProfileClass,
    DatasetPropertiesClass,
    OperationClass,
    OwnerClass,
    OwnershipClass,
    StatusClass,
)

from datahub_eventlog.translate import json_writer as module
from datahub_eventlog.translate.json_writer import Schema, to_json

CLASSES = {
    each.RECORD_SCHEMA.fullname: each
    for each in vars(schema_classes).values()
    if hasattr(each, "RECORD_SCHEMA")
}
DEPTH = 6
"""Records within records; some go on for ever."""


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def by_client(value: Any) -> str:
    return text(pre_json_transform(value.to_obj()))


def by_us(value: Any) -> str:
    return text(to_json(value))


def outcome(written: Callable[[Any], str], value: Any) -> str | type[Exception]:
    """The text, or what is raised instead of it."""
    try:
        return written(value)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return type(error)


class Making:
    """Makes any value of a schema, with a part of the optional ones left out."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._kinds: Mapping[str, Callable[[Schema, int], Any]] = {
            "record": self._record,
            "union": self._union,
            "array": lambda schema, depth: [self.of(schema.items, depth) for _ in self._some()],
            "map": lambda schema, depth: {
                f"key {each}": self.of(schema.values, depth) for each in self._some()
            },
            "enum": lambda schema, _: self._random.choice(schema.symbols),
            "string": lambda *_: self._random.choice(["", "a", 'quoted "ü"', "com.linkedin.x"]),
            "int": lambda *_: self._random.choice([0, -1, 2**31 - 1]),
            "long": lambda *_: self._random.choice([0, 1_700_000_000_000, -(2**63)]),
            "float": lambda *_: self._random.choice([0.0, 1.5, 7]),
            "double": lambda *_: self._random.choice([0.0, -2.5e300, 7]),
            "boolean": lambda *_: self._random.random() < 0.5,
            "bytes": lambda *_: b"bytes",
            "null": lambda *_: None,
        }

    def of(self, schema: Schema, depth: int = 0) -> Any:
        return self._kinds[schema.type](schema, depth)

    def _some(self) -> range:
        return range(self._random.randrange(3))

    def _union(self, schema: Schema, depth: int) -> Any:
        kinds = schema.schemas
        if depth >= DEPTH or self._random.random() < 0.3:
            kinds = [kind for kind in kinds if kind.type == "null"] or kinds
        return self.of(self._random.choice(kinds), depth)

    def _record(self, schema: Schema, depth: int) -> Any:
        fields = {field.name: self.of(field.type, depth + 1) for field in schema.fields}
        return CLASSES[schema.fullname]._construct(fields)


@pytest.mark.parametrize("name", sorted(ASPECT_NAME_MAP))
def test_an_aspect_is_written_as_the_client_writes_it(name: str) -> None:
    schema = ASPECT_NAME_MAP[name].RECORD_SCHEMA
    for seed in range(5):
        made = Making(seed).of(schema)
        assert outcome(by_us, made) == outcome(by_client, made)


@pytest.mark.parametrize(
    "aspect",
    [
        StatusClass(removed=False),
        DatasetPropertiesClass(name="n", customProperties={"a": "b"}, tags=["x"]),
        OperationClass(timestampMillis=1, operationType="INSERT", lastUpdatedTimestamp=2),
        DatasetProfileClass(timestampMillis=1, rowCount=3),
        DataJobInfoClass(name="n", type="COMMAND", customProperties={}),
        DataJobInfoClass(name="n", type="Dagster Op", customProperties={}),
        OwnershipClass(owners=[OwnerClass(owner="urn:li:corpuser:a", type="DATAOWNER")]),
    ],
)
def test_what_runs_become_needs_no_second_pass(aspect: Any) -> None:
    assert text(module._writer(type(aspect).RECORD_SCHEMA)(aspect)) == by_client(aspect)


@pytest.mark.parametrize(
    "properties",
    [
        {"com.linkedin.pegasus2avro.common.Status": "a"},
        {"fieldDiscriminator": "a", "a": "b"},
        {"none": None},
    ],
)
def test_keys_that_mean_something_to_the_client_are_left_to_it(properties: Any) -> None:
    made = DatasetPropertiesClass(customProperties=properties)
    assert outcome(by_us, made) == outcome(by_client, made)


def wrong() -> list[Any]:
    return [
        StatusClass(removed="no"),  # type: ignore[arg-type]
        DatasetPropertiesClass(customProperties={"a": 1}),  # type: ignore[dict-item]
        DatasetPropertiesClass(name=3),  # type: ignore[arg-type]
        OperationClass(timestampMillis=2**63, operationType="INSERT", lastUpdatedTimestamp=2),
        OperationClass(timestampMillis=1, operationType="UNHEARD", lastUpdatedTimestamp=2),
        OwnershipClass(owners=[StatusClass(removed=False)]),  # type: ignore[list-item]
        OwnershipClass(owners=(OwnerClass(owner="a", type="DATAOWNER"),)),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("aspect", wrong(), ids=lambda each: type(each).__name__)
def test_what_fits_no_schema_is_refused_as_the_client_does_it(aspect: Any) -> None:
    expected = outcome(by_client, aspect)
    assert isinstance(expected, type), "the client writes it"
    assert outcome(by_us, aspect) == expected
