from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
from click.testing import CliRunner
from deployment import Deployment, eventually, free_port
from workspaces import loaded, options

from datahub_eventlog.catalog import Workspace, daemon_workspace, open_workspace
from datahub_eventlog.dagster_internals import workspace_context, workspace_options

GOOD = "import dagster as dg\n\ndefs = dg.Definitions(assets=[dg.AssetSpec('one')])\n"
BAD = "import nothing_of_this_name\n"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield instance


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Deployment]:
    home = Deployment(tmp_path / "deployment", {})
    yield home
    home.stop()


def write(folder: Path, **contents: str) -> list[Path]:
    files = [folder / f"{name}.py" for name in contents]
    for file, content in zip(files, contents.values(), strict=True):
        file.write_text(content)
    return files


def test_a_location_that_fails_to_load_has_an_error_and_costs_no_other(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    with loaded(instance, *write(tmp_path, good=GOOD, bad=BAD)) as (bad, good):
        assert (bad.name, bad.location) == ("bad.py", None)
        assert bad.error is not None
        assert "nothing_of_this_name" in bad.error
        assert "\n" not in bad.error
        assert (good.name, good.error) == ("good.py", None)
        assert [*good.location.get_repositories()] == ["__repository__"]


@contextmanager
def own_context(instance: dg.DagsterInstance, *files: Path) -> Iterator[Any]:
    with workspace_context(instance, options(*files)) as context:
        yield context


@pytest.mark.filterwarnings("ignore:Error loading repository location")
def test_a_version_changes_by_a_reload_and_not_by_a_refresh(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    with own_context(instance, *write(tmp_path, good=GOOD, bad=BAD)) as context:
        workspace = Workspace(context)
        before = workspace.locations()
        context.refresh_workspace()
        refreshed = workspace.locations()
        context.reload_code_location("good.py")
        bad, good = workspace.locations()
        # Dagster leaves it to the garbage collector, which may run in the location's own thread.
        refreshed[1].location.cleanup()

    assert [each.version for each in refreshed] == [each.version for each in before]
    assert refreshed[1].location is not before[1].location
    assert bad.version == before[0].version
    assert good.version != before[1].version


def test_a_served_location_has_the_version_of_its_server(
    instance: dg.DagsterInstance, home: Deployment, tmp_path: Path
) -> None:
    (file,) = write(tmp_path, good=GOOD)
    port = free_port()
    chosen = {**options(), "grpc_port": port, "grpc_host": "127.0.0.1"}
    grpc = ("api", "grpc", "-h", "127.0.0.1", "-p", str(port), "-f", str(file))
    home.start("dagster", *grpc, log="code.log")
    eventually(lambda: "Started" in home.log("code.log"), "the code server is up")

    with open_workspace(instance, chosen) as first:
        (one,) = first.locations()
    with open_workspace(instance, chosen) as second:
        (two,) = second.locations()

    assert (one.error, two.error) == (None, None)
    assert (one.name, one.version) == (two.name, two.version)


def test_options_that_name_no_workspace_are_an_error_of_usage(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(click.UsageError), open_workspace(instance, options()):
        pass


def test_a_command_takes_the_options_of_dagsters_own(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @click.command()
    @workspace_options
    def names(**values: Any) -> None:
        with open_workspace(instance, values) as opened:
            click.echo(" ".join(state.name for state in opened.locations()))

    files = write(tmp_path, one=GOOD, two=GOOD)
    result = CliRunner().invoke(names, [item for file in files for item in ("-f", str(file))])

    assert result.output.split() == ["one.py", "two.py"]


def test_the_workspace_of_the_daemon_is_found_in_its_threads(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert daemon_workspace() is None

    end = threading.Event()
    with own_context(instance, *write(tmp_path, good=GOOD)) as context:
        thread = threading.Thread(target=lambda _context, end: end.wait(), args=(context, end))
        thread.start()
        try:
            found = daemon_workspace()
            assert found is not None
            (state,) = found.locations()
            assert state.name == "good.py"
        finally:
            end.set()
            thread.join()

    assert daemon_workspace() is None


WATCH = """
import sys
import threading
import time
from pathlib import Path


def watch():
    while not any(thread.name.startswith("dagster-daemon-") for thread in threading.enumerate()):
        time.sleep(0.05)
    from dagster import DagsterInstance
    from datahub_eventlog.catalog import daemon_workspace, read_location

    states = daemon_workspace().locations()
    with DagsterInstance.get() as instance:
        keys = {
            state.name: [
                "/".join(asset.key)
                for part in read_location(state, states, instance).parts()
                for asset in part.assets
            ]
            for state in states
        }
    Path("found.tmp").write_text(repr(keys))
    Path("found.tmp").rename("found")


if "dagster._daemon" in sys.orig_argv:
    threading.Thread(target=watch, daemon=True).start()
"""


def test_a_thread_of_the_daemon_reads_what_the_daemon_has_loaded(
    home: Deployment, tmp_path: Path
) -> None:
    files = write(tmp_path, good=GOOD, bad=BAD, sitecustomize=WATCH)
    home.environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    targets = [item for file in files[:2] for item in ("-f", str(file))]

    home.start("dagster._daemon", "run", *targets, log="daemon.log")

    eventually((home.home / "found").exists, f"the workspace is found: {home.log('daemon.log')}")
    assert home.log("found") == repr({"bad.py": [], "good.py": ["one"]})
