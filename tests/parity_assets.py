"""Scenarios of assets."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
import parity_extractor
from parity_sides import Scenarios
from upath import UPath

SCENARIOS = Scenarios()

TABLE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,db.s.target,PROD)"


def _materialize(instance: dg.DagsterInstance, *assets: Any, **options: Any) -> Sequence[str]:
    result = dg.materialize(list(assets), instance=instance, raise_on_error=False, **options)
    return [result.run_id]


@dg.asset(group_name="landing")
def raw() -> int:
    return 1


@dg.asset(description="The refined ones.", owners=["team:shop"], tags={"tier": "1"})
def refined(raw: int) -> dg.MaterializeResult[int]:
    return dg.MaterializeResult(value=raw, metadata={"rows": 3})


CHAIN = dg.Definitions(assets=[raw, refined])


@SCENARIOS.add()
def asset_chain(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, raw, refined)


@SCENARIOS.add(repository=CHAIN)
def asset_groups(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, raw, refined)


@SCENARIOS.add(
    options={"platform_instance": "main", "env": "DEV", "dagster_url": "http://localhost:3000"}
)
def asset_chain_of_a_platform_instance(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, raw, refined)


@SCENARIOS.add()
def partitioned_asset(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["mon", "tue"]))
    def daily() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"dagster/partition_row_count": 4})

    first = _materialize(instance, daily, partition_key="mon")
    return [*first, *_materialize(instance, daily, partition_key="tue")]


@dg.multi_asset(
    specs=[dg.AssetSpec("one", skippable=True), dg.AssetSpec("two", deps=["one"], skippable=True)],
    can_subset=True,
)
def several(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    for key in sorted(context.selected_asset_keys):
        yield dg.MaterializeResult(asset_key=key)


@SCENARIOS.add()
def multi_asset(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, several)


@SCENARIOS.add()
def subset_of_a_multi_asset(instance: dg.DagsterInstance) -> Sequence[str]:
    first = _materialize(instance, several)
    return [*first, *_materialize(instance, several, selection=["two"])]


@SCENARIOS.add(crash="KeyError: 'clean'")
def graph_backed_asset(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.op
    def fetch() -> int:
        return 1

    @dg.op
    def clean(number: int) -> int:
        return number

    @dg.graph_asset
    def built() -> int:
        cleaned: int = clean(fetch())
        return cleaned

    return _materialize(instance, built)


class Folders(dg.UPathIOManager):
    """Keeps nothing, and says where it would have: a file for each partition."""

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: Any) -> None:
        pass

    def load_from_path(self, context: dg.InputContext, path: Any) -> Any:
        return str(path)


@SCENARIOS.add(options={"capture_input_output": True})
def partitions_in_files(instance: dg.DagsterInstance) -> Sequence[str]:
    days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05")

    @dg.asset(partitions_def=days)
    def stored() -> str:
        return "kept"

    @dg.asset(partitions_def=days)
    def onwards(stored: str) -> str:
        return stored

    resources = {"io_manager": Folders(UPath("/data"))}
    options: dict[str, Any] = {"partition_key": "2024-01-02", "resources": resources}
    return _materialize(instance, stored, onwards, **options)


@SCENARIOS.add()
def external_asset_upstream(instance: dg.DagsterInstance) -> Sequence[str]:
    landed = dg.AssetSpec(
        "landed", metadata={"dagster/table_name": "db.s.landed"}, kinds={"snowflake"}
    )

    @dg.asset(deps=[landed])
    def summary() -> None: ...

    return _materialize(instance, summary, landed)


@SCENARIOS.add()
def observation(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.asset
    def watching(context: dg.AssetExecutionContext) -> None:
        seen = dg.AssetObservation("watched", description="Seen.", metadata={"rows": 3})
        context.log_event(seen)

    return _materialize(instance, watching)


@SCENARIOS.add()
def observed_source_asset(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.observable_source_asset(description="Theirs.")
    def outside() -> dg.DataVersion:
        return dg.DataVersion("7")

    @dg.asset(deps=[outside])
    def inside() -> None: ...

    looking = dg.define_asset_job("looking", selection=[outside])
    definitions = dg.Definitions(assets=[outside, inside], jobs=[looking])
    job = definitions.get_repository_def().get_job("looking")
    observed = job.execute_in_process(instance=instance).run_id
    return [observed, *_materialize(instance, inside, outside, selection=["inside"])]


@SCENARIOS.add()
def declared_datasets_of_assets(instance: dg.DagsterInstance) -> Sequence[str]:
    declared = {side: [TABLE.replace("target", side)] for side in ("read", "made", "own")}

    @dg.multi_asset(outs={"first": dg.AssetOut(metadata={"datahub.outputs": declared["made"]})})
    def make_first() -> int:
        return 1

    @dg.asset(ins={"first": dg.AssetIn(metadata={"datahub.inputs": declared["read"]})})
    def second(first: int) -> int:
        return first

    @dg.asset(metadata={"datahub.inputs": declared["read"], "datahub.outputs": declared["own"]})
    def third(second: int) -> None: ...

    return _materialize(instance, make_first, second, third)


@SCENARIOS.add()
def asset_check(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.asset
    def checked() -> None: ...

    @dg.asset_check(asset=checked)
    def has_rows() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True, metadata={"rows": 3})

    return _materialize(instance, checked, has_rows)


@SCENARIOS.add(options={"dagster_url": "http://localhost:3000"})
def freshness_policies(instance: dg.DagsterInstance) -> Sequence[str]:
    hour = timedelta(hours=1)
    window = dg.FreshnessPolicy.time_window(fail_window=24 * hour, warn_window=12 * hour)
    cron = dg.FreshnessPolicy.cron("0 9 * * *", hour, timezone="Europe/Berlin")

    @dg.asset(freshness_policy=window)
    def within_a_day() -> None: ...

    @dg.asset(freshness_policy=cron)
    def by_nine() -> None: ...

    return _materialize(instance, within_a_day, by_nine)


@SCENARIOS.add(
    options={"dagster_url": "http://localhost:3000"},
    ours={"incidents": {"checks": ["error"], "runs": True}},
)
def incidents(instance: dg.DagsterInstance) -> Sequence[str]:
    """One is resolved by the second run, and one goes on."""
    passes = iter([False, True])

    @dg.asset
    def checked() -> None: ...

    @dg.asset_check(asset=checked)
    def has_rows() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=next(passes))

    @dg.asset
    def broken() -> None:
        raise ValueError("no luck")

    first = _materialize(instance, checked, has_rows, broken)
    return [*first, *_materialize(instance, checked, has_rows)]


def _stating(
    name: str, metadata: dict[str, Any], key: Sequence[str] = (), deps: Sequence[str] = ()
) -> dg.AssetsDefinition:
    @dg.asset(key=[*key, name], deps=list(deps))
    def stating() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=metadata)

    return stating


@SCENARIOS.add()
def urn_in_metadata(instance: dg.DagsterInstance) -> Sequence[str]:
    stating = _stating("stating", {"datahub_urn": TABLE}, deps=["raw"])
    return _materialize(instance, raw, stating)


@SCENARIOS.add()
def wrong_urn_in_metadata(instance: dg.DagsterInstance) -> Sequence[str]:
    key = ["prod", "snowflake", "db", "s"]
    return _materialize(instance, _stating("target", {"datahub_urn": "no urn"}, key))


@SCENARIOS.add()
def long_key(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _stating("target", {"rows": 1}, ["prod", "snowflake", "db", "s"]))


@SCENARIOS.add(options={"capture_dataset_from_asset_key": False})
def long_key_that_names_no_table(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _stating("target", {"rows": 1}, ["prod", "snowflake", "db", "s"]))


@SCENARIOS.add(crash="Failed validation|failed validation")
def long_key_without_an_environment(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _stating("table", {"rows": 1}, ["team", "shop", "db"]))


def _querying(*queries: str) -> dg.AssetsDefinition:
    metadata = {"datahub_urn": TABLE, "Query": ";\n".join(queries)}
    return _stating("target", metadata)


INSERT = "INSERT INTO db.s.target SELECT a.id, b.name FROM db.s.a a JOIN db.s.b b ON a.id = b.id"
CTAS = "CREATE TABLE db.s.target AS SELECT id FROM db.s.a"


@SCENARIOS.add()
def sql_insert(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _querying(INSERT))


@SCENARIOS.add()
def sql_create_table_as(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _querying(CTAS))


@SCENARIOS.add()
def sql_of_several_statements(instance: dg.DagsterInstance) -> Sequence[str]:
    temporary = "CREATE TEMPORARY TABLE half AS SELECT id FROM db.s.c"
    insert = "INSERT INTO db.s.target SELECT id FROM half"
    return _materialize(instance, _querying(temporary, insert))


@SCENARIOS.add()
def sql_select(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _querying("SELECT id FROM db.s.a"))


MERGE = (
    "MERGE INTO db.s.target t USING db.s.a a ON t.id = a.id"
    " WHEN MATCHED THEN UPDATE SET name = a.name"
    " WHEN NOT MATCHED THEN INSERT (id, name) VALUES (a.id, a.name)"
)


@SCENARIOS.add()
def sql_merge(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _querying(MERGE))


@SCENARIOS.add()
def sql_that_cannot_be_parsed(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _querying(INSERT, "SELECT FROM WHERE ((", CTAS))


@SCENARIOS.add(options={"enable_asset_query_metadata_parsing": False})
def sql_that_is_not_to_be_read(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _querying(INSERT))


@SCENARIOS.add(options={"emit_queries": True, "materialize_dependencies": True})
def queries_and_dependencies(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _querying(INSERT))


@SCENARIOS.add(options={"emit_assets": False})
def only_tables(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _querying(INSERT))


@SCENARIOS.add(options={"capture_asset_materialization": False})
def no_assets_at_all(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, raw, refined)


@SCENARIOS.add(
    ours={"asset_lineage_extractor": "parity_extractor:ours"},
    theirs={"asset_lineage_extractor": parity_extractor.theirs},
)
def documented_extractor(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _stating("extracted", {"source": "orders"}))


@SCENARIOS.add(
    ours={"asset_keys_to_dataset_urn_converter": "parity_extractor:convert"},
    theirs={"asset_keys_to_dataset_urn_converter": parity_extractor.convert},
)
def converter(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _stating("table", {"rows": 1}, ["warehouse", "shop"]))


@SCENARIOS.add()
def rich_metadata(instance: dg.DagsterInstance) -> Sequence[str]:
    schema = dg.TableSchema([dg.TableColumn("id", "int", description="The key.")])
    metadata = {
        "rows": 3,
        "share": 0.5,
        "page": dg.MetadataValue.url("https://example.com"),
        "note": dg.MetadataValue.md("**bold**"),
        "facts": {"a": [1, None]},
        "dagster/column_schema": schema,
        "dagster/row_count": 3,
    }
    return _materialize(instance, _stating("rich", metadata))


@SCENARIOS.add()
def asset_with_a_prefix(instance: dg.DagsterInstance) -> Sequence[str]:
    return _materialize(instance, _stating("daily__sync", {"rows": 1}, ["shop"]))


@SCENARIOS.add(crash="KeyError: 'waiting'")
def failing_asset(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.asset
    def broken() -> int:
        raise dg.Failure("on purpose")

    @dg.asset
    def waiting(broken: int) -> None: ...

    return _materialize(instance, broken, waiting)
