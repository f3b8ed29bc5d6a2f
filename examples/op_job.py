"""A job of ops that declares which datasets it reads and writes.

    dagster job execute -f examples/op_job.py -j load_revenue

(Set DAGSTER_HOME first, see examples/dagster.yaml.) In DataHub it becomes a flow with two
jobs: `read_orders` with the table in Postgres as its input, `write_revenue` with the one in
Snowflake as its output, and the run with its two steps.
"""

import dagster as dg

ORDERS = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.public.orders,PROD)"
REVENUE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,dwh.marts.revenue,PROD)"


@dg.op
def yesterday() -> str:
    return "2026-01-01"


@dg.op(ins={"day": dg.In(str, metadata={"datahub.inputs": [ORDERS]})})
def read_orders(day: str) -> list[int]:
    return [120, 80, 200]


@dg.op(out=dg.Out(int, metadata={"datahub.outputs": [REVENUE]}))
def write_revenue(orders: list[int]) -> int:
    return sum(orders)


@dg.job(description="Yesterday's orders, added up.", tags={"team": "sales"})
def load_revenue() -> None:
    write_revenue(read_orders(yesterday()))
