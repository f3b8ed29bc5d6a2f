"""Process instances: the aspects that runs, step runs and backfills have alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from datahub.metadata.schema_classes import (
    AuditStampClass,
    DataProcessInstanceInputClass,
    DataProcessInstanceOutputClass,
    DataProcessInstancePropertiesClass,
    DataProcessInstanceRelationshipsClass,
    DataProcessInstanceRunEventClass,
    DataProcessInstanceRunResultClass,
    DataProcessRunStatusClass,
    PartitionSpecClass,
    PartitionTypeClass,
    RunResultTypeClass,
)

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import Aspect, dagster_platform, instance
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.runs.progress import Moment, Result
from datahub_eventlog.values import Problem, Proposal

WHOLE = PartitionSpecClass(partition="FULL_TABLE_SNAPSHOT", type=PartitionTypeClass.FULL_TABLE)
"""The partition of a timeseries aspect by default; the client would make it anew for each."""

ACTOR = "urn:li:corpuser:datahub"

_TYPES = {
    Result.SUCCESS: RunResultTypeClass.SUCCESS,
    Result.FAILURE: RunResultTypeClass.FAILURE,
    Result.SKIPPED: RunResultTypeClass.SKIPPED,
    Result.CANCELED: RunResultTypeClass.SKIPPED,
    Result.UP_FOR_RETRY: RunResultTypeClass.UP_FOR_RETRY,
}


@dataclass(frozen=True)
class Instance:
    """A run, the run of a step, or the runs of a backfill together."""

    urn: str
    name: str
    type: str
    """DataHub's DataProcessType."""
    run_id: str
    """In system metadata."""
    message: str
    """The prefix of its run events' ids. DataHub distinguishes two events of one millisecond
    by their ids, and recognises by them an event that is sent again."""
    moments: tuple[Moment, ...]
    template: str | None
    """The dataFlow or dataJob that it is a run of."""
    created: float | None = None
    """None for the time of the first moment."""
    parent: str | None = None
    upstream: tuple[str, ...] = ()
    link: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()


def instance_proposals(this: Instance, context: Context) -> Iterator[Proposal | Problem]:
    """All aspects of a process instance, with one run event for each moment of its course."""
    for aspect in _aspects(this, context):
        yield instance(this.urn, aspect, this.run_id)


def milliseconds(seconds: float) -> int:
    """DataHub's timestamps."""
    return int(seconds * 1000)


def _aspects(this: Instance, context: Context) -> Iterator[Aspect]:
    yield _properties(this)
    yield DataProcessInstanceRelationshipsClass(
        upstreamInstances=sorted(set(this.upstream)),
        parentTemplate=None if urns.is_too_long(this.template or "") else this.template,
        parentInstance=this.parent,
    )
    if context.config.platform_instance:
        yield dagster_platform(context)
    if this.inputs:
        yield DataProcessInstanceInputClass(inputs=sorted(this.inputs))
    if this.outputs:
        yield DataProcessInstanceOutputClass(outputs=sorted(this.outputs))
    for moment in this.moments:
        yield _run_event(this, moment)


def _properties(this: Instance) -> DataProcessInstancePropertiesClass:
    created = this.moments[0].time if this.created is None else this.created
    return DataProcessInstancePropertiesClass(
        name=this.name,
        created=AuditStampClass(time=milliseconds(created), actor=ACTOR),
        type=this.type,
        customProperties=dict(this.properties),
        externalUrl=this.link,
    )


def _run_event(this: Instance, moment: Moment) -> DataProcessInstanceRunEventClass:
    if moment.result is None:
        return DataProcessInstanceRunEventClass(
            timestampMillis=milliseconds(moment.time),
            status=DataProcessRunStatusClass.STARTED,
            attempt=moment.attempt,
            partitionSpec=WHOLE,
            messageId=f"{this.message}:{moment.attempt}:STARTED",
        )
    phase = "CLOSED" if moment.is_closed else "COMPLETE"
    return DataProcessInstanceRunEventClass(
        timestampMillis=milliseconds(moment.time),
        status=DataProcessRunStatusClass.COMPLETE,
        attempt=moment.attempt,
        partitionSpec=WHOLE,
        messageId=f"{this.message}:{moment.attempt}:{phase}",
        durationMillis=(
            None
            if moment.started is None
            else max(0, milliseconds(moment.time) - milliseconds(moment.started))
        ),
        result=DataProcessInstanceRunResultClass(
            type=_TYPES[moment.result],
            # As the sensor plugin has it, except that DataHub has no result CANCELED of its own.
            nativeResultType=Result.CANCELED.value
            if moment.result is Result.CANCELED
            else urns.PLATFORM,
        ),
    )
