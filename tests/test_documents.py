"""The documentation is true: its blocks run, its commands, messages and options exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
import yaml
from dagster._core.workspace.config_schema import process_workspace_config
from datahub_dagster_plugin.client.dagster_generator import DatahubDagsterSourceConfig
from deployment import DEADLINE
from documents import PAGES, ROOT, Block, blocks, of_kind, sections
from instances import configured
from options_table import row
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import make_url

import datahub_eventlog
from datahub_eventlog.cli import main
from datahub_eventlog.config import (
    Config,
    KafkaTarget,
    RestTarget,
    options,
    read,
)
from datahub_eventlog.config.options import TARGETS
from datahub_eventlog.default_storage import mixed_storages
from datahub_eventlog.dispatcher.metrics import LedgerCollector, PrometheusObserver
from datahub_eventlog.ledger import Status
from datahub_eventlog.operations import Operations
from datahub_eventlog.storages import DataHubEventLogStorage
from datahub_eventlog.testing import capturing, delivered

VARIABLES = {
    "DATAHUB_GMS_URL": "http://localhost:8080",
    "DATAHUB_GMS_TOKEN": "hush",
    "DATAHUB_EVENTLOG_EXIT_TIMEOUT": "0",  # nothing answers at these addresses
}

# ------------------------------------------------------------------------------------ dagster.yaml


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> None:
    url = make_url(postgres_url)
    database = {
        "DAGSTER_PG_URL": postgres_url,
        "DAGSTER_PG_HOST": str(url.host),
        "DAGSTER_PG_USERNAME": str(url.username),
        "DAGSTER_PG_PASSWORD": str(url.password or "unused"),
        "DAGSTER_PG_DB": str(url.database),
    }
    for name, value in {**VARIABLES, **database}.items():
        monkeypatch.setenv(name, value)


def relocated(value: Any, folder: Path, url: str) -> Any:
    """The content of a block, with the tests' own database and a folder of their own."""
    if isinstance(value, dict):
        if "hostname" in value:
            there = make_url(url)
            value = {**value, "hostname": there.host, "port": there.port}
            value |= {"username": there.username, "db_name": there.database}
            value["scheme"] = "postgresql+psycopg2"
        return {key: relocated(each, folder, url) for key, each in value.items()}
    if isinstance(value, str) and value.startswith("/var/lib/dagster"):
        return value.replace("/var/lib/dagster", str(folder))
    return value


@contextmanager
def loaded(config: dict[str, Any], folder: Path, url: str) -> Iterator[dg.DagsterInstance]:
    with configured(folder, **relocated(config, folder, url)) as instance:
        yield instance


def assert_it_captures(instance: dg.DagsterInstance) -> None:
    """The configuration has no fault, and a job that the instance runs is in the ledger."""
    assert issubclass(type(instance.event_log_storage), DataHubEventLogStorage)
    assert mixed_storages(instance) is None
    operations = Operations(instance)
    assert operations.reading.faults == ()
    assert operations.config.target is not None

    @dg.job
    def noted() -> None: ...

    run_id = noted.execute_in_process(instance=instance).run_id
    assert operations.ledger.runs.state(run_id) is not None


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("block", of_kind("dagster"), ids=str)
def test_a_dagster_yaml_loads_and_captures(block: Block, tmp_path: Path, postgres_url: str) -> None:
    with loaded(block.content, tmp_path, postgres_url) as instance:
        assert_it_captures(instance)


CHARTS_OWN = """
run_storage: {module: dagster_postgres.run_storage, class: PostgresRunStorage, config: &pg
  {postgres_db: {username: x, password: {env: DAGSTER_PG_PASSWORD}, hostname: x, db_name: x}}}
event_log_storage: {module: dagster_postgres.event_log, class: PostgresEventLogStorage, config: *pg}
schedule_storage:
  {module: dagster_postgres.schedule_storage, class: PostgresScheduleStorage, config: *pg}
"""
"""What the official Helm chart writes into dagster.yaml in any case."""


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("block", of_kind("helm"), ids=str)
def test_the_charts_dagster_yaml_with_our_addition_loads_and_captures(
    block: Block, tmp_path: Path, postgres_url: str
) -> None:
    addition = yaml.safe_dump(block.content["additionalInstanceConfig"])
    with loaded(yaml.safe_load(CHARTS_OWN + addition), tmp_path, postgres_url) as instance:
        assert_it_captures(instance)
    assert "DATAHUB_GMS_TOKEN" in addition
    assert block.content["dagsterDaemon"]["envSecrets"]


