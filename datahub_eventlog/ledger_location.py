"""Where the ledger of an instance is, so that all its processes find the same one.

It stands between the two parts that it joins: `ledger` knows no Dagster, and capture, which needs
it too, must load nothing of the dispatcher.
"""

from __future__ import annotations

from pathlib import Path

from dagster import DagsterInstance
from sqlalchemy.engine import Engine

from datahub_eventlog.dagster_internals import EventLogStorage, event_log_engine, sqlite_file
from datahub_eventlog.errors import LedgerMissing, LedgerUnavailable
from datahub_eventlog.ledger import Connect, Ledger
from datahub_eventlog.ledger.taking_over import take_over
from datahub_eventlog.log import logger

FILE = "datahub_eventlog.db"
"""In the instance's directory, where the event log's database can't take the ledger."""
LEDGER_LOCK_SECONDS = 5.0
"""How long what delivers, and a command, waits for a lock of the ledger's."""


def ledger_of(instance: DagsterInstance, *, patience: float) -> Ledger:
    """The ledger that capture uses with that instance; see `ledger_beside` for `patience`."""
    try:
        ledger = ledger_beside(instance.event_log_storage, patience=patience)
    except LedgerMissing:
        return local_ledger(instance.root_directory, patience=patience)
    try:
        ledger.reports.dispatchers()
    except LedgerMissing as error:
        logger.warning("%s. A local file serves as the ledger instead.", error)
        return local_ledger(instance.root_directory, patience=patience)
    except LedgerUnavailable as error:
        logger.debug("It can't be determined now whether the ledger's tables are there: %s", error)
    return ledger


def take_over_local(ledger: Ledger, directory: str, *, patience: float) -> None:
    """Copy what the local file holds, which was the ledger until the tables of `ledger` were made.

    A file that can't be read is logged, and tried again at the next start.
    """
    path = Path(directory, FILE)
    if not path.exists() or ledger.database.dialect() == "sqlite":
        return
    try:
        take_over(ledger, local_ledger(directory, patience=patience))
    except LedgerUnavailable as error:
        logger.warning("What the ledger in %s holds was not taken over: %s", path, error)


def existing_ledger(storage: EventLogStorage, directory: str, *, patience: float) -> Ledger | None:
    """The ledger of that event log if there is one already; none is made.

    Raises `LedgerUnavailable`.
    """
    try:
        ledger = ledger_beside(storage, patience=patience)
        if ledger.database.exists():
            return ledger
    except LedgerMissing:
        pass
    return local_ledger(directory, patience=patience) if Path(directory, FILE).exists() else None


def ledger_beside(storage: EventLogStorage, *, patience: float) -> Ledger:
    """The ledger in the database of that event log.

    On SQLite it has connections of its own: the storage's wait for 30 s, hold its lock, and check
    its migrations first. `patience` is how many seconds they wait for a lock.

    Raises `LedgerMissing` if the event log is in no database that SQLAlchemy connects to.
    """
    file = sqlite_file(storage)
    if file is not None:
        return Ledger.in_file(file, patience=patience)
    connect = _connections(storage)
    if connect is None:
        raise LedgerMissing(f"{storage.__class__.__name__} has no database for the ledger")
    return Ledger(connect, autocreate=getattr(storage, "should_autocreate_tables", True))


def _connections(storage: EventLogStorage) -> Connect | None:
    """Connections to the event log's database, or None if there is no way to have one.

    Dagster's own try for six seconds to reach a server. That is too long for a touch, while a
    dispatcher has a patience of its own.
    """
    engine = event_log_engine(storage)
    if isinstance(engine, Engine) and engine.dialect.name != "sqlite":
        # Asked for each time: `optimize_for_webserver` replaces it.
        return lambda: event_log_engine(storage).connect()
    connect: Connect | None = getattr(storage, "index_connection", None)
    return connect


def local_ledger(directory: str, *, patience: float) -> Ledger:
    """The ledger in a file of its own, which only the processes of this machine share."""
    return Ledger.in_file(str(Path(directory, FILE)), patience=patience)
