"""Freshness policies as assertions, and each change of an asset's freshness as their result.

The type is CUSTOM, which DataHub has for what is evaluated outside of it; its own source of dbt
sends the freshness of sources so. Dagster evaluates policies in its daemon. What it stores is the
change of a state: as long as nothing comes, the last one counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from datahub.metadata.schema_classes import (
    AssertionInfoClass,
    AssertionResultClass,
    AssertionResultTypeClass,
    AssertionRunEventClass,
    AssertionRunStatusClass,
    AssertionSourceClass,
    AssertionSourceTypeClass,
    AssertionTypeClass,
)
from datahub.metadata.urns import AssertionUrn

from datahub_eventlog.translate import links, urns
from datahub_eventlog.translate.aspects import Proposals, dagster_platform, instance, state
from datahub_eventlog.translate.assertion_shapes import Shape, custom_assertion, failure_severity
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.translate.properties import json_text, present, time_text
from datahub_eventlog.translate.ranks import ranked_time
from datahub_eventlog.translate.runs.asset_events import AssetHistory
from datahub_eventlog.translate.runs.instances import WHOLE, milliseconds
from datahub_eventlog.values import (
    AssetFacts,
    AssetKey,
    Event,
    FreshnessChange,
    Json,
    Problem,
    RunLog,
)

TYPE = "Dagster freshness policy"
RESULTS: Mapping[str, str] = {
    "PASS": AssertionResultTypeClass.SUCCESS,
    # As DataHub's source of dbt has it: the deadline is near, and was not missed.
    "WARN": AssertionResultTypeClass.SUCCESS,
    "FAIL": AssertionResultTypeClass.FAILURE,
    "UNKNOWN": AssertionResultTypeClass.INIT,
}
"""By Dagster's state. NOT_APPLICABLE is no result: there is no policy any more."""

NO_TABLE = (
    "the table of the asset {} is not known, so nothing says how fresh it is: with `emit_assets:"
    " false`, the catalogue has to know it"
)

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def freshness_proposals(log: RunLog, history: AssetHistory, context: Context) -> Proposals:
    """The policies of a run's assets, and the changes among events that belong to no run."""
    config = context.config
    if not (config.health.freshness and config.capture_asset_materialization):
        return
    assets = RunAssets(log, context)
    if not context.has_catalog:  # which says the same
        for key in sorted({*history.planned, *history.materialized, *history.observed}):
            facts, dataset = assets.facts(key), assets.checked(key)
            if facts is not None and dataset is not None:
                yield from policy_proposals(
                    facts, dataset, history.began, context, run_id=log.run.run_id
                )
    yield from _changes(log, assets, context)


def policy_proposals(
    facts: AssetFacts, dataset: str, since: float, context: Context, *, run_id: str = ""
) -> Proposals:
    """An asset's policy as an assertion on that dataset; nothing where it has none."""
    if facts.freshness is None:
        return
    urn = policy_urn(facts.key, context)
    yield state(urn, _info(facts.key, facts.freshness, dataset, context), since, run_id)
    yield state(urn, dagster_platform(context), since, run_id)


def policy_urn(key: AssetKey, context: Context) -> str:
    """The assertion that stands for the freshness policy of an asset."""
    bag = {
        "asset_key": json_text(list(key)),
        "policy": "freshness",
        "env": context.config.env,
        "platform_instance": context.config.platform_instance,
    }
    return AssertionUrn(urns.guid(bag)).urn()


def policy_in_words(settings: Mapping[str, Json]) -> str:
    """What a policy asks for; the settings are those of `AssetFacts.freshness`."""
    zone = settings.get("timezone") or "UTC"
    if fail := settings.get("fail_after_seconds"):
        warn = settings.get("warn_after_seconds")
        warning = f", with a warning after {_duration(warn)}" if warn else ""
        return f"Materialized within the last {_duration(fail)}{warning}"
    if cron := settings.get("deadline_cron"):
        bound = _duration(settings.get("lower_bound_seconds") or 0)
        return f"Materialized by each tick of {cron} ({zone}), at most {bound} before it"
    if lag := settings.get("maximum_lag_minutes"):
        cron = settings.get("cron_schedule")
        moment = f" at each tick of {cron} ({zone})" if cron else ""
        return f"Has all upstream data of {_duration(60 * lag)} ago{moment}"
    return f"Fresh by {json_text(dict(settings))}"


