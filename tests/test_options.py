"""Options of the block `datahub:` that decide what is delivered, through the whole path.

Those that the comparison with the sensor sets (`parity_ops`, `parity_assets`) are tested there.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deployment import sqlite_yaml
from instances import configured
from redelivery import DataHub

from datahub_eventlog.config import PREFIX, options, read

SNOWFLAKE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,"
ASSET = "urn:li:dataset:(urn:li:dataPlatform:dagster,prod.snowflake.DB.S.orders,PROD)"
INSERT = "INSERT INTO DB.S.orders SELECT a FROM DB.S.raw"


@dg.asset(key=["prod", "snowflake", "DB", "S", "orders"], deps=["landed"])
def orders() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"Query": INSERT})


@dg.asset
def other() -> None: ...


@dg.op
def work() -> None: ...


@dg.job
def nightly() -> None:
    work()


Delivered = Callable[..., Any]


class Runs:
    """One run of a job and one of assets, to be delivered with any options."""

    def __init__(self, instance: dg.DagsterInstance, directory: Path) -> None:
        self.instance = instance
        self._directory = directory
        self._number = 0
        self.job = self.execute()
        self.assets = dg.materialize([orders, other], instance=instance).run_id

    def execute(self) -> str:
        return nightly.execute_in_process(instance=self.instance).run_id

    @contextmanager
    def datahub(
        self, environ: Mapping[str, str] | None = None, **options: Any
    ) -> Iterator[DataHub]:
        self._number += 1
        block = {"datahub_client_config": {"server": "http://localhost"}, **options}
        config = read(block, environ or {}).strict()
        file = self._directory / f"ledger-{self._number}"
        with DataHub(self.instance, file, config) as datahub:
            yield datahub

    def entities(self, **options: Any) -> list[str]:
        with self.datahub(**options) as datahub:
            datahub.deliver(self.job)
            datahub.deliver(self.assets)
            return datahub.receiver.entities()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    home, ledgers = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("ledgers")
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        yield Runs(instance, ledgers)


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        ({}, "urn:li:dataFlow:(dagster,prod/nightly,PROD)", "x/nightly"),
        (
            {"urn_prefix": "x"},
            "urn:li:dataFlow:(dagster,x/nightly,PROD)",
            "urn:li:dataFlow:(dagster,prod/nightly,PROD)",
        ),
        (
            {"is_cloud": True, "branch": "data-eng"},
            "urn:li:dataFlow:(dagster,data-eng/nightly,PROD)",
            "urn:li:dataFlow:(dagster,prod/nightly,PROD)",
        ),
        (
            {"platform_instance_map": {"snowflake": "main"}},
            f"{SNOWFLAKE}main.DB.S.orders,PROD)",
            f"{SNOWFLAKE}DB.S.orders,PROD)",
        ),
        (
            {"convert_urns_to_lowercase": True},
            f"{SNOWFLAKE}db.s.orders,PROD)",
            f"{SNOWFLAKE}DB.S.orders,PROD)",
        ),
        ({"asset_pattern": {"deny": ["prod/"]}}, "dagster,other,PROD)", "prod.snowflake"),
        ({"job_pattern": {"deny": ["nightly"]}}, "dagster,other,PROD)", "prod/nightly"),
        ({"emit_queries": True}, "urn:li:query:dagster_", "x/nightly"),
        (
            {"environ": {f"{PREFIX}URN_PREFIX": "y"}},
            "urn:li:dataFlow:(dagster,y/nightly,PROD)",
            "prod/nightly",
        ),
        (
            {"urn_prefix": "x", "environ": {f"{PREFIX}URN_PREFIX": "y"}},
            "urn:li:dataFlow:(dagster,x/nightly,PROD)",
            "y/nightly",
        ),
    ],
    ids=str,
)
def test_an_option_decides_what_entities_there_are(
    runs: Runs, options: dict[str, Any], there: str, absent: str
) -> None:
    found = runs.entities(**options)

    assert [each for each in found if there in each]
    assert not [each for each in found if absent in each]


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_dependencies_become_entities_if_asked_for(runs: Runs, *, is_asked_for: bool) -> None:
    with runs.datahub(materialize_dependencies=is_asked_for) as datahub:
        datahub.deliver(runs.assets)
        table = datahub.receiver.aspect(f"{SNOWFLAKE}DB.S.orders,PROD)", "datasetKey")
    assert (table is not None) == is_asked_for


def test_queries_are_entities_only_if_asked_for(runs: Runs) -> None:
    assert not [each for each in runs.entities() if each.startswith("urn:li:query:")]


def test_every_proposal_is_logged_in_debug_mode(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("dagster.datahub_eventlog")
    before = logger.level
    try:
        for is_on in (False, True):
            caplog.clear()
            with runs.datahub(debug_mode=is_on) as datahub:
                datahub.deliver(runs.job)
                sent = [urn for write in datahub.receiver.writes for urn, _ in write.proposals]
            logged = [
                message for message in caplog.messages if message.startswith(("UPSERT ", "PATCH "))
            ]
            assert len(logged) == (len(sent) if is_on else 0)
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(("seconds", "times"), [(0, 2), (3600, 1)])
def test_unchanged_state_is_sent_again_after_that_time_only(
    runs: Runs, seconds: int, times: int
) -> None:
    again = runs.execute()
    with runs.datahub(resend_after=seconds) as datahub:
        datahub.deliver(runs.job)
        datahub.deliver(again)
        sent = [pair for write in datahub.receiver.writes for pair in write.proposals]
    flow = "urn:li:dataFlow:(dagster,prod/nightly,PROD)"
    assert sent.count((flow, "dataFlowInfo")) == times


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_a_wiped_asset_is_removed_if_asked_for(tmp_path: Path, *, is_asked_for: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with configured(home, **sqlite_yaml({"dispatch": "off"})) as instance:
        runs = Runs(instance, tmp_path)
        with runs.datahub(remove_wiped_assets=is_asked_for) as datahub:
            datahub.deliver(runs.assets)
            instance.wipe_assets([orders.key])
            datahub.deliver_runless()
            found = datahub.receiver.aspect(ASSET, "status")
    assert found == {"removed": is_asked_for}


def test_no_option_is_forgotten() -> None:
    """Every option is read by some test of what it does, beside the tests of its reading."""
    here = Path(__file__).parent
    files = [each for each in here.glob("*.py") if each.name != "test_config.py"]
    texts = "\n".join(each.read_text() for each in files)
    assert [option for option in options() if option not in texts] == []
