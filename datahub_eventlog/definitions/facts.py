"""What the loaded definitions of a job hold, as values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import dagster as dg

from datahub_eventlog import error_text
from datahub_eventlog.dagster_internals import NodeHandle, output_asset_key
from datahub_eventlog.dbt_sources import TABLE_NAME, UNIQUE_ID, dbt_sources, table_metadata
from datahub_eventlog.definitions.dbt_tests import Manifest, dbt_test, manifests
from datahub_eventlog.definitions.loaded import LoadedJob
from datahub_eventlog.definitions.policies import (
    INTERNAL_METADATA,
    STUB,
    backfill_in_words,
    condition_label,
    freshness_settings,
    partitions_in_words,
)
from datahub_eventlog.log import logger
from datahub_eventlog.metadata import metadata_of
from datahub_eventlog.values import (
    AssetFacts,
    AssetKey,
    CheckFacts,
    CheckKey,
    DbtTest,
    Definitions,
    Metadata,
    PortFacts,
)

MOST_NAMED_ASSETS = 5
"""Unreadable assets that a warning names; one is seldom alone."""


def read(job: LoadedJob) -> Definitions:
    """The facts of the job's own assets, of those directly upstream, and of its ops' ports.

    A job knows its upstream assets and automation only in part: the repository has the rest.
    """
    assets, rest = facts_of(job)
    return dataclasses.replace(rest, assets={asset.key: asset for asset in assets})


def facts_of(job: LoadedJob) -> tuple[Iterator[AssetFacts], Definitions]:
    """The facts of the assets, one after the other, and everything else."""
    assets = _Assets(job)
    definition = job.job
    rest = Definitions(
        ports=dict(_ports(definition.graph, assets)),
        job_description=definition.description,
        job_owners=tuple(getattr(definition, "owners", None) or ()),
        job_tags=dict(definition.tags),
    )
    return assets.facts(), rest


class _Assets:
    """The assets of a job and those directly upstream."""

    def __init__(self, job: LoadedJob) -> None:
        self._layer: Any = job.job.asset_layer
        self._graph = self._layer.asset_graph
        self._whole_graph = getattr(self._graph, "source_asset_graph", self._graph)
        self._of_repository = {} if job.repository is None else job.repository.assets_defs_by_key
        self._unreadable: list[str] = []

    def facts(self) -> Iterator[AssetFacts]:
        """Of the assets that the job materialises, observes or checks, then of the upstream."""
        checked = {check.asset_key for check in self._graph.asset_check_keys}
        own = {*self._layer.executable_asset_keys, *checked}
        upstream: set[dg.AssetKey] = set()
        for facts in self._readable_facts(own):
            upstream.update(dg.AssetKey(key) for key in facts.deps)
            yield facts
        yield from self._readable_facts(upstream - own)
        if self._unreadable:
            logger.warning(
                "DataHub does not get the owners, columns and other facts of %d assets, whose"
                " definitions can't be read: %s",
                len(self._unreadable),
                ", ".join(self._unreadable[:MOST_NAMED_ASSETS]),
            )

    def spec_of_output(self, handle: NodeHandle, output: str) -> dg.AssetSpec | None:
        """The spec of the asset that an op's output is."""
        key = output_asset_key(self._layer, handle, output)
        return None if key is None else self._spec(key)

    def _readable_facts(self, keys: set[dg.AssetKey]) -> Iterator[AssetFacts]:
        """In the order of their keys; an asset that can't be read is skipped and remembered."""
        for key in sorted(keys):
            try:
                yield self._facts(key)
            except Exception as error:  # noqa: BLE001 - parts of definitions are the user's code
                name = key.to_user_string()
                self._unreadable.append(name)
                logger.debug("No facts of %s: %s", name, error_text.describe(error))

    def _facts(self, key: dg.AssetKey) -> AssetFacts:
        spec = self._spec(key)
        definition = self._definition(key)
        if spec is None or definition is None:
            return AssetFacts(key=_parts(key), is_external=True)
        io_manager = None
        if definition.is_executable:
            io_manager = definition.get_io_manager_key_for_asset_key(key)
        return AssetFacts(
            key=_parts(key),
            group=spec.group_name,
            owners=tuple(spec.owners),
            tags=dict(spec.tags),
            kinds=tuple(sorted(spec.kinds)),
            deps=tuple(sorted(_parts(dep.asset_key) for dep in spec.deps)),
            description=spec.description,
            code_version=spec.code_version,
            partitions=partitions_in_words(spec.partitions_def),
            automation=condition_label(spec.automation_condition),
            freshness=freshness_settings(spec),
            backfill=backfill_in_words(definition.backfill_policy),
            metadata=self._metadata(key, spec),
            checks=tuple(self._checks(key)),
            io_manager=io_manager,
            is_external=definition.is_external,
        )

    def _spec(self, key: dg.AssetKey) -> dg.AssetSpec | None:
        """The spec of the asset, or None if only its name is known."""
        spec = self._declared_spec(key)
        if spec is None or STUB not in spec.metadata:
            return spec
        return self._dbt_sources.get(key) or (spec if len(spec.metadata) > 1 else None)

    def _declared_spec(self, key: dg.AssetKey) -> dg.AssetSpec | None:
        definition = self._definition(key)
        return None if definition is None else definition.specs_by_key[key]

    def _definition(self, key: dg.AssetKey) -> dg.AssetsDefinition | None:
        """The repository's definition, if any: the job has only a shell of what it doesn't make."""
        if key in self._of_repository:
            return self._of_repository[key]
        graph = self._whole_graph if self._whole_graph.has(key) else self._graph
        return graph.get(key).assets_def if graph.has(key) else None

    def _metadata(self, key: dg.AssetKey, spec: dg.AssetSpec) -> Metadata:
        """The spec's metadata, and the table's that dbt names where the spec names none."""
        own = {
            name: value for name, value in spec.metadata.items() if name not in INTERNAL_METADATA
        }
        source = None if TABLE_NAME in own else self._dbt_sources.get(key)
        return metadata_of(own if source is None else {**table_metadata(source), **own})

    @cached_property
    def _dbt_sources(self) -> Mapping[dg.AssetKey, dg.AssetSpec]:
        """The assets that dbt reads as its sources."""
        try:
            return dbt_sources(self._all_specs())
        except Exception as error:  # noqa: BLE001 - a translator is the user's own code
            logger.debug("The sources of dbt can't be read: %s", error_text.describe(error))
            return {}

    @cached_property
    def _dbt_manifests(self) -> Sequence[Manifest]:
        """The manifests of all dbt projects, which describe the tests."""
        return manifests(self._all_specs())

    def _all_specs(self) -> Iterator[dg.AssetSpec]:
        for key in self._of_repository or self._whole_graph.get_all_asset_keys():
            spec = self._declared_spec(key)
            if spec is not None:
                yield spec

    def _checks(self, key: dg.AssetKey) -> Iterator[CheckFacts]:
        if not self._graph.has(key):
            return
        for check in sorted(self._graph.get(key).check_keys):
            spec = self._graph.get_check_spec(check)
            test = spec.metadata.get(UNIQUE_ID) if spec.metadata else None
            yield CheckFacts(
                check=CheckKey(_parts(check.asset_key), check.name),
                description=spec.description,
                blocking=spec.blocking,
                metadata=metadata_of(spec.metadata),
                dbt=self._dbt_test(test, key),
                is_of_dbt=isinstance(test, str),
            )

    def _dbt_test(self, unique_id: object, key: dg.AssetKey) -> DbtTest | None:
        """The test of that id on an asset, if a manifest has it."""
        if not isinstance(unique_id, str):
            return None
        spec = self._spec(key)
        node = spec.metadata.get(UNIQUE_ID) if spec else None
        try:
            return dbt_test(unique_id, node, self._dbt_manifests)
        except Exception as error:  # noqa: BLE001 - every version of dbt writes another manifest
            logger.debug("The test %s can't be read: %s", unique_id, error_text.describe(error))
            return None


