"""The commands for people: their help, their exit codes, what they print, on a terminal and off.

In this process, on a real instance: what needs processes of its own is in `test_cli`.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
from click.testing import CliRunner, Result
from deployment import DEADLINE, sqlite_yaml
from instances import configured, write_yaml

from datahub_eventlog.cli import main

ESCAPE = "\x1b"
TABLE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,dwh.orders,PROD)"
TOO_LONG = "long" * 150
HOSTILE = "sales\x1b[2J</script>"


@dg.asset(metadata={"dagster/table_name": "dwh.orders"}, kinds={"snowflake"}, description=HOSTILE)
def orders() -> Any:
    return dg.MaterializeResult(metadata={"note": "a text that is too long for one line " * 5})


@dg.asset(deps=[orders])
def report() -> None: ...


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME with a run of two assets, and some that were only reported."""
    home = tmp_path_factory.mktemp("home")
    target = {"datahub_file_config": {"path": str(home / "metadata")}, "dispatch": "worker"}
    with configured(home, **sqlite_yaml(target)) as instance:
        dg.materialize([orders, report], instance=instance)
        for event in (
            dg.AssetObservation("seen"),
            dg.AssetMaterialization("reported", metadata={"datahub_urn": TABLE}),
            dg.AssetMaterialization(TOO_LONG),
        ):
            instance.report_runless_asset_event(event)
    return home


@pytest.fixture(scope="module")
def run_id(home: Path) -> str:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (run,) = instance.get_runs()
        return run.run_id


def call(home: Path | None, *arguments: str, **variables: str) -> Result:
    """What a command answers; without a home, DAGSTER_HOME is not set."""
    environment = {"DAGSTER_HOME": str(home) if home else None, **variables}
    return CliRunner().invoke(main, arguments, env=environment)


def commands() -> Iterator[tuple[str, click.Command]]:
    yield from sorted(main.commands.items())


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_the_help_of_every_command_has_an_example_that_its_options_take(
    name: str, command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "workspace.yaml").touch()
    monkeypatch.chdir(tmp_path)
    done = call(None, name, "--help")
    assert done.exit_code == 0
    assert "Examples:" in done.stdout
    examples = [
        line.split("#")[0].split(">")[0].split()[2:]
        for line in done.stdout.splitlines()
        if line.strip().startswith(f"datahub-eventlog {name}")
    ]
    assert examples
    for arguments in examples:
        command.make_context(name, arguments)


WRONG_USAGE = [
    ("no-such-command",),
    ("check", "extra"),
    ("status", "--no-such-option"),
    ("worker", "--metrics-port", "none"),
    ("show",),
    ("preview",),
    ("preview", "some-run", "-o", "."),
    ("explain",),
    ("explain", "a//b"),
    ("backfill", "--since", "yesterday"),
    ("retry",),
    ("retry", "some-run", "--all"),
    ("ddl", "extra"),
    ("demo", "--home"),
]


@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_has_exit_code_2_and_says_what_is_wrong(arguments: tuple[str, ...]) -> None:
    done = call(None, *arguments)
    assert done.exit_code == 2
    assert "Error: " in done.stderr
    assert done.stdout == ""


FALLS_SHORT = [
    ("check",),
    ("status",),
    ("worker", "--until-empty"),
    ("show", "some-run"),
    ("preview", "some-run"),
    ("explain", "orders"),
    ("backfill", "--dry-run"),
    ("retry", "--all"),
    ("ddl",),
]


