"""Dagster's records of backfills, as its daemon keeps them; in Dagster 1.10 they are elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import dagster as dg
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

CREATED = 1_700_000_000.0
ASSET = dg.AssetKey("orders")
PARTITIONS = dg.StaticPartitionsDefinition(["a", "b", "c"])


def _of(name: str, *modules: str) -> Any:
    for module in modules:
        try:
            return getattr(import_module(f"dagster._core.{module}"), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(name)


def _origin(name: str) -> Any:
    return _of(name, "remote_origin", "remote_representation.origin")


def job_backfill(backfill_id: str, job: str, partitions: Sequence[str], **more: Any) -> Any:
    """A backfill of a job's partitions."""
    location = _origin("GrpcServerCodeLocationOrigin")("localhost", 1, location_name="shop")
    repository = _origin("RemoteRepositoryOrigin")(
        code_location_origin=location, repository_name="__repository__"
    )
    origin = _origin("RemotePartitionSetOrigin")(
        repository_origin=repository, partition_set_name=f"{job}_partition_set"
    )
    return _backfill(backfill_id, partition_set_origin=origin, partition_names=partitions, **more)


def asset_backfill(backfill_id: str, made: Sequence[str], failed: Sequence[str]) -> Any:
    """A backfill of all partitions of an asset."""
    subset = _of(
        "AssetGraphSubset",
        "definitions.assets.graph.asset_graph_subset",
        "definitions.asset_graph_subset",
    )
    timestamp = _of("TimestampWithTimezone", "definitions.timestamp")

    def partitions(names: Sequence[str]) -> Any:
        return subset({ASSET: PARTITIONS.subset_with_partition_keys(names)}, set())

    data = AssetBackfillData(
        target_subset=partitions(PARTITIONS.get_partition_keys()),
        requested_runs_for_target_roots=True,
        latest_storage_id=None,
        materialized_subset=partitions(made),
        requested_subset=partitions([*made, *failed]),
        failed_and_downstream_subset=partitions(failed),
        backfill_start_time=timestamp(CREATED, "UTC"),
    )
    return _backfill(backfill_id, asset_backfill_data=data, asset_selection=[ASSET])


def ended(backfill: Any, status: str = "COMPLETED_SUCCESS") -> Any:
    """The same after its end."""
    return backfill.with_status(BulkActionStatus[status]).with_end_timestamp(CREATED + 60)


def _backfill(backfill_id: str, **more: Any) -> Any:
    return PartitionBackfill(
        backfill_id=backfill_id,
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={"team": "shop"},
        backfill_timestamp=CREATED,
        **more,
    )
