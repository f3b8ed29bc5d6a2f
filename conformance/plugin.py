"""The pytest plugin of both sides: notes the outcomes and, on one side, wraps every event log.

Dagster's tests make their instances themselves. On the wrapped side each gets the storage that
it would have if its dagster.yaml named ours; nothing else is different.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import alembic_cache
import pytest
import yaml
from dagster import DagsterInstance
from dagster._core import test_utils
from dagster._core.instance.ref import InstanceRef
from sqlalchemy import make_url

from conformance import older_dagster, suites
from conformance.side import SERVER
from datahub_eventlog import DataHubEventLogStorage
from datahub_eventlog.capture import process
from datahub_eventlog.errors import LedgerUnavailable
from datahub_eventlog.ledger_location import ledger_of

PARTS = frozenset({"run_storage", "event_log_storage", "schedule_storage"})
"""Keys of dagster.yaml that don't go together with `storage`."""
BLOCK = {"dispatch": "off"}
"""The content of `datahub:`. Nothing is delivered."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that `side` passes."""
    parser.addoption("--side", choices=("plain", "wrapped"), required=True)
    parser.addoption("--notes", type=Path, required=True)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Prepare this process, before anything of the tests is imported."""
    older_dagster.restore_names()
    # It looks for the tests beside the installed Dagster.
    test_utils.ensure_dagster_tests_import = lambda: None


def pytest_configure(config: pytest.Config) -> None:
    """Start noting outcomes and, on the wrapped side, wrapping."""
    alembic_cache.install()
    wrapping = Wrapping()
    if config.getoption("--side") == "wrapped":
        wrapping.start()
    config.pluginmanager.register(Notes(config.getoption("--notes"), wrapping))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the tests that are coroutines."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture
def postgres_conn_str() -> Iterator[str]:
    """A new and empty database, under the name that dagster_postgres's tests know."""
    from postgres import new_database

    with new_database(os.environ[SERVER]) as url:
        yield url


@pytest.fixture
def postgres_hostname() -> str:
    """The server's host, likewise."""
    return str(make_url(os.environ[SERVER]).host)


class Wrapping:
    """Wraps the event log of each instance that is made, in the style of the test's suite."""

    def __init__(self) -> None:
        self.style: suites.Style = "B"
        self.instances = 0
        """Instances that were wrapped."""

    def start(self) -> None:
        """Wrap the event log of every instance from now on."""
        from_dir, init = InstanceRef.from_dir, DagsterInstance.__init__
        InstanceRef.from_dir = staticmethod(self._from_dir(from_dir))  # type: ignore[method-assign]
        DagsterInstance.__init__ = self._init(init)  # type: ignore[method-assign]

    def _from_dir(self, original: Callable[..., InstanceRef]) -> Callable[..., InstanceRef]:
        """As if the dagster.yaml in that folder named the wrapper."""

        @functools.wraps(original)
        def from_dir(base_dir: str, **options: Any) -> InstanceRef:
            written = _written(base_dir, **options)
            changes = _wrapped_blocks(written, self.style, base_dir)
            given = options.pop("overrides", None) or {}
            self.instances += 1
            return original(base_dir, **options, overrides={**given, **changes})

        return from_dir

    def _init(self, original: Callable[..., None]) -> Callable[..., None]:
        """For the instances that are made of objects, such as the ephemeral ones."""

        @functools.wraps(original)
        def init(instance: DagsterInstance, *arguments: Any, **options: Any) -> None:
            storage = options.get("event_storage")
            if storage is not None and not issubclass(type(storage), DataHubEventLogStorage):
                options["event_storage"] = DataHubEventLogStorage.around(storage, BLOCK)
                self.instances += 1
            original(instance, *arguments, **options)

        return init


def _written(
    base_dir: str,
    *,
    config_dir: str | None = None,
    config_filename: str = "dagster.yaml",
    overrides: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """The configuration in dagster.yaml, with the overrides of the test."""
    path = Path(config_dir or base_dir, config_filename)
    text = path.read_text() if path.exists() else ""
    return {**(yaml.safe_load(text) or {}), **(overrides or {})}


def _wrapped_blocks(
    written: Mapping[str, Any], style: suites.Style, base_dir: str
) -> Mapping[str, Any]:
    """The blocks of dagster.yaml that differ once the wrapper is named in it."""
    if written.get("storage") or (style == "A" and PARTS.isdisjoint(written)):
        inner = written.get("storage") or {"sqlite": {"base_dir": base_dir}}
        return {"storage": {"custom": _named("DataHubStorage", storage=inner)}}
    event_log = written.get("event_log_storage")
    backend = {"backend": event_log} if event_log else {}
    return {"event_log_storage": _named("DataHubEventLogStorage", **backend)}


def _named(name: str, **config: Any) -> Mapping[str, Any]:
    return {"module": "datahub_eventlog", "class": name, "config": {**config, "datahub": BLOCK}}


class Notes:
    """Writes one line of JSON a test: its outcome, and what the wrapper had to do with it."""

    def __init__(self, path: Path, wrapping: Wrapping) -> None:
        self._file = path.open("w")
        self._wrapping = wrapping
        self._note: dict[str, Any] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Note one test."""
        suite = suites.suite_of(item.nodeid)
        self._wrapping.style = "B" if suite is None else suite.style
        self._note = {"test": item.nodeid, "result": "missing", "reason": "", "touched": 0}
        instances, complaints = self._wrapping.instances, process().warnings.count
        try:
            return (yield)
        finally:
            self._note["instances"] = self._wrapping.instances - instances
            self._note["complaints"] = process().warnings.count - complaints
            self._write()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Count the runs in the ledger of the test's instance, before that is gone."""
        instance = getattr(item, "funcargs", {}).get("instance")
        if self._wrapping.instances and isinstance(instance, DagsterInstance):
            with suppress(LedgerUnavailable):
                status = ledger_of(instance, patience=1.0).reports.status()
                self._note["touched"] = sum(status.runs.values())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take the worst of set-up, call and tear-down."""
        report = yield
        if report.failed:
            self._note.update(result="failed", reason=_where(call))
        elif report.skipped and self._note["result"] != "failed":
            self._note.update(result="skipped", reason=_why(report))
        elif report.when == "call":
            self._note.update(result="passed")
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that can't be imported, like a test that fails."""
        if report.failed:
            reason = str(report.longrepr).strip().splitlines()[-1]
            self._note = {"test": report.nodeid, "result": "failed", "reason": reason}
            self._write()

    def _write(self) -> None:
        self._file.write(f"{json.dumps(self._note)}\n")
        self._file.flush()


def _where(call: pytest.CallInfo[None]) -> str:
    """The exception, and the last line of the test file in its traceback."""
    if call.excinfo is None:
        return "unknown"
    lines = [entry for entry in call.excinfo.traceback if "_tests" in str(entry.path)]
    where = f" at {Path(lines[-1].path).name}:{lines[-1].lineno + 1}" if lines else ""
    return f"{call.excinfo.typename}{where}"


def _why(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"expected to fail {report.wasxfail}".strip()
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
