"""The tables, and the statements that make them.

Changes are additive, with a server default: an older package works on a newer table, since it
names its columns. Capture runs before the dispatcher has migrated, so a touch must get along
with the columns of version 1 for ever.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    or_,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable

from datahub_eventlog.errors import ConfigurationError
from datahub_eventlog.ledger.records import BACKFILL, REPAIR

SCHEMA = 1
"""The version of the tables below."""

Moment = Float(53)
"""UTC epoch seconds, as a double everywhere."""


class LongText(Text):
    """Text of any length; MySQL's TEXT ends at 64 KiB."""


class LongBlob(LargeBinary):
    """Bytes of any length; MySQL's BLOB ends at 64 KiB."""


@compiles(LongText, "mysql", "mariadb")
def _long_text(_element: LongText, _compiler: Any, **_options: Any) -> str:
    return "LONGTEXT"


@compiles(LongBlob, "mysql", "mariadb")
def _long_blob(_element: LongBlob, _compiler: Any, **_options: Any) -> str:
    return "LONGBLOB"


metadata = MetaData()

runs = Table(
    "datahub_eventlog_runs",
    metadata,
    Column("run_id", String(255), primary_key=True),
    Column("state", String(16), nullable=False, server_default="pending"),
    # The moment from which anybody may take the row: of a leased one, the lease's expiry.
    Column("due", Moment),
    Column("backfilled", SmallInteger, nullable=False, server_default="0"),
    Column("touches", BigInteger, nullable=False, server_default="0"),
    # Since the last lease somebody touched it who wants no throttle.
    Column("urgent", SmallInteger, nullable=False, server_default="0"),
    # Of the lease, whatever the state: a delivered run is looked at once more.
    Column("token", String(255)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("first_touch", Moment, nullable=False),
    Column("last_touch", Moment, nullable=False),
    # When it was last leased.
    Column("looked", Moment),
    Column("settled", Moment),
    Column("error", LongText),
    Column("definitions", String(64)),
    Column("cursor", LongText),
    Column("again", SmallInteger, nullable=False, server_default="0"),
    # A delivery began to claim states, and has not come to its end yet.
    Column("unfinished", SmallInteger, nullable=False, server_default="0"),
    Index("datahub_eventlog_runs_due", "backfilled", "due"),
)

definitions = Table(
    "datahub_eventlog_definitions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("blob", LongBlob, nullable=False),
    # About when a run last brought them: a sweep leaves alone what a run may be about to name.
    Column("seen", Moment, nullable=False),
)

states = Table(
    "datahub_eventlog_states",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("urn", Text, nullable=False),
    Column("slot", String(255), nullable=False),
    Column("time", Moment, nullable=False),
    Column("run_id", String(255), nullable=False),
    Column("hash", String(64), nullable=False),
    # When DataHub took it; NULL while it is on its way, or must be sent once more.
    Column("sent", Moment),
    # Of the lease that claimed it; only its own confirmation counts.
    Column("token", String(255)),
    Column("claimed", Moment, nullable=False),
    # The digest of what it adds to; NULL for a state that stands alone.
    Column("base", String(64)),
    Index("datahub_eventlog_states_base", "base"),
)

rejections = Table(
    "datahub_eventlog_rejections",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("run_id", String(255), nullable=False),
    Column("urn", Text, nullable=False),
    Column("aspect", String(255), nullable=False),
    Column("reason", LongText, nullable=False),
    Column("noted", Moment, nullable=False),
)

dispatchers = Table(
    "datahub_eventlog_dispatchers",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("pid", Integer, primary_key=True, autoincrement=False),
    Column("version", String(64), nullable=False),
    Column("seen", Moment, nullable=False),
)

catalogs = Table(
    "datahub_eventlog_catalogs",
    metadata,
    Column("location", String(255), primary_key=True),
    # Of the content, and the key of its parts.
    Column("hash", String(64), nullable=False),
    Column("parts", Integer, nullable=False),
    # The time of its state: when the code location was loaded.
    Column("loaded", Moment, nullable=False),
    # When it was loaded last, if with the same content.
    Column("latest", Moment, nullable=False),
    # When it was last found to be what the code location defines.
    Column("seen", Moment, nullable=False),
    # All definitions could be read, so that what is not among them is gone.
    Column("whole", SmallInteger, nullable=False),
    # Somebody asked for the removal of however many entities are gone.
    Column("confirmed", SmallInteger, nullable=False, server_default="0"),
    # How many entities are gone and were not removed, since they are too many.
    Column("held", Integer, nullable=False, server_default="0"),
)

catalog_parts = Table(
    "datahub_eventlog_catalog_parts",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("location", String(255), nullable=False),
    Column("blob", LongBlob, nullable=False),
    Index("datahub_eventlog_catalog_parts_location", "location"),
)

entities = Table(
    "datahub_eventlog_entities",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("location", String(255), nullable=False),
    # Of the urn alone: several code locations can define the same.
    Column("urn_digest", String(64), nullable=False),
    Column("urn", Text, nullable=False),
    # When it was marked as removed in DataHub; NULL while the code location defines it.
    Column("removed", Moment),
    Index("datahub_eventlog_entities_location", "location"),
    Index("datahub_eventlog_entities_urn", "urn_digest"),
    Index("datahub_eventlog_entities_removed", "removed"),
)

repairs = Table(
    "datahub_eventlog_repairs",
    metadata,
    # Of the row in `runs` whose delivery is repaired.
    Column("run_id", String(255), primary_key=True),
    # The keys of what is to be sent, a JSON list.
    Column("proposals", LongText, nullable=False),
)

meta = Table(
    "datahub_eventlog_meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Moment, nullable=False),
)


CATALOG = "catalog:"
"""Begins the id of the row in `runs` that stands for the catalogue of a code location."""


def is_run() -> ColumnElement[bool]:
    """Whether a row of `runs` is a run.

    Not the events without a run, no catalogue, no backfill, no repair.
    """
    is_other = [runs.c.run_id.like(f"{prefix}%") for prefix in (CATALOG, BACKFILL, REPAIR)]
    return (runs.c.run_id != "") & ~or_(*is_other)


def ddl(dialect_name: str) -> str:
    """The statements that make the tables, for an administrator to run.

    Raises `ConfigurationError` for a database that is not one of those Dagster runs on.
    """
    dialect = dialect_of(dialect_name)
    # MySQL knows no CREATE INDEX IF NOT EXISTS.
    is_tolerant = dialect.name in {"postgresql", "sqlite"}
    elements: list[CreateTable | CreateIndex] = []
    for table in metadata.sorted_tables:
        elements.append(CreateTable(table, if_not_exists=True))
        elements.extend(CreateIndex(index, if_not_exists=is_tolerant) for index in table.indexes)
    statements = [str(element.compile(dialect=dialect)).strip() for element in elements]
    hint = "-- Dagster's user needs SELECT, INSERT, UPDATE and DELETE on these tables.\n"
    return hint + "".join(f"{statement};\n" for statement in statements)


def dialect_of(name: str, **options: Any) -> Dialect:
    """SQLAlchemy's dialect of that name, whatever the driver.

    Raises `ConfigurationError` for a database that is not one of those Dagster runs on.
    """
    if name == "sqlite":
        from sqlalchemy.dialects.sqlite.base import SQLiteDialect

        return SQLiteDialect(**options)
    if name == "postgresql":
        from sqlalchemy.dialects.postgresql.base import PGDialect

        return PGDialect(**options)
    if name in {"mysql", "mariadb"}:
        from sqlalchemy.dialects.mysql.base import MySQLDialect

        return MySQLDialect(**options)
    raise ConfigurationError(f"{name}: expected one of sqlite, postgresql, mysql, mariadb")
