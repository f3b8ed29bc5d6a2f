"""What an extractor gets from us, as it would from the sensor plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from datahub_eventlog.config import Config
from datahub_eventlog.log import logger
from datahub_eventlog.values import RunLog

if TYPE_CHECKING:
    from dagster import PathMetadataValue, TableSchemaMetadataValue
    from datahub.emitter.response_helper import TraceData
    from datahub.ingestion.graph.client import DataHubGraph
    from datahub.metadata.schema_classes import MetadataChangeProposalClass, _Aspect
    from datahub.metadata.urns import DatasetUrn
    from datahub.specific.dataset import DatasetPatchBuilder

PLATFORM = "dagster"
Collect: TypeAlias = "Callable[[MetadataChangeProposalClass], None]"


class Translation(Protocol):
    """The parts of the translation that an extractor may ask for."""

    def of(self, log: RunLog, scratch: tuple[str, ...]) -> Translation:
        """The same for one run, whose facts decide some of the answers."""
        ...

    def dataset_of_key(self, key: Sequence[str]) -> str | None:
        """The urn of the platform dataset that a long key names."""
        ...

    def browse_path(self, key: Sequence[str]) -> _Aspect:
        """The browse path of that asset."""
        ...

    def dataset_of_path(self, path: str) -> str | None:
        """The urn of the dataset at that path or URL, if it is one."""
        ...

    def schema_aspect(self, name: str, schema: TableSchemaMetadataValue) -> _Aspect:
        """The schemaMetadata of the asset of that name."""
        ...


class DatasetLineage(NamedTuple):
    """What a step read and wrote, according to an extractor."""

    inputs: set[DatasetUrn]
    outputs: set[DatasetUrn]


class DagsterGenerator:
    """What an extractor gets to name and emit datasets, as the sensor plugin's class does."""

    def __init__(
        self,
        config: Config,
        collect: Collect,
        convert: Callable[[Sequence[str]], DatasetUrn | None] | None,
        translation: Translation,
    ) -> None:
        self.config = config
        self.logger = logger
        self._collect = collect
        self._convert = convert
        self._translation = translation

    def dataset_urn_from_asset(self, asset_key: Sequence[str]) -> DatasetUrn:
        """The dataset that stands for the asset itself."""
        from datahub.metadata.urns import DatasetUrn

        return DatasetUrn(platform=PLATFORM, env=self.config.env, name=".".join(asset_key))

    def asset_keys_to_dataset_urn_converter(self, asset_key: Sequence[str]) -> DatasetUrn | None:
        """The platform dataset of the asset: the user's converter's, else from a long key."""
        from datahub.metadata.urns import DatasetUrn

        if self._convert is not None:
            return self._convert(asset_key)
        urn = self._translation.dataset_of_key(asset_key)
        return DatasetUrn.from_string(urn) if urn else None

    def path_metadata_resolver(self, value: PathMetadataValue) -> DatasetUrn | None:
        """The dataset of a path or URL."""
        from datahub.metadata.urns import DatasetUrn

        urn = self._translation.dataset_of_path(value.path or "")
        return DatasetUrn.from_string(urn) if urn else None

    def metadata_resolver(self, metadata: Any) -> DatasetUrn | None:
        """The dataset that a metadata value names, if it is a path."""
        from dagster import PathMetadataValue

        if isinstance(metadata, PathMetadataValue):
            return self.path_metadata_resolver(metadata)
        return None

    def emit_asset(  # noqa: PLR0913, PLR0917 - the plugin's own signature
        self,
        graph: DataHubGraph | None,
        asset_key: Sequence[str],
        description: str | None,
        properties: Mapping[str, str] | None,
        downstreams: set[str] | None = None,
        upstreams: set[str] | None = None,
        schema: TableSchemaMetadataValue | None = None,
        materialize_dependencies: bool | None = False,  # noqa: FBT001, FBT002
    ) -> DatasetUrn:
        """Emit a dataset for the asset with these facts, and return its urn.

        `graph` is not used: what is emitted goes out with the run's own proposals.
        """
        urn = self.dataset_urn_from_asset(asset_key)
        self._add_properties(str(urn), asset_key[-1], description, properties or {})
        for aspect in self._aspects(urn, asset_key, schema):
            self._upsert(str(urn), aspect)
        for downstream in sorted(downstreams or ()):
            if materialize_dependencies:
                self._upsert_key(downstream)
            self._add_upstream(downstream, str(urn))
        for upstream in sorted(upstreams or ()):
            self._upsert_key(upstream)
            self._add_upstream(str(urn), upstream)
        return urn

    def _add_properties(
        self, urn: str, name: str, description: str | None, properties: Mapping[str, str]
    ) -> None:
        """Add these facts to those of the run and of the definitions."""
        from datahub.specific.dataset import DatasetPatchBuilder

        patch = DatasetPatchBuilder(urn).set_display_name(name)
        if description is not None:
            patch.set_description(description)
        for key, value in sorted(properties.items()):
            patch.add_custom_property(key, str(value))
        self._patch(patch)

    def _aspects(
        self, urn: DatasetUrn, asset_key: Sequence[str], schema: TableSchemaMetadataValue | None
    ) -> Iterator[_Aspect]:
        from datahub.metadata.schema_classes import StatusClass, SubTypesClass

        yield StatusClass(removed=False)
        yield SubTypesClass(typeNames=["Asset"])
        yield self._translation.browse_path(asset_key)
        if self.config.platform_instance:
            yield _platform_instance(self.config.platform_instance)
        if schema is not None:
            yield self._translation.schema_aspect(urn.name, schema)

    def _upsert(self, urn: str, aspect: _Aspect) -> None:
        from datahub.emitter.mcp import MetadataChangeProposalWrapper

        self._collect(MetadataChangeProposalWrapper(entityUrn=urn, aspect=aspect).make_mcp())

    def _upsert_key(self, urn: str) -> None:
        from datahub.metadata.urns import DatasetUrn

        self._upsert(urn, DatasetUrn.from_string(urn).to_key_aspect())

    def _add_upstream(self, urn: str, upstream: str) -> None:
        from datahub.metadata.schema_classes import DatasetLineageTypeClass, UpstreamClass
        from datahub.specific.dataset import DatasetPatchBuilder

        patch = DatasetPatchBuilder(urn)
        patch.add_upstream_lineage(
            UpstreamClass(dataset=upstream, type=DatasetLineageTypeClass.TRANSFORMED)
        )
        self._patch(patch)

    def _patch(self, patch: DatasetPatchBuilder) -> None:
        for proposal in patch.build():
            self._collect(proposal)


