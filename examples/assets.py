"""Assets with all facts that DataHub shows.

    dagster asset materialize -f examples/assets.py --select '*'

(Set DAGSTER_HOME first, see examples/dagster.yaml.) In DataHub: three datasets with schema,
owners, tags, row counts and lineage; the Snowflake tables behind two of them; a check's result.
"""

import dagster as dg

LANDING = "urn:li:dataset:(urn:li:dataPlatform:s3,acme-landing/orders,PROD)"
DASHBOARD = "urn:li:dataset:(urn:li:dataPlatform:looker,sales.revenue,PROD)"

columns = dg.TableSchema(
    [
        dg.TableColumn("id", "int", constraints=dg.TableColumnConstraints(nullable=False)),
        dg.TableColumn("amount", "decimal(10,2)", description="in euros"),
    ]
)


@dg.asset(
    description="Orders as they came in.",
    group_name="shop",
    owners=["team:data", "ada@example.com"],
    tags={"pii": "no"},
    kinds={"snowflake"},  # with the table's name: the table in Snowflake that this asset is
    metadata={
        "dagster/table_name": "dwh.raw.orders",
        "dagster/column_schema": columns,
        "datahub.inputs": [LANDING],  # what is read outside of Dagster
    },
)
def orders() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"dagster/row_count": 3})


@dg.asset(
    deps=[orders],
    group_name="shop",
    kinds={"snowflake"},
    metadata={"dagster/table_name": "dwh.marts.revenue"},
)
def revenue() -> dg.MaterializeResult[None]:
    sql = "INSERT INTO dwh.marts.revenue SELECT sum(amount) AS total FROM dwh.raw.orders"
    return dg.MaterializeResult(metadata={"Query": sql})  # gives lineage, column by column


@dg.asset(deps=[revenue], group_name="shop", metadata={"datahub.outputs": [DASHBOARD]})
def report() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"sent to": "sales@example.com"})


@dg.asset_check(asset=orders, description="Every order has an amount.")
def amounts_are_there() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, metadata={"missing": 0})


defs = dg.Definitions(assets=[orders, revenue, report], asset_checks=[amounts_are_there])
