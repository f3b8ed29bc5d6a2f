"""Code locations for the tests: what users write, with no word about DataHub but a few urns."""

from __future__ import annotations

from pathlib import Path

OPS = """
import time
from pathlib import Path

import dagster as dg

IN = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.orders,PROD)"
OUT = "urn:li:dataset:(urn:li:dataPlatform:snowflake,dwh.revenue,PROD)"


@dg.op(out=dg.Out(metadata={"datahub.outputs": [OUT]}))
def extract():
    return 3


@dg.op(ins={"number": dg.In(metadata={"datahub.inputs": [IN]})})
def load(number):
    return number


@dg.job
def two_ops():
    load(extract())


@dg.op
def fail():
    raise ValueError("broken on purpose")


@dg.op
def never(nothing):
    pass


@dg.job
def failing():
    never(fail())


@dg.op
def wait_for_file():
    Path("started").touch()
    while not Path("go").exists():
        time.sleep(0.05)


@dg.job
def waiting():
    wait_for_file()


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def flaky(context):
    if context.retry_number == 0:
        raise RuntimeError("once")


@dg.job
def retrying():
    flaky()


@dg.op(out={"left": dg.Out(is_required=False), "right": dg.Out(is_required=False)})
def branch():
    yield dg.Output(1, "left")


@dg.op
def go_left(x):
    pass


@dg.op
def go_right(x):
    pass


@dg.job
def branching():
    left, right = branch()
    go_left(left)
    go_right(right)


defs = dg.Definitions(jobs=[two_ops, failing, waiting, retrying, branching])
"""

ASSETS = """
import dagster as dg

days = dg.StaticPartitionsDefinition(["mon", "tue"])


@dg.asset(group_name="shop", owners=["team:data"], kinds={"snowflake"}, partitions_def=days,
          metadata={"dagster/table_name": "dwh.raw.orders"})
def raw():
    return dg.MaterializeResult(metadata={"dagster/row_count": 3})


@dg.asset(deps=[raw], partitions_def=days)
def refined():
    return dg.MaterializeResult()


@dg.observable_source_asset
def outside():
    return dg.DataVersion("1")


@dg.asset_check(asset=raw)
def fine():
    return dg.AssetCheckResult(passed=True)


chain = dg.define_asset_job("chain", selection=[raw, refined])


def numbered(i):
    @dg.asset(name=f"asset_{i:02}", deps=[f"asset_{i - 1:02}"] if i else [])
    def number():
        return dg.MaterializeResult(metadata={"rows": i})

    return number


many = [numbered(i) for i in range(20)]
twenty = dg.define_asset_job("twenty", selection=many, executor_def=dg.in_process_executor)

defs = dg.Definitions(
    assets=[raw, refined, outside, *many], asset_checks=[fine], jobs=[chain, twenty]
)
"""


def write(folder: Path) -> dict[str, Path]:
    """Write the two locations into that folder, and return their names with their files."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {"ops": folder / "ops.py", "assets": folder / "assets.py"}
    found["ops"].write_text(OPS)
    found["assets"].write_text(ASSETS)
    return found
