"""The schedules and sensors of a repository, by the jobs that they launch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from datahub_eventlog.values import Trigger


def triggers_by_job(repository: Any, states: Mapping[str, Any]) -> Mapping[str, list[Trigger]]:
    """The schedules of each job, then its sensors, by their names.

    One that selects assets belongs to the job that Dagster makes for them. `states` are what the
    instance has stored, by the ids of their selectors: not those that were never touched.
    """
    triggers: dict[str, list[Trigger]] = defaultdict(list)
    for schedule in sorted(repository.get_schedules(), key=lambda schedule: schedule.name):
        cron = schedule.cron_schedule
        trigger = Trigger(
            name=schedule.name,
            kind="schedule",
            is_running=_is_running(schedule, states),
            cron=(cron,) if isinstance(cron, str) else tuple(cron),
            timezone=schedule.execution_timezone,
            description=schedule.description,
        )
        triggers[schedule.job_name].append(trigger)
    for sensor in sorted(repository.get_sensors(), key=lambda sensor: sensor.name):
        trigger = Trigger(
            name=sensor.name,
            kind=sensor.sensor_type.value.lower(),
            is_running=_is_running(sensor, states),
            interval_seconds=float(sensor.min_interval_seconds),
            description=sensor.description,
        )
        for job in sorted({target.job_name for target in sensor.get_targets()}):
            triggers[job].append(trigger)
    return triggers


def _is_running(trigger: Any, states: Mapping[str, Any]) -> bool:
    state = trigger.get_current_instigator_state(states.get(trigger.selector_id))
    return bool(state.is_running)
