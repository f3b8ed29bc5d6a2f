from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from datahub.metadata.schema_classes import MetadataChangeProposalClass, OperationClass
from datahub.metadata.urns import DatasetUrn
from deployment import Deployment, sqlite_yaml
from logs import RUN_ID, asset_facts, facts, log

from datahub_eventlog.config import Config
from datahub_eventlog.dispatcher.translation import ForExtractor
from datahub_eventlog.errors import ConfigurationError
from datahub_eventlog.extractor import DagsterGenerator, Extractor, _proposal
from datahub_eventlog.proposal_claims import claim_of, slot
from datahub_eventlog.source import Source
from datahub_eventlog.testing import capturing, delivered
from datahub_eventlog.values import Change, Proposal

LOG = log()
TABLE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.t,PROD)"
SOURCE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.u,PROD)"

USERS_MODULE = f"""
import threading
from datahub.metadata.urns import DatasetUrn
from datahub_eventlog import DagsterGenerator, DatasetLineage
from dagster import DagsterEventType

def extract(context, dagster_generator, graph):
    # As in the documentation of the sensor plugin, but for the import.
    logs = context.instance.all_logs(
        context.dagster_run.run_id, {{DagsterEventType.ASSET_MATERIALIZATION}}
    )
    lineage = {{}}
    for log in logs:
        lineage.setdefault(log.step_key, DatasetLineage(set(), set()))
        said = log.asset_materialization
        urn = dagster_generator.emit_asset(
            graph, said.asset_key.path, said.description,
            {{key: str(value) for key, value in said.metadata.items()}},
            upstreams={{"{SOURCE}"}}, downstreams={{"{TABLE}"}},
        )
        lineage[log.step_key].outputs.add(urn)
        lineage[log.step_key].inputs.add(DatasetUrn.from_string("{SOURCE}"))
    return lineage

def convert(key):
    if key[0] == "raise":
        raise KeyError(key[0])
    return DatasetUrn("snowflake", ".".join(key), "PROD") if key[0] == "db" else None

def raising(context, dagster_generator, graph):
    raise RuntimeError("no lineage today")

class Mean(Exception):
    def __str__(self):
        raise RuntimeError("no text")

def mean(context, dagster_generator, graph):
    raise Mean

def mean_converter(key):
    raise Mean

def verbose(context, dagster_generator, graph):
    raise RuntimeError("x " * 5_000_000)

def unprintable(context, dagster_generator, graph):
    raise RuntimeError("\\x1b[2J\\x00\\ud800")

def malformed(context, dagster_generator, graph):
    from datahub.metadata.schema_classes import GenericAspectClass, MetadataChangeProposalClass
    aspect = GenericAspectClass(value=b"no JSON", contentType="application/json")
    dagster_generator._collect(MetadataChangeProposalClass("dataset", "UPSERT", aspect=aspect))

def endless(context, dagster_generator, graph):
    threading.Event().wait()

def endless_converter(key):
    threading.Event().wait()

def wrong(context):
    return {{}}

not_a_function = 3
"""


@pytest.fixture
def users_module(tmp_path: Path) -> Iterator[str]:
    name = f"users_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(USERS_MODULE)
    sys.path.insert(0, str(tmp_path))
    yield name
    sys.path.remove(str(tmp_path))


@dg.asset
def orders() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"rows": 3})


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Callable[[], dg.RunStatusSensorContext]]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_id = dg.materialize([orders], instance=instance).run_id
        yield lambda: Source(instance).sensor_context(run_id)


def _extractor(extractor: str | None = None, converter: str | None = None) -> Extractor:
    config = Config(
        asset_lineage_extractor=extractor, asset_keys_to_dataset_urn_converter=converter
    )
    return Extractor(config, ForExtractor(config), deadline=timedelta(seconds=5))


