from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import catalog_shop
import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.remote_representation.handle import RepositoryHandle
from dagster._core.snap.execution_plan_snapshot import snapshot_from_execution_plan
from dagster._record import copy
from workspaces import loaded, options

from datahub_eventlog.catalog import LocationReading, LocationState, open_workspace, read_location
from datahub_eventlog.catalog.reading import PART_SIZE
from datahub_eventlog.definitions import LoadedJob, read
from datahub_eventlog.definitions.facts import _Assets
from datahub_eventlog.source.runs import job_of, run_of, steps_of
from datahub_eventlog.values import (
    AssetFacts,
    AssetKey,
    CatalogJob,
    CatalogPart,
    CodeRepository,
    Step,
    Trigger,
)

REPOSITORY = catalog_shop.defs.get_repository_def()
ALL_JOBS = sorted(job.name for job in REPOSITORY.get_all_jobs())
ALL_ASSETS = sorted(tuple(key.path) for key in REPOSITORY.asset_graph.get_all_asset_keys())
NAMED_ONLY: AssetKey = ("named_only",)
COLUMNS = {"dagster/column_schema", "dagster/column_lineage"}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("instance"))) as instance:
        yield instance


@pytest.fixture(scope="module")
def shop(instance: dg.DagsterInstance) -> Iterator[LocationState]:
    with loaded(instance, Path(catalog_shop.__file__)) as (state,):
        yield state


@pytest.fixture(scope="module")
def parts(shop: LocationState, instance: dg.DagsterInstance) -> Sequence[CatalogPart]:
    return list(read_location(shop, [shop], instance).parts())


@pytest.fixture(scope="module")
def jobs(parts: Sequence[CatalogPart]) -> Mapping[str, CatalogJob]:
    return {job.job.name: job for part in parts for job in part.jobs}


def facts_of_run(key: AssetKey) -> AssetFacts:
    """What a run's own process would say of the asset, but what no snapshot has."""
    whole = _Assets(LoadedJob(REPOSITORY.get_job("__ASSET_JOB"), REPOSITORY))
    facts = whole._facts(dg.AssetKey(key))
    checks = tuple(dataclasses.replace(check, metadata={}) for check in facts.checks)
    return dataclasses.replace(facts, io_manager=None, checks=checks)


@pytest.mark.parametrize("key", [key for key in ALL_ASSETS if key != NAMED_ONLY], ids="/".join)
def test_an_assets_facts_are_those_that_its_run_has(
    parts: Sequence[CatalogPart], key: AssetKey
) -> None:
    (facts,) = [asset for part in parts for asset in part.assets if asset.key == key]

    assert dataclasses.asdict(facts) == dataclasses.asdict(facts_of_run(key))


def test_an_asset_of_which_only_the_name_is_known_is_upstream_and_no_more(
    parts: Sequence[CatalogPart],
) -> None:
    assert NAMED_ONLY not in {asset.key for part in parts for asset in part.assets}
    assert (
        AssetFacts(NAMED_ONLY, is_external=True)
        in {asset.key: asset for part in parts for asset in part.upstream}.values()
    )


def planned(job: str) -> tuple[Step, ...]:
    """The steps of the real plan; those that are mapped have their handles as keys."""
    definition = REPOSITORY.get_job(job)
    plan = create_execution_plan(definition)
    steps = steps_of(snapshot_from_execution_plan(plan, definition.get_job_snapshot_id()))
    return tuple(
        dataclasses.replace(
            step,
            key=step.handle,
            upstream=tuple(sorted(key.removesuffix("[?]") for key in step.upstream)),
        )
        for step in steps
    )


@pytest.mark.parametrize("name", ALL_JOBS)
def test_a_jobs_steps_are_those_of_its_plan(jobs: Mapping[str, CatalogJob], name: str) -> None:
    assert jobs[name].steps == planned(name)


@pytest.mark.parametrize("name", ALL_JOBS)
def test_a_job_is_that_of_its_runs(jobs: Mapping[str, CatalogJob], name: str) -> None:
    assert jobs[name].job == job_of(REPOSITORY.get_job(name).get_job_snapshot())


