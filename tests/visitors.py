"""A user of the database who may use Dagster's tables, but may make none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from datahub_eventlog.ledger import ddl
from datahub_eventlog.ledger.tables import metadata


@contextmanager
def visitor(postgres_url: str) -> Iterator[str]:
    """The address of the database for that user."""
    url = make_url(postgres_url).set(drivername="postgresql+psycopg2")
    # It makes its tables.
    _ = DagsterPostgresStorage(url.render_as_string(hide_password=False), True).event_log_storage
    name = f"visitor_{url.database}"
    _administer(
        url,
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"CREATE USER {name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}",
    )
    yield url.set(username=name).render_as_string(hide_password=False)
    _administer(url, f"DROP OWNED BY {name}", f"DROP USER {name}")


def make_tables(visitor: URL) -> None:
    """What an administrator does with the output of `datahub-eventlog ddl`."""
    rights = "GRANT SELECT, INSERT, UPDATE, DELETE ON"
    grants = [f"{rights} {each} TO {visitor.username}" for each in metadata.tables]
    _administer(visitor.set(username="postgres"), ddl("postgresql"), *grants)


def _administer(url: URL, *statements: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for each in statements:
            connection.execute(text(each))
