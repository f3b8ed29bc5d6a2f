"""The table of all options for the documentation, as they are declared."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from datahub_eventlog.config import Option, Pattern, Redaction, options

DASH = "\N{EN DASH}"


def table() -> str:
    """In Markdown, with one option a line: its name, its default, and what it means."""
    return "".join(map(_row, options().values()))


def _row(option: Option) -> str:
    meaning = option.meaning.replace("|", "\\|")
    return f"| `{option.name}` | {shown(option.default)} | {meaning} |\n"


def shown(default: Any) -> str:
    """A default as the documentation has it; durations are in seconds or in days."""
    if isinstance(default, timedelta):
        days = default.days
        return f"{days} day{'s' if days > 1 else ''}" if days else f"{default.total_seconds():g}"
    if isinstance(default, Pattern):
        return "all"
    if isinstance(default, Redaction):
        return "on"
    return str(default).lower() if isinstance(default, bool) else str(default or DASH)


if __name__ == "__main__":
    print(table(), end="")
