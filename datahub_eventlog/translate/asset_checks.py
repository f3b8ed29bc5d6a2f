"""Asset checks as assertions, and each of their evaluations as a run event."""

from __future__ import annotations

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
    CustomAssertionInfoClass,
)
from datahub.metadata.urns import AssertionUrn

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.aspects import Proposals, dagster_platform, instance, state
from datahub_eventlog.translate.assertions import failure_severity
from datahub_eventlog.translate.assets.description import plain_texts
from datahub_eventlog.translate.assets.timeseries import partition_spec
from datahub_eventlog.translate.context import Context
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
    Problem,
    Proposal,
    RunLog,
)

NATIVE_TYPE = "Dagster asset check"


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
        for step in self._log.steps:
            for output in step.outputs if step.key in self._failed else ():
                if output.check is not None and output.check not in self._newest:
                    yield from self._not_evaluated(output.check, self._failed[step.key])

    def _evaluated(self, event: Event, evaluation: Evaluation) -> Proposals:
        check = evaluation.check
        asset = self._asset(check)
        if asset is None:
            return
        if self._newest[check] == (event.time, event.storage_id):
            blocking = evaluation.blocking is True
            yield from self._assertion(check, asset, event.time, blocking=blocking)
        passed = evaluation.passed
        result = AssertionResultClass(
            type=AssertionResultTypeClass.SUCCESS if passed else AssertionResultTypeClass.FAILURE,
            nativeResults=_native(evaluation),
            externalUrl=links.run_link(self._run_id, self._context) if self._run_id else None,
            **({} if passed else failure_severity(evaluation.severity)),
        )
        yield self._run_event(event, check, asset, result, str(event.storage_id))

    def _not_evaluated(self, check: CheckKey, event: Event) -> Proposals:
        asset = self._asset(check)
        if asset is None:
            return
        yield from self._assertion(check, asset, event.time)
        error = AssertionResultErrorClass(
            type=AssertionResultErrorTypeClass.UNKNOWN_ERROR,
            properties={"message": event.data.message if isinstance(event.data, Failure) else ""},
        )
        result = AssertionResultClass(type=AssertionResultTypeClass.ERROR, error=error)
        yield self._run_event(event, check, asset, result, "error")

    def _asset(self, check: CheckKey) -> str | None:
        """The dataset that is checked: the asset or, where assets aren't emitted, its table."""
        return self._assets.checked(check.asset_key)

    def _assertion(
        self, check: CheckKey, asset: str, time: float, *, blocking: bool = False
    ) -> Proposals:
        """What the check is by its definition, or failing that by its event."""
        urn, facts = assertion_urn(check, self._context), self._assets.facts(check.asset_key)
        checks = facts.checks if facts else ()
        defined = next((known for known in checks if known.check == check), None)
        info = assertion_info(defined or CheckFacts(check, blocking=blocking), asset, self._context)
        yield state(urn, info, ranked_time(time, defined), self._run_id)
        yield state(urn, dagster_platform(self._context), time, self._run_id)

    def _run_event(
        self, event: Event, check: CheckKey, asset: str, result: AssertionResultClass, suffix: str
    ) -> Proposal | Problem:
        """The result, under an id that is the same each time it is sent."""
        urn = assertion_urn(check, self._context)
        partition = event.data.partition if isinstance(event.data, Evaluation) else None
        aspect = AssertionRunEventClass(
            timestampMillis=milliseconds(event.time),
            runId=self._run_id or str(event.storage_id),
            asserteeUrn=asset,
            assertionUrn=urn,
            status=AssertionRunStatusClass.COMPLETE,
            result=result,
            partitionSpec=partition_spec(partition),
            messageId=f"{self._run_id}:{'/'.join(check.asset_key)}:{check.name}:{suffix}",
        )
        return instance(urn, aspect, self._run_id)


def assertion_info(facts: CheckFacts, asset: str, context: Context) -> AssertionInfoClass:
    """A check by its definition, on the dataset that it checks."""
    check = facts.check
    own = {
        "asset_key": "/".join(check.asset_key),
        "check_name": check.name,
        "blocking": str(facts.blocking).lower(),
    }
    page = links.asset_link(check.asset_key, context)
    shown = f"?view=checks&checkDetail={quote(check.name, safe='')}"
    return AssertionInfoClass(
        type=AssertionTypeClass.CUSTOM,
        customAssertion=CustomAssertionInfoClass(type=NATIVE_TYPE, entity=asset),
        source=AssertionSourceClass(type=AssertionSourceTypeClass.EXTERNAL),
        description=facts.description or check.name,
        externalUrl=f"{page}{shown}" if page else None,
        customProperties=present({**plain_texts(facts.metadata), **own}),
    )


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
