import logging
import signal

import alembic_cache
import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores it for background processes. All processes that the tests start would inherit
    # that, and Dagster's servers, which handle SIGTERM like SIGINT, would not end.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take long on a busy machine. Failed examples are kept in `.hypothesis`, or in CI
# outside of its clone, and tried first in the next run. `quick` is for the matrix, `thorough` for
# `make properties`.
PLAIN = settings.get_profile("default")  # the profile for CI would keep no examples
settings.register_profile("steady", PLAIN, max_examples=40, deadline=None, print_blob=True)
STEADY = settings.get_profile("steady")
settings.register_profile("quick", STEADY, max_examples=15)
settings.register_profile("thorough", STEADY, max_examples=2_000)
settings.load_profile("steady")

alembic_cache.install()

pytest_plugins = ("postgres", "ledgers", "receivers", "scenes", "styles", "verified")

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
        if POSTGRES.intersection(getattr(item, "fixturenames", ())) or _is_on_postgres(item):
            item.add_marker(pytest.mark.postgres)


def _is_on_postgres(item: pytest.Item) -> bool:
    """Whether it asks for Postgres by a parameter, of a fixture for example."""
    callspec = getattr(item, "callspec", None)
    return callspec is not None and "postgres" in callspec.id.lower()


@pytest.fixture(autouse=True)
def forgetful_process() -> None:
    """Every test begins as a new process does: a touch that failed before must not hold it up.

    Nor is the log silent because a command was called here that has the screen for itself.
    """
    from datahub_eventlog import capture
    from datahub_eventlog.log import logger

    capture.forget()
    logger.setLevel(logging.NOTSET)
