"""Asset checks as assertions, and each of their evaluations as a run event."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from datahub.metadata import schema_classes
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
    DataPlatformInstanceClass,
)
from datahub.metadata.urns import AssertionUrn

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.aspects import Aspect, Proposals, instance, state
from datahub_eventlog.translate.assets.description import plain_texts, rank
from datahub_eventlog.translate.assets.timeseries import partition_spec
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_lineage import RunAssets
from datahub_eventlog.translate.properties import present, time_text
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

    A check whose step failed before it could say anything has the result ERROR.
    """
    if context.config.capture_asset_materialization:
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
    """Goes through the evaluations of a run."""

    def __init__(self, log: RunLog, context: Context) -> None:
        self._log = log
        self._run_id = log.run.run_id
        self._context = context
        self._assets = RunAssets(log, context)
        self._newest: dict[CheckKey, tuple[float, int]] = {}
        self._failed: dict[str, Event] = {}
        for event in log.events:
            self._fold(event)

    def proposals(self) -> Proposals:
        """The assertions and their run events."""
        for event in self._log.events:
            if isinstance(event.data, Evaluation):
                yield from self._evaluated(event, event.data)
        for step in self._log.steps:
            for output in step.outputs if step.key in self._failed else ():
                if output.check is not None and output.check not in self._newest:
                    yield from self._broken(self._failed[step.key], output.check)

    def _fold(self, event: Event) -> None:
        if isinstance(event.data, Evaluation):
            this = (event.time, event.storage_id)
            self._newest[event.data.check] = max(this, self._newest.get(event.data.check, this))
        elif event.type == "STEP_FAILURE" and event.step_key is not None:
            self._failed[event.step_key] = event

    def _evaluated(self, event: Event, evaluation: Evaluation) -> Proposals:
        asset = self._asset(evaluation.check)
        if asset is None:
            return
        if self._newest[evaluation.check] == (event.time, event.storage_id):
            yield from self._assertion(evaluation.check, asset, event)
        message = f"{self._run_id}:{_name(evaluation.check)}:{event.storage_id}"
        link = links.run_link(self._run_id, self._context) if self._run_id else None
        result = _result(evaluation, link)
        yield self._run_event(event, evaluation.check, asset, result, message)

    def _broken(self, event: Event, check: CheckKey) -> Proposals:
        asset = self._asset(check)
        if asset is None:
            return
        yield from self._assertion(check, asset, event)
        message = f"{self._run_id}:{_name(check)}:error"
        yield self._run_event(event, check, asset, _error(event.data), message)

    def _asset(self, check: CheckKey) -> str | None:
        """The dataset that is judged: the asset or, where assets aren't emitted, its table."""
        if not self._assets.allows(check.asset_key):
            return None
        if self._context.config.emit_assets:
            return self._assets.urn(check.asset_key)
        return self._assets.dataset(check.asset_key)

    def _assertion(self, check: CheckKey, asset: str, event: Event) -> Proposals:
        urn, facts = assertion_urn(check, self._context), self._facts(check)
        known = facts or CheckFacts(check, blocking=_is_blocking(event))
        yield state(urn, _info(known, asset, self._context), rank(event.time, facts), self._run_id)
        yield state(urn, _platform(self._context), event.time, self._run_id)

    def _facts(self, check: CheckKey) -> CheckFacts | None:
        facts = self._assets.facts(check.asset_key)
        return next((each for each in facts.checks if each.check == check), None) if facts else None

    def _run_event(
        self,
        event: Event,
        check: CheckKey,
        asset: str,
        result: AssertionResultClass,
        message: str,
    ) -> Proposal | Problem:
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
            messageId=message,
        )
        return instance(urn, aspect, self._run_id)


def _info(facts: CheckFacts, asset: str, context: Context) -> AssertionInfoClass:
    check = facts.check
    said = {
        "asset_key": "/".join(check.asset_key),
        "check_name": check.name,
        "blocking": str(facts.blocking).lower(),
    }
    return AssertionInfoClass(
        type=AssertionTypeClass.CUSTOM,
        customAssertion=CustomAssertionInfoClass(type=NATIVE_TYPE, entity=asset),
        source=AssertionSourceClass(type=AssertionSourceTypeClass.EXTERNAL),
        description=facts.description or check.name,
        externalUrl=_link(check, context),
        customProperties=present({**plain_texts(facts.metadata), **said}),
    )


def _is_blocking(event: Event) -> bool:
    return isinstance(event.data, Evaluation) and event.data.blocking is True


def _link(check: CheckKey, context: Context) -> str | None:
    asset = links.asset_link(check.asset_key, context)
    return f"{asset}?view=checks&checkDetail={quote(check.name, safe='')}" if asset else None


def _platform(context: Context) -> Aspect:
    instance = context.config.platform_instance
    return DataPlatformInstanceClass(
        platform=urns.platform_urn(),
        instance=urns.platform_instance_urn(instance) if instance else None,
    )


def _result(evaluation: Evaluation, link: str | None) -> AssertionResultClass:
    passed = evaluation.passed
    found = AssertionResultTypeClass.SUCCESS if passed else AssertionResultTypeClass.FAILURE
    severity = {} if passed else _severity(evaluation.severity)
    native = _native(evaluation)
    return AssertionResultClass(type=found, nativeResults=native, externalUrl=link, **severity)


def _severity(severity: str) -> dict[str, Any]:
    """DataHub's word for how bad a failure is, as far as this version of the client has one."""
    if not hasattr(schema_classes, "AssertionResultSeverityClass"):
        return {}
    known = schema_classes.AssertionResultSeverityClass
    return {"severity": known.LOW if severity == "WARN" else known.HIGH}


def _native(evaluation: Evaluation) -> dict[str, str]:
    judged = evaluation.target_time
    facts = {
        "severity": evaluation.severity,
        "blocking": "true" if evaluation.blocking else None,
        "description": evaluation.description,
        "partition": evaluation.partition,
        "target_run_id": evaluation.target_run_id,
        "target_materialized_at": None if judged is None else time_text(judged),
    }
    return {**plain_texts(evaluation.metadata), **present(facts)}


def _error(data: object) -> AssertionResultClass:
    message = data.message if isinstance(data, Failure) else ""
    error = AssertionResultErrorClass(
        type=AssertionResultErrorTypeClass.UNKNOWN_ERROR, properties={"message": message}
    )
    return AssertionResultClass(type=AssertionResultTypeClass.ERROR, error=error)


def _name(check: CheckKey) -> str:
    return f"{'/'.join(check.asset_key)}:{check.name}"