@pytest.mark.parametrize("arguments", FALLS_SHORT, ids=" ".join)
def test_without_an_instance_every_command_has_exit_code_1_and_says_what_to_do(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    for home, advice in ((None, "DAGSTER_HOME is not set"), (tmp_path, "not switched on")):
        write_yaml(tmp_path)
        done = call(home, *arguments)
        assert done.exit_code == 1
        assert advice in done.stdout + done.stderr
        assert isinstance(done.exception, SystemExit)


def test_every_command_that_finds_all_it_needs_has_exit_code_0(home: Path, run_id: str) -> None:
    page = str(home / "lineage.html")
    for arguments in (
        ("status",),
        ("show", run_id),
        ("preview", run_id, "-o", page),
        ("explain", "orders"),
        ("backfill", "--dry-run"),
        ("retry", "--all"),
        ("ddl",),
    ):
        done = call(home, *arguments)
        assert (arguments, done.exit_code, done.stderr) == (arguments, 0, "")
        assert done.stdout


@pytest.mark.parametrize("command", ["show", "preview"])
def test_a_run_that_is_not_there_is_named(home: Path, command: str) -> None:
    done = call(home, command, "0d9c8a04")
    assert done.exit_code == 1
    assert done.stderr == "Error: there is no run 0d9c8a04\n"


def test_preview_writes_one_page_where_it_is_told(home: Path, run_id: str, tmp_path: Path) -> None:
    file = tmp_path / "lineage.html"
    file.write_text("an older page")
    done = call(home, "preview", run_id, "-o", str(file))
    assert done.stdout.startswith(f"{file}: 6 nodes, ")
    assert "dwh.orders" in file.read_text()
    printed = call(home, "preview", run_id, "-o", "-")
    assert printed.stdout == file.read_text()
    with CliRunner().isolated_filesystem(tmp_path):
        call(home, "preview", run_id)
        assert [each.name for each in Path().iterdir()] == [f"lineage-{run_id[:8]}.html"]
    nowhere = call(home, "preview", run_id, "-o", str(tmp_path / "no" / "folder.html"))
    assert nowhere.exit_code == 1
    assert "folder.html can't be written: No such file or directory" in nowhere.stderr


def test_explain_tells_which_evidence_links_an_asset_to_its_table(home: Path, run_id: str) -> None:
    text = call(home, "explain", "orders").stdout
    assert f"in run {run_id}" in text
    assert "found       dagster/table_name\n" in text
    assert "not found   datahub_urn: no such text in its metadata\n" in text
    assert f"\nIts table\n  {TABLE}\n    sibling of the asset\n" in text
    explanation: dict[str, Any] = json.loads(call(home, "explain", "report", "--json").stdout)
    assert explanation["dataset"] is None
    assert explanation["upstreams"] == [
        {
            "urn": "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)",
            "sources": ["definition", "dagster/input_data_version"],
        }
    ]
    assert [each["state"] for each in explanation["evidence"]] == ["not found"] * 7


def test_explain_knows_an_asset_that_was_only_reported(home: Path) -> None:
    text = call(home, "explain", "reported").stdout
    assert "UTC outside of any run\n" in text
    assert f"found       datahub_urn\n              {TABLE}\n" in text
    assert "its definition is not known" in text


@pytest.mark.parametrize(
    ("asset", "advice"),
    [
        ("seen", "seen was never materialized, and its links are only known then"),
        ("order", "the event log knows no asset order. Did you mean orders?"),
        (TOO_LONG, "nothing of it is sent to DataHub: "),
        ("x/y/z", "the event log knows no asset x/y/z: write the key as in the UI"),
    ],
    ids=["observed", "misspelt", "too long", "unknown"],
)
def test_explain_says_what_to_do_about_an_asset_it_knows_nothing_of(
    home: Path, asset: str, advice: str
) -> None:
    done = call(home, "explain", asset)
    assert done.exit_code == 1
    assert advice in done.stderr


def test_show_is_one_fact_a_line_where_there_is_no_terminal(home: Path, run_id: str) -> None:
    output = call(home, "show", run_id, COLUMNS="80").stdout
    lines = output.splitlines()
    assert lines.count("urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)") == 1
    note = next(line for line in lines if line.startswith("      note: "))
    assert note.endswith("a text that is too long for one line ")
    assert "    timestampMillis: " in output
    assert lines[-1].endswith("; nothing was sent")
    assert ESCAPE not in output


def test_what_people_wrote_is_no_command_to_the_terminal(home: Path, run_id: str) -> None:
    output = call(home, "show", run_id, FORCE_COLOR="1").stdout
    assert "sales�[2J</script>" in output
    assert f"{ESCAPE}[2J" not in output


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", ["show", "explain", "status"])
def test_on_a_terminal_lines_fit_into_it(
    home: Path, run_id: str, command: str, columns: int
) -> None:
    argument = {"show": (run_id,), "explain": ("orders",), "status": ()}[command]
    plain = call(
        home, command, *argument, FORCE_COLOR="1", NO_COLOR="1", COLUMNS=str(columns)
    ).stdout
    # Rich keeps bold and the like where there is to be no colour.
    text = click.unstyle(plain)
    wide = [line for line in text.splitlines() if len(line) > columns]
    assert [each for each in wide if "urn:li:" not in each] == []
    assert text.strip()


def on_terminal(home: Path, *arguments: str, **variables: str) -> str:
    """What a command prints on a real terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    dropped = {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}
    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if name not in dropped},
        "DAGSTER_HOME": str(home),
        "TERM": "xterm-256color",
        **variables,
    }
    command = [sys.executable, "-m", "datahub_eventlog.cli", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=theirs, stdin=theirs)
    os.close(theirs)
    output = b""
    try:
        while part := os.read(ours, 65536):
            output += part
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(ours)
    assert process.wait(DEADLINE) == 0
    return output.decode().replace("\r\n", "\n")


def test_a_real_terminal_has_colours_unless_no_color_is_set(home: Path) -> None:
    coloured = on_terminal(home, "explain", "orders")
    assert f"{ESCAPE}[32m  found" in coloured
    plain = on_terminal(home, "explain", "orders", NO_COLOR="1")
    assert f"{ESCAPE}[3" not in plain
    assert click.unstyle(plain) == click.unstyle(coloured)
