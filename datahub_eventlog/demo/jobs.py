"""What the demo runs: plain Dagster code, whose only part of DataHub is three urns."""

import dagster as dg

ORDERS = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.public.orders,PROD)"
CUSTOMERS = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.public.customers,PROD)"
REVENUE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,dwh.marts.revenue,PROD)"

days = dg.DailyPartitionsDefinition(start_date="2026-01-01")


@dg.op(
    description="Reads what was ordered, and by whom.",
    ins={
        "orders": dg.In(dg.Nothing, metadata={"datahub.inputs": [ORDERS, CUSTOMERS]}),
    },
)
def read_orders() -> list[int]:
    return [120, 80, 200]


@dg.op(
    description="Adds up the revenue and writes it to the warehouse.",
    out=dg.Out(metadata={"datahub.outputs": [REVENUE]}),
)
def write_revenue(orders: list[int]) -> int:
    return sum(orders)


@dg.op
def start() -> None:
    """Stand for an earlier step."""


@dg.job(description="Orders of the shop into the warehouse.", tags={"team": "sales"})
def revenue_job() -> None:
    write_revenue(read_orders(start()))


@dg.asset(
    partitions_def=days,
    group_name="shop",
    owners=["team:data", "ada@example.com"],
    kinds={"snowflake"},
    description="Orders as they came in.",
    metadata={
        "dagster/table_name": "dwh.raw.orders",
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn("id", "int", constraints=dg.TableColumnConstraints(nullable=False)),
                dg.TableColumn("amount", "decimal(10,2)", description="in euros"),
            ]
        ),
    },
)
def raw_orders() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"dagster/row_count": 3})


@dg.asset(
    partitions_def=days,
    group_name="shop",
    kinds={"snowflake"},
    deps=[raw_orders],
    metadata={"dagster/table_name": "dwh.marts.daily_revenue"},
)
def daily_revenue() -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": 1,
            "Query": "INSERT INTO dwh.marts.daily_revenue"
            " SELECT day, sum(amount) AS revenue FROM dwh.raw.orders GROUP BY day",
        }
    )


@dg.asset(partitions_def=days, group_name="shop", deps=[daily_revenue])
def report() -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={"url": dg.MetadataValue.url("https://example.com/report")}
    )


@dg.asset_check(asset=raw_orders, description="Every order has an amount.")
def amounts_are_there() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, metadata={"missing": 0})


@dg.op
def load_prices() -> None:
    raise dg.Failure("the price list is empty")


@dg.job(description="Fails, to show what that looks like.")
def failing_job() -> None:
    load_prices()


assets_job = dg.define_asset_job("assets_job", selection=dg.AssetSelection.all())

defs = dg.Definitions(
    assets=[raw_orders, daily_revenue, report],
    asset_checks=[amounts_are_there],
    jobs=[revenue_job, failing_job, assets_job],
)
