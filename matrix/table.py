"""Prints what the cells found, as the table that the README shows.

python matrix/table.py FOLDER ROW...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from findings import FILE, Findings

NOT_RUN = "not run"


def lines(found: Sequence[Mapping[str, Any]], rows: Sequence[str]) -> Iterator[str]:
    """A table with a row for each Dagster and a column for each Python; below it the exclusions."""
    pythons = sorted({each["python"] for each in found}, key=_numbers)
    cells = {(each["dagster"], each["python"]): each for each in found}
    yield " | ".join(["| Dagster", *(f"Python {each}" for each in pythons)]) + " |"
    yield "|---" * (len(pythons) + 1) + "|"
    for row in rows:
        inner = [_cell(cells.get((row, each))) for each in pythons]
        yield " | ".join([f"| {_row(row, found)}", *inner]) + " |"
    reasons = sorted({each["reason"] for each in found if each["result"] == "excluded"})
    if reasons:
        yield ""
        yield "Excluded by what the packages declare: " + "; ".join(reasons) + "."


def _row(row: str, found: Sequence[Mapping[str, Any]]) -> str:
    """The version, also of what is named otherwise."""
    versions = {_version(each, "dagster") for each in found if each["dagster"] == row} - {None}
    named = ", ".join(sorted(str(each) for each in versions))
    return row if row == named or not named else f"{row} ({named})"


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NOT_RUN
    if found["result"] != "passed":
        return str(found["result"])
    return f"passed, acryl-datahub {_version(found, 'acryl-datahub')}"


def _version(found: Mapping[str, Any], package: str) -> str | None:
    version: str | None = found.get("versions", {}).get(package)
    return version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    folder, *rows = sys.argv[1:]
    found = [Findings(path).known for path in sorted(Path(folder).glob(f"cell-*/{FILE}"))]
    print("\n".join(lines(found, rows)))
