"""The package's logger, which hides secrets in every message and traceback."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datahub_eventlog.redact import Redactor

LOGGER_NAME = "dagster.datahub_eventlog"
"""Below Dagster's logger, so its messages are shown where Dagster's are."""


class _Redacting(logging.Filter):
    """Hides secrets in messages and tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.redactor: Redactor | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        from datahub_eventlog.redact import DEFAULT  # most processes never log anything

        redactor = self.redactor or DEFAULT
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - an argument's `__str__` may be user code
            message = record.msg = f"{record.msg} (its arguments can't be shown)"
            record.args = None
        redacted = redactor.text(message)
        if redacted != message:
            record.msg, record.args = redacted, None
        if record.exc_info:
            # Only as text: some handlers would format the exception themselves.
            trace = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = redactor.text(trace), None
        return True


_redacting = _Redacting()
logger = logging.getLogger(LOGGER_NAME)
logger.addFilter(_redacting)


class Repeated:
    """An error that comes again and again, and is logged again only when it has changed."""

    def __init__(self) -> None:
        self._last = ""

    def log(self, message: str, reason: str) -> None:
        """Log the message with the reason, unless that was the last one."""
        if reason != self._last:
            logger.error(message, reason)
        self._last = reason

    def forget(self) -> None:
        """Note that it is over: the next one is logged, whatever it is."""
        self._last = ""


def redact_with(redactor: Redactor) -> None:
    """From now on also hide what a user adds, in this process's log."""
    _redacting.redactor = redactor
