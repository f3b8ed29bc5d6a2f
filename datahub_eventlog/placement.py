"""Where the ledger of an instance lives, so that all its processes find the same one."""

from __future__ import annotations

import logging
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.storage.event_log import (
    ConsolidatedSqliteEventLogStorage,
    SqliteEventLogStorage,
)
from dagster._core.storage.event_log.base import EventLogStorage

from datahub_eventlog.errors import LedgerMissing, LedgerUnavailable
from datahub_eventlog.ledger import Ledger

FILE = "datahub_eventlog.db"
"""In the instance's directory, where the event log's database can't take the ledger."""


logger = logging.getLogger("dagster.datahub_eventlog")


def ledger_of(instance: DagsterInstance, *, patience: float) -> Ledger:
    """The ledger that capture uses with that instance; see `ledger_beside` for `patience`."""
    try:
        ledger = ledger_beside(instance.event_log_storage, patience=patience)
    except LedgerMissing:
        return local_ledger(instance.root_directory, patience=patience)
    try:
        ledger.dispatchers()
    except LedgerMissing as error:
        logger.warning("%s. A local file serves as the ledger instead.", error)
        return local_ledger(instance.root_directory, patience=patience)
    except LedgerUnavailable as error:
        logger.debug("Where the ledger is can't be asked now: %s", error)
    return ledger


def ledger_beside(storage: EventLogStorage, *, patience: float) -> Ledger:
    """The ledger in the database of that event log.

    On SQLite it has connections of its own: the storage's wait for 30 s, hold its lock, and check
    its migrations first. `patience` is how many seconds they wait for a lock.

    Raises `LedgerMissing` if the event log is in no database that SQLAlchemy connects to.
    """
    if isinstance(storage, SqliteEventLogStorage):
        return Ledger.in_file(storage.path_for_shard("index"), patience=patience)
    if isinstance(storage, ConsolidatedSqliteEventLogStorage):
        return Ledger.in_file(storage.get_db_path(), patience=patience)
    connect = getattr(storage, "index_connection", None)
    if connect is None:
        raise LedgerMissing(f"{storage.__class__.__name__} has no database for the ledger")
    return Ledger.over(connect, autocreate=getattr(storage, "should_autocreate_tables", True))


def local_ledger(directory: str, *, patience: float) -> Ledger:
    """The ledger in a file of its own, which only the processes of this machine share."""
    return Ledger.in_file(str(Path(directory, FILE)), patience=patience)
