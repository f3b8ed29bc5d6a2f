"""`datahub-eventlog diff`: what it prints, how it exits, and what it asks of DataHub."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from catalogues import NIGHTLY, ORDERS, REPORT, column, part, schema, urn
from click.testing import CliRunner, Result
from deployment import DEADLINE
from documents import ROOT

from datahub_eventlog.catalog.document import document
from datahub_eventlog.cli import main
from datahub_eventlog.config import read
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import AssetFacts, CatalogPart

TABLE = urn("dwh.sales.orders", "snowflake")
DASHBOARD = "urn:li:dashboard:(looker,42)"
MART = urn("mart.revenue", "postgres")
HOSTILE = "<img src=x>|`@team`\n[a](http://b) #1 **b** _c_\x1b[2J"


@dataclass
class DataHub:
    """Answers the questions of `diff` as GMS does, from what a test gives it."""

    downstream: dict[str, list[str]] = field(default_factory=dict)
    total: int | None = None
    aspects: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[Any] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, body: Any) -> Any:
        self.asked.append((path, body))
        if path == "/api/graphql":
            if self.errors:
                return {"errors": self.errors}
            wanted = body["variables"]["input"]
            urns = self.downstream.get(wanted["urn"], [])
            results = [{"entity": {"urn": each}} for each in urns[: wanted["count"]]]
            total = len(urns) if self.total is None else self.total
            return {"data": {"searchAcrossLineage": {"total": total, "searchResults": results}}}
        if path.endswith("/batchGet"):
            return [self._entity(each) for each in body if each["urn"] in self.aspects]
        return {"noCode": "true"}

    def _entity(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        known = self.aspects[wanted["urn"]]
        return {"urn": wanted["urn"]} | {
            name: {"value": value} for name, value in known.items() if name in wanted
        }


@pytest.fixture
def datahub(monkeypatch: pytest.MonkeyPatch) -> Iterator[DataHub]:
    datahub = DataHub()

    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(None)

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: Any) -> None:
            content = json.dumps(datahub.answer(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    datahub.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("DATAHUB_GMS_URL", datahub.url)
    yield datahub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAGSTER_HOME", "DATAHUB_GMS_URL", "DATAHUB_GMS_TOKEN"):
        monkeypatch.delenv(name, raising=False)


class Files:
    """Catalogues in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, *parts: CatalogPart) -> str:
        path = self._folder / name
        path.write_text(json.dumps(document(parts, Context())))
        return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def diff(*words: str, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(main, ["diff", *words], input=stdin)
    assert result.exit_code == code, result.output + str(result.exception)
    return result


BASE = part(ORDERS, REPORT, jobs=(NIGHTLY,))
CHANGED = replace(
    ORDERS,
    group="shop",
    metadata={**ORDERS.metadata, **schema(column("id", "text", nullable=False))},
)
HEAD = part(CHANGED, AssetFacts(("new",)))


def test_equal_catalogues_do_not_differ(files: Files) -> None:
    base = files.write("base.json", BASE)
    assert diff(base, base, "--fail-on", "any").output == "no difference\n"
    found = json.loads(diff(base, base, "--format", "json").output)
    assert found["breaking"] == found["impact"] == found["remarks"] == []
    assert found["assets"] == found["jobs"] == {"added": [], "removed": [], "changed": []}
    assert "no difference" in diff(base, base, "--format", "markdown").output


def test_the_text_names_every_change_and_what_is_breaking(files: Files) -> None:
    base, head = files.write("base.json", BASE), files.write("head.json", HEAD)
    lines = diff(base, head, "--no-impact").output.splitlines()
    assert lines[0] == (
        "1 asset removed, 1 asset changed, 1 asset added, 1 job removed; 3 breaking changes"
    )
    for line in (
        "- asset report",
        "~ asset sales/orders",
        "  ~ group: sales → shop",
        "  - column amount (breaking)",
        "  ~ type of column id: int → text (breaking)",
        "+ asset new",
        "- job nightly",
    ):
        assert line in lines
    assert "downstream" not in "\n".join(lines)


def test_the_json_has_everything(files: Files) -> None:
    base, head = files.write("base.json", BASE), files.write("head.json", HEAD)
    found = json.loads(diff(base, head, "--no-impact", "--format", "json").output)
    assert [(item["asset"], item["column"]) for item in found["breaking"]] == [
        ("report", None),
        ("sales/orders", "amount"),
        ("sales/orders", "id"),
    ]
    assert [item["asset"] for item in found["assets"]["added"]] == ["new"]
    (change,) = found["assets"]["changed"]
    assert change["table"] == TABLE
    assert change["fields"] == [{"name": "group", "before": "sales", "after": "shop"}]
    assert change["columns"]["changed"] == [
        {"column": "id", "name": "type", "before": "int", "after": "text"}
    ]
    assert [item["name"] for item in change["columns"]["removed"]] == ["amount"]
    assert [item["job"] for item in found["jobs"]["removed"]] == ["nightly"]


@pytest.mark.parametrize(
    ("fail_on", "head", "code"),
    [
        ((), HEAD, 0),
        (("--fail-on", "breaking"), HEAD, 1),
        (("--fail-on", "any"), HEAD, 1),
        (("--fail-on", "breaking"), part(ORDERS, REPORT, AssetFacts(("new",))), 0),
        (("--fail-on", "any"), part(ORDERS, REPORT, AssetFacts(("new",))), 1),
        (("--fail-on", "any"), BASE, 0),
    ],
)
def test_the_exit_code_says_what_it_was_told_to_fail_on(
    files: Files, fail_on: tuple[str, ...], head: CatalogPart, code: int
) -> None:
    base = files.write("base.json", BASE)
    diff(base, files.write("head.json", head), "--no-impact", *fail_on, code=code)


def test_one_of_them_may_be_standard_input(files: Files) -> None:
    head = files.write("head.json", HEAD)
    text = Path(files.write("base.json", BASE)).read_text()
    assert "- asset report" in diff("-", head, "--no-impact", stdin=text).output
    diff("-", "-", code=2)
    diff(head, "datahub", code=2)


def test_a_file_that_is_no_catalogue_is_named(files: Files, tmp_path: Path) -> None:
    head = files.write("head.json", HEAD)
    (tmp_path / "other.json").write_text("[]")
    output = diff(str(tmp_path / "other.json"), head, code=1).output
    assert "other.json is no catalogue: make one with `datahub-eventlog catalog" in output
    assert "absent.json can't be read" in diff(str(tmp_path / "absent.json"), head, code=1).output


# -------------------------------------------------------------------------------- the Markdown


def test_the_markdown_has_a_table_and_folded_details(files: Files) -> None:
    base, head = files.write("base.json", BASE), files.write("head.json", HEAD)
    text = diff(base, head, "--no-impact", "--format", "markdown").output
    assert "**3 breaking changes**" in text
    assert "| ⚠️ | asset <code>report</code> | removed |" in text
    assert "|  | asset <code>new</code> | added |" in text
    assert "<details><summary>All changes</summary>" in text
    assert "type of column <code>id</code> changed: <code>int</code> → <code>text</code>" in text


def test_names_are_no_markdown_no_html_and_notify_nobody(files: Files) -> None:
    hostile = AssetFacts((HOSTILE,), metadata=schema(column(HOSTILE)), description=HOSTILE)
    changed = replace(hostile, metadata=schema(column("x", HOSTILE)), description="")
    base, head = files.write("base.json", part(hostile)), files.write("head.json", part(changed))
    text = diff(base, head, "--no-impact", "--format", "markdown").output
    spans = re.findall(r"<code>(.*?)</code>", text)
    assert len(spans) >= 4
    for span in spans:
        assert not set(re.sub(r"&#\d+;", "", span)) & set("<>|`@[]#*_\n\x1b&\\")
    outside = re.sub(r"<code>.*?</code>", "", text)
    assert not set(outside) & set("`@[]\x1b")
    assert "<img" not in text
    plain = diff(base, head, "--no-impact").output
    assert "\x1b" not in plain


def test_a_comment_is_never_longer_than_github_takes(files: Files) -> None:
    assets = [AssetFacts((f"asset_{index}",), description="|" * 400) for index in range(400)]
    fewer = [replace(asset, description="_" * 400) for asset in assets]
    base, head = files.write("base.json", part(*assets)), files.write("head.json", part(*fewer))
    text = diff(base, head, "--format", "markdown").output
    assert 30_000 < len(text) < 65_000
    assert "| | 370 more | |" in text
    assert re.search(r"and \d+ more lines", text)
    assert text.rstrip().endswith("</details>")


# ---------------------------------------------------------------------------------- the impact


def test_what_stands_downstream_is_named_with_its_owners(files: Files, datahub: DataHub) -> None:
    datahub.downstream = {
        urn("report"): [DASHBOARD],
        f"urn:li:schemaField:({TABLE},amount)": [f"urn:li:schemaField:({MART},sum)", MART],
    }
    owner = {"owner": "urn:li:corpuser:ada", "type": "DATAOWNER"}
    stamp = {"time": 0, "actor": "urn:li:corpuser:ada"}
    datahub.aspects = {
        DASHBOARD: {
            "ownership": {"owners": [owner], "lastModified": stamp},
            "dashboardInfo": {
                "title": "Revenue",
                "description": "",
                "charts": [],
                "lastModified": {"created": stamp, "lastModified": stamp},
            },
        }
    }
    base, head = files.write("base.json", BASE), files.write("head.json", HEAD)
    lines = diff(base, head).output.splitlines()
    assert "    looker Revenue, owned by ada" in lines
    assert "    postgres mart.revenue, without an owner" in lines
    assert "  downstream of column amount: 1" in lines
    found = json.loads(diff(base, head, "--format", "json").output)
    assert [(item["asset"], item["column"]) for item in found["impact"]] == [
        (urn("report"), None),
        (urn("sales.orders"), "amount"),
    ]
    (dependent,) = found["impact"][0]["dependents"]
    assert dependent == {
        "urn": DASHBOARD,
        "name": "Revenue",
        "platform": "looker",
        "owners": ["urn:li:corpuser:ada"],
    }
    markdown = diff(base, head, "--format", "markdown").output
    assert "removed, **1 downstream**" in markdown
    assert "looker Revenue, owned by ada" in markdown
    asked = [body["variables"]["input"]["urn"] for path, body in datahub.asked if "graphql" in path]
    assert f"urn:li:schemaField:({urn('sales.orders')},amount)" in asked


def test_what_is_removed_itself_does_not_stand_downstream(files: Files, datahub: DataHub) -> None:
    datahub.downstream = {urn("sales.orders"): [urn("report"), TABLE], TABLE: [urn("report")]}
    base, head = files.write("base.json", part(ORDERS, REPORT)), files.write("head.json", part())
    found = json.loads(diff(base, head, "--format", "json").output)
    assert [item["dependents"] for item in found["impact"]] == [[], []]


def test_only_some_of_many_are_named_and_the_others_counted(files: Files, datahub: DataHub) -> None:
    datahub.downstream = {urn("a"): [urn(f"down{index}") for index in range(200)]}
    base = files.write("base.json", part(AssetFacts(("a",))))
    output = diff(base, files.write("head.json", part())).output
    assert "downstream of the asset: 200" in output
    assert "and 180 more" in output


def test_a_datahub_that_refuses_costs_only_the_impact(files: Files, datahub: DataHub) -> None:
    datahub.errors = [{"message": "no rights"}]
    base, head = files.write("base.json", BASE), files.write("head.json", HEAD)
    output = diff(base, head).output
    assert "- asset report" in output
    assert "DataHub could not be asked: " in output
    assert "no rights" in output


def test_without_a_datahub_the_impact_is_one_line(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, head = files.write("base.json", BASE), files.write("head.json", HEAD)
    lines = diff(base, head).output.splitlines()
    assert sum("What stands downstream is not known" in line for line in lines) == 1
    assert "DATAHUB_GMS_URL" in lines[-1]
    monkeypatch.setenv("DATAHUB_GMS_URL", "")
    assert diff(base, head).output.splitlines() == lines
    assert "downstream" not in diff(base, base).output


# ------------------------------------------------------------------------- what DataHub holds


def test_a_catalogue_is_compared_with_what_datahub_holds(files: Files, datahub: DataHub) -> None:
    def held(name: str, type_: str) -> dict[str, Any]:
        kind: dict[str, Any] = {"type": {"com.linkedin.schema.NumberType": {}}}
        return {"fieldPath": name, "type": kind, "nativeDataType": type_, "nullable": False}

    datahub.aspects = {
        urn("sales.orders"): {
            "datasetProperties": {"description": "Some orders.", "customProperties": {}},
            "schemaMetadata": {
                "schemaName": "x",
                "platform": "urn:li:dataPlatform:dagster",
                "version": 0,
                "hash": "",
                "platformSchema": {"com.linkedin.schema.OtherSchema": {"rawSchema": ""}},
                "fields": [held("id", "INT"), held("old", "int")],
            },
            "upstreamLineage": {
                "upstreams": [
                    {"dataset": each, "type": "TRANSFORMED"} for each in (urn("raw"), TABLE)
                ]
            },
        },
        urn("report"): {"status": {"removed": True}},
    }
    output = diff("datahub", files.write("head.json", BASE)).output
    lines = output.splitlines()
    assert lines[0] == "1 asset changed, 1 asset added; 1 breaking change"
    for line in (
        "  ~ description: Some orders. → All orders.",
        "  - column old (breaking)",
        "  + column amount",
        f"  - upstream {urn('raw')}",
        "+ asset report",
    ):
        assert line in lines
    assert "DataHub was asked about the assets of HEAD only" in output


def test_without_a_datahub_there_is_nothing_to_compare_with(files: Files) -> None:
    output = diff("datahub", files.write("head.json", BASE), code=1).output
    assert "no DataHub is configured here: set DATAHUB_GMS_URL" in output


# ------------------------------------------------------------------------------- the workflow


def steps() -> list[dict[str, Any]]:
    content = yaml.safe_load((ROOT / "examples" / "pull_request.yml").read_text())
    found: list[dict[str, Any]] = content["jobs"]["diff"]["steps"]
    return found


def scripts() -> str:
    return "\n".join(step.get("run", "") for step in steps())


def test_the_commands_of_the_workflow_exist_with_these_options() -> None:
    commands = re.findall(r"/datahub-eventlog ([^>\n]*)", scripts())
    assert [command.split()[0] for command in commands] == ["catalog", "catalog", "diff"]
    for command in commands:
        name, *words = shlex.split(command)
        known = {option for each in main.commands[name].params for option in each.opts}
        assert {word for word in words if word.startswith("-")} <= known


def test_the_workflow_compares_and_fails_with_a_comment_to_post(
    files: Files, tmp_path: Path
) -> None:
    files.write("base.json", BASE)
    files.write("head.json", HEAD)
    (script,) = (step["run"] for step in steps() if " diff " in step.get("run", ""))
    (tmp_path / "env-head" / "bin").mkdir(parents=True)
    program = Path(sys.executable).parent / "datahub-eventlog"
    (tmp_path / "env-head" / "bin" / "datahub-eventlog").symlink_to(program)
    done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, check=False, timeout=DEADLINE)
    assert done.returncode == 1
    assert "**3 breaking changes**" in (tmp_path / "comment.md").read_text()


def test_the_workflow_puts_nothing_from_a_pull_request_into_its_scripts() -> None:
    assert "${{" not in scripts()
    (home,) = re.findall(r"<<'END'\n(.*?)END\n", scripts(), re.DOTALL)
    storage = yaml.safe_load(home)["event_log_storage"]
    assert read(storage["config"]["datahub"], {}).faults == ()
