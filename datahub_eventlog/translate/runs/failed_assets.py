"""The planned assets that a run failed to make, read from the events in one pass.

Dagster's own storages don't keep its event for that. So what a step was to make has failed when the
step fails, and everything else when the run ends, save what was left out on purpose.

What has failed by then stays so, whatever comes later: it was sent. Dagster's own event, where it
is stored, adds to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from datahub_eventlog.event_types import STEP_ENDS
from datahub_eventlog.translate.runs.plan import unresolved
from datahub_eventlog.translate.runs.progress import Result
from datahub_eventlog.values import (
    ENDED,
    AssetKey,
    Event,
    EventData,
    Failure,
    Materialization,
    MaterializationFailure,
    Planned,
    RunLog,
)

ITSELF = "FAILED_TO_MATERIALIZE"
UPSTREAM = "UPSTREAM_FAILED_TO_MATERIALIZE"
TERMINATED = "RUN_TERMINATED"
"""Dagster's names for the reasons (AssetMaterializationFailureReason)."""
WILL_RETRY = "dagster/will_retry"
"""The tag of a failed run that says whether Dagster runs it again by itself."""
MADE = "ASSET_MATERIALIZATION"
STEP_FAILURE = "STEP_FAILURE"
MEANT_ENDS = frozenset({"STEP_SUCCESS", "STEP_SKIPPED"})
STEP_STARTS = frozenset({"STEP_START", "STEP_RESTARTED"})


@dataclass(frozen=True)
class FailedAsset:
    """That an asset, or some of its partitions, was planned and not made."""

    time: float
    reason: str
    partitions: frozenset[str] = frozenset()
    """Those that were not made."""
    is_whole: bool = True
    """Nothing of the asset was made."""
    step_key: str | None = None
    message: str | None = None
    """The first line of the failure behind it."""
    will_retry: bool | None = None


class Cause(NamedTuple):
    """Why a step never ran."""

    step: str
    """The key in the plan of a step that failed."""
    is_of_other_asset: bool
    """That step, or one between, makes an asset of its own, or checks one."""


def failed_assets(log: RunLog) -> Mapping[AssetKey, FailedAsset]:
    """What is known to have failed so far, by asset."""
    fold = _Fold(log)
    for event in log.events:
        fold.add(event)
    return fold.failed()


