"""The assets of a repository's snapshot as facts, equal to those of the loaded definitions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Any

from datahub_eventlog.dagster_internals import job_snapshots
from datahub_eventlog.dbt_sources import UNIQUE_ID
from datahub_eventlog.definitions.policies import (
    INTERNAL_METADATA,
    STUB,
    backfill_in_words,
    condition_label,
    freshness_settings,
    partitions_in_words,
)
from datahub_eventlog.metadata import metadata_of
from datahub_eventlog.values import AssetFacts, AssetKey, CheckFacts, CheckKey, Metadata, Metadatum

KIND_TAG = "dagster/kind/"

_COLUMN_CLASSES = frozenset(
    {"TableMetadataValue", "TableSchemaMetadataValue", "TableColumnLineageMetadataValue"}
)
_UNSERIALIZABLE = re.compile(r"\[\w+\] \(unserializable\)")
"""What Dagster has instead of a value that only the process of the definitions can read."""


class AssetNodes:
    """The assets and checks that a repository's snapshot has."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository
        self._nodes = {_parts(node.asset_key): node for node in repository.get_asset_node_snaps()}
        self._checks: dict[AssetKey, list[Any]] = defaultdict(list)
        for check in repository.get_asset_check_node_snaps():
            self._checks[_parts(check.asset_key)].append(check)

    def of_job(self, name: str) -> Sequence[Any]:
        """The nodes of the assets that a job makes, or needs of others."""
        nodes: Sequence[Any] = self._repository.get_asset_node_snaps(name)
        return nodes

    def checks_of_job(self, name: str) -> Sequence[Any]:
        """The nodes of the checks that a job executes."""
        checks: Sequence[Any] = self._repository.get_asset_check_node_snaps(name)
        return checks

    def facts(self, key: AssetKey, *, has_columns: bool = True) -> AssetFacts:
        """The facts of an asset, of which there may be none but its key.

        Without columns they lack the metadata that has an entry for each column.
        """
        node = self._nodes.get(key)
        if node is None or (STUB in node.metadata and len(node.metadata) == 1):
            return AssetFacts(key=key, is_external=True)
        tags = dict(node.tags or {})
        kinds = (tag.removeprefix(KIND_TAG) for tag in tags if tag.startswith(KIND_TAG))
        partitions = node.partitions
        return AssetFacts(
            key=key,
            group=node.group_name,
            owners=tuple(node.owners or ()),
            tags=tags,
            kinds=tuple(sorted(kinds)),
            deps=tuple(sorted(_parts(edge.parent_asset_key) for edge in node.parent_edges)),
            description=node.description,
            code_version=node.code_version,
            partitions=partitions_in_words(
                None if partitions is None else partitions.get_partitions_definition()
            ),
            automation=_automation(node),
            freshness=freshness_settings(node),
            backfill=backfill_in_words(node.backfill_policy),
            metadata=_metadata(node.metadata, has_columns=has_columns),
            checks=tuple(self._check_facts(key)),
            is_external=node.is_external,
        )

    def _check_facts(self, key: AssetKey) -> Iterator[CheckFacts]:
        for check in sorted(self._checks.get(key, ()), key=lambda check: check.name):
            yield CheckFacts(
                check=CheckKey(key, check.name),
                description=check.description,
                blocking=check.blocking,
                is_of_dbt=output_name(check) in self._outputs_of_dbt,
            )

    @cached_property
    def _outputs_of_dbt(self) -> AbstractSet[str]:
        """The outputs of the ops that make assets of dbt.

        A snapshot does not say that a check is a test of dbt. But its output is one of theirs,
        and a check that somebody has added to an asset of dbt has an op of its own.
        """
        wanted = {node.node_definition_name for node in self._nodes.values() if _is_of_dbt(node)}
        outputs: set[str] = set()
        jobs = sorted(job_snapshots(self._repository), key=lambda job: not _has_all_assets(job[0]))
        for _, snapshot in jobs:
            if not wanted:
                break
            for op in snapshot().node_defs_snapshot.op_def_snaps:
                if op.name in wanted:
                    wanted.discard(op.name)
                    outputs.update(output.name for output in op.output_def_snaps)
        return outputs


def output_name(check: Any) -> str:
    """The output that a check has by default, as `AssetCheckSpec.get_python_identifier`."""
    return f"{check.asset_key.to_python_identifier()}_{check.name}".replace(".", "_")


def ranks(repository: Any) -> Iterator[tuple[AssetKey, int]]:
    """The assets that a repository defines, and what it does with each: the least is the most.

    It makes the asset, observes it, or describes it. An asset of which it has only the name isn't
    its own.
    """
    for node in repository.get_asset_node_snaps():
        if STUB not in node.metadata:
            rank = 0 if node.is_materializable else 1 if node.is_observable else 2
            yield _parts(node.asset_key), rank


def _is_of_dbt(node: Any) -> bool:
    return UNIQUE_ID in node.metadata and node.node_definition_name is not None


def _has_all_assets(job: str) -> bool:
    """Whether it is one of the jobs that Dagster makes of all assets."""
    return job.startswith("__ASSET_JOB")


def _parts(key: Any) -> AssetKey:
    return tuple(key.path)


def _automation(node: Any) -> str | None:
    """The condition's label; where only its own process can read it, that of its snapshot."""
    if node.automation_condition_snapshot is None:
        return condition_label(node.automation_condition)
    condition = node.automation_condition_snapshot.node_snapshot
    label: str | None = condition.label or condition.name
    return label


def _metadata(raw: Mapping[str, Any], *, has_columns: bool) -> Metadata:
    left_out = () if has_columns else _COLUMN_CLASSES
    converted = metadata_of(
        {
            name: value
            for name, value in raw.items()
            if name not in INTERNAL_METADATA and type(value).__name__ not in left_out
        }
    )
    return {name: value for name, value in converted.items() if not _is_lost(value)}


def _is_lost(value: Metadatum) -> bool:
    return value.kind == "text" and _UNSERIALIZABLE.fullmatch(value.value) is not None
