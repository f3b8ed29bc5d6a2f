"""Facts that only definitions hold, read from those that this process has loaded anyway.

A run's worker stores its RUN_START synchronously below the frames that hold the plan's context.
From there the job's definition is reached without loading any code: loading it would run the
user's modules once more. The facts go as compact JSON into the ledger, once per content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from types import FrameType
from typing import Any

import dagster as dg

from datahub_eventlog import error_text
from datahub_eventlog.dagster_internals import (
    InMemoryJob,
    IPlanContext,
    NodeHandle,
    ReconstructableJob,
)
from datahub_eventlog.dbt_sources import TABLE_NAME, dbt_sources, table_of
from datahub_eventlog.log import logger
from datahub_eventlog.metadata import metadata_of
from datahub_eventlog.values import (
    AssetFacts,
    AssetKey,
    CheckFacts,
    CheckKey,
    Definitions,
    Json,
    Metadata,
    Metadatum,
    PortFacts,
)

DEPTH = 40
"""Frames above an event's storage that are looked through; the context is some 13 up."""
CAP = 8 * 1024 * 1024
"""Characters of JSON; what is beyond is left out, and `Definitions.is_cut` says so."""
LEVEL = 3
"""Of zlib: half the time of its default, and nearly as small."""
NAMED = 5
"""Assets that a warning names; one that can't be read is seldom alone."""
LISTED = 10
"""Keys of a static partitions definition that are named in its description."""

_CONTEXTS = IPlanContext.__module__
_STUB = "dagster/auto_created_stub_asset"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """The definitions of a run that is being executed here."""

    job: dg.JobDefinition
    repository: dg.RepositoryDefinition | None = None
    """None for jobs that are executed in the process that made them."""


def loaded(run_id: str) -> Loaded | None:
    """Find the definitions of the run that the calling thread executes; never loads code."""
    context = _context(run_id, sys._getframe(1))  # noqa: SLF001  # its documented use
    return None if context is None else _loaded(context.job)


def read(definitions: Loaded) -> Definitions:
    """The facts of the job's own assets, of those directly upstream, and of its ops' ports.

    A job knows its upstream assets and automation only in part: the repository has the rest.
    """
    assets, rest = _facts(definitions)
    return dataclasses.replace(rest, assets={each.key: each for each in assets})


def pack(definitions: Loaded) -> tuple[str, bytes]:
    """Read and encode at once; of thousands of assets, only one is in memory at a time."""
    return _pack(*_facts(definitions))


def encode(definitions: Definitions) -> tuple[str, bytes]:
    """Pack the facts: the hash of their content, and the compressed JSON.

    Own assets come before upstream ones, so that those are the first to be cut.
    """
    return _pack(definitions.assets.values(), definitions)


def decode(packed: bytes) -> Definitions:
    """Unpack what `encode` packed, here or in another version of the package."""
    said = json.loads(zlib.decompress(packed))
    job = said.get("job", {})
    assets = (_known(AssetFacts, each) for each in said.get("assets", ()))
    return Definitions(
        assets={each.key: each for each in assets},
        ports={handle: _port_facts(*sides) for handle, *sides in said.get("ports", ())},
        job_description=job.get("description"),
        job_owners=tuple(job.get("owners", ())),
        job_tags=job.get("tags", {}),
        is_cut=job.get("is_cut", False),
    )


def key_of(key: dg.AssetKey) -> AssetKey:
    """The parts of one of Dagster's asset keys."""
    return tuple(key.path)


# Finding what is loaded


class _NotLoaded(Exception):
    pass


def _not_loaded(_: object) -> Any:
    raise _NotLoaded


class _Peek(ReconstructableJob):
    """Equal to a job, but raises where the job would load code.

    Dagster keeps the definitions it has loaded in `lru_cache`s, whose keys are such jobs. To ask
    one of them with this stand-in gives what it holds, and changes nothing if it holds nothing.
    """

    def __hash__(self) -> int:
        return self._hash

    get_repository_definition: Any = _not_loaded
    repository: Any = property(_not_loaded)


def _peek(job: ReconstructableJob) -> _Peek:
    stand_in = _Peek(*job)
    stand_in._hash = hash(job)  # noqa: SLF001  # the hash of equal selections can differ
    return stand_in


