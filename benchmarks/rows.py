"""What a benchmark says: rows of a table, with a goal where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    plugin: str = ""
    goal: str = ""
    is_met: bool | None = None
    """Whether the goal is; None where there is none."""


def shown(rows: Iterable[Row], on_row: Callable[[Row], None]) -> Table:
    """The table of the rows; `on_row` is told of each as it comes."""
    table = Table("what", "the plugin", "ours", "goal", "met")
    for row in rows:
        on_row(row)
        table.add_row(row.what, row.plugin, row.ours, row.goal, _met(row))
    return table


def _met(row: Row) -> str:
    return "" if row.is_met is None else "yes" if row.is_met else "no"