def collecting_graph(graph: DataHubGraph | None, collect: Collect) -> DataHubGraph | None:
    """A graph that reads from DataHub, and hands what is emitted through it to `collect`."""
    if graph is None:
        return None
    from datahub.emitter.mcp import MetadataChangeProposalWrapper
    from datahub.ingestion.graph.client import DataHubGraph

    class CollectingGraph(DataHubGraph):
        """Emits nothing by itself."""

        def emit_mcp(self, mcp: Any, *_: Any, **__: Any) -> None:
            wrapped = isinstance(mcp, MetadataChangeProposalWrapper)
            collect(mcp.make_mcp() if wrapped else mcp)

        def emit_mcps(self, mcps: Sequence[Any], *_: Any, **__: Any) -> list[TraceData]:
            for mcp in mcps:
                self.emit_mcp(mcp)
            return []

    collecting = CollectingGraph.__new__(CollectingGraph)
    collecting.__dict__.update(graph.__dict__)
    return collecting


def _platform_instance(name: str) -> _Aspect:
    from datahub.emitter.mce_builder import make_data_platform_urn, make_dataplatform_instance_urn
    from datahub.metadata.schema_classes import DataPlatformInstanceClass

    return DataPlatformInstanceClass(
        platform=make_data_platform_urn(PLATFORM),
        instance=make_dataplatform_instance_urn(PLATFORM, name),
    )
