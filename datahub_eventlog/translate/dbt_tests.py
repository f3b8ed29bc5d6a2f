"""Tests of dbt, as the assertions that DataHub's dbt source makes of them.

Whoever runs that source as well has one assertion of a test, with the results of both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from datahub.metadata.schema_classes import (
    AssertionResultTypeClass,
    AssertionStdAggregationClass,
    AssertionStdOperatorClass,
    DataPlatformInstanceClass,
    DatasetAssertionScopeClass,
)
from datahub.metadata.urns import AssertionUrn

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.assertion_shapes import NATIVE, NUMBER, SET, Parameter, Shape
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.translate.properties import present
from datahub_eventlog.values import (
    AssetFacts,
    CheckFacts,
    CheckKey,
    DbtTest,
    Evaluation,
    Json,
    Metadata,
    RunLog,
    Step,
)

PLATFORM = "dbt"
UNIQUE_ID = "dagster_dbt/unique_id"
FAILED_ROWS = "dagster_dbt/failed_row_count"

_OP_TAG = "dagster_dbt/"
"""Begins the tags of the ops that dagster-dbt makes."""
_ON_ONE_NODE = ("not_null", "unique", "accepted_values")
"""The generic tests of dbt itself that depend on no other node than that which they are on."""
_HASHED_PARTS = 4
"""The parts of the unique id of a generic test: `test.<project>.<name>.<hash>`."""
_NO_VERDICT = frozenset({"error", "runtime error", "skipped"})


def dbt_test_of(
    check: CheckKey, defined: CheckFacts | None, asset: AssetFacts | None, metadata: Metadata
) -> DbtTest | None:
    """The test of dbt that a check is, or None if it is none or if its assertion can't be known.

    `metadata` is that of an evaluation. It names the test, but not how many nodes it depends on,
    on which the assertion depends. Of dbt's own tests of columns that is known.
    """
    if defined is not None and defined.dbt is not None:
        return defined.dbt
    unique_id = _id_of(defined, metadata)
    if unique_id is None or len(unique_id.split(".")) < _HASHED_PARTS:
        return None
    for test in _ON_ONE_NODE:
        if check.name.startswith(f"{test}_{_node_name(check, asset)}_"):
            return DbtTest(unique_id, check.name, test)
    return None


def is_test_of_dbt(defined: CheckFacts | None, step: Step, log: RunLog) -> bool:
    """Whether a step evaluates a check as a test of dbt, though it may be unknown as which."""
    if defined is not None and defined.is_of_dbt:
        return True
    ops = log.job.ops if log.job else ()
    tags = next((op.tags for op in ops if op.handle == step.handle), {})
    return any(name.startswith(_OP_TAG) for name in tags)


def dbt_assertion_urn(test: DbtTest, context: Context) -> str:
    """The assertion as DataHub's dbt source has it, without `include_env_in_assertion_guid`."""
    bag = {
        "platform": PLATFORM,
        "name": test.unique_id,
        "instance": _instance(context),
        "on_dbt_upstream": test.upstream if test.upstreams > 1 else None,
    }
    return AssertionUrn(urns.guid({name: text for name, text in bag.items() if text})).urn()


def tested_dataset(test: DbtTest, check: CheckKey, assets: RunAssets) -> str | None:
    """The dataset that a test is of: the table of its asset, or the asset.

    With `use_dbt_datasets` it is the one of the platform dbt, which only DataHub's dbt source
    makes; people see it as one with the table.
    """
    context = assets.context
    if context.config.use_dbt_datasets and test.dataset:
        try:
            return urns.platform_dataset_urn(PLATFORM, test.dataset.lower(), context)
        except urns.InvalidUrn:
            pass
    return assets.dataset(check.asset_key) or assets.checked(check.asset_key)


def dbt_platform(context: Context) -> DataPlatformInstanceClass:
    """The platform dbt, and the instance of it that is configured."""
    name = _instance(context)
    return DataPlatformInstanceClass(
        platform=urns.platform_urn(PLATFORM),
        instance=urns.platform_instance_urn(name, PLATFORM) if name else None,
    )


def dbt_properties(test: DbtTest) -> dict[str, str]:
    """The test's ids, by the names that DataHub's dbt source has for them, and more."""
    return present(
        {
            "dbt_unique_id": test.unique_id,
            "dbt_test_upstream_unique_id": test.upstream,
            "dbt_severity": test.severity,
            "dbt_description": test.description,
        }
    )