@pytest.mark.parametrize("name", ALL_JOBS)
def test_a_job_has_the_assets_that_its_run_has_but_no_columns(
    jobs: Mapping[str, CatalogJob], name: str
) -> None:
    assets = {asset.key: asset for asset in jobs[name].assets}

    assert assets.keys() == read(LoadedJob(REPOSITORY.get_job(name), REPOSITORY)).assets.keys()
    for asset in assets.values():
        assert not COLUMNS & asset.metadata.keys()


def test_what_is_upstream_of_a_parts_assets_is_in_it_without_columns(
    parts: Sequence[CatalogPart],
) -> None:
    for part in parts:
        deps = {dep for asset in part.assets for dep in asset.deps}
        own = {asset.key for asset in part.assets}
        assert {asset.key for asset in part.upstream} == deps - own
        for asset in part.upstream:
            assert not COLUMNS & asset.metadata.keys()


def test_triggers_are_those_of_their_job(jobs: Mapping[str, CatalogJob]) -> None:
    nightly = Trigger(
        name="nightly",
        kind="schedule",
        is_running=False,
        cron=("0 1 * * *", "0 2 * * *"),
        timezone="Asia/Tokyo",
    )
    files = Trigger(
        name="files",
        kind="standard",
        is_running=False,
        interval_seconds=45.0,
        description="Looks for files.",
    )
    after_report = Trigger("after_report", "asset", is_running=True, interval_seconds=30.0)

    assert jobs["single"].triggers == (nightly, after_report, files)
    assert jobs["nested"].triggers == (files,)
    (daily,) = jobs["daily"].triggers
    assert (daily.name, daily.is_running, daily.cron) == ("daily_schedule", True, ("@daily",))
    (selecting,) = jobs["__anonymous_asset_job_selecting"].triggers
    assert selecting.name == "selecting"
    automatic = jobs["__ASSET_JOB"].triggers[0]
    assert (automatic.name, automatic.kind) == ("automatic", "auto_materialize")


def test_a_trigger_runs_or_not_as_the_instance_says(
    shop: LocationState, instance: dg.DagsterInstance
) -> None:
    (repository,) = shop.location.get_repositories().values()
    sensor = repository.get_sensor("after_report")
    instance.start_schedule(repository.get_schedule("nightly"))
    instance.stop_sensor(sensor.get_remote_origin_id(), sensor.selector_id, sensor)

    parts = read_location(shop, [], instance).parts()

    (job,) = [job for part in parts for job in part.jobs if job.job.name == "single"]
    assert {trigger.name: trigger.is_running for trigger in job.triggers} == {
        "nightly": True,
        "after_report": False,
        "files": False,
    }


