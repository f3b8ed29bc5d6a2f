"""Parallel requests, since a server's answers take longer than its work.

No entity is in two of them, so each entity's proposals arrive in their order; between entities
DataHub needs no order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from datahub_eventlog.sinks.batch import Item

T = TypeVar("T")

LANES = 8
"""Parallel requests; DataHub's own ingestion has 15."""


def split(items: Iterable[Item], size: int) -> list[Sequence[Item]]:
    """The items in parts of at most `size`; only a single entity's may be larger."""
    entities: dict[str, list[Item]] = {}
    for item in items:
        entities.setdefault(item.proposal.urn, []).append(item)
    parts: list[list[Item]] = []
    for its_items in entities.values():
        if not parts or len(parts[-1]) + len(its_items) > size:
            parts.append([])
        parts[-1] += its_items
    return list(parts)


def in_parallel(tasks: Sequence[Callable[[int], T]], lanes: int) -> list[T]:
    """The tasks' results; each task is called with the number of a lane that no other is in.

    After an error no other task is started; it is raised when the running ones have ended. If no
    thread can be started, as while the interpreter shuts down, they run one after the other.
    """
    waiting = deque(enumerate(tasks))
    results: dict[int, T] = {}

    def work(lane: int) -> None:
        while waiting:
            try:
                number, task = waiting.popleft()
            except IndexError:  # another lane was faster
                return
            results[number] = task(lane)

    try:
        if min(lanes, len(tasks)) <= 1:
            work(0)
        else:
            count = min(lanes, len(tasks))
            futures = [_start_thread(partial(work, lane), waiting) for lane in range(count)]
            wait(futures)
            for future in futures:
                future.result()
    finally:
        waiting.clear()
    return [results[number] for number in sorted(results)]


def _start_thread(work: Callable[[], None], waiting: deque[Any]) -> Future[None]:
    """Work in a daemon thread, which doesn't keep the process alive."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            waiting.clear()
            future.set_exception(error)
        else:
            future.set_result(None)

    try:
        threading.Thread(target=run, name="datahub-eventlog-request", daemon=True).start()
    except RuntimeError:
        run()
    return future
