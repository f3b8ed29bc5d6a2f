import pytest

pytest_plugins = ("postgres", "ledgers")

POSTGRES = {"postgres_url", "postgres_server_url", "own_postgres"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden-files",
        action="store_true",
        help="write what is delivered now into tests/golden",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for Postgres, so that `-m "not postgres"` leaves them out."""
    for item in items:
        if POSTGRES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)
