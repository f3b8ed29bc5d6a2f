"""`datahub-eventlog check`: each thing that can be wrong is found, and comes with what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from deployment import DEADLINE, postgres_yaml, sqlite_yaml
from instances import configured, write_yaml
from kafka_mock import TOPIC, Brokers, registry
from ledgers import Clock
from postgres import over_psycopg2
from receiver import Receiver
from sqlalchemy import create_engine, text

from datahub_eventlog import __version__, checks
from datahub_eventlog.cli import main
from datahub_eventlog.config import Config
from datahub_eventlog.ledger.tables import metadata
from datahub_eventlog.ledger_location import ledger_of

TOKEN = "right"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("TOKEN", TOKEN)
    return home


def checked() -> dict[str, tuple[bool, str]]:
    """What `check --json` finds, by its name; the exit code says whether all is well."""
    done = CliRunner().invoke(main, ["check", "--json"])
    found = {each["what"]: (each["ok"], each["text"]) for each in json.loads(done.stdout)}
    assert done.exit_code == (0 if all(is_ok for is_ok, _ in found.values()) else 1)
    return found


def rest(server: str, **options: Any) -> dict[str, Any]:
    client = {"server": server, "token": {"env": "TOKEN"}, "timeout_sec": 5}
    return {"datahub_client_config": client, **options}


def failure(found: dict[str, tuple[bool, str]]) -> tuple[str, str]:
    """The only thing that is not well."""
    (failed,) = [(what, advice) for what, (is_ok, advice) in found.items() if not is_ok]
    return failed


def test_where_all_is_well_every_part_is_named(home: Path, receiver: Receiver) -> None:
    write_yaml(home, **sqlite_yaml(rest(receiver.url)))
    found = checked()
    assert {what for what, (is_ok, _) in found.items() if is_ok} == {
        *("DAGSTER_HOME", "storage", "datahub", "ledger", "clock"),
        *("dispatcher", "extra", "jobs", "DataHub", "token", "reading", "redact"),
    }
    assert found["storage"][1] == (
        "DataHubEventLogStorage; events are stored by SqliteEventLogStorage"
    )
    assert f"GMS v1.7.0 answers at {receiver.url}" in found["DataHub"][1]
    assert found["token"][1] == "DataHub accepts the token"
    assert found["redact"][1].startswith("on: passwords, tokens and keys")


@pytest.mark.parametrize("sample", [0, 20])
def test_what_the_token_may_not_read_is_named_and_fails_whoever_verifies(
    home: Path, receiver: Receiver, sample: int
) -> None:
    write_yaml(home, **sqlite_yaml(rest(receiver.url, verify={"sample": sample})))
    receiver.fault("deny", urn="dataset", aspect="operation")
    is_ok, text = checked()["reading"]
    assert is_ok is (sample == 0)
    assert "View Dataset Operations" in text
    assert "Profile" not in text


@pytest.mark.parametrize(
    ("redact", "text"),
    [
        ({"enabled": False}, "off: what looks like a secret in metadata"),
        ({"keys": ["ssn"], "patterns": ["a", "b"]}, "so are 2 patterns and the keys ssn of yours"),
    ],
)
def test_what_is_redacted_is_named(home: Path, redact: dict[str, Any], text: str) -> None:
    write_yaml(home, **sqlite_yaml({"redact": redact}))
    assert text in checked()["redact"][1]


def test_a_home_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    what, advice = failure(checked())
    assert what == "DAGSTER_HOME"
    assert "set it to the folder that has your dagster.yaml" in advice


MISPLACED = "event_log_storage: {module: datahub_eventlog, class: DataHubStorage}\n"


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("storage: [", "dagster.yaml"),
        ("no_such_key: 1\n", "no_such_key"),
        ("", "not switched on"),
        (MISPLACED, "storage: {custom:"),
    ],
)
def test_a_dagster_yaml_that_can_not_be_used_is_explained(
    home: Path, written: str, advice: str
) -> None:
    (home / "dagster.yaml").write_text(written)
    assert advice in " ".join(failure(checked()))


def test_a_mixture_of_storages_is_found(home: Path, postgres_url: str) -> None:
    backend = {
        "module": "dagster_postgres",
        "class": "PostgresEventLogStorage",
        "config": {"postgres_url": postgres_url},
    }
    block = sqlite_yaml({"datahub_file_config": {"path": str(home / "files")}})
    block["event_log_storage"]["config"]["backend"] = backend
    write_yaml(home, **block)
    what, advice = failure(checked())
    assert what == "storage"
    assert "configure run_storage and schedule_storage beside event_log_storage" in advice


@pytest.mark.parametrize(
    ("datahub", "what", "advice"),
    [
        ({"evn": "PROD"}, "datahub", "Did you mean env?"),
        ({}, "datahub", "no target is configured: set datahub_client_config"),
        ({"enabled": False}, "datahub", "enabled is false: nothing is captured or delivered"),
        (
            {"datahub_client_config": {"server": {"env": "NO_SUCH"}}},
            "datahub",
            "NO_SUCH is not set",
        ),
        ({"datahub_file_config": {"path": "/dev/null/x"}}, "folder", "can't be written"),
        (
            {"datahub_file_config": {"path": "files"}, "dispatch": "worker"},
            "dispatcher",
            "start `datahub-eventlog worker`",
        ),
        (
            {"datahub_file_config": {"path": "files"}, "asset_lineage_extractor": "no_such:f"},
            "functions",
            "no_such:f can't be imported here",
        ),
        (
            {
                "datahub_file_config": {"path": "files"},
                "asset_keys_to_dataset_urn_converter": "os:getcwd",
            },
            "functions",
            "can't be called with 1 argument",
        ),
        (
            {"datahub_file_config": {"path": "files"}, "job_pattern": {"deny": ["x_(a|aa)+$"]}},
            "job_pattern",
            "Repeat only one thing, such as a+ for (a+)+",
        ),
        (
            rest("http://127.0.0.1:1"),
            "DataHub",
            "Connection error: DataHub's GMS is not up at http://127.0.0.1:1",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_in_the_block_or_behind_it_is_found(
    home: Path, monkeypatch: pytest.MonkeyPatch, datahub: dict[str, Any], what: str, advice: str
) -> None:
    monkeypatch.chdir(home)
    write_yaml(home, **sqlite_yaml(datahub))
    found = failure(checked())
    assert found[0] == what
    assert advice in found[1]


def test_patterns_are_tried_on_the_names_that_are_there(home: Path) -> None:
    files = {"datahub_file_config": {"path": str(home / "files")}}
    pattern = {"deny": ["[q]{3}_(a|aa)+$"]}
    write_yaml(home, **sqlite_yaml({**files, "asset_pattern": pattern}))
    assert checked()["asset_pattern"] == (True, ".*, [q]{3}_(a|aa)+$ can be used")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(f"qqq_{'a' * 60}b"))
    what, advice = failure(checked())
    assert what == "asset_pattern"
    assert "does not decide within 1 s" in advice


def test_a_wrong_token_is_proved_wrong_by_an_authenticated_call(
    home: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "wrong")
    write_yaml(home, **sqlite_yaml(rest(receiver.url)))
    what, advice = failure(checked())
    assert what == "token"
    assert "put a valid one into DATAHUB_GMS_TOKEN" in advice


def test_each_secret_in_the_file_is_named_with_the_form_that_hides_it(
    home: Path, receiver: Receiver
) -> None:
    client = {"server": receiver.url, "token": TOKEN, "extra_headers": {"Authorization": "hush"}}
    write_yaml(home, **sqlite_yaml({"datahub_client_config": client}))
    printed = CliRunner().invoke(main, ["check"]).stdout
    assert "datahub_client_config: token stands in dagster.yaml itself" in printed
    assert "write token: {env: DATAHUB_GMS_TOKEN}" in printed
    assert "write Authorization: {env: A_VARIABLE}" in printed
    assert "hush" not in printed


def test_a_ledger_that_may_not_make_its_tables_is_found_with_the_command_that_helps(
    home: Path, postgres_url: str
) -> None:
    files = {"datahub_file_config": {"path": str(home / "files")}}
    url = over_psycopg2(postgres_url)
    config = postgres_yaml(url, files)
    with configured(home, **config) as instance:
        instance.get_runs_count()
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in metadata.tables:
            connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
    engine.dispose()
    storage = config["storage"]["custom"]["config"]["storage"]["postgres"]
    storage["should_autocreate_tables"] = False
    write_yaml(home, **config)
    found = checked()
    what, advice = failure(found)
    assert what == "ledger"
    assert "a local file, which only this machine sees" in advice
    assert "`datahub-eventlog ddl`" in advice
    assert found["storage"][1] == "DataHubStorage; events are stored by PostgresEventLogStorage"


def test_live_dispatchers_are_named_with_their_version(home: Path) -> None:
    files = {"datahub_file_config": {"path": str(home / "files")}, "dispatch": "worker"}
    with configured(home, **sqlite_yaml(files)) as instance:
        ledger_of(instance, patience=5).reports.heartbeat("worker-7", 42, __version__)
    assert checked()["dispatcher"] == (True, f"alive: worker-7:42 ({__version__})")


def test_with_dispatch_off_nobody_is_missed(home: Path) -> None:
    files = {"datahub_file_config": {"path": str(home / "files")}, "dispatch": "off"}
    write_yaml(home, **sqlite_yaml(files))
    is_ok, advice = checked()["dispatcher"]
    assert is_ok
    assert "nothing is delivered" in advice


def test_kafka_and_its_schema_registry_are_asked(home: Path) -> None:
    brokers = Brokers(TOPIC)
    with registry() as schemas:
        connection = {"bootstrap": brokers.bootstrap, "schema_registry_url": schemas.url}
        write_yaml(home, **sqlite_yaml({"datahub_kafka_config": {"connection": connection}}))
        good = checked()
        schemas.status = 401
        what, advice = failure(checked())
        routes = {"topic_routes": {"MetadataChangeProposal": "another"}}
        write_yaml(
            home, **sqlite_yaml({"datahub_kafka_config": {"connection": connection, **routes}})
        )
        schemas.status = 200
        other = failure(checked())
    brokers.end()
    assert (good["Kafka"][0], good["schema registry"][0]) == (True, True)
    assert what == "schema registry"
    assert "correct datahub_kafka_config: connection: schema_registry_url" in advice
    assert other[0] == "Kafka"
    assert "has no topic another" in other[1]


def test_what_jobs_are_called_in_datahub_is_told() -> None:
    by_code, by_option = checks.jobs(Config()), checks.jobs(Config(urn_prefix="shop"))
    assert by_code.is_ok
    assert "`dagster job execute -f x.py` executes is x.py/<job>" in by_code.text
    assert by_option.text == "each is shop/<job> in DataHub, as urn_prefix says"


def test_clocks_that_differ_are_found() -> None:
    good, bad = checks.clock(-1.0), checks.clock(61.0)
    assert good.is_ok
    assert not bad.is_ok
    assert bad.text == (
        "the database's clock differs from this machine's by 61.0 s: synchronize both by NTP"
    )


def test_times_ahead_of_the_clock_are_found_with_what_to_do(home: Path) -> None:
    files = {"datahub_file_config": {"path": str(home / "files")}}
    with configured(home, **sqlite_yaml(files)) as instance:
        ledger = ledger_of(instance, patience=5)
        ledger.database.clock = Clock(time.time() + 86400)
        ledger.reports.heartbeat("here", 42, __version__)
    found = checked()
    is_ok, advice = found["clock"]
    assert not is_ok
    assert advice.startswith("the ledger has times that are 86")
    assert "ahead of this machine's clock" in advice
    assert "synchronize it by NTP" in advice
    assert "none is alive" in found["dispatcher"][1]


BASE_ONLY = """
import sys
sys.modules["datahub"] = sys.modules["tenacity"] = None  # as if they were not installed
from datahub_eventlog.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("command", "code", "advice"),
    [
        ("check", 1, "datahub and tenacity can't be imported in this process: pip install"),
        ("status", 0, "No dispatcher is alive"),
        ("ddl", 0, "CREATE TABLE"),
        ("worker", 1, 'datahub is not installed here: pip install "datahub-eventlog[datahub]"'),
    ],
)
def test_without_the_extra_the_commands_work_or_name_it(
    home: Path, command: str, code: int, advice: str
) -> None:
    write_yaml(home, **sqlite_yaml({"datahub_file_config": {"path": str(home / "files")}}))
    done = subprocess.run(
        [sys.executable, "-c", BASE_ONLY, command],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == code, done.stderr
    assert advice in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
