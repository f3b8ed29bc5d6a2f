"""What all assertions have alike, in the form that the installed client has for it."""

from __future__ import annotations

from typing import Any

from datahub.metadata import schema_classes
from datahub.metadata.schema_classes import CustomAssertionInfoClass

_KNOWN = frozenset(CustomAssertionInfoClass.RECORD_SCHEMA.fields_dict)
"""Clients before 1.6 know of less than the newest."""


def custom_assertion(type_: str, dataset: str, **fields: Any) -> CustomAssertionInfoClass:
    """What is checked of a dataset; fields that the client lacks are left out."""
    known = {name: value for name, value in fields.items() if name in _KNOWN and value}
    return CustomAssertionInfoClass(type=type_, entity=dataset, **known)


def failure_severity(severity: str) -> dict[str, Any]:
    """DataHub's word for how bad a failure is; none in versions of the client that lack it."""
    if not hasattr(schema_classes, "AssertionResultSeverityClass"):
        return {}
    known = schema_classes.AssertionResultSeverityClass
    return {"severity": known.LOW if severity == "WARN" else known.HIGH}
