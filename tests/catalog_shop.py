"""A code location with a definition of each kind, for the tests of the catalogue."""

# mypy: allow-untyped-decorators
# Dagster's versions differ in what some of them take.

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("id", "int", "the key", dg.TableColumnConstraints(nullable=False)),
        dg.TableColumn("shop", "text"),
    ],
    constraints=dg.TableConstraints(other=["id > 0"]),
)
LINEAGE = dg.TableColumnLineage({"id": [dg.TableColumnDep(dg.AssetKey(["raw", "orders"]), "no")]})
REFERENCES = dg.CodeReferencesMetadataValue(
    code_references=[
        dg.LocalFileCodeReference(file_path="/srv/shop.py", line_number=7, label="the code")
    ]
)
DAYS = dg.DailyPartitionsDefinition("2024-01-01", timezone="Europe/Berlin")
HOURS = dg.HourlyPartitionsDefinition("2024-01-01-00:00")
WEEKS = dg.WeeklyPartitionsDefinition("2024-01-01", day_offset=1, end_offset=1)
QUARTERS = dg.TimeWindowPartitionsDefinition(
    start="2024-01-01", fmt="%Y-%m-%d", cron_schedule="0 3 1 */3 *"
)
SHOPS = dg.StaticPartitionsDefinition([f"shop-{number}" for number in range(12)])
observable_source_asset: Any = dg.observable_source_asset
multi_observable_source_asset: Any = dg.multi_observable_source_asset
CLIENTS = dg.DynamicPartitionsDefinition(name="clients")


class Unserializable:
    """What only this process can read."""


def _freshness() -> Any:
    """The policy of this Dagster: its own kind, of which 1.11 has but a preview, or the old one."""
    try:
        policies: Any = dg.FreshnessPolicy
    except ImportError:
        return {}
    if not hasattr(policies, "time_window"):
        return {"freshness_policy": policies(maximum_lag_minutes=30, cron_schedule="0 9 * * *")}
    policy = policies.time_window(fail_window=timedelta(days=1), warn_window=timedelta(hours=12))
    return {"freshness_policy": policy}


def _legacy_freshness() -> Any:
    policies: Any = getattr(dg, "LegacyFreshnessPolicy", None)
    return {"legacy_freshness_policy": policies(maximum_lag_minutes=30)} if policies else {}


@dg.asset(
    key=["shop", "orders"],
    deps=[dg.AssetKey(["raw", "orders"]), "named_only"],
    group_name="sales",
    owners=["team:shop", "jo@example.com"],
    tags={"tier": "1"},
    kinds={"duckdb", "python"},
    description="All orders.",
    code_version="7",
    partitions_def=DAYS,
    automation_condition=dg.AutomationCondition.eager(),
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata={
        "dagster/column_schema": SCHEMA,
        "dagster/column_lineage": LINEAGE,
        "dagster/code_references": REFERENCES,
        "dagster/table_name": "dwh.shop.orders",
        "rows": 5,
        "nothing": None,
        "object": Unserializable(),
    },
    **_freshness(),
)
def orders() -> None: ...


@dg.asset(
    ins={"orders": dg.AssetIn(key=["shop", "orders"])},
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    automation_condition=dg.AutomationCondition.on_cron("@daily").with_label("each day"),
)
def report(orders: object) -> None: ...


@dg.asset(
    partitions_def=SHOPS,
    automation_condition=dg.AutomationCondition.missing() & ~dg.AutomationCondition.in_progress(),
)
def by_shop() -> None: ...


@dg.asset(**_legacy_freshness())
def no_policy_but_the_old() -> None: ...


@dg.asset(
    partitions_def=dg.MultiPartitionsDefinition({"week": WEEKS, "client": CLIENTS}),
    auto_materialize_policy=dg.AutoMaterializePolicy.lazy(),
)
def by_week_and_client() -> None: ...


@dg.asset(partitions_def=HOURS, compute_kind="spark", key_prefix=["a-b", "c"])
def by_hour() -> None: ...


@dg.asset(partitions_def=QUARTERS, description="", backfill_policy=dg.BackfillPolicy.multi_run(3))
def by_quarter() -> None: ...


@dg.asset(
    partitions_def=DAYS,
    ins={
        "itself": dg.AssetIn(
            "running_total",
            partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1),
        )
    },
)
def running_total(itself: object) -> None: ...


@dg.multi_asset(
    specs=[
        dg.AssetSpec("left", deps=["report"], skippable=True, kinds={"dbt"}),
        dg.AssetSpec(
            "right", deps=["left"], skippable=True, metadata={"dagster/table_name": "dwh.right"}
        ),
    ],
    check_specs=[dg.AssetCheckSpec("whole", asset="right", description="All there?")],
    can_subset=True,
)
def both(context: dg.AssetExecutionContext) -> Iterator[Any]:
    for key in sorted(context.selected_asset_keys):
        yield dg.MaterializeResult(asset_key=key)


@dg.multi_asset(
    outs={
        "first": dg.AssetOut(key=["outs", "first"]),
        "second": dg.AssetOut(key=["outs", "second"], group_name="outs", code_version="2"),
    }
)
def outs() -> tuple[int, int]:
    return 1, 2


@dg.op(out={"number": dg.Out(int)})
def fetch() -> int:
    return 1


@dg.op
def add(left: int, right: int) -> int:
    return left + right


@dg.op(ins={"after": dg.In(dg.Nothing)})
def finish() -> None: ...


@dg.op
def count(total: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=total > 0)


