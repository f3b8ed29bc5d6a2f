"""Checks aspects as DataHub's server does, from the schemas that acryl-datahub ships.

Each Avro schema becomes a tree of closures that take the JSON form which GMS takes: an optional
field is absent or null, a union of several types is `{type: value}`, names start with
`com.linkedin.`. Fields marked as urns must be canonical urns of a type that may stand there.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from datahub.metadata.urns import Urn

Check: TypeAlias = Callable[[Any, str], None]
"""Takes a value and where it stands; raises `Flaw`."""

LONGEST_URN = 512
"""Bytes, once it is URL-encoded."""
SEPARATOR = "\u241f"


class Flaw(Exception):
    """A value that DataHub would refuse."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"ERROR :: {where} :: {why}")


@dataclass(frozen=True)
class Aspect:
    """An aspect by its name."""

    name: str
    java_name: str
    is_timeseries: bool
    schema: Mapping[str, Any] = field(repr=False)

    def check(self, value: Any) -> None:
        _aspect_check(self.name)(value, "")


def _folder() -> Path:
    package = importlib.util.find_spec("datahub")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the receiver needs acryl-datahub")
    return Path(next(iter(package.submodule_search_locations))) / "metadata" / "schemas"


@functools.cache
def _schemas() -> Mapping[str, Mapping[str, Any]]:
    read = (json.loads(path.read_text()) for path in sorted(_folder().glob("*.avsc")))
    return {
        schema["Aspect"]["name"]: schema
        for schema in read
        if isinstance(schema, dict) and "Aspect" in schema
    }


@functools.cache
def aspects() -> Mapping[str, Aspect]:
    return {
        name: Aspect(
            name,
            _restli_name(f"{schema['namespace']}.{schema['name']}"),
            schema["Aspect"].get("type") == "timeseries",
            schema,
        )
        for name, schema in _schemas().items()
    }


def with_defaults(name: str, value: Any) -> Any:
    """The aspect as GMS reads it back: fields that were not sent have their defaults."""
    fields = _schemas()[name]["fields"]
    defaults = {each["name"]: each["default"] for each in fields if each.get("default") is not None}
    return {**defaults, **value}


@functools.cache
def entities() -> Mapping[str, frozenset[str]]:
    """The names of the aspects that each type of entity has."""
    return {
        key["Aspect"]["keyForEntity"]: frozenset(key["Aspect"].get("entityAspects", ())) | {name}
        for name, key in _schemas().items()
        if "keyForEntity" in key["Aspect"]
    }


@functools.cache
def _key_fields() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    keys = (each for each in _schemas().values() if "keyForEntity" in each["Aspect"])
    return {key["Aspect"]["keyForEntity"]: key["fields"] for key in keys}


@functools.cache
def _aspect_check(name: str) -> Check:
    return _Compiler().compile(_schemas()[name], "")


@functools.cache
def proposal_check() -> Check:
    """Checks a whole MetadataChangeProposal, but not what its aspect holds."""
    schema = json.loads((_folder() / "MetadataChangeProposal.avsc").read_text())
    return _Compiler().compile(schema, "")


# --------------------------------------------------------------------------------------------- urns


def check_urn(urn: Any, where: str, types: Sequence[str] = ()) -> str:
    """The type of the urn's entity; `types` names those that may stand here."""
    kind, why = _examined(urn) if isinstance(urn, str) else ("", "it is not a string")
    if not why and types and kind not in types:
        why = f"entity type {kind} may not stand here, only {', '.join(types)}"
    if why:
        raise Flaw(where, f'"Provided urn {urn}" is invalid: {why}')
    return kind


@functools.lru_cache(maxsize=100_000)
def _examined(urn: str) -> tuple[str, str]:
    """The type, and what is wrong with the urn if anything is."""
    if urn != urn.strip() or SEPARATOR in urn:
        return "", "it has white space around it, or the reserved separator in it"
    try:
        parsed = Urn.from_string(urn)
    except Exception as error:  # noqa: BLE001 - its subclasses raise what they like
        return "", str(error)
    if str(parsed) != urn:
        return "", f"its canonical form is {parsed}"
    if parsed.entity_type != "schemaField" and len(urllib.parse.quote_plus(urn)) > LONGEST_URN:
        return "", f"it is longer than {LONGEST_URN} bytes"
    return parsed.entity_type, _key_flaw(parsed.entity_type, parsed.entity_ids)


