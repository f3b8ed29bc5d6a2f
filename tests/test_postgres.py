from postgres import PostgresServer
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool


def run(url: str, statement: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(statement))


def names(url: str) -> list[str]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return list(connection.execute(text("SELECT name FROM things")).scalars())


def test_each_test_has_a_database_of_its_own(postgres_url: str, postgres_server_url: str) -> None:
    run(postgres_url, "CREATE TABLE things (name text)")
    with create_engine(postgres_server_url, poolclass=NullPool).connect() as connection:
        found = connection.execute(text("SELECT to_regclass('things')")).scalar()
    assert found is None


def test_what_was_committed_survives_a_killed_server(own_postgres: PostgresServer) -> None:
    with own_postgres.database() as url:
        run(url, "CREATE TABLE things (name text)")
        run(url, "INSERT INTO things VALUES ('one')")
        own_postgres.kill()
        own_postgres.start()
        assert names(url) == ["one"]


def test_a_restarted_server_has_its_address_and_data(own_postgres: PostgresServer) -> None:
    with own_postgres.database() as url:
        run(url, "CREATE TABLE things (name text)")
        run(url, "INSERT INTO things VALUES ('one')")
        own_postgres.restart()
        assert names(url) == ["one"]
