"""Several requests at once: what may be together, and what comes of errors."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from deployment import DEADLINE
from hypothesis import given
from hypothesis import strategies as st
from proposals import properties

from datahub_eventlog.sinks.batch import Item
from datahub_eventlog.sinks.lanes import in_parallel, split
from datahub_eventlog.sinks.mcps import mcp


def item(name: str) -> Item:
    proposal = properties(name)
    return Item(proposal, mcp(proposal), 1, is_timeseries=False)


@given(names=st.lists(st.sampled_from("abcdefgh"), max_size=40), size=st.integers(1, 12))
def test_no_entity_is_in_two_parts_and_each_keeps_its_order(names: list[str], size: int) -> None:
    items = [item(each) for each in names]
    found = split(items, size)
    owners = [{each.proposal.urn for each in part} for part in found]
    assert sum(map(len, owners)) == len(set(names))
    for name in set(names):
        mine = [each for each in items if each.proposal == item(name).proposal]
        came = [each for part in found for each in part if each.proposal == item(name).proposal]
        assert [id(each) for each in came] == [id(each) for each in mine]
    assert sum(map(len, found)) == len(items)


@given(names=st.lists(st.sampled_from("abcdefgh"), max_size=40), size=st.integers(1, 12))
def test_a_part_is_larger_than_a_request_only_if_an_entity_is(names: list[str], size: int) -> None:
    for part in split([item(each) for each in names], size):
        assert len(part) <= size or len({each.proposal.urn for each in part}) == 1


def test_as_many_are_under_way_as_there_are_lanes() -> None:
    together = threading.Barrier(3, timeout=DEADLINE)

    def work(number: int, _: int) -> int:
        together.wait()
        return number

    assert in_parallel([partial(work, number) for number in range(6)], 3) == [0, 1, 2, 3, 4, 5]


def test_a_lane_is_used_by_one_at_a_time() -> None:
    busy: Counter[int] = Counter()
    most: list[int] = []

    def work(lane: int) -> None:
        busy[lane] += 1
        most.append(busy[lane])
        busy[lane] -= 1

    in_parallel([work] * 200, 4)
    assert set(most) == {1}
    assert len(most) == 200


def test_a_single_one_is_done_by_the_caller() -> None:
    assert in_parallel([lambda _: threading.current_thread()], 4) == [threading.current_thread()]


def test_there_may_be_nothing_to_do() -> None:
    nothing: Sequence[Callable[[int], int]] = []
    assert in_parallel(nothing, 4) == []


def test_an_error_is_raised_when_the_others_have_come_to_their_end() -> None:
    failing, ended = threading.Event(), threading.Event()

    def fails(_: int) -> None:
        failing.set()
        raise RuntimeError("refused")

    def goes_on(_: int) -> None:
        assert failing.wait(DEADLINE)
        ended.set()

    with pytest.raises(RuntimeError, match="refused"):
        in_parallel([goes_on, fails], 2)
    assert ended.is_set()


def test_after_an_error_no_other_is_begun() -> None:
    begun: list[int] = []

    def fails(_: int) -> None:
        begun.append(1)
        raise RuntimeError("refused")

    with pytest.raises(RuntimeError, match="refused"):
        in_parallel([fails] * 100, 2)
    assert len(begun) <= 2


AT_EXIT = """
import atexit, threading
from datahub_eventlog.sinks.lanes import in_parallel

def last():
    print(in_parallel([lambda _, each=each: each for each in range(5)], 3))

{register}(last)
"""


@pytest.mark.parametrize("register", ["atexit.register", "threading._register_atexit"])
def test_an_interpreter_that_ends_still_does_all_of_it(register: str) -> None:
    code = AT_EXIT.format(register=register)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert ended.stdout.strip() == "[0, 1, 2, 3, 4]"
