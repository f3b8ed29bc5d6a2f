"""Definitions of a small shop, from which tests make catalogues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datahub_eventlog.values import (
    AssetFacts,
    CatalogJob,
    CatalogPart,
    CheckFacts,
    CheckKey,
    CodeRepository,
    Job,
    Metadatum,
    Op,
    Trigger,
)


def urn(name: str, platform: str = "dagster") -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:{platform},{name},PROD)"


def column(name: str, type_: str = "int", **more: Any) -> dict[str, Any]:
    others = {"description": "", "nullable": True, "unique": False, "constraints": [], "tags": {}}
    return {"name": name, "type": type_, **others, **more}


def schema(*columns: dict[str, Any], constraints: tuple[str, ...] = ()) -> Mapping[str, Metadatum]:
    value = {"columns": list(columns), "constraints": list(constraints)}
    return {"dagster/column_schema": Metadatum("table_schema", value)}


ORDERS = AssetFacts(
    key=("sales", "orders"),
    group="sales",
    owners=("team:data", "ada@example.com"),
    tags={"tier": "1"},
    kinds=("snowflake",),
    description="All orders.",
    code_version="1",
    partitions="Daily.",
    metadata={
        **schema(column("id", constraints=["primary key"]), column("amount", "decimal(10, 2)")),
        "dagster/table_name": Metadatum("text", "dwh.sales.orders"),
    },
    checks=(CheckFacts(CheckKey(("sales", "orders"), "not_empty")),),
)
REPORT = AssetFacts(
    key=("report",),
    deps=(("sales", "orders"),),
    metadata={
        "dagster/column_lineage": Metadatum(
            "column_lineage",
            {"total": [{"asset_key": ["sales", "orders"], "column": "amount"}]},
        )
    },
)
NIGHTLY = CatalogJob(
    Job("nightly", description="Each night.", ops=(Op("load", "load"), Op("a.b", "b"))),
    triggers=(
        Trigger("at_night", "schedule", is_running=True, cron=("0 1 * * *",), timezone="UTC"),
        Trigger("on_file", "standard", is_running=False, interval_seconds=30),
    ),
)
SHOP = CodeRepository("shop", "__repository__", module="shop.definitions")


def part(*assets: AssetFacts, **more: Any) -> CatalogPart:
    return CatalogPart(SHOP, assets, **more)