@pytest.mark.parametrize("block", of_kind("options"), ids=str)
def test_a_fragment_of_the_block_has_no_fault(block: Block) -> None:
    reading = read(block.content, VARIABLES)
    assert reading.faults == ()
    assert reading.config != read({}, VARIABLES).config


# ------------------------------------------------------------------------------- containers


def command_of(service: dict[str, Any]) -> list[str]:
    command = service.get("command", [])
    return shlex.split(command) if isinstance(command, str) else list(command)


def assert_it_is_a_command(words: list[str]) -> None:
    known = {"dagster", "dagster-webserver", "dagster-daemon", "datahub-eventlog"}
    assert words[0] in known
    assert (Path(sys.executable).parent / words[0]).exists()
    if words[0] == "datahub-eventlog":
        assert_command(words[1:])


@pytest.mark.parametrize("block", of_kind("compose"), ids=str)
def test_a_compose_file_gives_each_process_what_it_needs(block: Block) -> None:
    services = block.content["services"]
    for service in services.values():
        assert {"image", "build"} & set(service)
        assert set(service.get("depends_on", {})) <= set(services)
        if words := command_of(service):
            assert_it_is_a_command(words)
    if "postgres" not in services:
        return
    config = next(each for each in of_kind("dagster") if each.page == block.page)
    needed = set(re.findall(r"\{env: (\w+)\}", config.text))
    database = {each for each in needed if each.startswith("DAGSTER_")}
    for name in ("webserver", "daemon", "shop", "finance", "worker"):
        assert database | {"DAGSTER_HOME"} <= set(services[name]["environment"])
        assert any("dagster.yaml" in each for each in services[name]["volumes"])
    assert needed <= set(services["worker"]["environment"])
    (workspace,) = (each.content for each in of_kind("workspace") if each.page == block.page)
    assert {each["grpc_server"]["host"] for each in workspace["load_from"]} <= set(services)


@pytest.mark.parametrize("block", of_kind("workspace"), ids=str)
def test_a_workspace_is_what_dagster_takes_for_one(block: Block) -> None:
    assert process_workspace_config(block.content).success


