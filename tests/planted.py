"""A run of real Dagster code with the same text in every place that a user can write to."""

from typing import Any

import dagster as dg

PLANTED = "planted text"


def every_kind(text: str = PLANTED) -> dict[str, Any]:
    """Metadata of each kind, with that text in it."""
    columns = [dg.TableColumn("id", "int", description=text, tags={"note": text})]
    record = dg.TableRecord({"id": text})
    return {
        "plain": text,
        "text": dg.MetadataValue.text(text),
        "md": dg.MetadataValue.md(text),
        "url": dg.MetadataValue.url(text),
        "notebook": dg.MetadataValue.notebook(text),
        "json": dg.MetadataValue.json({"deep": [{"er": text}], text: 1}),
        "table": dg.MetadataValue.table([record], schema=dg.TableSchema(columns=columns)),
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "references": dg.CodeReferencesMetadataValue(
            code_references=[dg.UrlCodeReference(url=text, label=text)]
        ),
        text: "in the name",
    }


def definitions(text: str = PLANTED) -> list[Any]:
    """Assets and a check, full of that text."""

    @dg.asset(
        description=text,
        metadata=every_kind(text),
        tags={"note": "x"},
        op_tags={"note": text},
        code_version=text,
    )
    def orders(context: dg.AssetExecutionContext) -> Any:
        context.log_event(dg.AssetObservation("seen", description=text, metadata=every_kind(text)))
        return dg.MaterializeResult(
            metadata={**every_kind(text), "Query": f"select '{text}' as id from shop.orders"}
        )

    @dg.asset_check(asset=orders, description=text, metadata={"note": text})
    def checked() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=False, description=text, metadata={**every_kind(text), "error": text}
        )

    @dg.asset(deps=[orders], retry_policy=dg.RetryPolicy(max_retries=1))
    def broken() -> None:
        try:
            int(text)
        except ValueError as error:
            raise dg.Failure(description=text, metadata=every_kind(text)) from error

    @dg.asset(deps=[orders], config_schema={"url": str})
    def worse(context: dg.AssetExecutionContext) -> None:
        raise RuntimeError(f"it fails with {text}, and the config {context.op_config}")

    return [orders, checked, broken, worse]


def execute(instance: dg.DagsterInstance, text: str = PLANTED) -> str:
    """Run all of it, and return the run's id; the run fails."""
    return dg.materialize(
        definitions(text),
        instance=instance,
        tags={"note": text},
        run_config={"ops": {"worse": {"config": {"url": text}}}},
        raise_on_error=False,
    ).run_id