def _key_flaw(kind: str, parts: Sequence[str]) -> str:
    fields = _key_fields().get(kind)
    if fields is None:
        return f"there is no entity type {kind}"
    if len(fields) == 1:
        return ""
    if len(fields) != len(parts):
        return f"it has {len(parts)} parts and not {len(fields)}"
    for each, part in zip(fields, parts, strict=True):
        kinds = each["type"] if isinstance(each["type"], list) else [each["type"]]
        for symbols in (one["symbols"] for one in kinds if isinstance(one, dict)):
            if part not in symbols:
                return f"{part} is no {each['name']}"
    return ""


def _urn_checks(schema: Mapping[str, Any]) -> Iterator[Check]:
    """What a field's annotations demand beyond its type."""
    allowed = (schema.get("UrnValidation") or {}).get("entityTypes", ())
    if "Urn" in schema:
        yield _at(["*"] if schema.get("urn_is_array") else [], allowed)
    for path, relation in (schema.get("Relationship") or {}).items():
        if path == "entityTypes":
            yield _at([], relation)
        elif path.startswith("/") and relation.get("entityTypes"):
            yield _at(path[1:].split("/"), relation["entityTypes"])


def _at(path: Sequence[str], types: Sequence[str]) -> Check:
    """Checks the urns at a path in the value, in which `*` stands for every item."""

    def check(value: Any, where: str) -> None:
        for urn, place in _walk(value, path, where):
            check_urn(urn, place, types)

    return check


def _walk(value: Any, path: Sequence[str], where: str) -> Iterator[tuple[str, str]]:
    if not path:
        if isinstance(value, str):
            yield value, where
    elif path[0] == "*" and isinstance(value, list | dict):
        items = enumerate(value) if isinstance(value, list) else value.items()
        for name, each in items:
            yield from _walk(each, path[1:], f"{where}/{name}")
    elif isinstance(value, dict) and path[0] in value:
        yield from _walk(value[path[0]], path[1:], f"{where}/{path[0]}")


# ------------------------------------------------------------------------------------------ schemas


def _restli_name(name: str) -> str:
    return name.replace("com.linkedin.pegasus2avro.", "com.linkedin.", 1)


def _must(fits: Callable[[Any], bool], kind: str) -> Check:
    def check(value: Any, where: str) -> None:
        if not fits(value):
            raise Flaw(where, f"{json.dumps(value, default=str)[:80]} is not {kind}")

    return check