@pytest.mark.parametrize("block", of_kind("manifest"), ids=str)
def test_a_kubernetes_manifest_starts_a_worker_with_the_instances_files(block: Block) -> None:
    spec = block.content["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert_it_is_a_command(container["command"])
    assert {each["name"] for each in container["volumeMounts"]} == {
        each["name"] for each in spec["volumes"]
    }
    assert spec["terminationGracePeriodSeconds"] > Config().exit_timeout.total_seconds()


# -------------------------------------------------------------------------------------- Python


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All blocks of Python as the files that their first lines name."""
    folder = tmp_path / "modules"
    folder.mkdir()
    for block in blocks("python"):
        assert block.name, f"{block}: its first line names no file"
        (folder / block.name).write_text(block.text)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_every_block_of_python_runs(modules: Path) -> None:
    tests = list(modules.glob("test_*.py"))
    assert tests
    for module in sorted({*modules.glob("*.py")} - {*tests}):
        exec(compile(module.read_text(), module.name, "exec"), {"__name__": module.stem})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(modules)],
        cwd=modules,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(tests)} passed" in done.stdout


@pytest.mark.usefixtures("modules")
def test_the_documented_functions_take_part_in_a_delivery(tmp_path: Path) -> None:
    @dg.asset(key=["warehouse", "sales", "orders"])
    def orders() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"loaded from": "shop.orders"})

    (tmp_path / "home").mkdir()
    functions = {
        "asset_lineage_extractor": "acme_lineage:extract",
        "asset_keys_to_dataset_urn_converter": "acme_urns:table_of",
    }
    with capturing(tmp_path / "home", **functions) as instance:
        run_id = dg.materialize([orders], instance=instance).run_id
        sink = delivered(instance, run_id)

    assert sink.problems == []
    found = {(proposal.aspect, proposal.body) for proposal in sink.proposals}
    assert any("mysql,shop.orders" in body for name, body in found if name == "dataJobInputOutput")
    assert any("bigquery,acme.sales.orders" in body for name, body in found if name == "siblings")


# ------------------------------------------------------------------------- the tables of options


def test_the_page_of_options_says_of_each_option_once_what_is_declared() -> None:
    page = re.sub(r" \(\[[^]]*\]\([^)]*\)\)", "", text_of("options.md"))  # without links
    rows = re.findall(r"^\| `[a-z_]+` \| .*$", page, re.MULTILINE)
    assert sorted(rows) == sorted(map(row, options().values()))


def test_dagster_yaml_example_has_every_option_with_its_default() -> None:
    (block,) = (each.content["datahub"] for each in sections() if "datahub" in each.content)
    assert set(block) == set(options())
    named = {key: each for key, each in block.items() if key not in TARGETS}
    optional = {"dagster_url", "asset_lineage_extractor", "asset_keys_to_dataset_urn_converter"}
    assert read({k: v for k, v in named.items() if k not in optional}, {}).strict() == Config()
    for target in TARGETS:
        assert read({target: block[target]}, VARIABLES).strict().target is not None
    rest = set(block["datahub_client_config"])
    assert rest == {field.name for field in fields(RestTarget)}
    kafka = {*block["datahub_kafka_config"]["connection"], "topic"}
    assert kafka == {field.name for field in fields(KafkaTarget)}


def test_the_way_from_the_sensor_names_all_of_its_options() -> None:
    text = text_of("migration.md")
    assert [each for each in DatahubDagsterSourceConfig.model_fields if each not in text] == []


# ------------------------------------------------------------------- commands, messages, links


def text_of(page: str) -> str:
    (path,) = (path for path in PAGES if path.name == page)
    return path.read_text()


def assert_command(words: list[str]) -> None:
    """It is one of ours, and has these options."""
    command = main.commands.get(words[0]) if words else None
    assert command is not None, words
    known = {each for option in command.params for each in (*option.opts, *option.secondary_opts)}
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in words[1:] if each.startswith("-")]
    assert set(options) <= known | {"--help"}, words
    assert len(words) == 1 or options or arguments, words


COMMANDS = sorted(
    {
        (page.name, found[1].strip())
        for page in PAGES
        for found in re.finditer(r"datahub-eventlog ([a-z][^`\n#|)\\]*)", page.read_text())
        if not re.match(r"(is|has|needs)\b", found[1])
    }
)


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=str)
def test_a_command_that_is_named_exists_with_these_options(page: str, command: str) -> None:
    plain = re.sub(r"[\[\]]", " ", command)
    assert_command([each.rstrip(".,") for each in plain.split()])
    assert page


def _messages() -> str:
    """Every text of the package, with a line for each, and of what Dagster says of a module."""
    folder = Path(datahub_eventlog.__file__).parent
    import dagster._serdes.config_class as dagsters

    files = [*folder.rglob("*.py"), Path(dagsters.__file__)]
    return "\n".join(text for each in files for text in _texts(ast.parse(each.read_text())))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(_shown(each) for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.replace("%s", "…")


def _shown(part: ast.expr) -> str:
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "…"


def test_the_messages_of_the_troubleshooting_exist_word_for_word() -> None:
    text = text_of("troubleshooting.md")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert messages[0].startswith("Connection error")
    existing = _messages()
    parts = [part.strip() for message in messages for part in re.split(r"\.\.\.|…", message)]
    assert [part for part in parts if part not in existing] == []
    assert len(messages) >= 30


def test_the_figures_to_watch_are_those_that_are_served() -> None:
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    registry.register(LedgerCollector(lambda: Status({"pending": 0}, None, 0, (), (), ())))
    served = re.findall(r"^# TYPE (\w+)", generate_latest(registry).decode(), re.MULTILINE)
    named = re.findall(r"`(datahub_eventlog_\w+)`", text_of("operating.md"))
    assert {each for each in served if not each.endswith("_created")} == set(named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_table_of_modules_has_each_module_once() -> None:
    table = text_of("how-it-works.md").partition("## Modules")[2]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)/?`", row)]
    files = Path(datahub_eventlog.__file__).parent.iterdir()
    modules = {path.stem for path in files if not path.name.startswith(("_", "py.typed"))}
    assert sorted(named) == sorted(modules)


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(text_of("README.md").split()) <= 1000


def test_the_site_has_every_page() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pages = {page.name for page in PAGES if page.parent.name == "docs"}
    assert set(re.findall(r"[\w-]+\.md", str(site["nav"]))) == pages


# -------------------------------------------------------------------------- the repository's files

TARGETS_OF_MAKE = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name
)
def test_a_file_for_github_is_yaml_whose_commands_exist(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    steps = [step for job in content.get("jobs", {}).values() for step in job["steps"]]
    assert all({"uses", "run"} & set(step) for step in steps)
    commands = [step["run"] for step in steps if "run" in step]
    assert set(re.findall(r"^make ([\w-]+)$", "\n".join(commands), re.MULTILINE)) <= TARGETS_OF_MAKE
    for program in re.findall(r"^(\.\S+)$", "\n".join(commands), re.MULTILINE):
        assert (ROOT / program).stat().st_mode & 0o100


def test_a_commands_target_in_the_contributors_table_exists() -> None:
    assert set(re.findall(r"`make ([\w-]+)`", text_of("contributing.md"))) <= TARGETS_OF_MAKE
