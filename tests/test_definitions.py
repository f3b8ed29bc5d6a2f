from __future__ import annotations

import json
import shutil
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.storage.event_log import InMemoryEventLogStorage
from instances import in_memory

from datahub_eventlog.definitions import LoadedJob, decode, loaded_job, pack, packing, read
from datahub_eventlog.definitions.loaded import loaded
from datahub_eventlog.definitions.policies import freshness_settings, partitions_in_words
from datahub_eventlog.values import (
    AssetFacts,
    AssetKey,
    CheckFacts,
    CheckKey,
    DbtTest,
    Definitions,
    Metadatum,
    PortFacts,
)

try:
    from dagster import FreshnessPolicy
except ImportError:  # Dagster 1.11
    from dagster.preview.freshness import FreshnessPolicy

SCHEMA = dg.TableSchema([dg.TableColumn("id", "int", description="the key")])


@dg.asset(
    key=["shop", "orders"],
    deps=[dg.AssetKey(["raw", "orders"])],
    group_name="sales",
    owners=["team:shop", "jo@example.com"],
    tags={"tier": "1"},
    kinds={"duckdb", "python"},
    description="All orders.",
    code_version="7",
    partitions_def=dg.DailyPartitionsDefinition("2024-01-01"),
    automation_condition=dg.AutomationCondition.eager(),
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata={"dagster/column_schema": SCHEMA, "rows": 5},
    io_manager_key="lake",
)
def orders() -> None: ...


