"""What I/O managers write of tables and files, in real runs: one table is one dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.db_io_manager import DbClient, DbIOManager, DbTypeHandler, TableSlice

from datahub_eventlog.sinks.memory import MemorySink
from datahub_eventlog.testing import capturing, delivered

DAGSTER = "urn:li:dataset:(urn:li:dataPlatform:dagster,{},PROD)"


class Client(DbClient[str]):
    """Names tables as those of dagster-deltalake and dagster-iceberg."""

    @staticmethod
    def delete_table_slice(
        context: dg.OutputContext, table_slice: TableSlice, connection: str
    ) -> None: ...

    @staticmethod
    def ensure_schema_exists(
        context: dg.OutputContext, table_slice: TableSlice, connection: str
    ) -> None: ...

    @staticmethod
    def get_select_statement(table_slice: TableSlice) -> str:
        return f"SELECT * FROM {table_slice.schema}.{table_slice.table}"

    @staticmethod
    @contextmanager
    def connect(
        context: dg.OutputContext | dg.InputContext,  # noqa: ARG004 - called by keyword or position
        table_slice: TableSlice,
    ) -> Iterator[str]:
        yield f"{table_slice.schema}/{table_slice.table}"


class Handler(DbTypeHandler[int]):
    """Says where a table is as dagster-deltalake does, of `root`, and where it was read from."""

    def __init__(self, root: str | None) -> None:
        self._root = root

    def handle_output(
        self, context: dg.OutputContext, table_slice: TableSlice, obj: int, connection: str
    ) -> None:
        if self._root is not None:
            uri = dg.MetadataValue.path(f"{self._root}/{connection}")
            context.add_output_metadata({"table_uri": uri})

    def load_input(self, context: dg.InputContext, table_slice: TableSlice, connection: str) -> int:
        if self._root is not None:
            context.add_input_metadata(
                {"path": dg.MetadataValue.path(f"{self._root}/{connection}")}
            )
        return 1

    @property
    def supported_types(self) -> Sequence[type[Any]]:
        return [int]


def io_manager(database: str, root: str | None) -> DbIOManager:
    return DbIOManager(
        type_handlers=[Handler(root)], db_client=Client(), database=database, schema="public"
    )


def datasets(sink: MemorySink) -> set[str]:
    return {
        proposal.urn for proposal in sink.proposals if proposal.urn.startswith("urn:li:dataset:")
    }


def ports(sink: MemorySink, op: str) -> tuple[list[str], list[str]]:
    (urn,) = {proposal.urn for proposal in sink.proposals if proposal.urn.endswith(f"/{op})")}
    stated = sink.bodies(urn)["dataJobInputOutput"]
    value = json.loads(stated)
    return tuple(  # type: ignore[return-value]
        [edge["destinationUrn"] for edge in value[f"{side}DatasetEdges"]]
        for side in ("input", "output")
    )


def sent(folder: Path, *assets: Any, **options: Any) -> MemorySink:
    with capturing(folder) as instance:
        run = dg.materialize(list(assets), instance=instance, **options)
        return delivered(instance, run.run_id)


@pytest.mark.parametrize(
    ("database", "kind", "root", "table"),
    [
        ("deltalake", "deltalake", "s3://lake/silver", "delta-lake,lake/silver/public/{}"),
        ("deltalake", "polars", "/lake/silver", "delta-lake,lake/silver/public/{}"),
        ("deltalake", "deltalake", "data/silver", None),
        ("lake", "iceberg", None, "iceberg,public.{}"),
        ("lake", "iceberg", "s3://lake", "iceberg,public.{}"),
        ("DWH", "snowflake", None, "snowflake,DWH.public.{}"),
        ("/data/shop.duckdb", "duckdb", None, "duckdb,shop.public.{}"),
    ],
)
def test_an_asset_of_a_tables_i_o_manager_has_one_table_and_no_other_dataset(
    tmp_path: Path, database: str, kind: str, root: str | None, table: str | None
) -> None:
    @dg.asset(kinds={kind})
    def orders() -> int:
        return 1

    @dg.asset(kinds={kind})
    def sales(orders: int) -> int:
        return orders

    resources = {"io_manager": io_manager(database, root)}
    sink = sent(tmp_path, orders, sales, resources=resources)
    assert sink.problems == []
    assets = [DAGSTER.format(name) for name in ("orders", "sales")]
    tables = [
        f"urn:li:dataset:(urn:li:dataPlatform:{table.format(name)},PROD)"
        for name in ("orders", "sales")
        if table is not None
    ]
    assert datasets(sink) == {*assets, *tables}
    assert ports(sink, "orders") == ([], [assets[0]])
    assert ports(sink, "sales") == ([assets[0]], [assets[1]])


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/data/orders_2026-11-26.csv", None),
        ("/data/2026-11-26/orders.csv", None),
        ("data/orders.csv", None),
        ("/data/orders/2026-11-26.csv", "/data/orders"),
        ("/data/orders/date=2026-11-26/part-0.parquet", "/data/orders"),
    ],
)
def test_the_file_of_a_partition_that_an_asset_names_is_its_folder_or_nothing(
    tmp_path: Path, path: str, folder: str | None
) -> None:
    @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-11-26", end_date="2026-11-28"))
    def orders() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(path)})

    sink = sent(tmp_path, orders, partition_key="2026-11-26")
    file = f"urn:li:dataset:(urn:li:dataPlatform:file,{folder},PROD)"
    assert sink.problems == []
    assert datasets(sink) == {DAGSTER.format("orders"), *([file] if folder else ())}
