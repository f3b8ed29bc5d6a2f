from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from receiver import Receiver

from datahub_eventlog.config import FileTarget, KafkaTarget, RestTarget
from datahub_eventlog.sinks import connect, probe

TOKEN = "a-very-secret-token"


def python(code: str, **environment: str) -> str:
    variables = {**os.environ, **environment}
    result = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_sinks_loads_nothing_of_datahub() -> None:
    loaded = python(
        "import sys, datahub_eventlog.sinks;"
        "print(*[each for each in ('datahub', 'requests', 'tenacity', 'avro', 'confluent_kafka')"
        " if each in sys.modules])"
    )
    assert loaded == ""


def test_datahubs_tracking_is_off_unless_somebody_wants_it() -> None:
    code = "import os, datahub_eventlog.sinks; print(os.environ['DATAHUB_TELEMETRY_ENABLED'])"
    assert (
        python(f"import os; os.environ.pop('DATAHUB_TELEMETRY_ENABLED', None); {code}") == "false"
    )
    assert python(code, DATAHUB_TELEMETRY_ENABLED="true") == "true"


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    printed = python(
        "import sys\n"
        "sys.modules['confluent_kafka'] = None\n"
        "from datahub_eventlog.sinks import connect, probe\n"
        "from datahub_eventlog.config import KafkaTarget\n"
        "from datahub_eventlog.errors import ConfigurationError\n"
        "for each in (connect, probe):\n"
        "    try:\n"
        "        each(KafkaTarget('localhost:9092', 'http://localhost:8081'))\n"
        "    except ConfigurationError as error:\n"
        "        print(error)\n"
    )
    assert (
        printed.count('confluent_kafka is not installed here: pip install "datahub-eventlog[') == 2
    )


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (RestTarget("http://localhost:8080"), "RestSink"),
        (KafkaTarget("localhost:9092", "http://localhost:8081"), "KafkaSink"),
        (FileTarget("proposals"), "FileSink"),
    ],
)
def test_connecting_sends_nothing(target: RestTarget | KafkaTarget | FileTarget, kind: str) -> None:
    sink = connect(target)
    assert type(sink).__name__ == kind
    sink.close()


# ------------------------------------------------------------------------------------- the probe


def test_a_probe_finds_gms_and_its_version_and_proves_the_token(receiver: Receiver) -> None:
    found = probe(RestTarget(receiver.url, token=TOKEN))
    assert [(each.is_ok, each.what) for each in found] == [(True, "DataHub"), (True, "token")]
    assert "v1.7.0" in found[0].text
    assert receiver.url in found[0].text


def test_a_probe_proves_the_token_by_a_call_that_needs_it(receiver: Receiver) -> None:
    found = probe(RestTarget(receiver.url, token="another-secret"))
    assert [each.is_ok for each in found] == [True, False]
    assert "DATAHUB_GMS_TOKEN" in found[1].text
    assert "another-secret" not in str(found)


def test_a_probe_without_a_token_says_whether_one_is_needed(receiver: Receiver) -> None:
    assert [each.is_ok for each in probe(RestTarget(receiver.url))] == [True, False]
    receiver.token = None
    found = probe(RestTarget(receiver.url))
    assert [each.is_ok for each in found] == [True, True]
    assert found[1].text == "DataHub asks for no token"


def test_a_probe_writes_nothing(receiver: Receiver) -> None:
    probe(RestTarget(receiver.url, token=TOKEN))
    assert receiver.writes == []


def test_a_probe_knows_a_web_page_from_gms(receiver: Receiver) -> None:
    receiver.fault("html")
    (found,) = probe(RestTarget(receiver.url, token=TOKEN))
    assert not found.is_ok
    assert "is not DataHub's GMS" in found.text
    assert ":9002/api/gms" in found.text


def test_a_probe_finds_a_redirect_that_delivery_could_not_follow(receiver: Receiver) -> None:
    receiver.fault("redirect", location=f"{receiver.url}/config?elsewhere", count=1)
    (found,) = probe(RestTarget(receiver.url, token=TOKEN))
    assert not found.is_ok
    assert "make `server` the final address" in found.text


def test_a_probe_says_that_gms_is_not_up() -> None:
    (found,) = probe(RestTarget("http://127.0.0.1:1"))
    assert not found.is_ok
    assert "Connection error: DataHub's GMS is not up at http://127.0.0.1:1" in found.text


def test_a_probe_finds_a_wrong_path(receiver: Receiver) -> None:
    (found,) = probe(RestTarget(f"{receiver.url}/nowhere", token=TOKEN))
    assert not found.is_ok


def test_a_probe_tries_whether_the_folder_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    (found,) = probe(FileTarget(str(folder)))
    assert found.is_ok
    assert list(folder.iterdir()) == []
    (tmp_path / "file").write_text("")
    (found,) = probe(FileTarget(str(tmp_path / "file")))
    assert not found.is_ok
    assert "datahub_file_config" in found.text
