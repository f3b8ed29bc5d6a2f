"""A secret is shown nowhere: in no log, no command's output, no error, whatever goes wrong."""

from __future__ import annotations

import logging
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from deployment import Deployment, eventually, sqlite_yaml
from instances import configured, write_yaml
from receiver import Receiver

from datahub_eventlog import error_text
from datahub_eventlog.cli import main
from datahub_eventlog.config import read

CANARY = "hush-canary-4711"
NOBODY = "127.0.0.1:1"
HEADERS = {"Authorization": {"env": "CANARY"}, "X-Api-Key": {"env": "CANARY"}}

LOOKING = [
    ["check"],
    ["check", "--json"],
    ["status"],
    ["status", "--json"],
    ["retry", "--all"],
    ["ddl"],
]


@dg.op
def work() -> None: ...


@dg.job
def small() -> None:
    work()


TOKEN = "the right one"
Targets = dict[str, Callable[[Receiver], dict[str, Any]]]


def _rest(server: str, **options: Any) -> dict[str, Any]:
    return {"datahub_client_config": {"server": server, "timeout_sec": 2, **options}}


def _kafka(registry: str, **producer: Any) -> dict[str, Any]:
    connection = {"bootstrap": NOBODY, "schema_registry_url": registry}
    options = {"message.timeout.ms": 500, **producer}
    return {"datahub_kafka_config": {"connection": {**connection, "producer_config": options}}}