def test_the_plugins_documented_extractor_works_after_changing_its_import(
    users_module: str, context: Callable[[], dg.RunStatusSensorContext]
) -> None:
    found = _extractor(f"{users_module}:extract").lineages(context, None, 7.0, LOG)

    asset = "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)"
    assert found.problems == ()
    assert found.lineages == {"orders": (frozenset({SOURCE}), frozenset({asset}))}
    emitted = {(proposal.urn, proposal.aspect): proposal for proposal in found.proposals}
    properties = emitted[asset, "datasetProperties"]
    assert properties.change is Change.PATCH
    values = {each["path"]: each["value"] for each in json.loads(properties.body)}
    assert values["/name"] == "orders"
    assert "3" in values["/customProperties/rows"]
    assert (properties.time, properties.run_id) == (7.0, RUN_ID)
    assert emitted[TABLE, "upstreamLineage"].change is Change.PATCH
    assert (SOURCE, "datasetKey") in emitted


def test_of_timeseries_that_an_extractor_emits_none_replaces_another() -> None:
    moments = (1_000, 2_000)
    emitted = [
        MetadataChangeProposalWrapper(
            entityUrn=TABLE,
            aspect=OperationClass(each, operationType="INSERT", lastUpdatedTimestamp=each),
        )
        for each in moments
    ]
    found = [_proposal(each.make_mcp(), 7.0, RUN_ID) for each in emitted]
    assert [json.loads(each.body)["timestampMillis"] for each in found] == [*moments]
    assert [claim_of(each) for each in found] == [None, None]


def test_the_converter_names_platform_datasets_and_its_errors_cost_only_their_key(
    users_module: str,
) -> None:
    found = _extractor(converter=f"{users_module}:convert").platform_urns(
        [("db", "s", "t"), ("other",), ("raise",)]
    )
    assert found.platform_urns == {("db", "s", "t"): TABLE}
    (problem,) = found.problems
    assert problem.urn == "raise"
    assert "convert failed: KeyError" in problem.reason


def test_a_raising_extractor_costs_only_its_own_facts(
    users_module: str, context: Callable[[], dg.RunStatusSensorContext]
) -> None:
    extractor = _extractor(f"{users_module}:raising")
    for _ in range(2):
        found = extractor.lineages(context, None, 0.0, LOG)
        assert found.lineages == {}
        assert "RuntimeError: no lineage today" in found.problems[0].reason


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("mean", "mean failed: Mean: its __str__ raises RuntimeError"),
        ("verbose", "verbose failed: RuntimeError: x x x"),
        ("unprintable", r"unprintable failed: RuntimeError: \x1b[2J\x00\ud800"),
        ("malformed", "malformed failed: JSONDecodeError"),
    ],
)
def test_whatever_an_extractor_raises_the_run_is_delivered_without_its_facts(
    users_module: str, tmp_path: Path, function: str, reason: str
) -> None:
    (tmp_path / "home").mkdir()
    options = {"asset_lineage_extractor": f"{users_module}:{function}"}
    with capturing(tmp_path / "home", **options) as instance:
        run_id = dg.materialize([orders], instance=instance).run_id
        sink = delivered(instance, run_id)
    (problem,) = sink.problems
    assert reason in problem.reason
    assert len(problem.reason) < 3_000
    assert problem.reason.isprintable()
    assert any(proposal.aspect == "dataProcessInstanceRunEvent" for proposal in sink.proposals)


def test_whatever_a_converter_raises_costs_only_its_key(users_module: str) -> None:
    found = _extractor(converter=f"{users_module}:mean_converter").platform_urns([("a",)])
    (problem,) = found.problems
    assert "Mean: its __str__ raises RuntimeError" in problem.reason


