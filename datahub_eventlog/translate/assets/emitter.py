"""Assets as datasets of the platform `dagster`.

State comes from the newest materialisation of an asset, one proposal an aspect however many
partitions there were. What its definition says goes with it. Where the definition is unknown (an
old run, an asset that only an op reports) what the event says gives way to what any run says that
knows the definition, see `rank`, and so takes nothing away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from datahub.metadata.schema_classes import SiblingsClass, StatusClass
from datahub.metadata.urns import DatasetUrn

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import Aspect, additions, instance, prepared, state
from datahub_eventlog.translate.asset_checks import check_proposals
from datahub_eventlog.translate.assets.definition import definition_proposals
from datahub_eventlog.translate.assets.description import (
    asset_properties,
    asset_schema,
    browse_path,
    column_count,
    existence,
    plain_texts,
    rank,
    tag_names,
)
from datahub_eventlog.translate.assets.schemas import column_schema
from datahub_eventlog.translate.assets.timeseries import (
    is_settled,
    materialization_operation,
    observation_operation,
    partition_label,
    profiles,
)
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_lineage import (
    AssetLineage,
    RunAssets,
    TableEdges,
    asset_lineage,
    shape,
    upstream_lineage,
)
from datahub_eventlog.translate.lineage.asset_ports import Ports, ports_of
from datahub_eventlog.translate.lineage.queries import QueryEntities, query_text
from datahub_eventlog.translate.runs.asset_events import (
    FAILED,
    OBSERVED,
    AssetCourse,
    AssetHistory,
    asset_history,
    course_of,
    unmade,
)
from datahub_eventlog.values import (
    ENDED,
    AssetFacts,
    AssetKey,
    Definitions,
    Event,
    Json,
    Materialization,
    Problem,
    Proposal,
    Run,
    RunLog,
)

Found: TypeAlias = Iterator[Proposal | Problem]

_STATUS = "status"


@dataclass(frozen=True)
class AssetView:
    """What the asset events of a run say."""

    log: RunLog
    context: Context
    history: AssetHistory = field(default_factory=AssetHistory)
    ports: Ports = field(default_factory=Ports)
    """What the steps and their ops read and write."""

    def proposals(self) -> Found:
        """Everything about the assets, in the order in which they were materialised."""
        if self.context.config.capture_asset_materialization:
            yield from AssetEmitter(self.log, self.history, self.context).proposals()


def asset_view(log: RunLog, context: Context) -> AssetView:
    """Fold the asset events of a run; the proposals are made one after the other when asked for."""
    if not context.config.capture_asset_materialization:
        return AssetView(log, context)
    history = asset_history(log.events)
    return AssetView(log, context, history, ports_of(log, history, context))


def runless_proposals(
    events: Sequence[Event], definitions: Definitions | None, context: Context
) -> Found:
    """What the events say that belong to no run: reports, observations, checks and wipes."""
    log = RunLog(Run("", "", ""), None, (), events, definitions)
    yield from asset_view(log, context).proposals()
    yield from check_proposals(log, context)


_Columns: TypeAlias = tuple[float, Materialization]


@dataclass
class AssetState:
    """Of an asset's materialisations, the newest, and the newest of those that say a certain thing.

    One that says nothing of columns or lineage takes away nothing that another of the run said.
    """

    lineages: dict[Json, AssetLineage] = field(default_factory=dict)
    """By the shape of the materialisation, so that of many partitions only few are looked into."""
    events: int = 0
    schema: _Columns | None = None
    made_of: tuple[float, AssetLineage] | None = None
    """With the rank of what is known."""
    table: tuple[float, AssetLineage] | None = None
    _newest: tuple[Event, Materialization, AssetLineage] | None = None

    @property
    def newest(self) -> tuple[Event, Materialization, AssetLineage]:
        """The newest event; raises `LookupError` if there was none."""
        if self._newest is None:
            raise LookupError("there was no event")
        return self._newest

    def add(
        self, event: Event, asset: Materialization, lineage: AssetLineage, known: float
    ) -> None:
        """Take a materialisation; `known` is the rank of what is known of the asset then."""
        time = event.time
        self.events += 1
        if self._newest is None or time >= self._newest[0].time:
            self._newest = (event, asset, lineage)
        if column_schema(asset.metadata) and (self.schema is None or time >= self.schema[0]):
            self.schema = (time, asset)
        if lineage.says_something and (self.made_of is None or known >= self.made_of[0]):
            self.made_of = (known, lineage)
        if lineage.dataset and (self.table is None or time >= self.table[0]):
            self.table = (time, lineage)


class AssetEmitter:
    """Reads the asset events a second time, and says of each asset what its newest one says."""

    def __init__(self, log: RunLog, history: AssetHistory, context: Context) -> None:
        self._log = log
        self._run_id = log.run.run_id
        self._history = history
        self._context = context
        self._config = context.config
        self._assets = RunAssets(log, context)
        self._edges = TableEdges()
        self._stories: dict[AssetKey, AssetState] = {}
        self._existence = [prepared(each) for each in existence(context)]
        self._keyed: set[str] = set()
        self._queries = QueryEntities()

    def proposals(self) -> Found:
        """Everything about the assets."""
        for event in self._log.events:
            asset = event.data
            if event.type == FAILED or not isinstance(asset, Materialization):
                continue
            if self._assets.allows(asset.asset_key):
                yield from self._event(event, asset)
        if self._config.emit_assets:
            yield from self._unmade()
            yield from self._wiped()
            yield from self._edges.proposals(self._run_id)
        if self._config.emit_queries and self._is_over():
            yield from self._queries.proposals(self._run_id)

    def _is_over(self) -> bool:
        """Whether no newer materialisation can take the place of one that is told."""
        run = self._log.run
        return self._history.is_over or not run.run_id or run.status in ENDED

    def _event(self, event: Event, asset: Materialization) -> Found:
        try:
            if event.type == OBSERVED:
                yield from self._observed(event, asset)
            else:
                yield from self._materialized(event, asset)
        except urns.InvalidUrn as error:
            yield Problem("/".join(asset.asset_key), "datasetKey", str(error))

    def _materialized(self, event: Event, asset: Materialization) -> Found:
        key = asset.asset_key
        course = self._history.materialized[key]
        story = self._stories.setdefault(key, AssetState())
        of_shape = shape(asset) if course.events > 1 else None
        lineage = story.lineages.get(of_shape)
        if lineage is None:
            lineage = asset_lineage(key, asset, self._assets)
            yield from lineage.problems
            yield from self._dependencies(lineage, event.time)
            self._edges.add(lineage, event.time)
            story.lineages[of_shape] = lineage
        story.add(event, asset, lineage, rank(event.time, self._assets.facts(key)))
        if self._config.emit_assets and not self._run_id:
            yield from self._operation(event, asset, course_of(event, asset))
        if story.events == course.events:
            yield from self._newest(self._stories.pop(key), course)

    def _newest(self, story: AssetState, course: AssetCourse) -> Found:
        event, asset, lineage = story.newest
        if lineage.query is not None and self._config.emit_queries:
            query = replace(lineage.query, text=query_text(asset.metadata) or "")
            self._queries.add(query, lineage.queried | lineage.written, event.time)
        if not self._config.emit_assets:
            return
        yield from self._state(event, asset, lineage.urn, story.schema)
        if story.made_of is not None:
            yield from self._lineage(*story.made_of)
        if story.table is not None:
            time, told = story.table
            yield from self._sibling(told.urn, told.dataset, time)
        if self._run_id:
            yield from self._operation(event, asset, course)

    def _lineage(self, since: float, lineage: AssetLineage) -> Found:
        aspect = upstream_lineage(lineage, with_query=self._config.emit_queries)
        is_vacant = not lineage.upstreams and not lineage.columns
        yield state(lineage.urn, aspect, since, self._run_id, is_vacant=is_vacant)

    def _state(
        self, event: Event, asset: Materialization, urn: str, schema: _Columns | None = None
    ) -> Found:
        """What the asset is, as the event and its definition say."""
        key, facts = asset.asset_key, self._assets.facts(asset.asset_key)
        yield from self._exists(key, urn, event.time)
        time, found = schema or (event.time, asset)
        was_made = event.type != OBSERVED
        if columns := asset_schema(key, facts, found):
            yield self._since(rank(time, facts, was_made=was_made), urn, columns)
        since = rank(event.time, facts, was_made=was_made)
        known = facts or AssetFacts(key)
        yield self._since(since, urn, asset_properties(known, asset, self._context))
        yield self._since(since, urn, browse_path(known))
        tags = list(tag_names(known))
        yield from additions(
            urn, tags=tags, owners=known.owners, run_id=self._run_id, time=event.time
        )

    def _exists(self, key: AssetKey, urn: str, time: float) -> Found:
        is_gone = self._config.remove_wiped_assets and self._history.wiped.get(key, -1.0) >= time
        for aspect in self._existence:
            if not (is_gone and aspect.name == _STATUS):
                yield self._since(time, urn, aspect)

    def _sibling(self, urn: str, dataset: str | None, time: float) -> Found:
        if dataset is not None and dataset != urn:
            yield self._since(time, urn, SiblingsClass(siblings=[dataset], primary=False))

    def _dependencies(self, lineage: AssetLineage, time: float) -> Found:
        """The keys of what SQL reads, as the sensor plugin sends them, or of all if asked for."""
        found = lineage.queried
        if self._config.materialize_dependencies:
            found = found | lineage.upstreams | lineage.downstreams
        for urn in sorted(found - self._keyed):
            self._keyed.add(urn)
            yield self._since(time, urn, DatasetUrn.from_string(urn).to_key_aspect())

    def _operation(self, event: Event, asset: Materialization, course: AssetCourse) -> Found:
        """One for all that the run did; what belongs to no run is told event by event."""
        key, run = asset.asset_key, self._log.run
        facts = self._assets.facts(key)
        partitions = facts.partitions if facts else None
        message = self._message(event, asset)
        if is_settled(self._history, key, run, partitions):
            label = partition_label(self._history, key, course, run, partitions)
            yield self._once(
                asset,
                materialization_operation(message, course, label, asset, self._run_id, partitions),
            )
        yield from self._profiles(message, course, asset)

    def _observed(self, event: Event, asset: Materialization) -> Found:
        if not self._config.emit_assets:
            return
        urn = urns.asset_urn(asset.asset_key, self._context)
        if self._history.observed[asset.asset_key].newest == event.storage_id:
            yield from self._newest_observation(event, asset, urn)
        message = f"{self._message(event, asset)}:{event.storage_id}"
        course = course_of(event, asset)
        texts = plain_texts(asset.metadata)
        yield self._once(asset, observation_operation(message, course, asset, texts, self._run_id))
        yield from self._profiles(message, course, asset)

    def _newest_observation(self, event: Event, asset: Materialization, urn: str) -> Found:
        """What the asset is, if Dagster doesn't make it: else that is for its makers to say."""
        key, facts = asset.asset_key, self._assets.facts(asset.asset_key)
        if key in self._history.materialized:
            return
        if (facts is not None and not facts.is_external) or not self._is_over():
            yield from self._exists(key, urn, event.time)
            return
        yield from self._state(event, asset, urn)
        dataset = self._assets.dataset(key, asset)
        yield from self._sibling(urn, dataset, event.time)
        self._edges.add_sibling(urn, dataset, event.time)

    def _unmade(self) -> Found:
        """The assets which the run did not get to make, as they are defined: its ops name them."""
        is_over = self._is_over()
        for key, time in unmade(self._history, self._log, is_over=is_over).items():
            urn = self._assets.urn(key) if self._assets.allows(key) else None
            if urn is None:
                continue
            if key not in self._history.observed:
                yield from self._exists(key, urn, time)
            facts = self._assets.facts(key)
            is_said = facts is not None and facts.is_external and key in self._history.observed
            if facts is not None and is_over and not is_said:
                yield from self._defined(facts, self._history.began)

    def _defined(self, facts: AssetFacts, since: float) -> Found:
        """Nothing of the tables that it makes: on those, no run's word could outrank this."""
        lineage = asset_lineage(facts.key, None, self._assets)
        yield from lineage.problems
        yield from definition_proposals(facts, lineage, since, self._run_id, self._context)
        yield from self._dependencies(replace(lineage, downstreams=frozenset()), since)

    def _wiped(self) -> Found:
        for key, time in sorted(self._history.wiped.items()):
            urn = self._assets.urn(key)
            if not self._config.remove_wiped_assets or urn is None or not self._assets.allows(key):
                continue
            course = self._history.materialized.get(key)
            if course is None or course.last <= time:
                yield self._since(time, urn, StatusClass(removed=True))

    def _profiles(self, message: str, course: AssetCourse, asset: Materialization) -> Found:
        columns = column_count(self._assets.facts(asset.asset_key), asset)
        for profile in profiles(message, course, columns):
            yield self._once(asset, profile)

    def _message(self, event: Event, asset: Materialization) -> str:
        return f"{self._run_id or event.storage_id}:{'/'.join(asset.asset_key)}"

    def _since(self, time: float, urn: str, aspect: Aspect) -> Proposal | Problem:
        return state(urn, aspect, time, self._run_id)

    def _once(self, asset: Materialization, aspect: Aspect) -> Proposal | Problem:
        return instance(urns.asset_urn(asset.asset_key, self._context), aspect, self._run_id)