def dbt_shape(test: DbtTest) -> Shape:
    """What the test asserts, as DataHub's dbt source says it."""
    native = {name: str(value) for name, value in test.arguments.items()}
    known = _KNOWN.get(test.test)
    if known is None:
        column = test.column
        scope = DatasetAssertionScopeClass
        return Shape(
            test.name,
            column=column,
            scope=scope.DATASET_COLUMN if column else scope.DATASET_ROWS,
            aggregation=NATIVE,
            operator=NATIVE,
            native_parameters=native,
            logic=test.code,
        )
    return Shape(
        test.name,
        column=test.column,
        scope=DatasetAssertionScopeClass.DATASET_COLUMN,
        aggregation=known.aggregation,
        operator=known.operator,
        parameters=known.parameters(test.arguments) if known.parameters else None,
        native_parameters=native,
        logic=known.logic(test.arguments) if known.logic else None,
    )


def dbt_result(evaluation: Evaluation) -> str:
    """The type of the result by dbt's status; a warning is a failure, as it is to Dagster."""
    if _text(evaluation.metadata, "status") in _NO_VERDICT:
        return AssertionResultTypeClass.ERROR
    if evaluation.passed:
        return AssertionResultTypeClass.SUCCESS
    return AssertionResultTypeClass.FAILURE


def _id_of(defined: CheckFacts | None, metadata: Metadata) -> str | None:
    """The test's id in the check's definition, or as dagster-dbt writes it to its evaluations."""
    unique_id = _text(defined.metadata, UNIQUE_ID) if defined else None
    if unique_id is None and {"status", "invocation_id"} <= metadata.keys():
        unique_id = _text(metadata, "unique_id")
    return unique_id if unique_id and unique_id.startswith("test.") else None


def _node_name(check: CheckKey, asset: AssetFacts | None) -> str:
    """The name of the node in the names that dbt gives to its tests."""
    node = _text(asset.metadata, UNIQUE_ID) if asset else None
    return "_".join(node.split(".")[2:]) if node else check.asset_key[-1]


def _instance(context: Context) -> str | None:
    return context.config.platform_instance_map.get(PLATFORM) or None


def _text(metadata: Metadata, name: str) -> str | None:
    metadatum = metadata.get(name)
    return metadatum.value if metadatum and isinstance(metadatum.value, str) else None


Arguments = Mapping[str, Json]


def _set(name: str) -> Callable[[Arguments], Mapping[str, Parameter]]:
    return lambda arguments: (
        {"value": Parameter(json.dumps(arguments[name]), SET)} if name in arguments else {}
    )


def _bounds(arguments: Arguments) -> Mapping[str, Parameter]:
    return {
        place: Parameter(str(arguments[name]), NUMBER)
        for place, name in (("minValue", "min_value"), ("maxValue", "max_value"))
        if name in arguments
    }


def _relationship(arguments: Arguments) -> str | None:
    """The two columns of a `relationships` test in words."""
    names = [arguments.get(name) for name in ("to", "model", "column_name", "field")]
    if not all(isinstance(name, str) and name for name in names):
        return None
    to, model, column, field = map(str, names)
    target = re.match(r"^ref\('(.*)'\)$", to)
    source = re.search(r"ref\('(.*)'\)", model)
    return (
        f"{source[1] if source else model}.{column} referential integrity to"
        f" {target[1] if target else to}.{field}"
    )


@dataclass(frozen=True)
class _Known:
    """What a generic test of a column asserts."""

    operator: str
    aggregation: str = AssertionStdAggregationClass.IDENTITY
    parameters: Callable[[Arguments], Mapping[str, Parameter]] | None = None
    logic: Callable[[Arguments], str | None] | None = None


_OPERATOR = AssertionStdOperatorClass
_KNOWN: Mapping[str, _Known] = {
    "not_null": _Known(_OPERATOR.NOT_NULL),
    "unique": _Known(
        _OPERATOR.EQUAL_TO,
        AssertionStdAggregationClass.UNIQUE_PROPOTION,
        lambda _: {"value": Parameter("1.0", NUMBER)},
    ),
    "accepted_values": _Known(_OPERATOR.IN, parameters=_set("values")),
    "relationships": _Known(NATIVE, logic=_relationship),
    "dbt_expectations.expect_column_values_to_not_be_null": _Known(_OPERATOR.NOT_NULL),
    "dbt_expectations.expect_column_values_to_be_between": _Known(
        _OPERATOR.BETWEEN, parameters=_bounds
    ),
    "dbt_expectations.expect_column_values_to_be_in_set": _Known(
        _OPERATOR.IN, parameters=_set("value_set")
    ),
}
