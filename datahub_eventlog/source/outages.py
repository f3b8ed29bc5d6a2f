"""An event log whose database is away. That is no fault of the run that is being read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from datahub_eventlog import error_text
from datahub_eventlog.errors import LedgerUnavailable

_RECONNECTING = frozenset({"dagster_postgres", "dagster_mysql"})
"""Packages whose own exceptions say that they tried to connect again and again."""


@contextmanager
def reporting_outages() -> Iterator[None]:
    """Raise `LedgerUnavailable` where the database can't be reached; the ledger is in the same."""
    try:
        yield
    except Exception as error:
        if _is_outage(error):
            reason = error_text.describe(getattr(error, "orig", None) or error)
            raise LedgerUnavailable(f"The event log's database: {reason}") from error
        raise


def _is_outage(error: Exception) -> bool:
    """A statement's own fault, such as its timeout, is none: it fails the next time, too."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    gave_up = type(error).__module__.split(".")[0] in _RECONNECTING
    return gave_up and isinstance(error.__cause__, SQLAlchemyError)
