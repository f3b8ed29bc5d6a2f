"""What the policies of an asset say, wherever its definition is read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import dagster as dg

from datahub_eventlog.dagster_internals import stored_freshness_policy
from datahub_eventlog.values import Json

MOST_NAMED_PARTITIONS = 10
"""Keys of a static partitions definition that are named in its description."""
STUB = "dagster/auto_created_stub_asset"
"""Metadata with which Dagster marks an asset of which it knows only the name."""
FRESHNESS_POLICY = "dagster/internal_freshness_policy"
"""Metadata in which Dagster 1.10 keeps an asset's freshness policy."""
INTERNAL_METADATA = frozenset({STUB, FRESHNESS_POLICY})
"""What is no metadata of the user's."""


def partitions_in_words(definition: Any) -> str | None:
    """Describe a partitions definition, without calling the user's own functions."""
    if definition is None:
        return None
    if isinstance(definition, dg.StaticPartitionsDefinition):
        keys = definition.get_partition_keys()
        more = f", ... ({len(keys)} in all)" if len(keys) > MOST_NAMED_PARTITIONS else ""
        return f"Static: {', '.join(keys[:MOST_NAMED_PARTITIONS])}{more}"
    if isinstance(definition, dg.MultiPartitionsDefinition):
        dimensions: Iterable[Any] = definition.partitions_defs
        parts = [
            f"{dimension.name}: {partitions_in_words(dimension.partitions_def)}"
            for dimension in dimensions
        ]
        return f"Multi-partitioned, {'; '.join(parts)}"
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        return f'Dynamic: "{definition.name}"' if definition.name else "Dynamic"
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return str(definition)
    return type(definition).__name__


def condition_label(condition: Any) -> str | None:
    """The label of an automation condition, or its name."""
    return None if condition is None else condition.get_label() or condition.name


def freshness_settings(asset: Any) -> Json:
    """The settings of an asset's policy, durations in seconds; the old kind counts in minutes.

    The asset is a spec or the snapshot of one.
    """
    stored = stored_freshness_policy(asset.metadata) if FRESHNESS_POLICY in asset.metadata else None
    old = getattr(asset, "legacy_freshness_policy", None)
    policy: Any = stored or asset.freshness_policy or old
    settings: dict[str, Json] = {}
    for name, label in _FRESHNESS_LABELS.items():
        value: Any = getattr(policy, name, None)
        if hasattr(value, "to_timedelta"):
            value = value.to_timedelta()
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if value is not None:
            settings[label] = value
    return settings or None


_FRESHNESS_LABELS = {
    "fail_window": "fail_after_seconds",
    "warn_window": "warn_after_seconds",
    "deadline_cron": "deadline_cron",
    "serializable_lower_bound_delta": "lower_bound_seconds",
    "timezone": "timezone",
    "maximum_lag_minutes": "maximum_lag_minutes",
    "cron_schedule": "cron_schedule",
    "cron_schedule_timezone": "timezone",
}


def backfill_in_words(policy: Any) -> str | None:
    """Describe a backfill policy."""
    if policy is None:
        return None
    most = policy.max_partitions_per_run
    return "Single run" if most is None else f"At most {most} partitions a run"
