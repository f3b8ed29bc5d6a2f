"""Stored events as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dagster import EventLogRecord

from datahub_eventlog.metadata import metadata_of
from datahub_eventlog.values import (
    AssetKey,
    CheckKey,
    Evaluation,
    Event,
    EventData,
    Failure,
    FreshnessChange,
    Handled,
    Loaded,
    Materialization,
    MaterializationFailure,
    Planned,
    Wiped,
)

if TYPE_CHECKING:
    from dagster import AssetCheckEvaluation  # Dagster 1.10 does not export it


def event_of(record: EventLogRecord) -> Event | None:
    """The event of a record, or None if it is a message of the user's log."""
    entry = record.event_log_entry
    event = entry.dagster_event
    if event is None:
        return None
    read = READERS.get(event.event_type.name)
    return Event(
        storage_id=record.storage_id,
        type=event.event_type.name,
        time=entry.timestamp,
        step_key=event.step_key or entry.step_key,
        data=read(event) if read else None,
    )


def failure_of(error: Any, **more: Any) -> Failure | None:
    """The innermost cause in one line: Dagster wraps what the user's code raised.

    `error` is Dagster's SerializableErrorInfo (its module differs between versions) or None.
    """
    if error is None:
        return None
    while error.cause is not None:
        error = error.cause
    line = next(iter(error.message.strip().splitlines()), error.cls_name or "")
    return Failure(message=line, **more)


def _path(key: Any) -> AssetKey:
    return tuple(key.path)


def _run_failure(event: Any) -> EventData:
    data = event.event_specific_data
    first = getattr(data, "first_step_failure_event", None)
    error = getattr(data, "error", None)
    if error is None and first is not None:
        error = first.event_specific_data.error
    reason = getattr(data, "failure_reason", None)
    code = reason.value if reason else None
    return failure_of(error, reason=code) or Failure(event.message or "", code)


def _step_failure(event: Any) -> EventData:
    data = event.event_specific_data
    user = getattr(data, "user_failure_data", None)
    metadata = metadata_of(user.metadata) if user else {}
    label = (user.description or user.label) if user else event.message
    return failure_of(data.error, metadata=metadata) or Failure(label or "", metadata=metadata)


def _materialization(asset: Any) -> EventData:
    return Materialization(
        asset_key=_path(asset.asset_key),
        partition=asset.partition,
        description=asset.description,
        metadata=metadata_of(asset.metadata),
        tags=dict(asset.tags or {}),
    )


def _failed_materialization(event: Any) -> EventData:
    failure = event.event_specific_data.asset_materialization_failure
    return MaterializationFailure(
        asset_key=_path(failure.asset_key),
        partition=failure.partition,
        is_failure=failure.failure_type.value != "SKIPPED",
        reason=failure.reason.value,
        description=failure.description,
        will_retry=getattr(failure, "will_retry", None),  # Dagster 1.13
    )


def _planned(event: Any) -> EventData:
    data = event.event_specific_data
    return Planned(
        asset_key=_path(data.asset_key),
        check_name=getattr(data, "check_name", None),
        partition=getattr(data, "partition", None),
    )


def _handled(event: Any) -> EventData:
    data = event.event_specific_data
    return Handled(output=data.output_name, metadata=metadata_of(data.metadata))


def _loaded(event: Any) -> EventData:
    data = event.event_specific_data
    return Loaded(input=data.input_name, metadata=metadata_of(data.metadata))


def _evaluation(event: Any) -> EventData:
    evaluation: AssetCheckEvaluation = event.event_specific_data
    target = evaluation.target_materialization_data
    return Evaluation(
        check=CheckKey(_path(evaluation.asset_key), evaluation.check_name),
        passed=evaluation.passed,
        severity=evaluation.severity.value,
        blocking=getattr(evaluation, "blocking", None),
        description=evaluation.description,
        partition=getattr(evaluation, "partition", None),
        metadata=metadata_of(evaluation.metadata),
        target_run_id=target.run_id if target else None,
        target_time=target.timestamp if target else None,
    )


def _wiped(event: Any) -> EventData:
    data = event.event_specific_data
    partitions = data.partition_keys
    return Wiped(_path(data.asset_key), tuple(partitions) if partitions else None)


def _freshness(event: Any) -> EventData:
    data = event.event_specific_data
    return FreshnessChange(
        asset_key=_path(data.key),
        state=data.new_state.value,
        previous=data.previous_state.value,
        time=data.state_change_timestamp,
    )


READERS: Mapping[str, Callable[[Any], EventData]] = {
    "RUN_FAILURE": _run_failure,
    "RUN_CANCELED": _run_failure,
    "STEP_FAILURE": _step_failure,
    "STEP_UP_FOR_RETRY": lambda event: (
        failure_of(event.event_specific_data.error) or Failure(event.message or "")
    ),
    "ASSET_MATERIALIZATION": lambda event: _materialization(
        event.event_specific_data.materialization
    ),
    "ASSET_OBSERVATION": lambda event: _materialization(
        event.event_specific_data.asset_observation
    ),
    "ASSET_FAILED_TO_MATERIALIZE": _failed_materialization,
    "ASSET_MATERIALIZATION_PLANNED": _planned,
    "ASSET_CHECK_EVALUATION_PLANNED": _planned,
    "ASSET_CHECK_EVALUATION": _evaluation,
    "ASSET_WIPED": _wiped,
    "FRESHNESS_STATE_CHANGE": _freshness,
    "HANDLED_OUTPUT": _handled,
    "LOADED_INPUT": _loaded,
}
