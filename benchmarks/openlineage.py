"""dagster-openlineage's wrapper of the event log storage, in a virtual environment of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

# dagster-postgres depends on psycopg2 only, but SQLAlchemy 2.1 takes `postgresql://` for psycopg 3.
PACKAGES = ("dagster-openlineage", "dagster-postgres", "sqlalchemy<2.1")
URL = "OPENLINEAGE_URL"
INSTALLING = 900
"""Seconds in which it must be installed."""

Backend = Literal["up", "refusing", "hanging"]


class NotInstalled(Exception):
    """The rival is not there, and this says why."""


def installed(folder: Path) -> Path:
    """The interpreter of a virtual environment that has it, made if absent.

    Raises `NotInstalled`.
    """
    python = folder / "bin" / "python"
    done = folder / ".done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _call(sys.executable, "-m", "venv", str(folder))
        _call(str(python), "-m", "pip", "install", "--quiet", *PACKAGES)
        done.touch()
    return python


def version(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('dagster-openlineage'))"
    return subprocess.check_output([str(python), "-c", code], text=True).strip()


def storage(backend: dict[str, Any]) -> dict[str, Any]:
    """What dagster.yaml says."""
    return {
        "event_log_storage": {
            "module": "dagster_openlineage.storage",
            "class": "OpenLineageEventLogStorage",
            "config": {"wrapped": backend},
        }
    }


@contextmanager
def receiving(backend: Backend) -> Iterator[str]:
    """The address of a server that behaves so."""
    if backend == "up":
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()
        return
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if backend == "hanging":
            silent.listen(100)
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _call(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALLING
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"not installed: {type(error).__name__}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise NotInstalled(f"not installed: {reason[:60]}")
