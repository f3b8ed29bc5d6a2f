"""DataHub's objects as the JSON that GMS takes, written in one pass.

The client needs three passes: unions validate their values once more, defaults are built anew for
each field, and the names of types are changed in a copy. This module writes only what is plain:
values of exactly the types that the schema names. All else, and whatever is wrong, is left to the
client. Both give the same JSON, but for the order of its fields.

The form is that of avrogen's `AvroJsonConverter` and of the client's `pre_json_transform`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from datahub.emitter.serialization_helper import pre_json_transform

from datahub_eventlog.values import Json

CLIENTS, SERVERS = "com.linkedin.pegasus2avro.", "com.linkedin."
"""The prefixes of the names of types, in the client and on the server."""
DISCRIMINATOR = "fieldDiscriminator"
"""Marks a union whose members have names beside their types."""
BITS = {"int": 31, "long": 63}

Schema: TypeAlias = Any
"""One of Avro's schemas; their base class lacks the attributes of the kinds."""
Write: TypeAlias = Callable[[Any], Json]
"""Writes a value, or raises `_NotPlainError`."""


class _NotPlainError(Exception):
    """The value is left to the client."""


def to_json(value: Any) -> Json:
    """One of DataHub's objects as JSON; raises what the client raises if it fits no schema."""
    schema = getattr(type(value), "RECORD_SCHEMA", None)
    try:
        return _refused(value) if schema is None else _writer(schema)(value)
    except _NotPlainError:
        return pre_json_transform(value.to_obj())


class _Record:
    """Writes the objects of one class."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._class: type | None = None

    def __call__(self, value: Any) -> Json:
        if type(value) is not self._class:
            if _name(type(value)) != self._schema.fullname or DISCRIMINATOR in self._fields:
                raise _NotPlainError
            self._class = type(value)
        fields, items = self._fields, value.items()
        if len(items) != len(fields):
            raise _NotPlainError
        return {
            name: fields.get(name, _refused)(item)
            for name, item in items
            if item is not None or name not in self._optional
        }

    @cached_property
    def _fields(self) -> Mapping[str, Write]:
        # When first used, as records can be within themselves.
        return {field.name: _writer(field.type) for field in self._schema.fields}

    @cached_property
    def _optional(self) -> frozenset[str]:
        unions = [field for field in self._schema.fields if field.type.type == "union"]
        return frozenset(
            field.name
            for field in unions
            if any(kind.type == "null" for kind in field.type.schemas)
        )


def _name(kind: type) -> str | None:
    """The name of the schema that a class stands for."""
    schema: Schema = getattr(kind, "RECORD_SCHEMA", None)
    return None if schema is None else str(schema.fullname)


_records: dict[int, tuple[Schema, _Record]] = {}
"""By the id of the schema, which is kept so that the id stays its own."""


def _record(schema: Schema) -> Write:
    known = _records.get(id(schema))
    if known is None:
        known = _records[id(schema)] = (schema, _Record(schema))
    return known[1]


def _union(schema: Schema) -> Write:
    """One type beside null, or several, whose names distinguish them."""
    members = [member for member in schema.schemas if member.type != "null"]
    if len(members) == 1:
        return _writer(members[0])
    kinds = {member.type for member in members}
    if kinds == {"record"}:
        return _of_records(members)
    return _of_texts(members) if kinds == {"enum", "string"} else _refused


def _of_records(members: Iterable[Schema]) -> Write:
    writers = {member.fullname: _record(member) for member in members}

    def write(value: Any) -> Json:
        name = _name(type(value))
        if name is None or name not in writers:
            raise _NotPlainError
        return {name.replace(CLIENTS, SERVERS, 1): writers[name](value)}

    return write


def _of_texts(members: Sequence[Schema]) -> Write:
    """The client takes the last member that fits, and a string always fits."""
    if members[-1].type != "string":
        return _refused
    write = _writer(members[-1])
    return lambda value: {"string": write(value)}


def _array(schema: Schema) -> Write:
    if schema.items.type == "union":
        return _refused  # it is written in another way there
    writer = _writer(schema.items)

    def write(value: Any) -> Json:
        if type(value) is not list:
            raise _NotPlainError
        return [writer(item) for item in value]

    return write


def _map(schema: Schema) -> Write:
    writer = _writer(schema.values)

    def write(value: Any) -> Json:
        if type(value) is not dict or not _are_names(value):
            raise _NotPlainError
        return {name: writer(item) for name, item in value.items()}

    return write


def _are_names(keys: Iterable[Any]) -> bool:
    """Whether the client takes all of them for plain names."""
    return all(
        type(key) is str and key != DISCRIMINATOR and not key.startswith(CLIENTS) for key in keys
    )


def _enum(schema: Schema) -> Write:
    symbols = frozenset(schema.symbols)

    def write(value: Any) -> Json:
        if type(value) is not str or value not in symbols:
            raise _NotPlainError
        return value

    return write


def _integer(schema: Schema) -> Write:
    limit = 1 << BITS[schema.type]

    def write(value: Any) -> Json:
        if type(value) is not int or not -limit <= value < limit:
            raise _NotPlainError
        return value

    return write


def _of_type(kind: type) -> Callable[[Schema], Write]:
    def write(value: Any) -> Json:
        if type(value) is not kind:
            raise _NotPlainError
        return value

    return lambda _: write


def _refused(_: Any) -> Json:
    raise _NotPlainError


_WRITERS: Mapping[str, Callable[[Schema], Write]] = {
    "record": _record,
    "union": _union,
    "array": _array,
    "map": _map,
    "enum": _enum,
    "int": _integer,
    "long": _integer,
    "string": _of_type(str),
    "boolean": _of_type(bool),
    "float": _of_type(float),
    "double": _of_type(float),
}


def _writer(schema: Schema) -> Write:
    if schema.props.get("logicalType") or schema.type not in _WRITERS:
        return _refused
    return _WRITERS[schema.type](schema)