def _context(run_id: str, frame: FrameType | None) -> IPlanContext | None:
    for _ in range(DEPTH):
        if frame is None:
            return None
        if frame.f_globals.get("__name__", "").startswith("dagster."):
            for each in list(frame.f_locals.values()):
                if _is_context(each) and each.run_id == run_id:
                    context: IPlanContext = each
                    return context
        frame = frame.f_back
    return None


def _is_context(value: Any) -> bool:
    cls = type(value)
    return cls.__module__ == _CONTEXTS and issubclass(cls, IPlanContext)


def _loaded(job: Any) -> Loaded | None:
    if isinstance(job, InMemoryJob):
        return Loaded(job.get_definition())
    if not isinstance(job, ReconstructableJob):
        return None
    stand_in = _peek(job)
    try:
        definition = ReconstructableJob.get_definition(stand_in)
    except _NotLoaded:
        return None
    return Loaded(definition, _repository(stand_in))


def _repository(stand_in: _Peek) -> dg.RepositoryDefinition | None:
    try:
        return ReconstructableJob.get_repository_definition(stand_in)
    except _NotLoaded:
        return None


# Reading the facts


def _facts(definitions: Loaded) -> tuple[Iterator[AssetFacts], Definitions]:
    """The assets, one after the other, and everything else."""
    assets = _Assets(definitions)
    job = definitions.job
    rest = Definitions(
        ports=dict(_ports(job.graph, assets)),
        job_description=job.description,
        job_owners=tuple(getattr(job, "owners", None) or ()),
        job_tags=dict(job.tags),
    )
    return assets.facts(), rest


class _Assets:
    """Where the specs of a job's assets are found."""

    def __init__(self, definitions: Loaded) -> None:
        self._layer: Any = definitions.job.asset_layer
        self._graph = self._layer.asset_graph
        self._whole = getattr(self._graph, "source_asset_graph", self._graph)
        repository = definitions.repository
        self._all = {} if repository is None else repository.assets_defs_by_key
        self._unread: list[str] = []

    def facts(self) -> Iterator[AssetFacts]:
        """Of the assets that the job materialises, observes or checks, then of the upstream."""
        checked = {check.asset_key for check in self._graph.asset_check_keys}
        own = {*self._layer.executable_asset_keys, *checked}
        upstream: set[dg.AssetKey] = set()
        for facts in self._facts_of_all(own):
            upstream.update(dg.AssetKey(each) for each in facts.deps)
            yield facts
        yield from self._facts_of_all(upstream - own)
        if self._unread:
            logger.warning(
                "DataHub is not told the owners, columns and such of %d assets, whose definitions"
                " can't be read: %s",
                len(self._unread),
                ", ".join(self._unread[:NAMED]),
            )

    def _facts_of_all(self, keys: set[dg.AssetKey]) -> Iterator[AssetFacts]:
        """In the order of their keys; an asset that can't be read costs only itself."""
        for key in sorted(keys):
            try:
                yield self._facts_of(key)
            except Exception as error:  # noqa: BLE001 - parts of definitions are the user's code
                self._unread.append(key.to_user_string())
                logger.debug("No facts of %s: %s", self._unread[-1], error_text.describe(error))

    def spec(self, key: dg.AssetKey) -> dg.AssetSpec | None:
        """What was said of the asset, or None if only its name is known."""
        spec = self._own_spec(key)
        if spec is None or _STUB not in spec.metadata:
            return spec
        return self._sources.get(key) or (spec if len(spec.metadata) > 1 else None)

    def _metadata(self, key: dg.AssetKey, spec: dg.AssetSpec) -> Metadata:
        said = {name: each for name, each in spec.metadata.items() if name != _STUB}
        source = None if TABLE_NAME in said else self._sources.get(key)
        return metadata_of(said if source is None else {**table_of(source), **said})

    def _own_spec(self, key: dg.AssetKey) -> dg.AssetSpec | None:
        definition = self._definition(key)
        return None if definition is None else definition.specs_by_key[key]

    @cached_property
    def _sources(self) -> Mapping[dg.AssetKey, dg.AssetSpec]:
        """What dbt knows of assets that its models are made of."""
        keys = self._all or self._whole.get_all_asset_keys()
        specs = (self._own_spec(key) for key in keys)
        try:
            return dbt_sources(each for each in specs if each is not None)
        except Exception as error:  # noqa: BLE001 - a translator is the user's own code
            logger.debug("The sources of dbt can't be read: %s", error_text.describe(error))
            return {}

    def of_output(self, handle: NodeHandle, output: str) -> dg.AssetSpec | None:
        """The asset that an op's output is."""
        # The first is its name since Dagster 1.11.
        find = getattr(self._layer, "get_asset_key_for_node_output", None)
        key = (find or self._layer.asset_key_for_output)(handle, output)
        return None if key is None else self.spec(key)

    def _facts_of(self, key: dg.AssetKey) -> AssetFacts:
        spec = self.spec(key)
        definition = self._definition(key)
        if spec is None or definition is None:
            return AssetFacts(key=key_of(key), is_external=True)
        return AssetFacts(
            key=key_of(key),
            group=spec.group_name,
            owners=tuple(spec.owners),
            tags=dict(spec.tags),
            kinds=tuple(sorted(spec.kinds)),
            deps=tuple(sorted(key_of(dep.asset_key) for dep in spec.deps)),
            description=spec.description,
            code_version=spec.code_version,
            partitions=_partitions(spec.partitions_def),
            automation=_automation(spec.automation_condition),
            freshness=_freshness(spec),
            backfill=_backfill(definition.backfill_policy),
            metadata=self._metadata(key, spec),
            checks=tuple(self._checks(key)),
            io_manager=_io_manager(definition, key),
            is_external=definition.is_external,
        )

    def _definition(self, key: dg.AssetKey) -> dg.AssetsDefinition | None:
        """Of an asset that the job doesn't make, the job itself has only a shell."""
        if key in self._all:
            return self._all[key]
        graph = self._whole if self._whole.has(key) else self._graph
        return graph.get(key).assets_def if graph.has(key) else None

    def _checks(self, key: dg.AssetKey) -> Iterator[CheckFacts]:
        if not self._graph.has(key):
            return
        for check in sorted(self._graph.get(key).check_keys):
            spec = self._graph.get_check_spec(check)
            yield CheckFacts(
                check=CheckKey(key_of(check.asset_key), check.name),
                description=spec.description,
                blocking=spec.blocking,
                metadata=metadata_of(spec.metadata),
            )