@dg.graph
def twice(number: int) -> int:
    once: int = add.alias("once")(number, number)
    total: int = add.alias("again")(once, number)
    return total


@dg.graph_asset(
    group_name="graphs",
    ins={"left": dg.AssetIn("left")},
    check_specs=[dg.AssetCheckSpec("counted", asset="from_graph")],
)
def from_graph(left: int) -> dict[str, Any]:
    total = add.alias("total")(twice(fetch()), left)
    return {"result": total, "from_graph_counted": count(total)}


@dg.graph_multi_asset(outs={"low": dg.AssetOut(), "high": dg.AssetOut(owners=["team:graphs"])})
def two_from_graph() -> Any:
    low = add.alias("low_one")(fetch.alias("a")(), fetch.alias("b")())
    high = add.alias("high_one")(low, low)
    return {"low": low, "high": high}


@observable_source_asset(group_name="seen", auto_observe_interval_minutes=5)
def seen() -> dg.DataVersion:
    return dg.DataVersion("1")


@multi_observable_source_asset(specs=[dg.AssetSpec("eye"), dg.AssetSpec("ear")])
def senses() -> Iterator[dg.ObserveResult]:
    yield dg.ObserveResult(asset_key="eye")
    yield dg.ObserveResult(asset_key="ear")


@dg.asset_check(asset=orders, blocking=True, description="Is it fresh?", metadata={"n": 1})
def fresh() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset="report", name="small.enough", additional_deps=["left"])
def small() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec("ids", asset=["shop", "orders"]),
        dg.AssetCheckSpec("ids", asset="raw_clients"),
    ],
    can_subset=True,
)
def ids() -> Iterator[dg.AssetCheckResult]:
    yield dg.AssetCheckResult(passed=True, asset_key=["shop", "orders"], check_name="ids")
    yield dg.AssetCheckResult(passed=True, asset_key="raw_clients", check_name="ids")


RAW = dg.AssetSpec(
    ["raw", "orders"],
    group_name="landing",
    description="As they came.",
    metadata={"dagster/table_name": "lake.raw.orders", "dagster/column_schema": SCHEMA},
    kinds={"postgres"},
)
CLIENT_SPEC = dg.AssetSpec("raw_clients", deps=[RAW])

# One definition makes an asset in each of two folders: the second node has another name.
COPIES = [
    dg.AssetsDefinition.from_op(
        add,
        key_prefix=shop,
        keys_by_input_name={"left": dg.AssetKey("left"), "right": dg.AssetKey("right")},
    )
    for shop in ("north", "south")
]


@dg.op(out=dg.DynamicOut(int))
def spread() -> Iterator[dg.DynamicOutput[int]]:
    yield dg.DynamicOutput(1, "one")


@dg.op
def collect(numbers: list[int]) -> int:
    return sum(numbers)


@dg.op(out={"yes": dg.Out(is_required=False), "no": dg.Out(is_required=False)})
def decide() -> Iterator[dg.Output[int]]:
    yield dg.Output(1, "yes")


@dg.graph(out={"total": dg.GraphOut(), "other": dg.GraphOut()})
def outer(number: int) -> dict[str, Any]:
    inner = twice.alias("inner")(number)
    return {"total": add(inner, number), "other": inner}


@dg.job(description="Nested graphs, mapped and collected steps.", tags={"team": "shop"})
def nested() -> None:
    results: Any = outer(fetch())
    add.alias("sum")(results.total, results.other)
    mapped = spread().map(twice)
    total = collect(mapped.collect())
    yes, _ = decide()
    finish([total, yes])


@dg.op
def alone() -> None: ...


@dg.job
def single() -> None:
    alone()


@dg.schedule(cron_schedule=["0 1 * * *", "0 2 * * *"], job=single, execution_timezone="Asia/Tokyo")
def nightly() -> dg.RunRequest:
    return dg.RunRequest()


@dg.sensor(jobs=[single, nested], minimum_interval_seconds=45, description="Looks for files.")
def files() -> None: ...


@dg.asset_sensor(
    asset_key=dg.AssetKey("report"),
    job=single,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def after_report() -> None: ...


DAILY = dg.define_asset_job(
    "daily", [orders, report], description="Each morning.", tags={"team": "shop"}
)

defs = dg.Definitions(
    assets=[
        *(
            orders,
            report,
            by_shop,
            no_policy_but_the_old,
            by_week_and_client,
            by_hour,
            by_quarter,
            running_total,
        ),
        *(both, outs, from_graph, two_from_graph, seen, senses, RAW, CLIENT_SPEC, *COPIES),
    ],
    asset_checks=[fresh, small, ids],
    jobs=[
        nested,
        single,
        DAILY,
        dg.define_asset_job("left_only", ["left"]),
        dg.define_asset_job("south_only", [dg.AssetKey(["south", "add"])]),
        dg.define_asset_job("graphs", [from_graph, two_from_graph]),
        dg.define_asset_job("only_checks", dg.AssetSelection.checks(fresh)),
        dg.define_asset_job("observe", ["seen"]),
    ],
    schedules=[
        nightly,
        dg.ScheduleDefinition(
            job=DAILY, cron_schedule="@daily", default_status=dg.DefaultScheduleStatus.RUNNING
        ),
        dg.ScheduleDefinition("selecting", cron_schedule="0 5 * * *", target=[by_quarter]),
    ],
    sensors=[
        files,
        after_report,
        dg.AutomationConditionSensorDefinition("automatic", target=dg.AssetSelection.all()),
    ],
)
