"""Values as JSON without what is as by default, and back, whatever version wrote them."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from datahub_eventlog.values import CheckKey, Json, Metadatum

T = TypeVar("T")


def to_json(value: Any) -> Json:
    """Make JSON of a value: of a dataclass the fields that differ from their defaults.

    Check keys and metadata, which are many, are lists of their fields.
    """
    if isinstance(value, Metadatum):
        return [value.kind, value.value]
    if isinstance(value, CheckKey):
        return [value.asset_key, value.name]
    if dataclasses.is_dataclass(value):
        cls: Any = type(value)
        defaults = _defaults(cls)
        return {
            name: to_json(content)
            for name, content in vars(value).items()
            if name not in defaults or content != defaults[name]
        }
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    return value


def from_json(cls: type[T], content: Json) -> T:
    """Make a value of the class from those fields that this version knows."""
    hint: Any = cls
    value: T = _reader(hint)(content)
    return value


@cache
def _defaults(cls: Any) -> Mapping[str, Any]:
    fields = dataclasses.fields(cls)
    plain = {field.name: field.default for field in fields}
    made = {
        field.name: field.default_factory()
        for field in fields
        if field.default_factory is not dataclasses.MISSING
    }
    return {
        name: default
        for name, default in (plain | made).items()
        if default is not dataclasses.MISSING
    }


@cache
def _reader(hint: Any) -> Callable[[Json], Any]:
    """The inverse of `to_json` for values of a type."""
    if hint in (Metadatum, CheckKey):
        first, second = (_reader(field) for field in get_type_hints(hint).values())
        return lambda content: hint(first(content[0]), second(content[1]))
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda content: tuple(map(item, content))
    if origin is Mapping:
        item = _reader(arguments[1])
        return lambda content: {name: item(each) for name, each in content.items()}
    if origin in (Union, types.UnionType):
        item = _reader(arguments[0])
        return lambda content: None if content is None else item(content)
    return _as_is


def _dataclass_reader(cls: Any) -> Callable[[Json], Any]:
    readers = {name: _reader(hint) for name, hint in get_type_hints(cls).items()}
    return lambda content: cls(
        **{name: readers[name](content[name]) for name in readers.keys() & content.keys()}
    )


def _as_is(content: Json) -> Any:
    return content
