"""What a check asserts, in DataHub's words: columns, operator, parameters and the like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datahub.metadata import schema_classes
from datahub.metadata.schema_classes import (
    AssertionStdParameterClass,
    AssertionStdParametersClass,
    AssertionStdParameterTypeClass,
    CustomAssertionInfoClass,
)
from datahub.metadata.urns import SchemaFieldUrn

from datahub_eventlog.values import Json

NUMBER = AssertionStdParameterTypeClass.NUMBER
NATIVE = "_NATIVE_"
"""The operator or aggregation is one of the platform's own."""
SET = AssertionStdParameterTypeClass.SET

_FIELDS = frozenset(field.name for field in CustomAssertionInfoClass.RECORD_SCHEMA.fields)
"""What the installed client can say; that of 1.1 has `field` and `logic` only."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of the operator."""

    value: str
    type: str


@dataclass(frozen=True)
class Shape:
    """What a check asserts, as far as it is known."""

    native_type: str
    column: str | None = None
    scope: str | None = None
    aggregation: str | None = None
    operator: str | None = None
    parameters: Mapping[str, Parameter] | None = None
    """By their place: `value`, `minValue`, `maxValue`."""
    native_parameters: Mapping[str, str] | None = None
    logic: str | None = None


def custom_assertion(kind: str, entity: str, shape: Shape) -> CustomAssertionInfoClass:
    """The assertion on a dataset, as far as the installed client can say it."""
    column = SchemaFieldUrn(entity, shape.column).urn() if shape.column else None
    parameters = {
        place: AssertionStdParameterClass(value=parameter.value, type=parameter.type)
        for place, parameter in (shape.parameters or {}).items()
    }
    fields: dict[str, Any] = {
        "field": column,
        "fields": [column] if column else None,
        "scope": shape.scope,
        "aggregation": shape.aggregation,
        "operator": shape.operator,
        "parameters": AssertionStdParametersClass(**parameters) if parameters else None,
        "nativeType": shape.native_type,
        "nativeParameters": shape.native_parameters,
        "logic": shape.logic,
    }
    sayable = {name: value for name, value in fields.items() if name in _FIELDS}
    return CustomAssertionInfoClass(type=kind, entity=entity, **sayable)


def unsayable(shape: Shape) -> dict[str, str]:
    """What the installed client can't say in fields of its own, as properties."""
    parameters = {place: parameter.value for place, parameter in (shape.parameters or {}).items()}
    texts = {
        "scope": shape.scope,
        "aggregation": shape.aggregation,
        "operator": shape.operator,
        "parameters": _json_or_none(parameters),
        "nativeType": shape.native_type,
        "nativeParameters": _json_or_none(shape.native_parameters),
    }
    return {name: text for name, text in texts.items() if text and name not in _FIELDS}


def _json_or_none(texts: Json) -> str | None:
    return json.dumps(dict(texts), sort_keys=True, ensure_ascii=False) if texts else None


def failure_severity(severity: str) -> dict[str, Any]:
    """DataHub's word for how bad a failure is; none in versions of the client that lack it."""
    if not hasattr(schema_classes, "AssertionResultSeverityClass"):
        return {}
    known = schema_classes.AssertionResultSeverityClass
    return {"severity": known.LOW if severity == "WARN" else known.HIGH}
