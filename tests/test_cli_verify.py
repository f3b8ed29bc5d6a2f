"""`datahub-eventlog verify`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from deployment import postgres_yaml, sqlite_yaml
from instances import configured, write_yaml
from receiver import Receiver
from verified import run_assets, run_greeting

from datahub_eventlog.cli import main
from datahub_eventlog.config import Config, KafkaTarget, RestTarget, readable_target
from datahub_eventlog.errors import ConfigurationError

TOKEN = "hush"
ORDERS = "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)"


@pytest.fixture(params=["sqlite", "postgres"])
def home(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A home with two delivered runs, of assets and of ops."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("TOKEN", TOKEN)
    client = {"server": receiver.url, "token": {"env": "TOKEN"}}
    datahub = {"datahub_client_config": client, "dispatch": "worker"}
    if request.param == "postgres":
        yaml = postgres_yaml(request.getfixturevalue("postgres_url"), datahub)
    else:
        yaml = sqlite_yaml(datahub)
    with configured(tmp_path, **yaml) as instance:
        run_assets(instance)
        run_greeting(instance)
    assert _call("worker", "--until-empty").exit_code == 0
    return tmp_path


def _call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.usefixtures("home")
def test_where_all_is_there_it_says_so() -> None:
    done = _call("verify")
    assert "2 runs compared: 16 entities" in done.stdout
    assert "DataHub has everything that was compared" in done.stdout
    assert done.exit_code == 0


@pytest.mark.usefixtures("home")
def test_what_is_lost_is_printed_mended_and_found_no_more(receiver: Receiver) -> None:
    before = receiver.state()
    properties = receiver.store.versioned.pop((ORDERS, "datasetProperties"))
    other = {
        **receiver.store.versioned[ORDERS, "browsePathsV2"],
        "path": [{"id": "password=t0psec"}],
    }
    receiver.store.versioned[ORDERS, "browsePathsV2"] = other
    done = _call("verify")
    assert done.exit_code == 1
    assert "Missing in DataHub: 1" in done.stdout
    assert "Different in DataHub: 1" in done.stdout
    assert ORDERS in done.stdout
    assert "/path" in done.stdout
    assert "t0psec" not in done.stdout
    assert "`datahub-eventlog verify --fix` sends them again" in done.stdout
    assert properties
    counted = _call("verify", "--fix", "--dry-run")
    assert (counted.exit_code, receiver.aspect(ORDERS, "datasetProperties")) == (1, None)
    assert "2 aspects would be sent again" in counted.stdout
    mended = _call("verify", "--fix")
    assert mended.exit_code == 0, mended.output
    assert "2 aspects were sent again" in mended.stdout
    assert receiver.state() == before


@pytest.mark.usefixtures("home")
def test_a_token_that_is_not_accepted_ends_it_and_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKEN", "wrong")
    done = _call("verify")
    assert done.exit_code == 1
    assert "Stopped after 2 of 2 runs: " in done.stdout
    assert "it does not accept the token" in done.stdout
    assert "wrong" not in done.output


@pytest.mark.usefixtures("home")
def test_the_json_has_all_of_it(receiver: Receiver) -> None:
    del receiver.store.series[ORDERS, "operation"]
    done = _call("verify", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (found["missing"], found["differs"], found["complete"]) == (1, 0, True)
    assert found["runs"] == {"selected": 2, "compared": 2, "skipped": {}, "failed": []}
    (finding,) = found["findings"]
    assert (finding["kind"], finding["urn"], finding["aspect"]) == ("missing", ORDERS, "operation")


@pytest.mark.usefixtures("home")
def test_runs_are_selected_by_job_asset_id_and_time() -> None:
    def selected(*options: str) -> int:
        done = _call("verify", "--json", *options)
        number: int = json.loads(done.stdout)["runs"]["selected"]
        return number

    assert selected("--job", "greeting") == 1
    assert selected("--asset", "orders") == 1
    assert selected("--until", "2020-01-01") == 0
    assert selected("--since", "2020-01-01", "--sample", "1") == 1
    assert selected("--run", "no-such-run") == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--dry-run",), "--dry-run belongs to --fix"),
        (("--sample", "3", "--resume"), "can't be resumed"),
        (("--sample", "0"), "0 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused(options: tuple[str, ...], why: str) -> None:
    done = _call("verify", *options)
    assert done.exit_code == 2
    assert why in done.output


def test_a_target_that_can_not_be_read_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    write_yaml(tmp_path, **sqlite_yaml({"datahub_file_config": {"path": str(tmp_path / "out")}}))
    done = _call("verify")
    assert done.exit_code == 1
    assert "only DataHub's GMS can" in done.output


def test_who_delivers_to_kafka_reads_from_the_gms_of_the_environment() -> None:
    kafka = Config(target=KafkaTarget("localhost:9092", "http://localhost:8081"))
    environ = {"DATAHUB_GMS_URL": "http://gms:8080", "DATAHUB_GMS_TOKEN": "t"}
    assert readable_target(kafka, environ) == RestTarget("http://gms:8080", token="t")
    with pytest.raises(ConfigurationError, match="DATAHUB_GMS_URL"):
        readable_target(kafka, {})
