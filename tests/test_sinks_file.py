from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from proposals import RUN_ID, dataset_urn, instance_urn, many, mixture, properties, proposal, tag
from receiver import Receiver

from datahub_eventlog.cli.show import item_json
from datahub_eventlog.config import FileTarget
from datahub_eventlog.errors import LeaseLost, Misconfigured, Unavailable
from datahub_eventlog.sinks.file import FileSink, file_name

WRITER = """
import sys
from proposals import properties
from datahub_eventlog.config import FileTarget
from datahub_eventlog.sinks.file import FileSink

sink = FileSink(FileTarget(sys.argv[1]))
for number in range(int(sys.argv[3])):
    sink.emit([properties(f"{sys.argv[2]}{number}"), properties(f"{sys.argv[2]}{number}", "again")])
    print(number, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there yet"


@pytest.fixture
def sink(folder: Path) -> FileSink:
    return FileSink(FileTarget(str(folder)))


def path_of(folder: Path, run_id: str = RUN_ID) -> Path:
    return folder / file_name(run_id)


def read(path: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(path.read_text())
    return content


def urns(path: Path) -> list[str]:
    return [each["entityUrn"] for each in read(path)]


def writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", WRITER, str(folder), name, str(count)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


# ------------------------------------------------------------------------------------- the format


def test_a_file_has_one_proposal_a_line_in_their_order(folder: Path, sink: FileSink) -> None:
    assert sink.emit([properties("a"), tag("a", "t")]) == []
    assert path_of(folder).read_text().splitlines()[0::3] == ["[", "]"]
    assert read(path_of(folder)) == [
        {
            "entityType": "dataset",
            "entityUrn": dataset_urn("a"),
            "changeType": "UPSERT",
            "aspectName": "datasetProperties",
            "aspect": {"json": {"name": "a", "description": "the dataset a"}},
            "systemMetadata": {"runId": RUN_ID},
        },
        {
            "entityType": "dataset",
            "entityUrn": dataset_urn("a"),
            "changeType": "PATCH",
            "aspectName": "globalTags",
            "aspect": {
                "json": [
                    {
                        "op": "add",
                        "path": "/tags/urn:li:tag:t",
                        "value": {"tag": "urn:li:tag:t"},
                    }
                ]
            },
            "systemMetadata": {"runId": RUN_ID},
        },
    ]


def test_each_run_has_its_file(folder: Path, sink: FileSink) -> None:
    sink.emit([properties(1, run_id="x"), properties(2, run_id=""), properties(3, run_id="x")])
    assert urns(folder / "x.json") == [dataset_urn(1), dataset_urn(3)]
    assert urns(folder / "runless.json") == [dataset_urn(2)]


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "a b", ".hidden", "..", "ä/ö", "x" * 250])
def test_a_run_id_of_any_kind_names_a_file_in_the_folder(
    folder: Path, sink: FileSink, run_id: str
) -> None:
    sink.emit([properties("a", run_id=run_id)])
    (path,) = folder.glob("*.json")
    assert urns(path) == [dataset_urn("a")]


def test_appending_does_not_touch_what_is_there(folder: Path, sink: FileSink) -> None:
    sink.emit(many(3))
    before = path_of(folder).read_bytes()
    sink.emit([properties("new")])
    assert path_of(folder).read_bytes().startswith(before.removesuffix(b"]\n"))
    assert urns(path_of(folder)) == [*map(dataset_urn, range(3)), dataset_urn("new")]


def test_what_is_no_json_is_rejected_and_the_file_stays_whole(folder: Path, sink: FileSink) -> None:
    wrong = dataclasses.replace(properties("a"), body='{"name":')
    (rejected,) = sink.emit([wrong, properties("b")])
    assert rejected.urn == dataset_urn("a")
    assert "no JSON" in rejected.reason
    assert urns(path_of(folder)) == [dataset_urn("b")]


def test_a_lost_lease_passes_through(folder: Path, sink: FileSink) -> None:
    def proceed() -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        sink.emit(many(1), proceed)
    assert not folder.exists()


# ----------------------------------------------------------------------------------------- crashes


def test_wherever_a_crash_tears_the_file_it_is_repaired_and_nothing_delivered_is_lost(
    folder: Path, sink: FileSink
) -> None:
    sink.emit(many(2))
    path = path_of(folder)
    whole = path.read_bytes()
    sink.emit([properties("torn"), properties("torn, too")])
    torn = path.read_bytes()
    for length in range(len(whole) - len(b"]\n"), len(torn)):
        path.write_bytes(torn[:length])
        sink.emit([properties("next")])
        kept = [urn for urn in urns(path) if "torn" not in urn]
        assert kept == [dataset_urn(0), dataset_urn(1), dataset_urn("next")]


def test_a_file_that_a_crash_left_empty_is_begun_again(folder: Path, sink: FileSink) -> None:
    folder.mkdir(parents=True)
    for beginning in ("", "[", "[\n", "[\n{", '[\n{"entityUrn":'):
        path_of(folder).write_text(beginning)
        sink.emit(many(1))
        assert urns(path_of(folder)) == [dataset_urn(0)]


def test_a_killed_writer_loses_nothing_that_it_delivered(folder: Path, sink: FileSink) -> None:
    process = writer(folder, "w", 100_000)
    assert process.stdout is not None
    done = [int(process.stdout.readline()) for _ in range(50)]
    process.kill()
    done += [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
    process.wait()
    process.stdout.close()
    sink.emit([properties("after")])
    found = urns(path_of(folder))
    assert {dataset_urn(f"w{number}") for number in done} <= set(found)
    assert found[-1] == dataset_urn("after")


def test_two_processes_write_into_one_file(folder: Path) -> None:
    both = [writer(folder, name, 40) for name in "ab"]
    for each in both:
        each.communicate(timeout=60)
    expected = [dataset_urn(f"{name}{number}") for name in "ab" for number in range(40)] * 2
    assert sorted(urns(path_of(folder))) == sorted(expected)


def test_a_file_of_somebody_else_is_left_alone(folder: Path, sink: FileSink) -> None:
    folder.mkdir(parents=True)
    text = '{\n  "precious": true\n}\n'
    path_of(folder).write_text(text)
    with pytest.raises(Misconfigured, match="move it away"):
        sink.emit(many(1))
    assert path_of(folder).read_text() == text


# ------------------------------------------------------------------------------ what may be wrong


def test_a_path_that_is_no_folder_is_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Misconfigured, match=r"datahub_file_config: path"):
            FileSink(FileTarget(str(path))).emit(many(1))


def test_a_full_disk_is_unavailable_and_leaves_the_file_whole(folder: Path, sink: FileSink) -> None:
    import resource

    sink.emit(many(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path_of(folder).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
    try:
        with pytest.raises(Unavailable, match="can't be written"):
            sink.emit([properties("too much")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert urns(path_of(folder)) == [dataset_urn(0)]
    sink.emit([properties("now")])
    assert urns(path_of(folder)) == [dataset_urn(0), dataset_urn("now")]


# --------------------------------------------------------------------------- what reads the files


def test_the_datahub_command_ingests_the_folder(
    folder: Path, sink: FileSink, receiver: Receiver, tmp_path: Path
) -> None:
    sink.emit([*mixture(), proposal(dataset_urn("c"), "status", {"removed": False})])
    command = [str(Path(sys.executable).with_name("datahub")), "ingest", "mcps", str(folder)]
    environment = {
        **os.environ,
        "DATAHUB_GMS_URL": receiver.url,
        "DATAHUB_TELEMETRY_ENABLED": "false",
        "HOME": str(tmp_path),
    }
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    # The command adds the defaults of empty fields.
    defaults: dict[str, Any] = {"customProperties": {}, "tags": []}
    assert receiver.aspects(dataset_urn("a")) == {
        "datasetProperties": {
            "name": "a",
            "description": "new: Grüße, “λ” and \U0001f600\n",
            **defaults,
        },
        "globalTags": {"tags": [{"tag": "urn:li:tag:first"}, {"tag": "urn:li:tag:second"}]},
        "status": {"removed": False},
    }
    assert receiver.aspect(dataset_urn("b"), "datasetProperties") == defaults
    assert receiver.aspect(dataset_urn("c"), "status") == {"removed": False}
    events = receiver.timeseries(instance_urn("r"), "dataProcessInstanceRunEvent")
    assert [event["status"] for event in events] == ["STARTED", "COMPLETE"]


@pytest.mark.parametrize("body", ["{}", "[]"])
def test_show_prints_an_empty_aspect_as_the_file_has_it(
    folder: Path, sink: FileSink, body: str
) -> None:
    empty = dataclasses.replace(properties("one"), body=body)
    sink.emit([empty])
    (written,) = read(path_of(folder))
    assert item_json(empty)["aspect"] == written["aspect"]
    assert "json" not in written["aspect"]
