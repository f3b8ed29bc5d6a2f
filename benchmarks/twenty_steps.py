"""A job of as many steps as `STEPS` says, one after the other, each in a process of its own."""

import os

import dagster as dg


@dg.op
def one(context: dg.OpExecutionContext) -> int:
    context.log.info("working")
    return 1


@dg.job(executor_def=dg.multiprocess_executor.configured({"max_concurrent": 1}))
def twenty() -> None:
    for number in range(int(os.environ.get("STEPS", "20"))):
        one.alias(f"step_{number:02}")()


defs = dg.Definitions(jobs=[twenty])
