"""A SQLite file that is kept open while somebody has much to do with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError

from datahub_eventlog.ledger.database import Connect


@contextmanager
def held(connect: Connect) -> Iterator[None]:
    """Keep the file open meanwhile, without a lock that anybody could wait for.

    Whoever is the last to close a SQLite file copies its journal into it, and waits for the disk.
    With a connection for each piece of work that would be after each of them.
    """
    with ExitStack() as stack:
        with suppress(SQLAlchemyError):  # it only saves time
            connection = stack.enter_context(connect())
            connection.exec_driver_sql("PRAGMA schema_version")  # it opens the file only now
            connection.rollback()
        yield
