"""Scenarios of jobs made of ops."""

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.code_pointer import FileCodePointer
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.api import execute_run
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from parity_sides import Scenarios

SCENARIOS = Scenarios()

_HOME = "dagster._core.remote_origin"
origins = importlib.import_module(
    _HOME if importlib.util.find_spec(_HOME) else "dagster._core.remote_representation.origin"
)
"""Where a version of Dagster keeps the classes that say where a job comes from."""

ORDERS = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.public.orders,PROD)"
IN_PROCESS: dict[str, Any] = {"execution": {"config": {"in_process": {}}}}
REVENUE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,dwh.sales.revenue,PROD)"


def _execute(job: dg.JobDefinition, instance: dg.DagsterInstance, **options: Any) -> Sequence[str]:
    result = job.execute_in_process(instance=instance, raise_on_error=False, **options)
    return [result.run_id]


@dg.op(description="Reads.", tags={"team": "shop"})
def extract() -> int:
    return 1


@dg.op
def load(number: int) -> None:
    pass


@SCENARIOS.add()
def flat_ops(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job(description="Two ops.")
    def two_ops() -> None:
        load(extract())

    return _execute(two_ops, instance)


@dg.op(out=dg.Out(metadata={"datahub.outputs": [REVENUE]}))
def writes() -> int:
    return 1


@dg.op(ins={"number": dg.In(metadata={"datahub.inputs": [ORDERS]})})
def reads(number: int) -> None:
    pass


@dg.job
def declaring() -> None:
    reads(writes())


@SCENARIOS.add()
def declared_datasets(instance: dg.DagsterInstance) -> Sequence[str]:
    return _execute(declaring, instance)


@SCENARIOS.add(options={"connect_ops_to_ops": True})
def declared_datasets_and_connected_ops(instance: dg.DagsterInstance) -> Sequence[str]:
    return _execute(declaring, instance)


def _of_module(
    job: Any, instance: dg.DagsterInstance, options: Any = None, **more: Any
) -> dg.JobExecutionResult:
    return dg.execute_job(
        dg.reconstructable(job),
        instance,
        run_config=IN_PROCESS,
        reexecution_options=options,
        **more,
    )


@SCENARIOS.add(options={"connect_ops_to_ops": True})
def job_of_a_module(instance: dg.DagsterInstance) -> Sequence[str]:
    with _of_module(declaring, instance) as result:
        return [result.run_id]


@SCENARIOS.add(
    options={"dagster_url": "https://example.dagster.cloud"},
    environ={
        "DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT": "0",
        "DAGSTER_CLOUD_DEPLOYMENT_NAME": "data-eng",
    },
)
def dagster_plus(instance: dg.DagsterInstance) -> Sequence[str]:
    with _of_module(declaring, instance) as result:
        return [result.run_id]


@SCENARIOS.add(crash="KeyError: 'extract'")
def aliases(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job
    def twice() -> None:
        load.alias("first")(extract.alias("left")())
        load.alias("second")(extract.alias("right")())

    return _execute(twice, instance)


@SCENARIOS.add(crash="KeyError: 'extract'")
def nested_graphs(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.graph
    def inner() -> None:
        load(extract())

    @dg.graph
    def outer() -> None:
        inner()

    @dg.job
    def nested() -> None:
        outer()

    return _execute(nested, instance)


@dg.op(out=dg.DynamicOut(int))
def pieces() -> Iterator[dg.DynamicOutput[int]]:
    yield dg.DynamicOutput(1, "one")
    yield dg.DynamicOutput(2, "two")


@dg.op
def work(piece: int) -> int:
    return piece


@dg.op
def collect(numbers: list[int]) -> None:
    pass


@SCENARIOS.add(crash="KeyError: 'work'")
def dynamic_mapping(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job
    def mapped() -> None:
        collect(pieces().map(work).collect())

    return _execute(mapped, instance)


@dg.op(out={"odd": dg.Out(int, is_required=False), "even": dg.Out(int, is_required=False)})
def sort_out() -> Iterator[dg.Output[int]]:
    yield dg.Output(1, "odd")


@SCENARIOS.add()
def skipped_branch(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job
    def branching() -> None:
        odd, even = sort_out()
        load.alias("load")(odd)
        work(even)

    return _execute(branching, instance)


@dg.success_hook
def cheer(context: dg.HookContext) -> None:
    pass


@dg.op(config_schema={"rows": int}, required_resource_keys={"store"})
def configured_op(context: dg.OpExecutionContext) -> None:
    pass


@SCENARIOS.add()
def hooks_resources_and_config(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job(resource_defs={"store": dg.ResourceDefinition.hardcoded_resource(1)}, hooks={cheer})
    def equipped() -> None:
        configured_op()

    config = {"ops": {"configured_op": {"config": {"rows": 3}}}}
    return _execute(equipped, instance, run_config=config)


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
def flaky(context: dg.OpExecutionContext) -> None:
    if context.retry_number == 0:
        raise RuntimeError("not yet")


@SCENARIOS.add()
def op_retry(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job
    def patient() -> None:
        flaky()

    return _execute(patient, instance)


@dg.op
def broken() -> int:
    raise dg.Failure("on purpose", metadata={"rows": 3})


@SCENARIOS.add()
def failing_run(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job
    def failing() -> None:
        broken()

    return _execute(failing, instance)


@SCENARIOS.add(crash="KeyError: 'load'")
def never_started_step(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job
    def half() -> None:
        load(broken())

    return _execute(half, instance)


@SCENARIOS.add(crash="KeyError: 'extract'")
def canceled_in_the_queue(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job
    def waiting() -> None:
        extract()

    run = instance.create_run_for_job(waiting)
    instance.report_run_canceled(run)
    return [run.run_id]


@dg.op
def interrupted() -> None:
    raise DagsterExecutionInterruptedError


@SCENARIOS.add()
def canceled_run(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job
    def stopped() -> None:
        interrupted()

    run = instance.create_run_for_job(stopped, run_config=IN_PROCESS)
    with contextlib.suppress(DagsterExecutionInterruptedError):
        execute_run(InMemoryJob(stopped), run, instance)
    return [run.run_id]


@dg.op(ins={"number": dg.In(metadata={"datahub.inputs": [ORDERS]})})
def fails_at_first(context: dg.OpExecutionContext, number: int) -> None:  # noqa: ARG001
    if context.run.parent_run_id is None:
        raise dg.Failure("at first")


@dg.job(resource_defs={"io_manager": dg.fs_io_manager})
def continued() -> None:
    fails_at_first(writes())


@SCENARIOS.add(crash="KeyError: 'writes'")
def reexecution_from_failure(instance: dg.DagsterInstance) -> Sequence[str]:
    with _of_module(continued, instance, raise_on_error=False) as result:
        first = result.run_id
    again = dg.ReexecutionOptions.from_failure(first, instance)
    with _of_module(continued, instance, again) as result:
        return [first, result.run_id]


class Paths(dg.IOManager):
    """Keeps nothing, and says where it would have."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        context.add_output_metadata({"path": dg.MetadataValue.path(obj)})

    def load_input(self, context: dg.InputContext) -> str:
        context.add_input_metadata({"path": dg.MetadataValue.path("/data/read.csv")})
        return "read"


PATHS = {
    "local": "/data/orders.csv",
    "s3": "s3://bucket/orders",
    "s3a": "s3a://bucket/more/orders",
    "gs": "gs://bucket/orders",
    "abfss": "abfss://container@account.dfs.core.windows.net/orders",
    "hdfs": "hdfs://namenode:8020/orders",
}


def _writer(name: str, path: str) -> dg.OpDefinition:
    @dg.op(name=name)
    def write() -> str:
        return path

    return write


@dg.op
def use(where: str) -> None:
    pass


@SCENARIOS.add(options={"capture_input_output": True})
def paths_of_io_managers(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.job(resource_defs={"io_manager": Paths()})
    def storing() -> None:
        for name, path in PATHS.items():
            written = _writer(name, path)()
            if name == "local":
                use(written)

    return _execute(storing, instance)


@SCENARIOS.add(options={"dagster_url": "http://localhost:3000"})
def tags_descriptions_and_double_underscores(instance: dg.DagsterInstance) -> Sequence[str]:
    @dg.op(description="What it does.", tags={"owner/team": "shop"})
    def daily__step() -> None:
        pass

    @dg.job(
        description="Every day.",
        tags={"team": "shop", "tier": "1"},
        metadata={"contract": {"rows": 3}, "page": dg.MetadataValue.url("https://example.com")},
    )
    def daily__sync() -> None:
        daily__step()

    return _execute(daily__sync, instance, tags={"dagster/partition": "2024-01-01", "who": "me"})


@SCENARIOS.add(options={"platform_instance": "main", "env": "DEV"})
def platform_instance_and_environment(instance: dg.DagsterInstance) -> Sequence[str]:
    return _execute(declaring, instance)


@SCENARIOS.add()
def launched_by_a_schedule(instance: dg.DagsterInstance) -> Sequence[str]:
    tags = {"dagster/schedule_name": "nightly", "dagster/partition": "2024-01-01"}
    return _execute(declaring, instance, tags=tags)


@SCENARIOS.add()
def launched_by_a_backfill(instance: dg.DagsterInstance) -> Sequence[str]:
    tags = {"dagster/backfill": "kxmzqwvb", "dagster/partition": "2024-01-01"}
    return _execute(declaring, instance, tags=tags)


@SCENARIOS.add(options={"dagster_url": "http://localhost:3000"}, ours={"urn_prefix": "prod"})
def job_of_a_code_location_with_the_sensors_prefix(
    instance: dg.DagsterInstance,
) -> Sequence[str]:
    return _of_location(instance)


@SCENARIOS.add(options={"dagster_url": "http://localhost:3000"})
def job_of_a_code_location(instance: dg.DagsterInstance) -> Sequence[str]:
    return _of_location(instance)


def _of_location(instance: dg.DagsterInstance) -> Sequence[str]:
    file = FileCodePointer("jobs.py", "defs")
    code = JobPythonOrigin("declaring", RepositoryPythonOrigin("python", file))
    location = origins.RegisteredCodeLocationOrigin("shop")
    repository = origins.RemoteRepositoryOrigin(location, "__repository__")
    remote = repository.get_job_origin("declaring")
    run = instance.create_run_for_job(
        declaring, run_config=IN_PROCESS, job_code_origin=code, remote_job_origin=remote
    )
    execute_run(InMemoryJob(declaring), run, instance, raise_on_error=True)
    return [run.run_id]