class _Fold:
    """Takes the events in their order."""

    def __init__(self, log: RunLog) -> None:
        self._run = log.run
        self._steps = log.steps
        self._made_by: dict[AssetKey, str] = {
            output.asset_key: step.key
            for step in log.steps
            for output in step.outputs
            if output.asset_key is not None
        }
        """The key in the plan of the step that is to make an asset."""
        self._to_make: dict[str, set[AssetKey]] = {}
        """The planned assets of a step."""
        self._planned: dict[AssetKey, set[str]] = {}
        self._made: dict[AssetKey, set[str | None]] = {}
        self._reported: dict[AssetKey, list[MaterializationFailure]] = {}
        self._failed: dict[AssetKey, FailedAsset] = {}
        self._going_on: set[str] = set()
        self._ends: dict[str, str] = {}
        """The types of the events by which steps ended, by their keys in the plan."""
        self._messages: dict[str, str] = {}
        """Of the failures of steps."""
        self._last_time = 0.0
        self._is_canceling = False
        self._has_ended = False

    def add(self, event: Event) -> None:
        self._last_time = event.time
        match event.data:
            case Planned(check_name=None) as planned:
                self._plan(planned, event.step_key)
            case Materialization() as asset if event.type == MADE:
                self._made.setdefault(asset.asset_key, set()).add(asset.partition)
            case MaterializationFailure() as failure:
                self._reported.setdefault(failure.asset_key, []).append(failure)
                if event.step_key is not None:
                    self._made_by.setdefault(failure.asset_key, unresolved(event.step_key))
            case _ if event.ends_run:
                self._end_run(event.time, Result(event.type.removeprefix("RUN_")), event.data)
            case _ if event.type == "RUN_CANCELING":
                self._is_canceling = True
            case _ if event.step_key is not None:
                self._add_step(event, unresolved(event.step_key))
            case _:
                pass

    def failed(self) -> Mapping[AssetKey, FailedAsset]:
        if self._run.status in ENDED and not self._has_ended:
            time = self._last_time if self._run.ended is None else self._run.ended
            self._end_run(time, Result(self._run.status), None)
        return {key: self._completed(key, self._failed[key]) for key in sorted(self._failed)}

    def _plan(self, planned: Planned, step_key: str | None) -> None:
        partitions = self._planned.setdefault(planned.asset_key, set())
        if planned.partition is not None:
            partitions.add(planned.partition)
        if step_key is not None:
            self._made_by.setdefault(planned.asset_key, unresolved(step_key))
        if planned.asset_key in self._made_by:
            to_make = self._to_make.setdefault(self._made_by[planned.asset_key], set())
            to_make.add(planned.asset_key)

    def _add_step(self, event: Event, key: str) -> None:
        if isinstance(event.data, Failure):
            self._messages[key] = event.data.message
        if event.type in STEP_STARTS:
            self._going_on.add(key)
        elif event.type in STEP_ENDS:
            self._going_on.discard(key)
            # One of several mapped steps that failed has failed them all.
            if self._ends.get(key) != STEP_FAILURE:
                self._ends[key] = event.type
        if event.type == STEP_FAILURE:
            reason = TERMINATED if self._is_canceling else ITSELF
            failed = FailedAsset(event.time, reason, message=self._messages.get(key))
            for asset in self._to_make.get(key, ()):
                self._fail(asset, failed)

    def _end_run(self, time: float, result: Result, data: EventData | None) -> None:
        self._has_ended = True
        message = data.message if isinstance(data, Failure) else None
        causes = {} if result is Result.CANCELED else self._causes()
        for asset in (*self._planned, *self._reported):
            step = self._made_by.get(asset, "")
            # An optional output without a value, or a branch that was not taken.
            is_meant = result is Result.SUCCESS or self._ends.get(step) in MEANT_ENDS
            if is_meant and not any(
                failure.is_failure for failure in self._reported.get(asset, ())
            ):
                continue
            if step in causes:
                cause = causes[step]
                reason = UPSTREAM if cause.is_of_other_asset else ITSELF
                self._fail(asset, FailedAsset(time, reason, message=self._named(cause.step)))
            else:
                reason = TERMINATED if result is Result.CANCELED else ITSELF
                own = self._messages.get(step) or message
                self._fail(asset, FailedAsset(time, reason, message=own))

    def _causes(self) -> Mapping[str, Cause]:
        """For each step that never ran since one upstream failed, the nearest such step."""
        makers = {
            step.key
            for step in self._steps
            if any(output.asset_key or output.check for output in step.outputs)
        }
        downstream: dict[str, list[str]] = {}
        for step in self._steps:
            for upstream in step.upstream:
                downstream.setdefault(upstream, []).append(step.key)
        failed = {key for key, end in self._ends.items() if end == STEP_FAILURE}
        # What was going on when the run ended has failed with it.
        cause_of = {
            key: Cause(key, is_of_other_asset=False) for key in sorted(failed | self._going_on)
        }
        ran = {*self._ends, *self._going_on}
        level = list(cause_of)
        while level:
            following = []
            for key in level:
                for step_key in downstream.get(key, ()):
                    if step_key not in cause_of:
                        cause = cause_of[key]
                        # The other ops of a graph-backed asset make and check none.
                        is_of_other = cause.is_of_other_asset or key in makers
                        cause_of[step_key] = Cause(cause.step, is_of_other_asset=is_of_other)
                        following.append(step_key)
            level = following
        return {key: cause for key, cause in cause_of.items() if key not in ran}

    def _named(self, step: str) -> str:
        """That a step failed, and why."""
        why = self._messages.get(step)
        return f"Step {step} failed" + (f": {why}" if why else "")

    def _fail(self, asset: AssetKey, failed: FailedAsset) -> None:
        """Note it, unless that was done before, or all that was planned was made."""
        made = self._made.get(asset, set())
        reported = self._reported.get(asset, ())
        left_out = {failure.partition for failure in reported if not failure.is_failure}
        named = {failure.partition for failure in reported if failure.is_failure} - {None}
        wanted = {*self._planned.get(asset, ()), *named}
        missing = wanted - made - left_out
        is_done = (not missing) if wanted else bool(made or left_out)
        if asset in self._failed or None in made | left_out or is_done:
            return
        self._failed[asset] = replace(
            failed,
            partitions=frozenset(missing),
            is_whole=missing == wanted,
            step_key=self._made_by.get(asset),
        )

    def _completed(self, asset: AssetKey, failed: FailedAsset) -> FailedAsset:
        """With what Dagster's own events and the run's tags say of it."""
        will_retry = _BOOLEANS.get(self._run.tags.get(WILL_RETRY, ""))
        failed = replace(failed, will_retry=will_retry)
        for failure in self._reported.get(asset, ()):
            if failure.is_failure:
                failed = replace(
                    failed,
                    reason=failure.reason or failed.reason,
                    message=failure.description or failed.message,
                    will_retry=will_retry if failure.will_retry is None else failure.will_retry,
                )
        return failed


_BOOLEANS = {"true": True, "false": False}
