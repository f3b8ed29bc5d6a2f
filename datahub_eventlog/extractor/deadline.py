"""A call of the user's code that returns in time, even if that code never ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import timedelta
from typing import TypeVar

from datahub_eventlog import error_text
from datahub_eventlog.errors import DataHubEventLogError

Result = TypeVar("Result")


class TookTooLong(DataHubEventLogError):
    """A function of the user did not return before its deadline."""


def call_within(deadline: timedelta, function: Callable[[], Result]) -> Result:
    """What the function returned or raised; raises `TookTooLong` if it did neither in time.

    An endless function goes on in a daemon thread, which the process does not wait for.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            outcome.set_exception(error)

    threading.Thread(target=run, name="datahub-eventlog-extractor", daemon=True).start()
    wait([outcome], deadline.total_seconds())
    if not outcome.done():
        raise TookTooLong(f"did not return within {deadline.total_seconds():g} s")
    error = outcome.exception()
    if error is None or isinstance(error, Exception):
        return outcome.result()
    raise DataHubEventLogError(error_text.describe(error))
