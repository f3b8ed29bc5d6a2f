"""Prints the results of the cells as the table of `docs/compatibility.md`.

python -m matrix.table FOLDER ROW...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matrix.findings import FILE, Findings

NOT_RUN = "not run"


def lines(cells: Sequence[Mapping[str, Any]], rows: Sequence[str]) -> Iterator[str]:
    """A table with a row for each Dagster and a column for each Python; below it the exclusions."""
    pythons = sorted({cell["python"] for cell in cells}, key=_numbers)
    by_place = {(cell["dagster"], cell["python"]): cell for cell in cells}
    yield " | ".join(["| Dagster", *(f"Python {python}" for python in pythons)]) + " |"
    yield "|---" * (len(pythons) + 1) + "|"
    for row in rows:
        texts = [_cell(by_place.get((row, python))) for python in pythons]
        yield " | ".join([f"| {_row(row, cells)}", *texts]) + " |"
    reasons = sorted({cell["reason"] for cell in cells if cell["result"] == "excluded"})
    if reasons:
        yield ""
        yield "Excluded by what the packages declare: " + "; ".join(reasons) + "."


def _row(row: str, cells: Sequence[Mapping[str, Any]]) -> str:
    """The row's name, and the version that was installed if the name is no version."""
    versions = {_version(cell, "dagster") for cell in cells if cell["dagster"] == row} - {None}
    installed = ", ".join(sorted(str(version) for version in versions))
    return row if row == installed or not installed else f"{row} ({installed})"


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return NOT_RUN
    if cell["result"] != "passed":
        return str(cell["result"])
    return f"passed, acryl-datahub {_version(cell, 'acryl-datahub')}"


def _version(cell: Mapping[str, Any], package: str) -> str | None:
    version: str | None = cell.get("versions", {}).get(package)
    return version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    folder, *rows = sys.argv[1:]
    results = [Findings(path).known for path in sorted(Path(folder).glob(f"cell-*/{FILE}"))]
    print("\n".join(lines(results, rows)))
