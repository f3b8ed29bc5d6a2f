"""An event log whose database is away is nobody's fault, least of all the run's at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from datahub_eventlog import error_text
from datahub_eventlog.errors import LedgerUnavailable

GIVES_UP = frozenset({"dagster_postgres", "dagster_mysql"})
"""Whose own exceptions say that they tried to connect again and again."""

READS = frozenset({"dagster", "dagster_shared"})
"""Where the exceptions come from that deserialisation raises."""


@contextmanager
def reaching() -> Iterator[None]:
    """Raise `LedgerUnavailable` where the database can't be reached; the ledger is in the same."""
    try:
        yield
    except Exception as error:
        if _is_away(error):
            reason = error_text.describe(getattr(error, "orig", None) or error)
            raise LedgerUnavailable(f"The event log's database: {reason}") from error
        raise


def is_unreadable(error: Exception) -> bool:
    """Whether a record was found, and Dagster does not understand it, or it is no JSON."""
    is_dagsters = type(error).__module__.split(".")[0] in READS or isinstance(error, ValueError)
    return is_dagsters and not isinstance(error.__cause__, SQLAlchemyError)


def _is_away(error: Exception) -> bool:
    """Not what a statement may be guilty of, such as its timeout: it fails the next time, too."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    gave_up = type(error).__module__.split(".")[0] in GIVES_UP
    return gave_up and isinstance(error.__cause__, SQLAlchemyError)
