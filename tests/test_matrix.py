"""What the matrix says of a combination that can't be installed, and its table."""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matrix.refusals import declared_refusal, refusal
from matrix.table import lines

BY_PIP = """\
ERROR: Ignored the following yanked versions: 1.1.0
ERROR: Ignored the following versions that require a different python version: 1.9.0 \
Requires-Python <3.12,>=3.8; 1.10.0 Requires-Python <3.13,>=3.9; 1.11.0 Requires-Python <3.13,>=3.9
ERROR: Could not find a version that satisfies the requirement dagster==1.10.0 (from versions: 0.1)
ERROR: No matching distribution found for dagster==1.10.0
"""
BY_UV = """\
x No solution found when resolving dependencies:
  ╰─▶ Because acryl-datahub==1.7.0 depends on
      click>=8.3.3 and dagster==1.10.21 depends on click<8.2, we can conclude that
      acryl-datahub==1.7.0 and dagster==1.10.21 are incompatible.
"""


def test_a_package_that_declares_not_to_go_with_this_python_is_named() -> None:
    packages = [
        ("click", "8.3", ">=3.10"),
        ("dagster", "1.10.0", ">=3.9,<3.13"),
        ("six", "1", None),
    ]
    assert declared_refusal(packages, "3.13.0") == "dagster 1.10.0 needs Python >=3.9,<3.13"
    assert declared_refusal(packages, "3.12.1") is None


def test_pips_reason_is_that_of_the_version_that_was_asked_for() -> None:
    assert refusal(BY_PIP) == "dagster 1.10.0 needs Python <3.13,>=3.9"


def test_uvs_reason_is_the_first_step_of_its_explanation() -> None:
    expected = (
        "acryl-datahub==1.7.0 depends on click>=8.3.3 and dagster==1.10.21 depends on click<8.2"
    )
    assert refusal(BY_UV) == expected


def test_an_installation_that_fails_otherwise_is_no_exclusion() -> None:
    assert refusal("error: Failed to fetch: connection reset") is None
    assert refusal("ERROR: No matching distribution found for dagster==99") is None


def test_the_table_has_a_row_for_each_dagster_and_says_why_one_is_excluded() -> None:
    versions = {"dagster": "1.14.2", "acryl-datahub": "1.7.0"}
    passed = {"result": "passed", "dagster": "newest", "versions": versions}
    reason = "dagster 1.10.0 needs Python >=3.9,<3.13"
    excluded = {"result": "excluded", "dagster": "1.10.0", "reason": reason}
    found: list[Mapping[str, Any]] = [
        {**passed, "python": "3.13"},
        {**passed, "python": "3.9"},
        {**excluded, "python": "3.13"},
    ]
    assert list(lines(found, ["1.10.0", "newest"])) == [
        "| Dagster | Python 3.9 | Python 3.13 |",
        "|---|---|---|",
        "| 1.10.0 | not run | excluded |",
        "| newest (1.14.2) | passed, acryl-datahub 1.7.0 | passed, acryl-datahub 1.7.0 |",
        "",
        f"Excluded by what the packages declare: {reason}.",
    ]


def test_a_cell_that_failed_is_shown_as_such() -> None:
    failed = {"result": "failed", "dagster": "newest", "python": "3.13"}
    assert list(lines([failed], ["newest"]))[-1] == "| newest | failed |"


def test_every_file_of_tests_that_a_cell_runs_is_there() -> None:
    cells = runpy.run_path(str(Path(__file__).parent.parent / "noxfile.py"))
    names = {f"test_{name}.py" for name in (*cells["TESTS"], *cells["MORE_TESTS"])}
    assert names <= {path.name for path in Path(__file__).parent.iterdir()}
