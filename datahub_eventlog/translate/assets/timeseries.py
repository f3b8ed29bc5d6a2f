"""When an asset changed, failed or was observed, and its number of rows: DataHub's timeseries.

One operation stands for all that a run did to an asset, in one partition or a thousand. It has
the id and time of the first event, so that what later events add completes it and makes no second
one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from datahub.metadata.schema_classes import (
    DatasetProfileClass,
    OperationClass,
    OperationSourceTypeClass,
    OperationTypeClass,
    PartitionSpecClass,
    PartitionTypeClass,
)

from datahub_eventlog.translate.assets.description import SYSTEM_TAGS
from datahub_eventlog.translate.assets.partitions import by_name, is_time, partitions_text
from datahub_eventlog.translate.properties import present
from datahub_eventlog.translate.runs.asset_events import AssetCourse, AssetHistory
from datahub_eventlog.translate.runs.failed_assets import UPSTREAM, FailedAsset
from datahub_eventlog.translate.runs.instances import WHOLE, milliseconds
from datahub_eventlog.values import DATA_VERSION, AssetKey, Materialization, Run

OBSERVATION = "OBSERVATION"
FAILURE = "MATERIALIZATION_FAILED"
CODE_VERSION = "dagster/code_version"
LAST_UPDATED = "dagster/last_updated_timestamp"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
LISTED_PARTITIONS = 100
"""The number of partitions up to which they are named one by one."""


def materialization_operation(
    message: str,
    course: AssetCourse,
    label: str | None,
    asset: Materialization,
    run_id: str,
    definition: str | None = None,
) -> OperationClass:
    """That the asset was materialised; `label` names its partition or partitions.

    `definition` describes its partitions definition, as in `AssetFacts.partitions`.
    """
    return OperationClass(
        timestampMillis=milliseconds(course.first),
        lastUpdatedTimestamp=milliseconds(course.last),
        operationType=OperationTypeClass.UPDATE,
        sourceType=OperationSourceTypeClass.DATA_PROCESS,
        partitionSpec=partition_spec(label),
        messageId=f"{message}:materialized",
        customProperties=_facts(course, asset, run_id, definition),
    )


def failure_operation(
    message: str, failed: FailedAsset, label: str | None, run_id: str, definition: str | None = None
) -> OperationClass:
    """That the asset was planned and not made; the rest as for a materialisation."""
    facts = {
        "run_id": run_id,
        "step_key": failed.step_key,
        "reason": failed.reason,
        "upstream_failed": _boolean(failed.reason == UPSTREAM),
        "message": failed.message or None,
        "will_retry": None if failed.will_retry is None else _boolean(failed.will_retry),
    }
    return OperationClass(
        timestampMillis=milliseconds(failed.time),
        # DataHub takes the operation where this is greatest for the asset's last update. A failure
        # has updated nothing.
        lastUpdatedTimestamp=0,
        operationType=OperationTypeClass.CUSTOM,
        customOperationType=FAILURE,
        sourceType=OperationSourceTypeClass.DATA_PROCESS,
        partitionSpec=partition_spec(label),
        messageId=f"{message}:failed",
        customProperties=present({**facts, **_partition_facts(failed.partitions, definition)}),
    )


def observation_operation(
    message: str, course: AssetCourse, asset: Materialization, texts: Mapping[str, str], run_id: str
) -> OperationClass:
    """That the asset was observed; `texts` is the metadata of the observation.

    Its data are as old as the observation's metadata has it, failing that as the observation.
    """
    metadatum = asset.metadata.get(LAST_UPDATED)
    updated = (
        metadatum.value
        if metadatum is not None and metadatum.kind in ("timestamp", "float")
        else None
    )
    return OperationClass(
        timestampMillis=milliseconds(course.first),
        lastUpdatedTimestamp=milliseconds(course.last if updated is None else updated),
        operationType=OperationTypeClass.CUSTOM,
        customOperationType=OBSERVATION,
        sourceType=OperationSourceTypeClass.DATA_PROCESS,
        partitionSpec=partition_spec(asset.partition),
        messageId=f"{message}:observed",
        customProperties={**texts, **_facts(course, asset, run_id)},
    )


def profiles(
    message: str, course: AssetCourse, columns: int | None
) -> Iterator[DatasetProfileClass]:
    """The row counts: of the whole table, and of each partition that has one of its own."""
    for partition, rows in sorted(course.rows.items(), key=lambda entry: entry[0] or ""):
        yield DatasetProfileClass(
            timestampMillis=milliseconds(rows.first),
            rowCount=rows.count,
            columnCount=columns,
            partitionSpec=partition_spec(partition),
            messageId=f"{message}:rows" + ("" if partition is None else f":{partition}"),
        )


def partition_label(
    history: AssetHistory,
    key: AssetKey,
    course: AssetCourse,
    run: Run,
    definition: str | None = None,
) -> str | None:
    """The partitions of an asset's operation in words; None without any.

    The planned partitions count as well as those that were materialised, so that the label doesn't
    change with each partition while the run goes on.
    """
    if not course.partitions:
        return None
    partitions = {*history.planned.get(key, {}), *course.partitions}
    return time_range(run, definition) or partitions_text(partitions, definition)


def failure_label(failed: FailedAsset, run: Run, definition: str | None = None) -> str | None:
    """The partitions that were not made, in words; None without any."""
    if not failed.partitions:
        return None
    whole = time_range(run, definition) if failed.is_whole else None
    return whole or partitions_text(failed.partitions, definition)


def time_range(run: Run, definition: str | None) -> str | None:
    """The stretch of time that the run was launched for, if it was."""
    start, end = run.tags.get(RANGE_START), run.tags.get(RANGE_END)
    if not start or not end or start == end:
        return None
    is_of_time = all(is_time(name, definition) for name in (start, end))
    return f"{start}...{end}" if is_of_time else None


def is_settled(
    history: AssetHistory, key: AssetKey, run: Run, definition: str | None = None
) -> bool:
    """Whether no further partition can change the label of the asset's operation."""
    course = history.materialized[key]
    if not course.partitions or history.is_over or not run.run_id:
        return True
    if time_range(run, definition) is not None:
        return True
    if course.partitions.keys() <= history.planned.get(key, {}).keys():
        return True
    return all(step in history.ended_steps for step in course.steps)