def _duration(seconds: float) -> str:
    """In the largest units: `1 day 12 hours`."""
    if not math.isfinite(seconds):
        return f"{seconds} seconds"
    rest, parts = round(seconds), []
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(parts) or "0 seconds"


def _changes(log: RunLog, assets: RunAssets, context: Context) -> Proposals:
    newest: dict[AssetKey, float] = {}
    for event, change in changes(log):
        dataset = assets.checked(change.asset_key)
        if dataset is None and assets.allows(change.asset_key):
            reason = NO_TABLE.format("/".join(change.asset_key))
            yield Problem(policy_urn(change.asset_key, context), "assertionRunEvent", reason)
        if dataset is not None and change.state in RESULTS:
            key = change.asset_key
            newest[key] = max(change.time, newest.get(key, change.time))
            urn = policy_urn(key, context)
            yield instance(urn, _result(urn, event, change, dataset, context))
    for key, time in newest.items():
        dataset = assets.checked(key)
        if dataset is not None and assets.facts(key) is None:
            # The policy's own words, where anybody knows them, rank above this.
            urn, since = policy_urn(key, context), ranked_time(time, None)
            yield state(urn, _info(key, {}, dataset, context), since)
            yield state(urn, dagster_platform(context), since)


def changes(log: RunLog) -> Iterator[tuple[Event, FreshnessChange]]:
    """The changes of freshness among the events."""
    for event in log.events:
        if isinstance(event.data, FreshnessChange):
            yield event, event.data


def _info(
    key: AssetKey, settings: Mapping[str, Json], dataset: str, context: Context
) -> AssertionInfoClass:
    parameters = {name: json_text(value) for name, value in settings.items()}
    words = policy_in_words(settings) if settings else "Meets its freshness policy"
    kind = _kind(settings)
    shape = Shape(kind or TYPE, native_parameters=parameters or None, logic=words)
    return AssertionInfoClass(
        type=AssertionTypeClass.CUSTOM,
        customAssertion=custom_assertion(TYPE, dataset, shape),
        source=AssertionSourceClass(type=AssertionSourceTypeClass.EXTERNAL),
        description=words,
        externalUrl=links.asset_link(key, context),
        customProperties=present({**parameters, "asset_key": "/".join(key), "policy": kind}),
    )


def _kind(settings: Mapping[str, Json]) -> str | None:
    """Dagster's class of policies, by the setting that only it has."""
    kinds = {
        "fail_after_seconds": "TimeWindowFreshnessPolicy",
        "deadline_cron": "CronFreshnessPolicy",
        "maximum_lag_minutes": "LegacyFreshnessPolicy",
    }
    return next((kind for name, kind in kinds.items() if name in settings), None)


def _result(
    urn: str, event: Event, change: FreshnessChange, dataset: str, context: Context
) -> AssertionRunEventClass:
    kind = RESULTS[change.state]
    is_failure = kind == AssertionResultTypeClass.FAILURE
    result = AssertionResultClass(
        type=kind,
        nativeResults={
            "state": change.state,
            "previous_state": change.previous,
            "changed": time_text(change.time),
        },
        externalUrl=links.asset_link(change.asset_key, context),
        **(failure_severity("ERROR") if is_failure else {}),
    )
    return AssertionRunEventClass(
        timestampMillis=milliseconds(change.time),
        runId=str(event.storage_id),
        asserteeUrn=dataset,
        assertionUrn=urn,
        status=AssertionRunStatusClass.COMPLETE,
        result=result,
        partitionSpec=WHOLE,
        messageId=f"{'/'.join(change.asset_key)}:freshness:{event.storage_id}",
    )
