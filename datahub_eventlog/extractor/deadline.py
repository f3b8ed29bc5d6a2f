"""A call of the user's code that an endless loop in it can't hold up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Generic, TypeVar

from datahub_eventlog import error_text
from datahub_eventlog.errors import DataHubEventLogError

Result = TypeVar("Result")


class TookTooLong(DataHubEventLogError):
    """A function of the user did not return before its deadline."""


class Call(Generic[Result]):
    """A call in a daemon thread, waited for only so long."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._done = threading.Event()
        self._result: Result
        self._error: BaseException | None = None

    def result(self, deadline: timedelta) -> Result:
        """What the call returned or raised; raises `TookTooLong` if it did neither in time."""
        threading.Thread(target=self._run, name="datahub-eventlog-extractor", daemon=True).start()
        if not self._done.wait(deadline.total_seconds()):
            raise TookTooLong(f"did not return within {deadline.total_seconds():g} s")
        if self._error is not None:
            if isinstance(self._error, Exception):
                raise self._error
            raise DataHubEventLogError(error_text.describe(self._error))
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            self._error = error
        finally:
            self._done.set()
