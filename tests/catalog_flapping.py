"""A code location whose runs and catalogue describe the same, each in its own way."""

import dagster as dg

DECLARED = dg.TableSchema([dg.TableColumn("id", "int", "the key"), dg.TableColumn("old", "text")])
FOUND = dg.TableSchema([dg.TableColumn("id", "bigint"), dg.TableColumn("new", "text")])


@dg.asset(
    group_name="sales",
    owners=["team:shop", "bob@example.com"],
    tags={"tier": "1"},
    kinds={"python", "postgres"},
    code_version="7",
    description="All orders.",
    metadata={
        "dagster/column_schema": DECLARED,
        "dagster/table_name": "db.public.orders",
        "note": "declared",
    },
    check_specs=[dg.AssetCheckSpec("small", asset="orders", metadata={"limit": 5})],
    deps=["ext"],
)
def orders():  # type: ignore[no-untyped-def]  # noqa: ANN201 - Dagster reads the annotation
    return dg.MaterializeResult(
        metadata={"dagster/column_schema": FOUND, "note": "found", "dagster/row_count": 3},
        check_results=[dg.AssetCheckResult(passed=True, check_name="small")],
    )


@dg.asset
def counts() -> int:
    return 1


@dg.asset(deps=[orders], metadata={"dagster/column_schema": DECLARED})
def totals(counts: int) -> int:
    return counts


@dg.asset(owners=["team:shop"], metadata={"dagster/column_schema": DECLARED})
def broken() -> None:
    raise RuntimeError("as it should")


@dg.asset(deps=[broken])
def never() -> None: ...


@dg.observable_source_asset(metadata={"dagster/table_name": "db.public.seen"})
def seen() -> dg.DataVersion:
    return dg.DataVersion("1")


EXTERNAL = dg.AssetSpec(
    "ext", metadata={"dagster/table_name": "db.public.ext"}, kinds={"postgres"}, description="Raw."
)


@dg.op(tags={"cost": "low"}, out=dg.Out(int, metadata={"unit": "EUR"}))
def fetch() -> int:
    return 1


@dg.op(description="Adds one.")
def add(number: int) -> int:
    return number + 1


@dg.graph
def inner(number: int) -> int:
    result: int = add(number)
    return result


@dg.job(tags={"team": "shop"}, metadata={"page": "wiki"}, description="Nested graphs.")
def nested() -> None:
    add.alias("last")(inner(fetch()))


defs = dg.Definitions(
    assets=[orders, counts, totals, broken, never, seen, EXTERNAL],
    jobs=[
        nested,
        dg.define_asset_job("assets", [orders, counts, totals], tags={"team": "shop"}),
        dg.define_asset_job("failing", [broken, never]),
        dg.define_asset_job("observing", ["seen"]),
    ],
    schedules=[dg.ScheduleDefinition(job=nested, cron_schedule="0 6 * * *")],
)