def _integer(bits: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


PRIMITIVES: Mapping[str, Check] = {
    "null": _must(lambda value: value is None, "null"),
    "boolean": _must(lambda value: type(value) is bool, "a boolean"),
    "int": _must(_integer(32), "an int"),
    "long": _must(_integer(64), "a long"),
    "float": _must(_number, "a number"),
    "double": _must(_number, "a number"),
    "string": _must(lambda value: type(value) is str, "a string"),
    "bytes": _must(lambda value: type(value) is str, "bytes"),
}


class _Compiler:
    """Makes the check of one schema; names are known from where they are first defined."""

    def __init__(self) -> None:
        self._named: dict[str, Check] = {}

    def compile(self, schema: Any, namespace: str) -> Check:
        if isinstance(schema, str):
            return PRIMITIVES.get(schema) or self._reference(self._full(schema, namespace))
        if isinstance(schema, list):
            return self._union(schema, namespace)
        make = {
            "record": self._record,
            "enum": self._enum,
            "array": self._array,
            "map": self._map,
        }.get(schema["type"])
        return make(schema, namespace) if make else self.compile(schema["type"], namespace)

    def _full(self, name: str, namespace: str) -> str:
        return name if "." in name or not namespace else f"{namespace}.{name}"

    def _reference(self, name: str) -> Check:
        def check(value: Any, where: str) -> None:
            # Looked up only now: a record may hold itself.
            self._named[name](value, where)

        return check

    def _enum(self, schema: Mapping[str, Any], namespace: str) -> Check:
        symbols = frozenset(schema["symbols"])
        fits = lambda value: type(value) is str and value in symbols  # noqa: E731
        check = _must(fits, f"one of {', '.join(schema['symbols'])}")
        self._named[self._full(schema["name"], schema.get("namespace", namespace))] = check
        return check

    def _array(self, schema: Mapping[str, Any], namespace: str) -> Check:
        item = self.compile(schema["items"], namespace)
        is_list = _must(lambda value: type(value) is list, "an array")

        def check(value: Any, where: str) -> None:
            is_list(value, where)
            for index, each in enumerate(value):
                item(each, f"{where}/{index}")

        return check

    def _map(self, schema: Mapping[str, Any], namespace: str) -> Check:
        item = self.compile(schema["values"], namespace)
        is_dict = _must(lambda value: type(value) is dict, "a map")

        def check(value: Any, where: str) -> None:
            is_dict(value, where)
            for name, each in value.items():
                item(each, f"{where}/{name}")

        return check

    def _union(self, schema: list[Any], namespace: str) -> Check:
        members = [each for each in schema if each != "null"]
        checks = {self._tag(each, namespace): self.compile(each, namespace) for each in members}
        if len(members) == 1 and len(schema) > 1:
            return _optional(next(iter(checks.values())))
        tagged = _tagged(checks)
        return _optional(tagged) if "null" in schema else tagged

    def _tag(self, schema: Any, namespace: str) -> str:
        if isinstance(schema, str):
            return schema if schema in PRIMITIVES else _restli_name(self._full(schema, namespace))
        if "name" not in schema:
            return str(schema["type"])
        return _restli_name(self._full(schema["name"], schema.get("namespace", namespace)))

    def _record(self, schema: Mapping[str, Any], namespace: str) -> Check:
        inner = schema.get("namespace", namespace)
        name = self._full(schema["name"], inner)
        self._named[name] = self._reference(name)
        fields = {each["name"]: self._field(each, inner) for each in schema["fields"]}
        if "fieldDiscriminator" in fields:
            # A union with named members, which the Avro schema shows as a record.
            del fields["fieldDiscriminator"]
            check = _tagged(fields)
        else:
            required = [each["name"] for each in schema["fields"] if not _has_default(each)]
            check = _record(fields, required)
        self._named[name] = check
        return check

    def _field(self, schema: Mapping[str, Any], namespace: str) -> Check:
        checks = [self.compile(schema["type"], namespace), *_urn_checks(schema)]
        if _has_default(schema):
            return _optional(_all(checks))
        return _all(checks)


def _has_default(schema: Mapping[str, Any]) -> bool:
    return "default" in schema or (isinstance(schema["type"], list) and "null" in schema["type"])


def _all(checks: Sequence[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def check(value: Any, where: str) -> None:
        for each in checks:
            each(value, where)

    return check


def _optional(inner: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def _tagged(members: Mapping[str, Check]) -> Check:
    fits = lambda value: type(value) is dict and len(value) == 1 and next(iter(value)) in members  # noqa: E731
    has_tag = _must(fits, f"a union: one key of {', '.join(members)}")

    def check(value: Any, where: str) -> None:
        has_tag(value, where)
        for name, each in value.items():
            members[name](each, f"{where}/{name}")

    return check


def _record(fields: Mapping[str, Check], required: Sequence[str]) -> Check:
    is_dict = _must(lambda value: type(value) is dict, "a record")

    def check(value: Any, where: str) -> None:
        is_dict(value, where)
        for name, each in value.items():
            if name not in fields:
                raise Flaw(f"{where}/{name}", "unrecognized field found but not allowed")
            fields[name](each, f"{where}/{name}")
        for name in required:
            if name not in value:
                raise Flaw(f"{where}/{name}", "field is required but not found and has no default")

    return check
