"""The ledger's own numbers, one row each: when it was made, how far it was compared, and so on."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.dialects import Instant, insert_absent, upsert
from datahub_eventlog.ledger.tables import SCHEMA, meta

CREATED = "created"
WATERMARK = "watermark"
CAPTURED_SINCE = "since"
CAPTURE_OFF = "off"
RUNLESS_SINCE = "runless_since"
EXPIRED = "expired"
"""How many settled runs a sweep has removed."""
SCHEMA_VERSION = "schema"
NO_TIMES = (SCHEMA_VERSION, EXPIRED)
"""The values that are no times."""


def seed(connection: Connection, now: Instant) -> None:
    """Write the values that a new ledger has, and the version of its tables."""
    dialect = connection.dialect.name
    for name, value in ((CREATED, now), (WATERMARK, now), (EXPIRED, 0.0)):
        connection.execute(insert_absent(dialect, meta, {"name": name, "value": value}))
    statement = upsert(
        dialect,
        meta,
        {"name": SCHEMA_VERSION, "value": float(SCHEMA)},
        lambda new: [("value", new["value"])],
        lambda new: meta.c.value < new["value"],
    )
    connection.execute(statement)


def read_value(connection: Connection, name: str) -> float | None:
    """The value of that name, or None if there is none."""
    value = connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
    return None if value is None else float(value)


def write_value(connection: Connection, name: str, value: float | Instant) -> None:
    """Write the value of that name."""
    values = {"name": name, "value": value}
    statement = upsert(connection.dialect.name, meta, values, lambda new: [("value", new["value"])])
    connection.execute(statement)


def forget_value(connection: Connection, name: str) -> bool:
    """Remove the value of that name, and return whether there was one."""
    return connection.execute(delete(meta).where(meta.c.name == name)).rowcount > 0
