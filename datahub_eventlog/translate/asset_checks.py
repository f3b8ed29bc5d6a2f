"""Asset checks as assertions, and each of their evaluations as a run event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from datahub.metadata.schema_classes import (
    AssertionInfoClass,
    AssertionResultClass,
    AssertionResultErrorClass,
    AssertionResultErrorTypeClass,
    AssertionResultTypeClass,
    AssertionRunEventClass,
    AssertionRunStatusClass,
    AssertionSourceClass,
    AssertionSourceTypeClass,
    AssertionTypeClass,
)
from datahub.metadata.urns import AssertionUrn

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.aspects import (
    Proposals,
    created,
    dagster_platform,
    instance,
    state,
)
from datahub_eventlog.translate.assertion_shapes import (
    custom_assertion,
    failure_severity,
    unsayable,
)
from datahub_eventlog.translate.assets.description import plain_texts
from datahub_eventlog.translate.assets.timeseries import partition_spec
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.dbt_tests import (
    FAILED_ROWS,
    dbt_assertion_urn,
    dbt_platform,
    dbt_properties,
    dbt_result,
    dbt_shape,
    dbt_test_of,
    is_test_of_dbt,
    tested_dataset,
)
from datahub_eventlog.translate.factory_checks import (
    ROW_COUNT,
    bounded_value,
    dagster_shape,
    freshness_metadata,
)
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.translate.properties import present, time_text
from datahub_eventlog.translate.ranks import ranked_time
from datahub_eventlog.translate.runs.instances import milliseconds
from datahub_eventlog.values import (
    CheckFacts,
    CheckKey,
    Evaluation,
    Event,
    Failure,
    Metadatum,
    Problem,
    Proposal,
    RunLog,
    Step,
)

NATIVE_TYPE = "Dagster asset check"
LARGEST = 2**63 - 1
"""Of DataHub's numbers."""


def check_proposals(log: RunLog, context: Context) -> Proposals:
    """The checks that a run, or an event of its own, evaluated, and every result.

    A check whose step failed before it was evaluated has the result ERROR.
    """
    if context.config.health.checks and context.config.capture_asset_materialization:
        yield from CheckEmitter(log, context).proposals()


def assertion_urn(check: CheckKey, context: Context) -> str:
    """The assertion that stands for an asset check."""
    bag = {
        "asset_key": "/".join(check.asset_key),
        "check_name": check.name,
        "env": context.config.env,
        "platform_instance": context.config.platform_instance,
    }
    return AssertionUrn(urns.guid(bag)).urn()


class CheckEmitter:
    """Makes the assertions of one run and their run events."""

    def __init__(self, log: RunLog, context: Context) -> None:
        """Read the run's evaluations and failed steps."""
        self._log = log
        self._run_id = log.run.run_id
        self._context = context
        self._assets = RunAssets(log, context)
        self._newest: dict[CheckKey, tuple[float, int]] = {}
        self._failed: dict[str, Event] = {}
        for event in log.events:
            if isinstance(event.data, Evaluation):
                check, this = event.data.check, (event.time, event.storage_id)
                self._newest[check] = max(this, self._newest.get(check, this))
            elif event.type == "STEP_FAILURE" and event.step_key is not None:
                self._failed[event.step_key] = event

    def proposals(self) -> Proposals:
        """Every evaluation, then the checks that a failed step did not get to evaluate."""
        for event in self._log.events:
            if isinstance(event.data, Evaluation):
                yield from self._evaluated(event, event.data)
        for check, step in self._not_evaluated():
            yield from self._error(check, step, self._failed[step.key])

    def not_evaluated(self) -> Iterator[tuple[CheckKey, Event]]:
        """The checks whose step failed before it evaluated them, and its failure."""
        yield from ((check, self._failed[step.key]) for check, step in self._not_evaluated())

    def _not_evaluated(self) -> Iterator[tuple[CheckKey, Step]]:
        for step in self._log.steps:
            for output in step.outputs if step.key in self._failed else ():
                if output.check is not None and output.check not in self._newest:
                    yield output.check, step

    def _evaluated(self, event: Event, evaluation: Evaluation) -> Proposals:
        assertion = self.assertion_of(evaluation.check, evaluation)
        if assertion is None:
            return
        if self._newest[evaluation.check] == (event.time, event.storage_id):
            yield from self._assertion(assertion, event.time)
        kind = dbt_result(evaluation) if assertion.facts.dbt else _result(evaluation)
        is_failure = kind == AssertionResultTypeClass.FAILURE
        result = AssertionResultClass(
            type=kind,
            nativeResults=_native(evaluation),
            externalUrl=links.run_link(self._run_id, self._context) if self._run_id else None,
            **_counts(evaluation),
            **(failure_severity(evaluation.severity) if is_failure else {}),
        )
        yield self._run_event(event, assertion, result, str(event.storage_id))

    def _error(self, check: CheckKey, step: Step, event: Event) -> Proposals:
        assertion = self.assertion_of(check)
        if assertion is None:
            return
        if assertion.facts.dbt is None and is_test_of_dbt(assertion.facts, step, self._log):
            # Whoever knows which test it is sends it as an assertion of dbt's.
            return
        yield from self._assertion(assertion, event.time)
        error = AssertionResultErrorClass(
            type=AssertionResultErrorTypeClass.UNKNOWN_ERROR,
            properties={"message": event.data.message if isinstance(event.data, Failure) else ""},
        )
        result = AssertionResultClass(type=AssertionResultTypeClass.ERROR, error=error)
        yield self._run_event(event, assertion, result, "error")

    def assertion_of(
        self, check: CheckKey, evaluation: Evaluation | None = None
    ) -> CheckAssertion | None:
        """The check by its definition, or failing that by its event, on the dataset it is of.

        That is the asset or, where assets aren't emitted, its table.
        """
        dataset = self._assets.checked(check.asset_key)
        if dataset is None:
            return None
        asset = self._assets.facts(check.asset_key)
        checks = asset.checks if asset else ()
        defined = next((known for known in checks if known.check == check), None)
        metadata = evaluation.metadata if evaluation else {}
        facts = defined or CheckFacts(
            check,
            blocking=evaluation is not None and evaluation.blocking is True,
            metadata=freshness_metadata(metadata),
        )
        test = dbt_test_of(check, defined, asset, metadata)
        urn = assertion_urn(check, self._context)
        if test is not None:
            urn = dbt_assertion_urn(test, self._context)
            dataset = tested_dataset(test, check, self._assets) or dataset
        return CheckAssertion(
            urn, dataset, replace(facts, dbt=test), is_defined=defined is not None
        )

    def _assertion(self, assertion: CheckAssertion, time: float) -> Proposals:
        """What the check is."""
        facts, context = assertion.facts, self._context
        info = assertion_info(facts, assertion.dataset, context)
        since = ranked_time(time, facts if assertion.is_defined else None)
        if facts.dbt is not None:
            # DataHub's dbt source says more, and has the last word.
            yield created(assertion.urn, info, since, self._run_id)
            yield created(assertion.urn, dbt_platform(context), time, self._run_id)
        else:
            yield state(assertion.urn, info, since, self._run_id)
            yield state(assertion.urn, dagster_platform(context), time, self._run_id)

    def _run_event(
        self, event: Event, assertion: CheckAssertion, result: AssertionResultClass, suffix: str
    ) -> Proposal | Problem:
        """The result, under an id that is the same each time it is sent."""
        check = assertion.facts.check
        partition = event.data.partition if isinstance(event.data, Evaluation) else None
        aspect = AssertionRunEventClass(
            timestampMillis=milliseconds(event.time),
            runId=self._run_id or str(event.storage_id),
            asserteeUrn=assertion.dataset,
            assertionUrn=assertion.urn,
            status=AssertionRunStatusClass.COMPLETE,
            result=result,
            partitionSpec=partition_spec(partition),
            messageId=f"{self._run_id}:{'/'.join(check.asset_key)}:{check.name}:{suffix}",
        )
        return instance(assertion.urn, aspect, self._run_id)


