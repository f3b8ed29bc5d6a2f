"""Side by side with the sensor plugin: the same runs, told by it and by us to two receivers.

What differs is one of the rules of `parity_rules`, which the documentation explains one by one;
where the plugin gives up, our golden file stands alone.
"""

from __future__ import annotations

import functools
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("datahub_dagster_plugin", reason="the sensor plugin is not installed")

import parity_assets
import parity_ops
from catalog import Catalog, unordered
from parity_compare import differences, frozen
from parity_rules import RULES, rules_for
from parity_sides import State, Told, tell

from datahub_eventlog.translate import translate
from datahub_eventlog.values import RunLog

SCENARIOS = {each.name: each for each in (*parity_ops.SCENARIOS, *parity_assets.SCENARIOS)}
COMPARED = [name for name, each in SCENARIOS.items() if each.crash is None]
CRASHING = [name for name, each in SCENARIOS.items() if each.crash is not None]
GOLDEN = Path(__file__).parent / "golden"
DOCUMENT = Path(__file__).parents[1] / "docs" / "differences-from-the-sensor.md"
GAVE_UP = "Error in emitting metadata to DataHub"

TESTED = (1, 7)
"""The version of the plugin that the document is about."""

pytestmark = [
    # The plugin and what it calls, such as DataHub's own client, are not ours to warn about.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        tuple(map(int, version("acryl-datahub-dagster-plugin").split(".")[:2])) < TESTED,
        reason="an older plugin differs in more",
    ),
]


@functools.cache
def _told(name: str) -> Told:
    """Each scenario is executed once, whatever is asked of it."""
    with tempfile.TemporaryDirectory() as home:
        return tell(SCENARIOS[name], Path(home))


def _errors(told: Told) -> list[str]:
    return [each for each in told.plugin_errors if GAVE_UP in each]


def _places(state: State) -> set[tuple[str, str]]:
    return {(urn, aspect) for urn, aspects in state.items() for aspect in aspects}


@pytest.mark.parametrize("name", COMPARED)
def test_what_differs_from_the_sensor_is_meant(name: str) -> None:
    told = _told(name)

    assert _errors(told) == []
    assert told.theirs.keys() & told.ours.keys()
    found = differences(told)
    assert [str(each) for each in found if not rules_for(each, told)] == []


@pytest.mark.parametrize("name", CRASHING)
def test_the_sensor_gives_up_where_we_deliver(name: str) -> None:
    told = _told(name)

    assert [each for each in _errors(told) if re.search(str(SCENARIOS[name].crash), each)]
    assert _places(told.ours) - _places(told.theirs)


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_we_deliver_is_the_golden_file(name: str, request: pytest.FixtureRequest) -> None:
    told = _told(name)
    file = GOLDEN / f"{name}.yaml"
    found = frozen(told)

    assert told.unaccepted == 0
    if request.config.getoption("update_golden_files"):
        file.write_text(found)
    assert found == file.read_text()


@pytest.mark.parametrize("name", SCENARIOS)
def test_delivering_everything_again_changes_nothing(name: str) -> None:
    told = _told(name)

    assert unordered(told.again) == unordered(told.ours)


@pytest.mark.parametrize("name", SCENARIOS)
def test_wherever_a_run_is_cut_it_ends_the_same(name: str) -> None:
    logs = _told(name).logs
    assert logs
    for log, context in logs:
        whole = Catalog().deliver(translate(log, context))
        shown = Catalog()
        for part in _cuts(log, random.Random(name)):
            shown.deliver(translate(part, context))
        assert unordered(shown.state) == unordered(whole.state)
        assert unordered(shown.series) == unordered(whole.series)


def _cuts(log: RunLog, dice: random.Random) -> Iterator[RunLog]:
    """The log as it was at some moments, and in the end."""
    running = replace(log.run, status="STARTED")
    for end in sorted(dice.sample(range(len(log.events)), min(5, len(log.events)))):
        yield replace(log, run=running, events=log.events[:end])
    yield log


def test_there_is_no_golden_file_without_a_scenario() -> None:
    assert sorted(each.stem for each in GOLDEN.iterdir()) == sorted(SCENARIOS)


def test_every_difference_that_is_meant_is_needed() -> None:
    """No rule is there for nothing: each is the only one that allows something."""
    needed: Counter[str] = Counter()
    for told in map(_told, COMPARED):
        allowed = (rules_for(each, told) for each in differences(told))
        needed.update(each[0] for each in allowed if len(each) == 1)
    assert sorted(needed) == sorted(each.name for each in RULES)


def test_the_document_names_the_differences_that_are_meant() -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|", DOCUMENT.read_text(), re.MULTILINE)

    assert sorted(rows) == sorted(each.name for each in RULES)


def test_the_document_names_what_the_sensor_gives_up_on() -> None:
    listed = set(
        re.findall(r"`(\w+)`", DOCUMENT.read_text().split("## Where the sensor gives up")[1])
    )

    assert set(CRASHING) <= listed
