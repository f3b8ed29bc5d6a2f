"""Entries of the event log, as Dagster's own code would store them."""

from __future__ import annotations

import time
from typing import Any

from dagster import AssetMaterialization, DagsterEvent, DagsterEventType, EventLogEntry
from dagster._core.events import StepMaterializationData

RUN = "11111111-2222-3333-4444-555555555555"


def entry(kind: str, run_id: str = RUN, data: Any = None) -> EventLogEntry:
    """An event; `kind` is the name of its type, such as RUN_START."""
    event = DagsterEvent(
        event_type_value=DagsterEventType[kind].value,
        job_name="job",
        event_specific_data=data,
    )
    return EventLogEntry(
        error_info=None,
        level=20,
        user_message="",
        run_id=run_id,
        timestamp=time.time(),
        job_name="job",
        dagster_event=event,
    )


def materialized(key: str, run_id: str = RUN) -> EventLogEntry:
    """An asset was materialised."""
    data = StepMaterializationData(AssetMaterialization(key))
    return entry("ASSET_MATERIALIZATION", run_id, data)


def message(text: str, run_id: str = RUN) -> EventLogEntry:
    """A line of the user's log, which is no event."""
    return EventLogEntry(
        error_info=None, level=20, user_message=text, run_id=run_id, timestamp=time.time()
    )