def _parts(key: dg.AssetKey) -> AssetKey:
    return tuple(key.path)


def _ports(graph: dg.GraphDefinition, assets: _Assets) -> Iterator[tuple[str, PortFacts]]:
    """The metadata of the ports of all ops that have any, by the handle of the op node."""
    for handle, op in _ops(graph, None):
        facts = PortFacts(
            inputs=_metadata_by_name((port.name, port.metadata) for port in op.input_defs),
            outputs=_metadata_by_name(
                (port.name, _not_of_asset(port.metadata, assets.spec_of_output(handle, port.name)))
                for port in op.output_defs
            ),
        )
        if facts.inputs or facts.outputs:
            yield ".".join(handle.path), facts


def _ops(graph: dg.GraphDefinition, parent: NodeHandle | None) -> Iterator[tuple[NodeHandle, Any]]:
    for node in graph.nodes:
        handle = NodeHandle(node.name, parent)
        if isinstance(node.definition, dg.GraphDefinition):
            yield from _ops(node.definition, handle)
        else:
            yield handle, node.definition


def _metadata_by_name(ports: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Metadata]:
    return {name: metadata_of(metadata) for name, metadata in ports if metadata}


def _not_of_asset(metadata: Mapping[str, Any], spec: dg.AssetSpec | None) -> Mapping[str, Any]:
    """Leave out what the asset's own facts have: Dagster copies it to the op's output."""
    if spec is None:
        return metadata
    return {name: value for name, value in metadata.items() if spec.metadata.get(name) is not value}