FAILING: Targets = {
    "wrong token": lambda receiver: _rest(
        receiver.url, token={"env": "CANARY"}, extra_headers=HEADERS
    ),
    "a token that can't be sent": lambda receiver: _rest(receiver.url, token=f"{CANARY}\n"),
    "user and password in the address": lambda _: _rest(f"http://me:{CANARY}@{NOBODY}"),
    "an address that is none": lambda _: _rest(f"http://me:{CANARY}@[::1"),
    "Kafka's password": lambda _: _kafka(
        f"http://me:{CANARY}@{NOBODY}",
        **{
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": "me",
            "sasl.password": {"env": "CANARY"},
        },
    ),
    "an option that Kafka does not know": lambda _: _kafka(
        f"http://{NOBODY}", **{"no.such.option": CANARY}
    ),
    "a value that Kafka does not take": lambda _: _kafka(f"http://{NOBODY}", acks=CANARY),
}
WRONG: dict[str, Any] = {
    "a token that is a list": _rest("http://gms", token=[CANARY]),
    "a token that is a block": _rest("http://gms", token={"value": CANARY}),
    "a timeout that is text": _rest("http://gms", timeout_sec=CANARY),
    "headers that are text": _rest("http://gms", extra_headers=CANARY),
    "a client that is text": {"datahub_client_config": CANARY},
    "an address without a scheme": _rest(f"me:{CANARY}@gms:8080"),
    "a number that is text": {"max_attempts": CANARY},
    "a name that is none of the list": {"env": CANARY, "dispatch": CANARY, "emit_mode": CANARY},
    "an address that is text": {"dagster_url": CANARY, "asset_lineage_extractor": CANARY},
    "a variable that is no JSON": {"datahub_client_config": {"env": "CANARY"}},
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The variables of a process; the folder is its DAGSTER_HOME."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.setenv("DATAHUB_EVENTLOG_EXIT_TIMEOUT", "5")
    return home


class Output:
    """Everything that was printed or logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "dagster.datahub_eventlog")
        self._caplog = caplog
        self._texts: list[str] = []

    def of(self, *arguments: str) -> str:
        """What that command prints, and with what it breaks."""
        done = CliRunner().invoke(main, list(arguments))
        error = done.exception
        broken = "" if error is None else "".join(traceback.format_exception(error))
        self._texts.append(f"{done.output}\n{broken}")
        assert error is None or isinstance(error, SystemExit), broken
        return done.output

    def everything(self) -> str:
        return "\n".join([*self._texts, self._caplog.text])


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture) -> Output:
    return Output(caplog)


def _execute(home: Path, datahub: dict[str, Any]) -> str:
    """Run a job, which tries to deliver itself at its end."""
    with configured(home, **sqlite_yaml({"debug_mode": True, **datahub})) as instance:
        return small.execute_in_process(instance=instance).run_id


@pytest.mark.parametrize("case", FAILING)
def test_no_command_and_no_log_shows_a_secret_when_delivery_fails(
    case: str, environment: Path, output: Output, receiver: Receiver
) -> None:
    run_id = _execute(environment, FAILING[case](receiver))
    for arguments in (*LOOKING, ["show", run_id], ["show", run_id, "--json"]):
        output.of(*arguments)
    everything = output.everything()
    assert "FAILED" in everything
    assert CANARY not in everything


@pytest.mark.parametrize("case", WRONG)
def test_no_error_of_the_configuration_shows_a_secret(
    case: str, environment: Path, output: Output
) -> None:
    run_id = _execute(environment, WRONG[case])
    for arguments in (["check"], ["worker", "--until-empty"], ["status"], ["show", run_id]):
        output.of(*arguments)
    assert read(WRONG[case], {"CANARY": CANARY}).faults
    assert CANARY not in output.everything()


def test_a_database_that_is_down_or_misconfigured_shows_no_password(
    environment: Path, output: Output
) -> None:
    down = {"postgres_url": f"postgresql+psycopg2://me:{CANARY}@{NOBODY}/dagster"}
    address = {"hostname": "localhost", "username": "me", "password": CANARY, "db_name": "x"}
    wrong = {"postgres_db": {**address, "port": CANARY}}
    unknown = {"postgres_db": {**address, "pasword": CANARY}}
    for storage in (down, wrong, unknown):
        config = {"storage": {"postgres": storage}, "datahub": {}}
        custom = {"module": "datahub_eventlog", "class": "DataHubStorage", "config": config}
        write_yaml(environment, storage={"custom": custom})
        for arguments in (["check"], ["status"], ["worker"]):
            assert "can't be loaded" in output.of(*arguments) or arguments == ["check"]
    assert CANARY not in output.everything()


@pytest.mark.parametrize("case", ["wrong token", "user and password in the address"])
def test_a_worker_shows_no_secret_while_it_can_not_deliver(
    case: str, tmp_path: Path, receiver: Receiver
) -> None:
    block = {**FAILING[case](receiver), "dispatch": "worker", "debug_mode": True}
    deployment = Deployment(tmp_path / "home", sqlite_yaml(block), {"CANARY": CANARY})
    try:
        with deployment.instance() as instance:
            small.execute_in_process(instance=instance)
        worker = deployment.start("datahub_eventlog.cli", "worker", log="worker.log")
        message = "Runs wait in the ledger until it is back."
        eventually(lambda: message in deployment.log("worker.log"), "the outage is logged")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    finally:
        deployment.stop()
    assert CANARY not in deployment.log("worker.log")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"no way to http://me:{CANARY}@gms:8080/x", "no way to http://me:***@gms:8080/x"),
        (f"postgresql://me:{CANARY}@with@gms/x 'y'", "postgresql://me:***@gms/x 'y'"),
        (f"host=h password={CANARY} dbname=x", "host=h password=*** dbname=x"),
        (f'Value "{CANARY}" of type "str" is none', 'Value "***" of type "str" is none'),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_looks_like_a_password_is_left_out(said: str, shown: str) -> None:
    assert error_text.without_secrets(said) == shown


class Mean(Exception):
    def __init__(self, text: str | None = None) -> None:
        super().__init__(CANARY)
        self.text = text

    def __str__(self) -> str:
        if self.text is None:
            raise SystemExit
        return self.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, "Mean: its __str__ raises SystemExit"),
        ("two\n\n  lines", "Mean: two lines"),
        ("\x1b[31mred\x00 \u202etfel \ud800", r"Mean: \x1b[31mred\x00 \u202etfel \ud800"),
        ("", "Mean"),
        (f"at postgresql://me:{CANARY}@db/shop", "Mean: at postgresql://me:***@db/shop"),
    ],
)
def test_any_error_is_one_line_that_can_be_printed(text: str | None, shown: str) -> None:
    assert error_text.describe(Mean(text)) == shown
    assert error_text.describe(Mean(text)).isprintable()


@pytest.mark.parametrize("start", ["", "x" * 7_990 + " "])
def test_an_error_of_any_length_is_a_line_of_some_hundred_letters(start: str) -> None:
    text = f"{start}postgresql://me:{CANARY}{'y' * 10_000_000}@db/shop"
    shown = error_text.describe(Mean(text))
    assert len(shown) < 3_000
    assert CANARY not in shown


def test_a_trace_names_every_frame_and_shows_no_secret() -> None:
    def connect() -> None:
        raise Mean(f"postgresql://me:{CANARY}@db/shop")

    def deliver() -> None:
        try:
            connect()
        except Mean as error:
            raise Mean(None) from error

    with pytest.raises(Mean) as raised:
        deliver()
    shown = error_text.trace(raised.value)
    assert CANARY not in shown
    assert (
        shown.index("in connect")
        < shown.index("postgresql://me:***@db/shop")
        < shown.rindex("in deliver")
    )
    assert shown.endswith("Mean: its __str__ raises SystemExit")


def test_a_trace_of_errors_in_a_circle_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert error_text.trace(one).count("ValueError") == 2
