"""The rows of the documentation's tables of options, as the options are declared."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from datahub_eventlog.config import (
    CatalogOptions,
    HealthOptions,
    IncidentOptions,
    Option,
    Pattern,
    Redaction,
    VerifyOptions,
)

DASH = "\N{EN DASH}"


def row(option: Option) -> str:
    """A row of a table in Markdown: the option's name, its default, and what it means."""
    return f"| `{option.name}` | {shown(option.default)} | {option.meaning} |"


def shown(default: Any) -> str:
    """A default as the documentation has it; durations are in seconds or in days."""
    if isinstance(default, timedelta):
        days = default.days
        return f"{days} day{'s' if days > 1 else ''}" if days else f"{default.total_seconds():g}"
    if isinstance(default, Pattern):
        return "all"
    if isinstance(default, Redaction | CatalogOptions | HealthOptions):
        return "on"
    if isinstance(default, VerifyOptions | IncidentOptions):
        return "off"
    return str(default).lower() if isinstance(default, bool) else str(default or DASH)
