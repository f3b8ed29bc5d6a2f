"""Jobs for the tests that execute them in processes of their own."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from pathlib import Path

import dagster as dg

LOADS = "PIPELINES_LOADS"
"""Names a file that gets a line whenever this code is loaded."""
MODULES = "PIPELINES_MODULES"
"""Names a folder where each process leaves the names of its modules when it ends."""

if LOADS in os.environ:
    with Path(os.environ[LOADS]).open("a") as loads:
        loads.write(f"{os.getpid()}\n")


def _leave_modules(folder: Path) -> None:
    role = "step" if multiprocessing.parent_process() else "run"
    folder.joinpath(f"{role}-{os.getpid()}").write_text("\n".join(sys.modules))


if MODULES in os.environ:
    atexit.register(_leave_modules, Path(os.environ[MODULES]))


@dg.op(ins={"x": dg.In(metadata={"datahub.inputs": ["a"]})})
def middle(x: int) -> int:
    return x


@dg.op
def first() -> int:
    return 1


@dg.graph
def inner() -> int:
    number: int = middle(first())
    return number


@dg.job(description="Nested.")
def nested() -> None:
    inner()


@dg.op
def broken() -> None:
    raise dg.Failure("on purpose")


@dg.job(executor_def=dg.in_process_executor)
def failing() -> None:
    broken()


@dg.asset(group_name="sales", owners=["team:shop"])
def orders() -> None: ...


@dg.asset(deps=[orders, "elsewhere"])
def report() -> None: ...


defs = dg.Definitions(
    assets=[orders, report, dg.AssetSpec("elsewhere", group_name="landing")],
    jobs=[nested, failing, dg.define_asset_job("assets", "*", executor_def=dg.in_process_executor)],
)