def partition_spec(label: str | None) -> PartitionSpecClass:
    """The partition that something is about; None stands for the whole table.

    A `timePartition` is left out: DataHub accepts such a proposal and then loses it.
    """
    if label is None:
        return WHOLE
    return PartitionSpecClass(partition=label, type=PartitionTypeClass.PARTITION)


def _facts(
    course: AssetCourse, asset: Materialization, run_id: str, definition: str | None = None
) -> dict[str, str]:
    tags = {name: text for name, text in asset.tags.items() if not name.startswith(SYSTEM_TAGS)}
    # Dagster takes the run's id where the asset has no version.
    code = asset.tags.get(CODE_VERSION)
    facts = {
        "run_id": run_id or None,
        "step_key": ", ".join(sorted(step for step in course.steps if step)) or None,
        **_partition_facts(course.partitions, definition),
        "data_version": asset.tags.get(DATA_VERSION),
        "code_version": None if code == run_id else code,
        "description": asset.description,
    }
    return present({**{f"tags.{name}": text for name, text in tags.items()}, **facts})


def _partition_facts(
    partitions: Collection[str], definition: str | None = None
) -> dict[str, str | None]:
    if not partitions:
        return {}
    is_short = len(partitions) <= LISTED_PARTITIONS
    listed = ", ".join(by_name(partitions)) if is_short else partitions_text(partitions, definition)
    return {"partitions": listed or None, "partition_count": str(len(partitions))}


def _boolean(value: bool) -> str:  # noqa: FBT001
    return str(value).lower()