def _partitions(definition: Any) -> str | None:
    """The definition in words; the user's own functions are not called for it."""
    if definition is None:
        return None
    if isinstance(definition, dg.StaticPartitionsDefinition):
        keys = definition.get_partition_keys()
        more = f", ... ({len(keys)} in all)" if len(keys) > LISTED else ""
        return f"Static: {', '.join(keys[:LISTED])}{more}"
    if isinstance(definition, dg.MultiPartitionsDefinition):
        parts = [
            f"{each.name}: {_partitions(each.partitions_def)}" for each in _dimensions(definition)
        ]
        return f"Multi-partitioned, {'; '.join(parts)}"
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        return f'Dynamic: "{definition.name}"' if definition.name else "Dynamic"
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return str(definition)
    return type(definition).__name__


def _dimensions(definition: dg.MultiPartitionsDefinition) -> Iterable[Any]:
    return definition.partitions_defs


def _automation(condition: Any) -> str | None:
    return None if condition is None else condition.get_label() or condition.name


def _freshness(spec: dg.AssetSpec) -> Json:
    """The policy's settings, durations in seconds; the old kind of policy counts in minutes."""
    policy: Any = spec.freshness_policy or getattr(spec, "legacy_freshness_policy", None)
    said: dict[str, Json] = {}
    for name, label in _FRESHNESS.items():
        value: Any = getattr(policy, name, None)
        if hasattr(value, "to_timedelta"):
            value = value.to_timedelta()
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if value is not None:
            said[label] = value
    return said or None


_FRESHNESS = {
    "fail_window": "fail_after_seconds",
    "warn_window": "warn_after_seconds",
    "deadline_cron": "deadline_cron",
    "serializable_lower_bound_delta": "lower_bound_seconds",
    "timezone": "timezone",
    "maximum_lag_minutes": "maximum_lag_minutes",
    "cron_schedule": "cron_schedule",
    "cron_schedule_timezone": "timezone",
}


def _backfill(policy: Any) -> str | None:
    if policy is None:
        return None
    most = policy.max_partitions_per_run
    return "Single run" if most is None else f"At most {most} partitions a run"


def _io_manager(definition: dg.AssetsDefinition, key: dg.AssetKey) -> str | None:
    return definition.get_io_manager_key_for_asset_key(key) if definition.is_executable else None