@dg.asset(
    ins={
        "source": dg.AssetIn(
            key=["shop", "orders"], metadata={"datahub.inputs": ["urn:li:dataset:x"]}
        )
    },
    partitions_def=dg.DailyPartitionsDefinition("2024-01-01"),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def report(source: object) -> None: ...


@dg.asset_check(asset=report, name="fresh", blocking=True, description="Is it?", metadata={"n": 1})
def fresh() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


RAW = dg.AssetSpec(["raw", "orders"], group_name="landing", description="As they came.")
REPOSITORY = dg.Definitions(
    assets=[orders, report, RAW],
    asset_checks=[fresh],
    resources={"lake": dg.mem_io_manager},
    jobs=[
        dg.define_asset_job(
            "daily", [orders, report], description="Each morning.", tags={"team": "shop"}
        ),
        dg.define_asset_job("checks", dg.AssetSelection.checks(fresh)),
    ],
).get_repository_def()


@dg.op(ins={"x": dg.In(metadata={"datahub.inputs": ["a"]})}, out=dg.Out(metadata={"kept": True}))
def middle(x: int) -> int:
    return x


@dg.op
def first() -> int:
    return 1


@dg.graph
def inner() -> int:
    number: int = middle(first())
    return number


@dg.job(description="Nested.")
def nested() -> None:
    inner()
    middle.alias("twin")(first.alias("source")())


def facts(name: str) -> Definitions:
    return read(LoadedJob(REPOSITORY.get_job(name), REPOSITORY))


def encode(whole: Definitions) -> tuple[str, bytes]:
    return packing.encode(whole.assets.values(), whole)


def test_an_assets_facts_are_those_of_its_definition() -> None:
    assert facts("daily").assets["shop", "orders"] == AssetFacts(
        key=("shop", "orders"),
        group="sales",
        owners=("team:shop", "jo@example.com"),
        tags={"tier": "1", "dagster/kind/duckdb": "", "dagster/kind/python": ""},
        kinds=("duckdb", "python"),
        deps=(("raw", "orders"),),
        description="All orders.",
        code_version="7",
        partitions="Daily, starting 2024-01-01 UTC.",
        automation="eager",
        backfill="Single run",
        metadata={
            "dagster/column_schema": Metadatum(
                "table_schema",
                {
                    "columns": [
                        {
                            "name": "id",
                            "type": "int",
                            "description": "the key",
                            "nullable": True,
                            "unique": False,
                            "constraints": [],
                            "tags": {},
                        }
                    ],
                    "constraints": [],
                },
            ),
            "rows": Metadatum("int", 5),
        },
        io_manager="lake",
    )


def test_the_upstream_assets_have_their_facts_too() -> None:
    assert facts("daily").assets["raw", "orders"] == AssetFacts(
        key=("raw", "orders"), group="landing", description="As they came.", is_external=True
    )


def test_own_assets_come_first() -> None:
    assert list(facts("daily").assets) == [("report",), ("shop", "orders"), ("raw", "orders")]


def test_an_upstream_asset_that_only_its_name_is_known_of_says_nothing_else() -> None:
    @dg.asset(deps=["elsewhere"])
    def here() -> None: ...

    job = dg.Definitions(assets=[here]).get_repository_def().get_job("__ASSET_JOB")
    assert read(LoadedJob(job)).assets["elsewhere",] == AssetFacts(("elsewhere",), is_external=True)


def test_an_upstream_asset_that_another_job_makes_is_not_external() -> None:
    @dg.asset
    def made() -> None: ...

    @dg.asset(deps=[made, "bought"])
    def taken() -> None: ...

    job = dg.define_asset_job("take", [taken])
    assets: list[Any] = [made, taken, dg.AssetSpec("bought", group_name="shop")]
    take = dg.Definitions(assets, jobs=[job]).get_repository_def().get_job("take")
    if not hasattr(take.asset_layer.asset_graph, "source_asset_graph"):
        pytest.skip("the jobs of this Dagster know nothing of assets that other jobs make")
    found = read(LoadedJob(take))
    assert {key[0]: each.is_external for key, each in found.assets.items()} == {
        "taken": False,
        "bought": True,
        "made": False,
    }


STUB = "dagster/auto_created_stub_asset"
"""What Dagster writes on an asset that is only the name of a dependency."""


def test_what_is_said_of_an_upstream_asset_by_its_dependency_counts() -> None:
    @dg.asset(deps=["elsewhere"])
    def here() -> None: ...

    metadata = {STUB: True, "dagster/table_name": "db.crm.contacts"}
    stub = dg.AssetSpec("elsewhere", metadata=metadata)
    job = dg.Definitions(assets=[here, stub]).get_repository_def().get_job("__ASSET_JOB")
    found = read(LoadedJob(job)).assets["elsewhere",]
    assert found.metadata == {"dagster/table_name": Metadatum("text", "db.crm.contacts")}
    assert found.is_external


@dataclass(frozen=True)
class Manifest:
    """As dagster-dbt wraps it."""

    manifest: dict[str, Any]


@dataclass
class Translator:
    """As dagster-dbt's, as far as it is asked."""

    specs: dict[str, dg.AssetSpec]
    asked: list[str] = field(default_factory=list)

    def get_asset_spec(self, manifest: Any, unique_id: str, project: Any) -> dg.AssetSpec:
        assert manifest is NODES
        assert project == "shop"
        self.asked.append(unique_id)
        return self.specs[unique_id]


NODES = {
    "nodes": {
        "model.orders": {"depends_on": {"nodes": ["model.paid", "source.crm.contacts"]}},
        "model.paid": {
            "config": {"materialized": "ephemeral"},
            "depends_on": {"nodes": ["source.shop.payments", "model.stored"]},
        },
        "model.stored": {
            "config": {"materialized": "table"},
            "depends_on": {"nodes": ["source.far.away"]},
        },
    }
}


def dbt_assets(translator: Translator) -> list[dg.AssetsDefinition]:
    metadata = {
        "dagster_dbt/manifest": Manifest(NODES),
        "dagster_dbt/dagster_dbt_translator": translator,
        "dagster_dbt/project": "shop",
    }
    specs = [
        dg.AssetSpec(
            name,
            deps=["contacts", "payments"],
            metadata={**metadata, "dagster_dbt/unique_id": f"model.{name}"},
        )
        for name in ("orders", "unknown")
    ]

    @dg.multi_asset(specs=specs)
    def models() -> Iterator[Any]:
        yield dg.MaterializeResult()

    return [models]


def dbt_job(translator: Translator) -> dg.JobDefinition:
    defs = dg.Definitions(assets=dbt_assets(translator))
    return defs.get_repository_def().get_job("__ASSET_JOB")


def test_a_source_of_dbt_is_what_the_manifest_says() -> None:
    contacts = {"dagster/table_name": "db.crm.contacts", "dagster_dbt/manifest": Manifest(NODES)}
    translator = Translator(
        {
            "source.crm.contacts": dg.AssetSpec("contacts", metadata=contacts, kinds={"duckdb"}),
            "source.shop.payments": dg.AssetSpec("payments", description="Paid."),
        }
    )
    found = read(LoadedJob(dbt_job(translator))).assets
    assert found["contacts",] == AssetFacts(
        ("contacts",),
        tags={"dagster/kind/duckdb": ""},
        kinds=("duckdb",),
        metadata={"dagster/table_name": Metadatum("text", "db.crm.contacts")},
        is_external=True,
    )
    assert found["payments",].description == "Paid."
    assert sorted(translator.asked) == ["source.crm.contacts", "source.shop.payments"]


def test_an_asset_that_dbt_takes_as_its_source_is_the_table_that_dbt_reads() -> None:
    contacts = {"dagster/table_name": "db.crm.contacts", "dagster_dbt/unique_id": "source.crm"}
    source = dg.AssetSpec("contacts", metadata=contacts, description="Of dbt.")
    payments = dg.AssetSpec("payments", metadata={"dagster/table_name": "db.shop.payments"})
    translator = Translator({"source.crm.contacts": source, "source.shop.payments": payments})

    @dg.asset(name="contacts", metadata={"n": 1}, description="Of the CRM.")
    def made() -> None: ...

    @dg.asset(name="payments", metadata={"dagster/table_name": "own.table"})
    def named() -> None: ...

    repository = dg.Definitions([*dbt_assets(translator), made, named]).get_repository_def()
    ingest = dg.define_asset_job("ingest", [made, named])
    job = dg.Definitions([made, named], jobs=[ingest]).get_repository_def().get_job("ingest")
    found = read(LoadedJob(job, repository)).assets
    assert {name: each.value for name, each in found["contacts",].metadata.items()} == {
        **contacts,
        "n": 1,
    }
    assert found["contacts",].description == "Of the CRM."
    assert found["payments",].metadata["dagster/table_name"].value == "own.table"


def test_two_sources_of_dbt_that_are_one_asset_say_nothing_of_it() -> None:
    same = dg.AssetSpec("contacts", metadata={"dagster/table_name": "a.b.c"})
    translator = Translator({"source.crm.contacts": same, "source.shop.payments": same})
    found = read(LoadedJob(dbt_job(translator))).assets
    assert found["contacts",] == AssetFacts(("contacts",), is_external=True)


def test_a_translator_of_dbt_that_raises_costs_only_what_it_knows() -> None:
    found = read(LoadedJob(dbt_job(Translator({})))).assets
    assert found["contacts",] == AssetFacts(("contacts",), is_external=True)
    assert found["orders",].deps == (("contacts",), ("payments",))


TESTED: dict[str, Any] = {
    "nodes": {
        "model.shop.orders": {"database": "db", "schema": '"Main"', "name": "o", "alias": "Orders"},
        "model.shop.paid": {"schema": "main", "name": "paid"},
        "test.shop.unique_orders_id.1": {
            "name": "unique_orders_id",
            "depends_on": {"nodes": ["model.shop.orders", "model.shop.orders", "model.shop.gone"]},
            "test_metadata": {"name": "unique", "kwargs": {"column_name": "id"}},
            "config": {"severity": "WARN"},
            "raw_code": "{{ test_unique() }}",
            "description": "Each once.",
        },
        "test.shop.related.2": {
            "name": "related",
            "depends_on": {"nodes": ["model.shop.paid", "model.shop.orders"]},
            "test_metadata": {
                "namespace": "more",
                "name": "related",
                "kwargs": {"since": date(2024, 1, 1)},
            },
            "compiled_code": "select " + "x" * 20_000,
        },
        "test.shop.broken": {"depends_on": {"nodes": ["model.shop.orders"]}},
    },
    "sources": {"source.shop.crm.contacts": {"schema": "crm", "name": "contacts"}},
}


def dbt_checks(*unique_ids: str, asset: str | None = "model.shop.orders") -> list[CheckFacts]:
    """The facts of checks of those ids on an asset of that node, if it says so."""
    metadata = {"dagster_dbt/manifest": Manifest(TESTED)}
    node = {} if asset is None else {"dagster_dbt/unique_id": asset}
    specs = [
        dg.AssetCheckSpec(f"c{n}", asset="orders", metadata={"dagster_dbt/unique_id": unique_id})
        for n, unique_id in enumerate(unique_ids)
    ]

    @dg.multi_asset(
        specs=[dg.AssetSpec("orders", metadata={**metadata, **node})], check_specs=specs
    )
    def models() -> Iterator[Any]:
        yield dg.MaterializeResult()

    job = dg.Definitions([models]).get_repository_def().get_job("__ASSET_JOB")
    whole = read(LoadedJob(job))
    assert decode(encode(whole)[1]) == whole
    return list(whole.assets["orders",].checks)


def test_a_test_of_dbt_is_what_the_manifest_says() -> None:
    unique, related = dbt_checks("test.shop.unique_orders_id.1", "test.shop.related.2")
    assert unique.is_of_dbt
    assert unique.dbt == DbtTest(
        "test.shop.unique_orders_id.1",
        "unique_orders_id",
        "unique",
        {"column_name": "id"},
        "model.shop.orders",
        dataset="db.Main.Orders",
        severity="WARN",
        code="{{ test_unique() }}",
        description="Each once.",
    )
    assert unique.dbt.column == "id"
    assert related.dbt is not None
    assert (related.dbt.test, related.dbt.upstreams) == ("more.related", 2)
    assert related.dbt.arguments == {"since": "2024-01-01"}
    assert len(related.dbt.code or "") == 10_000


def test_a_test_of_dbt_on_a_node_that_cannot_be_known_is_no_more_than_one_of_dbt() -> None:
    unknown = ["test.shop.broken", "test.shop.related.2", "test.far.away"]
    for check in dbt_checks(*unknown, asset=None):
        assert check.is_of_dbt
        assert check.dbt is None
    (check,) = dbt_checks("test.shop.unique_orders_id.1", asset=None)
    assert check.dbt is not None
    assert check.dbt.upstream == "model.shop.orders"


def test_a_subset_of_a_job_has_the_facts_of_its_own_assets_and_of_those_upstream() -> None:
    job = REPOSITORY.get_job("daily").get_subset(asset_selection={dg.AssetKey("report")})
    assert set(read(LoadedJob(job, REPOSITORY)).assets) == {("report",), ("shop", "orders")}


def test_checks_are_told_with_their_assets_also_by_a_job_of_checks_alone() -> None:
    check = CheckFacts(
        CheckKey(("report",), "fresh"),
        description="Is it?",
        blocking=True,
        metadata={"n": Metadatum("int", 1)},
    )
    assert facts("daily").assets["report",].checks == (check,)
    assert facts("checks").assets["report",].checks == (check,)


def test_a_job_is_described_and_tagged() -> None:
    job = facts("daily")
    assert (job.job_description, job.job_tags) == ("Each morning.", {"team": "shop"})


def test_ports_with_metadata_are_found_by_the_handles_of_their_ops_wherever_those_are() -> None:
    port = PortFacts(
        inputs={"x": {"datahub.inputs": Metadatum("json", ["a"])}},
        outputs={"result": {"kept": Metadatum("bool", True)}},
    )
    assert read(LoadedJob(nested)).ports == {"inner.middle": port, "twin": port}


def test_what_an_asset_says_is_not_repeated_for_the_output_of_its_op() -> None:
    urns = Metadatum("json", ["urn:li:dataset:x"])
    assert facts("daily").ports == {"report": PortFacts({"source": {"datahub.inputs": urns}})}


@pytest.mark.parametrize(
    ("partitions", "words"),
    [
        (dg.StaticPartitionsDefinition(["a", "b"]), "Static: a, b"),
        (
            dg.StaticPartitionsDefinition([str(n) for n in range(1000)]),
            "Static: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (1000 in all)",
        ),
        (dg.DynamicPartitionsDefinition(name="shops"), 'Dynamic: "shops"'),
        (
            dg.HourlyPartitionsDefinition("2024-01-01-00:00"),
            "Hourly, starting 2024-01-01-00:00 UTC.",
        ),
        (
            dg.MultiPartitionsDefinition(
                {
                    "day": dg.DailyPartitionsDefinition("2024-01-01"),
                    "shop": dg.StaticPartitionsDefinition(["a"]),
                }
            ),
            "Multi-partitioned, day: Daily, starting 2024-01-01 UTC.; shop: Static: a",
        ),
    ],
)
def test_partitions_are_told_in_words(partitions: Any, words: str) -> None:
    assert partitions_in_words(partitions) == words


@pytest.mark.skipif(not hasattr(FreshnessPolicy, "time_window"), reason="newer than this Dagster")
def test_a_freshness_policy_is_told_in_seconds() -> None:
    policy = FreshnessPolicy.time_window(
        fail_window=timedelta(hours=2), warn_window=timedelta(hours=1)
    )
    spec = dg.AssetSpec("a", freshness_policy=policy)
    assert freshness_settings(spec) == {"fail_after_seconds": 7200, "warn_after_seconds": 3600}


def test_one_asset_that_cannot_be_read_costs_only_itself_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(dg.AutomationCondition[Any]):
        def evaluate(self, context: Any) -> Any:
            raise NotImplementedError

        def get_label(self) -> str:
            raise OSError("the user's own code")

    @dg.asset(automation_condition=Broken())
    def bad() -> None: ...

    @dg.asset(description="fine")
    def good() -> None: ...

    repository = dg.Definitions(assets=[bad, good]).get_repository_def()
    assets = read(LoadedJob(repository.get_job("__ASSET_JOB"), repository)).assets
    assert assets["good",].description == "fine"
    assert ("bad",) not in assets
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "of 1 assets" in warning
    assert warning.endswith(": bad")


@pytest.mark.parametrize("name", ["daily", "checks"])
def test_packing_loses_nothing(name: str) -> None:
    whole = facts(name)
    assert decode(encode(whole)[1]) == whole
    assert decode(pack(LoadedJob(REPOSITORY.get_job(name), REPOSITORY))[1]) == whole


def test_packing_keeps_values_of_every_kind() -> None:
    whole = Definitions(
        assets={
            ("a",): AssetFacts(
                ("a",),
                freshness={"deadline_cron": "0 9 * * *", "lower_bound_seconds": 60.0},
                metadata={
                    "null": Metadatum("null", None),
                    "zero": Metadatum("int", 0),
                    "text": Metadatum("text", "«ü» \ud800"),
                    "json": Metadatum("json", {"a": [1, None]}),
                },
            )
        },
        ports={"outer.op": PortFacts(outputs={"result": {"x": Metadatum("bool", False)}})},
        job_owners=("team:a",),
        is_cut=True,
    )
    assert decode(encode(whole)[1]) == whole


def test_equal_facts_have_the_same_hash_and_others_another() -> None:
    assert encode(facts("daily"))[0] == encode(facts("daily"))[0]
    assert encode(facts("daily"))[0] != encode(facts("checks"))[0]


def test_what_an_older_package_packed_is_read() -> None:
    """It did not look tests of dbt up, but for their ids."""
    check = ["orders"], "unique_orders_id"
    old = {"check": check, "metadata": {"dagster_dbt/unique_id": ["text", "test.shop.u.1"]}}
    document = {"assets": [{"key": ["orders"], "checks": [old]}]}
    (facts,) = decode(zlib.compress(json.dumps(document).encode())).assets.values()
    metadata = {"dagster_dbt/unique_id": Metadatum("text", "test.shop.u.1")}
    key = CheckKey(("orders",), "unique_orders_id")
    assert facts.checks == (CheckFacts(key, metadata=metadata),)


def test_what_a_newer_package_adds_is_passed_over() -> None:
    document = json.loads(zlib.decompress(encode(facts("daily"))[1]))
    document["new"] = 1
    for each in document["assets"]:
        each["new"] = 1
    assert decode(zlib.compress(json.dumps(document).encode())) == facts("daily")


def test_too_many_facts_are_cut_and_say_so() -> None:
    text = Metadatum("text", "x" * (packing.MOST_CHARACTERS // 8))
    assets: dict[AssetKey, AssetFacts] = {}
    for n in range(10):
        assets[str(n),] = AssetFacts((str(n),), metadata={"t": text})
    cut = decode(encode(Definitions(assets=assets))[1])
    assert cut.is_cut
    assert list(cut.assets) == [(str(n),) for n in range(7)]


# Finding the definitions of a run that is being executed

PIPELINES = Path(__file__).parent / "pipelines.py"


class Peeking(InMemoryEventLogStorage):
    """Looks for the definitions of each run when it starts, as capture does."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[LoadedJob | None] = []

    def store_event(self, event: dg.EventLogEntry) -> None:
        super().store_event(event)
        if event.dagster_event and event.dagster_event.event_type_value == "PIPELINE_START":
            self.found.append(loaded_job(event.run_id))


def names(storage: Peeking) -> list[str]:
    return [each.job.name if each else "not found" for each in storage.found]


def reconstructable(directory: Path) -> ReconstructableJob:
    """A job of code that Dagster has not loaded yet in this process."""
    code = shutil.copy(PIPELINES, directory)
    return ReconstructableJob(ReconstructableRepository.for_file(str(code), "defs"), "assets")


@pytest.fixture
def peeking(tmp_path: Path) -> Iterator[tuple[dg.DagsterInstance, Peeking]]:
    storage = Peeking()
    with in_memory(storage, tmp_path) as instance:
        yield instance, storage


def test_the_definitions_of_a_job_executed_in_process_are_found(
    peeking: tuple[dg.DagsterInstance, Peeking],
) -> None:
    instance, storage = peeking
    nested.execute_in_process(instance=instance)
    assert names(storage) == ["nested"]


@pytest.mark.parametrize("selection", [None, [dg.AssetKey("report")]])
def test_the_definitions_of_a_reconstructed_job_are_found_without_loading_code_again(
    peeking: tuple[dg.DagsterInstance, Peeking],
    selection: list[dg.AssetKey] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIPELINES_LOADS", str(tmp_path / "loads"))
    instance, storage = peeking
    job = reconstructable(tmp_path)
    dg.execute_job(job, instance=instance, asset_selection=selection)
    (found,) = storage.found
    assert found is not None
    assert found.repository is not None
    assets = read(found).assets
    assert assets["elsewhere",].group == "landing"
    assert set(assets) == {("report",), ("orders",), ("elsewhere",)}
    assert tmp_path.joinpath("loads").read_text().count("\n") == 1


def test_nothing_is_loaded_for_a_job_that_is_no_longer_in_dagsters_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINES_LOADS", str(tmp_path / "loads"))
    job = reconstructable(tmp_path)
    before = ReconstructableJob.get_definition.cache_info()
    assert loaded(job) is None
    assert not tmp_path.joinpath("loads").exists()
    assert ReconstructableJob.get_definition.cache_info().currsize == before.currsize


def test_outside_of_a_run_no_definitions_are_found() -> None:
    assert loaded_job("a run") is None


def test_the_definitions_of_another_run_further_up_are_not_taken(
    peeking: tuple[dg.DagsterInstance, Peeking],
) -> None:
    instance, storage = peeking

    @dg.op
    def nesting() -> None:
        nested.execute_in_process(instance=instance)

    @dg.job
    def outer() -> None:
        nesting()

    outer.execute_in_process(instance=instance)
    assert names(storage) == ["outer", "nested"]


def test_the_time_to_pack_grows_with_the_number_of_assets() -> None:
    """Counted in calls, so that it does not depend on how busy the machine is."""
    calls = [count_calls(repository_of(count)) for count in (50, 100, 200)]
    assert calls[1] < 2.1 * calls[0]
    assert calls[2] < 2.1 * calls[1]


def repository_of(count: int) -> LoadedJob:
    def make(number: int) -> dg.AssetsDefinition:
        @dg.asset(
            name=f"a{number}",
            deps=[f"a{number - 1}"] if number else [],
            metadata={"dagster/column_schema": SCHEMA},
        )
        def one() -> None: ...

        return one

    repository = dg.Definitions(assets=[make(n) for n in range(count)]).get_repository_def()
    return LoadedJob(repository.get_job("__ASSET_JOB"), repository)


def count_calls(definitions_of_run: LoadedJob) -> int:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        pack(definitions_of_run)
    finally:
        sys.setprofile(None)
    return calls
