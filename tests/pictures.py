"""Runs for the tests of `preview`: what they say to DataHub."""

from __future__ import annotations

from logs import (
    asset_facts,
    declares,
    event,
    facts,
    failed,
    log,
    materialized,
    op,
    ran,
    run,
    step,
    succeeded,
    text,
    yielded,
)

from datahub_eventlog.config import Config
from datahub_eventlog.translate import translate
from datahub_eventlog.translate.context import Context
from datahub_eventlog.values import (
    CheckKey,
    Evaluation,
    Job,
    Metadatum,
    PortFacts,
    Problem,
    Proposal,
)

ORDERS_TABLE = "urn:li:dataset:(urn:li:dataPlatform:snowflake,dwh.orders,PROD)"
SOURCE = "urn:li:dataset:(urn:li:dataPlatform:postgres,shop.public.orders,PROD)"
HOSTILE = '</script><img src=x onerror="window.broken=1">'


def shop() -> list[Proposal | Problem]:
    """Two assets with a table, columns, a check and owners, and an op that fails."""
    columns = {
        "columns": [
            {
                "name": "amount",
                "type": "decimal(10,2)",
                "description": "in euros",
                "nullable": False,
                "unique": False,
                "constraints": [],
                "tags": {},
            }
        ],
        "constraints": [],
    }
    lineage = {"revenue": [{"asset_key": ["orders"], "column": "amount"}]}
    made = {
        "datahub_urn": text(ORDERS_TABLE),
        "dagster/column_schema": Metadatum("table_schema", columns),
        "dagster/row_count": Metadatum("int", 3),
        "runbook": Metadatum("url", "https://example.com/orders"),
    }
    check = Evaluation(CheckKey(("orders",), "amounts"), passed=False, metadata={"bad": text("2")})
    orders_facts = asset_facts("orders", owners=("team:data",), tags={"tier": "gold"}, group="shop")
    return list(
        translate(
            log(
                event("RUN_START"),
                *ran(
                    "orders",
                    materialized("orders", metadata=made),
                    event("ASSET_CHECK_EVALUATION", None, check),
                    yielded(),
                ),
                *ran(
                    "revenue",
                    materialized(
                        "revenue",
                        metadata={"dagster/column_lineage": Metadatum("column_lineage", lineage)},
                    ),
                    yielded(),
                ),
                *failed("mail"),
                event("RUN_FAILURE"),
                steps=[
                    step("orders", asset="orders"),
                    step("revenue", "orders", asset="revenue"),
                    step("mail", "revenue"),
                ],
                definitions=facts(
                    orders_facts,
                    asset_facts("revenue", "orders"),
                    ports={"orders": PortFacts(outputs={"result": declares(SOURCE)})},
                ),
            ),
            Context(),
        )
    )


def hostile() -> list[Proposal | Problem]:
    """A run in which everything that people name, and write, is an attack on the page."""
    key = HOSTILE.replace("/", "\\")
    node = op("evil")
    job = Job(HOSTILE, description=HOSTILE, tags={HOSTILE: HOSTILE}, ops=(node,))
    metadata = {
        HOSTILE: text(HOSTILE),
        "link": text("javascript:window.broken=1"),
        "Query": text(f"select '{HOSTILE}' from t"),
    }
    return list(
        translate(
            log(
                *succeeded(*ran("evil", materialized(key, metadata=metadata), yielded())),
                steps=[step("evil", asset=key)],
                job=job,
                run=run(job_name=HOSTILE),
                definitions=facts(asset_facts(key, description=HOSTILE, group=HOSTILE)),
            ),
            Context(Config(emit_queries=True)),
        )
    )


def big(assets: int) -> list[Proposal | Problem]:
    """A run with that many assets, each of which is made of up to three before it."""
    names = [f"table_{number:03}" for number in range(assets)]
    deps = {
        name: sorted({names[(number * factor) % number] for factor in (3, 7)} if number else ())
        for number, name in enumerate(names)
    }
    return list(
        translate(
            log(
                *succeeded(*(each for name in names for each in ran(name, materialized(name)))),
                steps=[step(name, *deps[name], asset=name) for name in names],
                definitions=facts(*(asset_facts(name, *deps[name]) for name in names)),
            ),
            Context(),
        )
    )
