"""Several requests under way at once, where a server's answers are slower than its work.

No entity is in two of them, so that each entity's proposals arrive in their order; between
entities DataHub needs none.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from datahub_eventlog.sinks.delivery import Item

T = TypeVar("T")

LANES = 8
"""Requests at once. DataHub's own ingestion has 15 under way."""


def parts(items: Iterable[Item], size: int) -> list[Sequence[Item]]:
    """The items in parts of at most `size`, or of what one entity has."""
    entities: dict[str, list[Item]] = {}
    for each in items:
        entities.setdefault(each.proposal.urn, []).append(each)
    found: list[list[Item]] = []
    for entity in entities.values():
        if not found or len(found[-1]) + len(entity) > size:
            found.append([])
        found[-1] += entity
    return list(found)


def at_once(works: Sequence[Callable[[int], T]], lanes: int) -> list[T]:
    """What the works give, each called with the number of the lane that it has for itself.

    After an error no other is begun; it is raised when those under way have come to their end.
    Where no thread can be started, as in an interpreter that ends, they follow one another.
    """
    left = deque(enumerate(works))
    done: dict[int, T] = {}

    def go(lane: int) -> None:
        while (each := _first(left)) is not None:
            number, work = each
            done[number] = work(lane)

    try:
        if min(lanes, len(works)) <= 1:
            go(0)
        else:
            _all([_started(partial(go, lane), left) for lane in range(min(lanes, len(works)))])
    finally:
        left.clear()
    return [done[number] for number in sorted(done)]


def _first(left: deque[T]) -> T | None:
    try:
        return left.popleft()
    except IndexError:
        return None


def _started(go: Callable[[], None], left: deque[Any]) -> Future[None]:
    """Go in a thread, which nobody waits for when the process ends."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            go()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            left.clear()
            future.set_exception(error)
        else:
            future.set_result(None)

    try:
        threading.Thread(target=run, name="datahub-eventlog-request", daemon=True).start()
    except RuntimeError:
        run()
    return future


def _all(futures: Sequence[Future[None]]) -> None:
    wait(futures)
    for each in futures:
        each.result()