@dataclass(frozen=True)
class CheckAssertion:
    """A check with its assertion, and the dataset that it is of."""

    urn: str
    dataset: str
    facts: CheckFacts
    is_defined: bool


def assertion_info(facts: CheckFacts, dataset: str, context: Context) -> AssertionInfoClass:
    """A check by its definition, on the dataset that it checks."""
    check = facts.check
    shape = dagster_shape(facts) if facts.dbt is None else dbt_shape(facts.dbt)
    own = {
        "asset_key": "/".join(check.asset_key),
        "check_name": check.name,
        "blocking": str(facts.blocking).lower(),
        **(dbt_properties(facts.dbt) if facts.dbt else {}),
        **unsayable(shape),
    }
    page = links.asset_link(check.asset_key, context)
    shown = f"?view=checks&checkDetail={quote(check.name, safe='')}"
    kind = NATIVE_TYPE if facts.dbt is None else "dbt"
    # Of a test of dbt, DataHub makes a title of what it asserts.
    name = None if facts.dbt else check.name
    return AssertionInfoClass(
        type=AssertionTypeClass.CUSTOM,
        customAssertion=custom_assertion(kind, dataset, shape),
        source=AssertionSourceClass(type=AssertionSourceTypeClass.EXTERNAL),
        description=facts.description or name,
        externalUrl=f"{page}{shown}" if page else None,
        customProperties=present({**plain_texts(facts.metadata), **own}),
    )


def _result(evaluation: Evaluation) -> str:
    if evaluation.passed:
        return AssertionResultTypeClass.SUCCESS
    return AssertionResultTypeClass.FAILURE


def _counts(evaluation: Evaluation) -> dict[str, Any]:
    """The numbers for which DataHub has fields, where it is plain which of them they are."""
    return {
        "rowCount": _whole(evaluation.metadata.get(ROW_COUNT)),
        "unexpectedCount": _whole(evaluation.metadata.get(FAILED_ROWS)),
        "actualAggValue": bounded_value(evaluation),
    }


def _whole(number: Metadatum | None) -> int | None:
    is_whole = number is not None and number.kind == "int" and 0 <= number.value <= LARGEST
    return number.value if number is not None and is_whole else None


def _native(evaluation: Evaluation) -> dict[str, str]:
    target_time = evaluation.target_time
    facts = {
        "severity": evaluation.severity,
        "blocking": "true" if evaluation.blocking else None,
        "description": evaluation.description,
        "partition": evaluation.partition,
        "target_run_id": evaluation.target_run_id,
        "target_materialized_at": None if target_time is None else time_text(target_time),
    }
    return {**plain_texts(evaluation.metadata), **present(facts)}
