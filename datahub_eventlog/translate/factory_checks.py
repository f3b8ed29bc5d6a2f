"""What checks assert that Dagster's own functions make, such as `build_metadata_bounds_checks`.

All else that Dagster knows of a check is its name and description.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from datahub.metadata.schema_classes import (
    AssertionStdAggregationClass,
    AssertionStdOperatorClass,
    DatasetAssertionScopeClass,
)

from datahub_eventlog.translate.assertion_shapes import NATIVE, NUMBER, Parameter, Shape
from datahub_eventlog.translate.properties import json_text
from datahub_eventlog.values import CheckFacts, Evaluation, Metadata

FRESHNESS = "dagster/freshness_params"
"""The metadata of a freshness check, and of its results."""
ROW_COUNT = "dagster/row_count"

_BOUNDS = re.compile(
    r"Checks that the latest materialization has metadata value `(?P<key>.+)`"
    r"(?= greater than | less than )"
    r"(?: greater than (?P<min_equal>or equal to )?(?P<min>\S+))?"
    r"(?: (?:and )?less than (?P<max_equal>or equal to )?(?P<max>\S+))?"
)
"""The description of a check of `build_metadata_bounds_checks`; it has no metadata."""
_BOUNDS_NAME = "_bounds_check"
_VALUE = re.compile(r"Value `(?P<value>[^`]+)` is (?:within range|(?:less|greater) than .+)")
"""The description of its results."""
_SCHEMA_CHANGE = "column_schema_change"
_SCHEMA_CHANGE_TEXT = "Checks whether there are changes to column schema between"


def dagster_shape(facts: CheckFacts) -> Shape:
    """What a check of Dagster asserts; of most no more is known than the name."""
    description = facts.description or ""
    if FRESHNESS in facts.metadata:
        return _freshness(facts)
    if is_bounds_check(facts.check.name) and (match := _BOUNDS.fullmatch(description)):
        return _bounds(match)
    if facts.check.name == _SCHEMA_CHANGE and description.startswith(_SCHEMA_CHANGE_TEXT):
        return Shape(
            "column_schema_change",
            scope=DatasetAssertionScopeClass.DATASET_SCHEMA,
            aggregation=AssertionStdAggregationClass.COLUMNS,
            operator=NATIVE,
        )
    return Shape(facts.check.name)


def is_bounds_check(name: str) -> bool:
    """Whether `build_metadata_bounds_checks` gives its checks such a name."""
    return name.endswith(_BOUNDS_NAME)


def bounded_value(evaluation: Evaluation) -> float | None:
    """The value that a check of `build_metadata_bounds_checks` has compared, if it did."""
    if not is_bounds_check(evaluation.check.name):
        return None
    match = _VALUE.fullmatch(evaluation.description or "")
    try:
        value = float(match["value"]) if match else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def freshness_metadata(metadata: Metadata) -> Metadata:
    """That part of an evaluation's metadata that a freshness check's definition has as well."""
    return {name: value for name, value in metadata.items() if name == FRESHNESS}


def _freshness(facts: CheckFacts) -> Shape:
    content = facts.metadata[FRESHNESS].value
    parameters = content if isinstance(content, Mapping) else {}
    return Shape(
        "freshness_check",
        operator=NATIVE,
        native_parameters={name: json_text(value) for name, value in sorted(parameters.items())},
    )


def _bounds(match: re.Match[str]) -> Shape:
    least, most = match["min"], match["max"]
    of_rows = match["key"] == ROW_COUNT
    stated = {
        "metadata_key": match["key"],
        "min_value": least,
        "max_value": most,
        "exclusive_min": "true" if least and not match["min_equal"] else None,
        "exclusive_max": "true" if most and not match["max_equal"] else None,
    }
    parameters = {
        "minValue" if most else "value": least,
        "maxValue" if least else "value": most,
    }
    return Shape(
        "metadata_bounds_check",
        scope=DatasetAssertionScopeClass.DATASET_ROWS if of_rows else None,
        aggregation=AssertionStdAggregationClass.ROW_COUNT if of_rows else None,
        operator=_operator(match),
        parameters={name: Parameter(value, NUMBER) for name, value in parameters.items() if value},
        native_parameters={name: text for name, text in stated.items() if text},
    )


def _operator(match: re.Match[str]) -> str:
    known = AssertionStdOperatorClass
    if match["min"] and match["max"]:
        return known.BETWEEN
    if match["min"]:
        return known.GREATER_THAN_OR_EQUAL_TO if match["min_equal"] else known.GREATER_THAN
    return known.LESS_THAN_OR_EQUAL_TO if match["max_equal"] else known.LESS_THAN