def test_an_endless_extractor_is_off_after_its_deadline(
    users_module: str, context: Callable[[], dg.RunStatusSensorContext]
) -> None:
    config = Config(asset_lineage_extractor=f"{users_module}:endless")
    extractor = Extractor(config, ForExtractor(config), deadline=timedelta(seconds=0.2))

    found = extractor.lineages(context, None, 0.0, LOG)
    assert "did not return within 0.2 s" in found.problems[0].reason
    assert "off in this process" in found.problems[0].reason
    assert extractor.lineages(context, None, 0.0, LOG).problems != ()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("not_there_at_all:f", "can't be imported here: ModuleNotFoundError"),
        ("{}:missing", "can't be imported here: AttributeError"),
        ("{}:wrong", r"wrong\(context\) can't be called with 3 arguments"),
        ("{}:not_a_function", "is not a function"),
    ],
)
def test_a_function_that_cant_be_used_is_named_with_what_is_wrong(
    users_module: str, function: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _extractor(function.format(users_module))


def test_an_endless_converter_is_off_after_its_deadline(users_module: str) -> None:
    config = Config(asset_keys_to_dataset_urn_converter=f"{users_module}:endless_converter")
    extractor = Extractor(config, ForExtractor(config), deadline=timedelta(seconds=0.2))

    found = extractor.platform_urns([("a",), ("b",)])
    assert found.platform_urns == {}
    assert [problem.urn for problem in found.problems] == ["a", "b"]


def test_an_extractor_is_answered_as_the_translation_answers_itself() -> None:
    config = Config(platform_instance_map={"snowflake": "main"}, convert_urns_to_lowercase=True)
    known = log(definitions=facts(asset_facts("a/orders", group="landing")))
    translation = ForExtractor(config).of(known, ("/home/dagster/storage",))

    def ask(path: str) -> DatasetUrn | None:
        return generator.metadata_resolver(dg.MetadataValue.path(path))

    emitted: list[MetadataChangeProposalClass] = []
    generator = DagsterGenerator(config, emitted.append, None, translation)
    assert str(ask("s3a://bucket/a")) == SOURCE.replace("snowflake,db.s.u", "s3,bucket/a")
    assert ask("/home/dagster/storage/orders") is None
    assert ask(f"s3://bucket/{RUN_ID}/orders") is None
    assert generator.metadata_resolver(dg.MetadataValue.text("/data/a")) is None
    key = ["prod", "snowflake", "DB", "S", "T"]
    table = generator.asset_keys_to_dataset_urn_converter(key)
    assert str(table) == TABLE.replace("db.s.t", "main.db.s.t")
    assert generator.asset_keys_to_dataset_urn_converter(["team", "shop", "db"]) is None
    generator.emit_asset(None, ["a", "orders"], None, None)
    (path,) = (each.aspect for each in emitted if each.aspectName == "browsePathsV2")
    assert path is not None
    assert [each["id"] for each in json.loads(path.value)["path"]] == ["landing", "a"]


def test_a_key_names_nothing_to_an_extractor_if_it_is_not_to() -> None:
    config = Config(capture_dataset_from_asset_key=False)
    generator = DagsterGenerator(config, print, None, ForExtractor(config))
    assert generator.asset_keys_to_dataset_urn_converter(["prod", "snowflake", "t"]) is None


def test_check_imports_the_functions_and_names_what_is_wrong_with_them(
    tmp_path: Path, users_module: str
) -> None:
    def checked(**functions: str) -> tuple[int, str]:
        target = {"datahub_file_config": {"path": str(tmp_path / "files")}}
        deployment.write(sqlite_yaml({**target, **functions}))
        done = deployment.cli("check", check=False)
        return done.returncode, done.stdout

    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    deployment = Deployment(tmp_path / "home", sqlite_yaml({}), path)
    extract, convert = f"{users_module}:extract", f"{users_module}:convert"

    code, output = checked(
        asset_lineage_extractor=extract, asset_keys_to_dataset_urn_converter=convert
    )
    assert (code, output.count("FAILED")) == (0, 0)
    assert extract in output
    assert convert in output
    code, output = checked(asset_lineage_extractor=f"{users_module}:wrong")
    assert code == 1
    assert "asset_lineage_extractor" in output
    assert "wrong(context) can't be called with 3 arguments" in output
    code, output = checked(asset_keys_to_dataset_urn_converter="not_there_at_all:f")
    assert code == 1
    assert "asset_keys_to_dataset_urn_converter: not_there_at_all:f can't be imported" in output


def test_patches_of_the_same_places_take_each_others_place() -> None:
    def patch(body: object) -> Proposal:
        urn = "urn:li:dataset:a"
        return Proposal(urn, "dataset", "globalTags", json.dumps(body), change=Change.PATCH)

    one, other = ({"op": "add", "path": "/tags/a", "value": {"tag": each}} for each in "ab")
    assert slot(patch([one])) == slot(patch([other]))
    assert slot(patch([one])) == slot(patch({"patch": [one], "arrayPrimaryKeys": {}}))
    elsewhere = slot(patch([{**one, "path": "/tags/b"}]))
    assert len({slot(patch([one])), elsewhere, slot(patch({})), slot(patch(["?"]))}) == 4