@pytest.mark.parametrize("option", ["-f", "-m"])
def test_the_code_is_what_a_run_says(
    option: str, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    file = tmp_path / "little.py"
    file.write_text(LITTLE)
    target, chosen = {
        "-f": (str(file), options(file, folder=tmp_path)),
        "-m": ("little", options(modules=["little"], folder=tmp_path)),
    }[option]
    folder = ("-d", str(tmp_path))
    subprocess.run(
        [sys.executable, "-m", "dagster", "job", "launch", option, target, *folder],
        check=True,
        env={**os.environ, "DAGSTER_HOME": instance.root_directory},
    )

    with open_workspace(instance, chosen) as opened:
        (state,) = opened.locations()
        part = next(read_location(state, [], instance).parts())

    (record,) = instance.get_run_records(limit=1)
    run = run_of(record)
    assert run.location is not None
    assert run.repository is not None
    assert part.repository == CodeRepository(run.location, run.repository, run.module, run.file)


LITTLE = """
import dagster as dg


@dg.op
def little(): ...


@dg.job
def little_job():
    little()


defs = dg.Definitions(jobs=[little_job])
"""


def test_each_asset_comes_from_one_location(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """Who makes it, else who observes it, else who describes it; of these the first by name."""
    contents = {
        "a": "[seen('made'), seen('observed'), dg.AssetSpec('described'), user]",
        "b": "[made, dg.AssetSpec('observed'), dg.AssetSpec('described')]",
        "c": "[dg.AssetSpec('made'), seen('observed'), dg.AssetSpec('only_here')]",
        "d": "[dg.AssetSpec('unloadable'), 1 / 0]",
    }
    for name, assets in contents.items():
        (tmp_path / f"{name}.py").write_text(f"{SHARED}defs = dg.Definitions(assets={assets})")

    with loaded(instance, *sorted(tmp_path.iterdir())) as states:
        keys = {state.name: delivered(read_location(state, states, instance)) for state in states}

    assert keys == {
        "a.py": ["described", "observed", "user"],
        "b.py": ["made"],
        "c.py": ["only_here"],
        "d.py": [],
    }


SHARED = """
import dagster as dg


@dg.asset
def made(): ...


@dg.asset(deps=["only_here", "nowhere"])
def user(): ...


def seen(name):
    @dg.observable_source_asset(name=name)
    def source():
        return dg.DataVersion("1")

    return source


"""


def delivered(reading: LocationReading) -> list[str]:
    return ["/".join(asset.key) for part in reading.parts() for asset in part.assets]


def test_a_location_comes_in_parts(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    file = tmp_path / "many.py"
    file.write_text(MANY)

    with loaded(instance, file) as (state,):
        parts = list(read_location(state, [], instance).parts())

    assert max(len(part.assets) for part in parts) == PART_SIZE
    assert [asset.key for part in parts for asset in part.assets] == [
        (f"asset_{number:03}",) for number in range(2 * PART_SIZE + 1)
    ]
    names = [[job.job.name for job in part.jobs] for part in parts if part.jobs]
    assert names[0] == ["__ASSET_JOB"]
    assert [len(each) for each in names[1:]] == [PART_SIZE // 2, 1]


MANY = f"""
import dagster as dg

assets = [
    dg.asset(name=f"asset_{{number:03}}")(lambda: None) for number in range({2 * PART_SIZE + 1})
]
jobs = [
    dg.define_asset_job(f"job_{{number:03}}", [asset])
    for number, asset in enumerate(assets[:{PART_SIZE // 2 + 1}])
]
defs = dg.Definitions(assets=assets, jobs=jobs)
"""


def test_a_reading_is_complete_when_all_is_read(
    shop: LocationState, instance: dg.DagsterInstance
) -> None:
    reading = read_location(shop, [], instance)
    parts = reading.parts()
    next(parts)
    assert not reading.is_complete

    list(parts)
    assert reading.is_complete


def test_a_location_that_is_not_loaded_is_never_complete(instance: dg.DagsterInstance) -> None:
    reading = read_location(LocationState("shop", "1", error="no"), [], instance)

    assert list(reading.parts()) == []
    assert not reading.is_complete


def test_what_cannot_be_read_costs_only_itself(
    instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    """As if a newer Dagster served a kind of partitions that this one doesn't know."""
    reading = read_location(LocationState("shop", "1", location=Broken(instance)), [], instance)
    parts = list(reading.parts())

    keys = {asset.key for part in parts for asset in part.assets}
    assert set(ALL_ASSETS) - {NAMED_ONLY, ("by_quarter",)} == keys
    assert [job.job.name for part in parts for job in part.jobs] == ALL_JOBS
    assert not reading.is_complete
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "by_quarter" in warning.getMessage()


@dataclasses.dataclass
class Broken:
    """A location with an asset whose partitions can't be read."""

    instance: Any
    repository_code_pointer_dict: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def get_repositories(self) -> Mapping[str, RemoteRepository]:
        snapshot = RepositorySnap.from_def(REPOSITORY)
        nodes = [self._broken(node) for node in snapshot.asset_nodes]
        # Dagster 1.10 takes the instance, later ones its `auto_materialize_use_sensors`.
        handle = RepositoryHandle.for_test()
        return {"shop": RemoteRepository(copy(snapshot, asset_nodes=nodes), handle, self.instance)}

    def _broken(self, node: Any) -> Any:
        if node.asset_key != dg.AssetKey("by_quarter"):
            return node
        return copy(node, partitions=copy(node.partitions, cron_schedule="nonsense"))
