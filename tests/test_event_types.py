"""One table of event types: what the package names anywhere stands in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dagster import DagsterEventType

import datahub_eventlog
from datahub_eventlog import event_types
from datahub_eventlog.event_types import CAPTURED, EVENT_TYPES, READ
from datahub_eventlog.source import events
from datahub_eventlog.translate.runs import progress

PACKAGE = Path(datahub_eventlog.__file__).parent
COUNTED_ONLY = {"STEP_EXPECTATION_RESULT"}
"""Read without being captured: its step's other events are."""


def named_in(path: Path) -> Iterator[str]:
    """The event types whose names are texts in a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and node.value in DagsterEventType.__members__:
            yield str(node.value)


def test_every_type_that_is_read_is_captured() -> None:
    assert READ - CAPTURED == COUNTED_ONLY


def test_no_type_is_listed_twice_or_without_a_purpose() -> None:
    assert len({each.name for each in EVENT_TYPES}) == len(EVENT_TYPES)
    assert {each.name for each in EVENT_TYPES} == CAPTURED | READ


def test_every_type_is_one_of_the_installed_dagsters_or_newer_than_the_oldest() -> None:
    unknown = {each for each in EVENT_TYPES if each.name not in DagsterEventType.__members__}
    assert not {each.name for each in unknown if each.is_in_every_dagster}


def test_every_type_that_the_package_names_is_listed() -> None:
    modules = set(PACKAGE.rglob("*.py")) - {Path(event_types.__file__)}
    named = {name for path in modules for name in named_in(path)}
    assert "STEP_FAILURE" in named
    assert named <= READ


def test_every_type_whose_data_are_read_is_read() -> None:
    assert events.READERS.keys() <= READ


def test_what_begins_and_what_ends_a_run() -> None:
    assert {"RUN_START", "RUN_RESUMED"} == event_types.RUN_STARTS
    assert {"RUN_SUCCESS", "RUN_FAILURE", "RUN_CANCELED"} == event_types.RUN_ENDS
    assert {"STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED"} == event_types.STEP_ENDS


def test_every_end_of_a_run_or_step_has_a_result_in_datahub() -> None:
    assert progress._RUN_ENDS.keys() == event_types.RUN_ENDS
    assert progress._STEP_EVENTS.keys() >= event_types.STEP_ENDS
