"""The code location of the chaos program: what users write, with no word about DataHub."""

import random
import time
from collections.abc import Iterator

import dagster as dg

DAYS = dg.StaticPartitionsDefinition(["mon", "tue", "wed"])


def work(longest: float = 2.0) -> None:
    """Take a while, so that something can happen meanwhile."""
    time.sleep(random.uniform(0.1, longest))


@dg.op
def extract() -> int:
    work()
    return 3


@dg.op
def load(number: int) -> None:
    work(0.5 + number / 2)


@dg.job(description="Two processes.")
def stepping() -> None:
    load(extract())


@dg.job(executor_def=dg.in_process_executor)
def succeeding() -> None:
    load(extract())


@dg.op
def fail() -> int:
    work(1)
    raise ValueError("broken on purpose")


@dg.job(executor_def=dg.in_process_executor)
def failing() -> None:
    load(fail())


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
def flaky(context: dg.OpExecutionContext) -> None:
    work(1)
    if context.retry_number == 0:
        raise RuntimeError("once")


@dg.job(executor_def=dg.in_process_executor)
def retrying() -> None:
    flaky()


@dg.op
def linger() -> None:
    for _ in range(60):
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def lingering() -> None:
    linger()


@dg.op(out=dg.DynamicOut(int))
def fan() -> Iterator[dg.DynamicOutput[int]]:
    for number in range(3):
        yield dg.DynamicOutput(number, mapping_key=f"n{number}")


@dg.job(executor_def=dg.in_process_executor)
def fanning() -> None:
    fan().map(load)


@dg.asset(partitions_def=DAYS, group_name="shop", owners=["team:data"])
def raw() -> dg.MaterializeResult:  # type: ignore[type-arg]
    work(1)
    columns = [dg.TableColumn("id", "int"), dg.TableColumn(f"v{random.randrange(9)}", "string")]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": random.randrange(1000),
            "dagster/column_schema": dg.TableSchema(columns),
        }
    )


@dg.asset(deps=[raw], partitions_def=DAYS)
def refined() -> dg.MaterializeResult:  # type: ignore[type-arg]
    work(1)
    query = f"insert into dwh.refined select id, v from dwh.raw{random.randrange(3)}"
    return dg.MaterializeResult(metadata={"Query": query, "rows": random.randrange(1000)})


@dg.asset_check(asset=raw)
def plausible() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=random.random() < 0.5, metadata={"seen": random.random()})


@dg.op
def backfill(context: dg.OpExecutionContext) -> None:
    for day in DAYS.get_partition_keys():
        work(1)
        context.log_event(dg.AssetMaterialization("landed", partition=day))


@dg.job(executor_def=dg.in_process_executor)
def landing() -> None:
    backfill()


chain = dg.define_asset_job("chain", "*", executor_def=dg.in_process_executor)
chain_in_processes = dg.define_asset_job("chain_in_processes", "*")

defs = dg.Definitions(
    assets=[raw, refined],
    asset_checks=[plausible],
    jobs=[
        *(stepping, succeeding, failing, retrying, lingering, fanning, landing),
        *(chain, chain_in_processes),
    ],
)