def _ports(graph: dg.GraphDefinition, assets: _Assets) -> Iterator[tuple[str, PortFacts]]:
    for handle, op in _ops(graph, None):
        facts = PortFacts(
            inputs=_sides((each.name, each.metadata) for each in op.input_defs),
            outputs=_sides(
                (each.name, _not_said(each.metadata, assets.of_output(handle, each.name)))
                for each in op.output_defs
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


def _sides(ports: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Metadata]:
    return {name: metadata_of(said) for name, said in ports if said}


def _not_said(metadata: Mapping[str, Any], spec: dg.AssetSpec | None) -> Mapping[str, Any]:
    """Leave out what the asset's own facts say: Dagster copies it to the op's output."""
    if spec is None:
        return metadata
    return {key: each for key, each in metadata.items() if spec.metadata.get(key) is not each}


# Packing


def _pack(assets: Iterable[AssetFacts], rest: Definitions) -> tuple[str, bytes]:
    budget = _Budget(CAP)
    assets_json = budget.take(_dump(_said(each)) for each in assets)
    ports_json = budget.take(_port_json(*each) for each in sorted(rest.ports.items()))
    job = {
        "description": rest.job_description,
        "owners": list(rest.job_owners),
        "tags": dict(rest.job_tags),
        "is_cut": rest.is_cut or budget.is_exceeded,
    }
    parts = (f"[{','.join(assets_json)}]", _dump(job), f"[{','.join(ports_json)}]")
    content = '{{"assets":{},"job":{},"ports":{}}}'.format(*parts).encode(errors="surrogatepass")
    return hashlib.blake2b(content, digest_size=16).hexdigest(), zlib.compress(content, LEVEL)


class _Budget:
    def __init__(self, size: int) -> None:
        self._left = size
        self.is_exceeded = False

    def take(self, pieces: Iterable[str]) -> list[str]:
        """As many of the pieces, in their order, as the rest of the budget holds."""
        taken = []
        for piece in pieces:
            self._left -= len(piece) + 1
            if self._left < 0:
                self.is_exceeded = True
                break
            taken.append(piece)
        return taken


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def _dump(value: Json) -> str:
    return _ENCODER.encode(value)


def _port_json(handle: str, facts: PortFacts) -> str:
    return _dump([handle, _sides_json(facts.inputs), _sides_json(facts.outputs)])


def _sides_json(sides: Mapping[str, Metadata]) -> Json:
    return {name: _metadata_json(each) for name, each in sides.items()}


def _metadata_json(metadata: Metadata) -> Json:
    return {name: [each.kind, each.value] for name, each in metadata.items()}


def _said(facts: Any) -> dict[str, Json]:
    """The fields of facts that say something, as JSON."""
    return {name: _field_json(value) for name, value in vars(facts).items() if value}


def _field_json(value: Any) -> Json:
    if isinstance(value, CheckKey):
        return [value.asset_key, value.name]
    if isinstance(value, tuple):
        return [_field_json(each) for each in value]
    if dataclasses.is_dataclass(value):
        return _said(value)
    if isinstance(value, Mapping) and any(isinstance(each, Metadatum) for each in value.values()):
        return _metadata_json(value)
    return value


def _known(cls: type[AssetFacts | CheckFacts], said: Mapping[str, Json]) -> Any:
    """A value of the class from those fields that this version knows."""
    names = {each.name for each in dataclasses.fields(cls)}
    return cls(**{name: _READ.get(name, _as_is)(said[name]) for name in names & said.keys()})


def _as_is(value: Json) -> Any:
    return value


def _metadata(said: Json) -> Metadata:
    return {name: Metadatum(kind, value) for name, (kind, value) in said.items()}


def _port_facts(inputs: Json, outputs: Json) -> PortFacts:
    return PortFacts(
        inputs={name: _metadata(each) for name, each in inputs.items()},
        outputs={name: _metadata(each) for name, each in outputs.items()},
    )


_READ: Mapping[str, Callable[[Json], Any]] = {
    "key": tuple,
    "owners": tuple,
    "kinds": tuple,
    "deps": lambda said: tuple(tuple(each) for each in said),
    "metadata": _metadata,
    "checks": lambda said: tuple(_known(CheckFacts, each) for each in said),
    "check": lambda said: CheckKey(tuple(said[0]), said[1]),
}
