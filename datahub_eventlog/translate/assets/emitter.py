"""Assets as datasets of the platform `dagster`.

State comes from the newest materialisation of an asset, one proposal an aspect however many
partitions there were. The definition completes it. Where the definition is unknown (an old run, an
asset that only an op reports) the state ranks below that of any run that knows the definition, see
`ranks`, and so takes nothing away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from datahub.metadata.schema_classes import SiblingsClass, StatusClass
from datahub.metadata.urns import DatasetUrn

from datahub_eventlog.translate import urns
from datahub_eventlog.translate.aspects import (
    Aspect,
    Proposals,
    additions,
    instance,
    prepared,
    state,
)
from datahub_eventlog.translate.assets.definition import definition_proposals, dependencies
from datahub_eventlog.translate.assets.description import (
    asset_properties,
    asset_schema,
    browse_path,
    column_count,
    existence,
    plain_texts,
    tag_names,
)
from datahub_eventlog.translate.assets.schemas import column_schema
from datahub_eventlog.translate.assets.timeseries import (
    failure_label,
    failure_operation,
    is_settled,
    materialization_operation,
    observation_operation,
    partition_label,
    profiles,
)
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_lineage import AssetLineage, asset_lineage, shape
from datahub_eventlog.translate.lineage.queries import QueryEntities, query_text
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.translate.lineage.upstream_aspects import TableEdges, upstream_lineage
from datahub_eventlog.translate.ranks import ranked_time
from datahub_eventlog.translate.runs.asset_events import (
    OBSERVED,
    AssetCourse,
    AssetEvent,
    AssetHistory,
    course_of,
    unmade,
)
from datahub_eventlog.translate.runs.failed_assets import failed_assets
from datahub_eventlog.values import (
    ENDED,
    AssetFacts,
    AssetKey,
    Event,
    Json,
    Materialization,
    Problem,
    Proposal,
    RunLog,
)

_STATUS = "status"


def asset_proposals(log: RunLog, history: AssetHistory, context: Context) -> Proposals:
    """Everything about the assets of a run, or of the events that belong to none."""
    if context.config.capture_asset_materialization:
        yield from AssetEmitter(log, history, context).proposals()


@dataclass(frozen=True)
class Made:
    """A materialisation and its lineage."""

    event: Event
    asset: Materialization
    lineage: AssetLineage


@dataclass(frozen=True)
class AssetState:
    """Of an asset's materialisations, the newest, and the newest that know a certain thing.

    One that knows no columns or no lineage takes away nothing that another one of the run knew.
    """

    course: AssetCourse
    firsts: Sequence[Made]
    """The first of each shape: of many partitions, only few have lineage of their own."""
    newest: Made
    columns: Made | None
    upstreams: Made | None
    table: Made | None


def asset_state(key: AssetKey, course: AssetCourse, assets: RunAssets) -> AssetState:
    """The state of an asset after its materialisations in a run.

    Raises `urns.InvalidUrn` if its key makes no urn.
    """
    firsts: dict[Json, Made] = {}
    every: list[Made] = []
    for event, asset in course.events:
        of_shape = shape(asset) if len(course.events) > 1 else None
        first = firsts.get(of_shape)
        lineage = first.lineage if first else asset_lineage(key, asset, assets)
        every.append(Made(event, asset, lineage))
        firsts.setdefault(of_shape, every[-1])
    every.reverse()  # of two with the same time, the later counts

    def newest(knows: Callable[[Made], object]) -> Made | None:
        return max(filter(knows, every), key=lambda made: made.event.time, default=None)

    return AssetState(
        course=course,
        firsts=list(firsts.values()),
        newest=max(every, key=lambda made: made.event.time),
        columns=newest(lambda made: column_schema(made.asset.metadata)),
        upstreams=newest(lambda made: made.lineage.says_something),
        table=newest(lambda made: made.lineage.dataset),
    )


class AssetEmitter:
    """Makes the proposals of one run's assets."""

    def __init__(self, log: RunLog, history: AssetHistory, context: Context) -> None:
        """Take a run whose events have been read."""
        self._log = log
        self._run_id = log.run.run_id
        self._history = history
        self._context = context
        self._config = context.config
        self._assets = RunAssets(log, context)
        self._edges = TableEdges()
        self._existence = [prepared(aspect) for aspect in existence(context)]
        self._keyed: set[str] = set()
        self._queries = QueryEntities()
        # Whether no newer materialisation can take the place of one that is sent.
        self._is_over = history.is_over or not log.run.run_id or log.run.status in ENDED

    def proposals(self) -> Proposals:
        """The assets that were materialised, observed, or planned and not made; then the tables."""
        yield from self._materialized()
        if self._config.emit_assets:
            yield from self._observed()
            yield from self._unmade()
            yield from self._failed()
            yield from self._wiped()
            yield from self._edges.proposals(self._run_id)
        if self._config.emit_queries and self._is_over:
            yield from self._queries.proposals(self._run_id)

    def _materialized(self) -> Proposals:
        states: list[AssetState] = []
        for key, course in self._history.materialized.items():
            if self._assets.allows(key):
                try:
                    states.append(asset_state(key, course, self._assets))
                except urns.InvalidUrn as error:
                    yield Problem("/".join(key), "datasetKey", str(error))
        # In the order of the events: a dependency is known since the first that names it.
        firsts = [first for known in states for first in known.firsts]
        for first in sorted(firsts, key=lambda made: made.event.storage_id):
            yield from first.lineage.problems
            yield from self._dependencies(first.lineage, first.event.time)
            self._edges.add(first.lineage, first.event.time)
        for known in states:
            newest = known.newest
            if newest.lineage.query is not None and self._config.emit_queries:
                query = replace(newest.lineage.query, text=query_text(newest.asset.metadata) or "")
                subjects = newest.lineage.queried | newest.lineage.written
                self._queries.add(query, subjects, newest.event.time)
            if self._config.emit_assets:
                yield from self._made(known)

    def _made(self, known: AssetState) -> Proposals:
        newest, urn = known.newest, known.newest.lineage.urn
        key = newest.asset.asset_key
        yield from self._state(newest.event, newest.asset, urn, known.columns)
        if known.upstreams is not None:
            lineage = known.upstreams.lineage
            aspect = upstream_lineage(lineage, with_query=self._config.emit_queries)
            since = ranked_time(known.upstreams.event.time, self._assets.facts(key))
            is_vacant = not lineage.upstreams and not lineage.columns
            yield state(urn, aspect, since, self._run_id, is_vacant=is_vacant)
        if known.table is not None:
            yield from self._sibling(known.table.lineage, known.table.event.time)
        if self._run_id:
            yield from self._operation(newest.event, newest.asset, known.course)
        else:
            # What belongs to no run is reported event by event.
            for event, asset in known.course.events:
                yield from self._operation(event, asset, course_of(event, asset))

    def _state(
        self, event: Event, asset: Materialization, urn: str, columns: Made | None = None
    ) -> Proposals:
        """The asset's own state, from the event and its definition."""
        key, facts = asset.asset_key, self._assets.facts(asset.asset_key)
        yield from self._exists(key, urn, event.time)
        was_made = event.type != OBSERVED
        time, described = (columns.event.time, columns.asset) if columns else (event.time, asset)
        if schema := asset_schema(key, facts, described):
            yield self._since(ranked_time(time, facts, was_made=was_made), urn, schema)
        since = ranked_time(event.time, facts, was_made=was_made)
        known = facts or AssetFacts(key)
        yield self._since(since, urn, asset_properties(known, asset, self._context))
        yield self._since(since, urn, browse_path(known))
        tags = list(tag_names(known))
        yield from additions(
            urn, tags=tags, owners=known.owners, run_id=self._run_id, time=event.time
        )

    def _exists(self, key: AssetKey, urn: str, time: float) -> Proposals:
        is_gone = self._config.remove_wiped_assets and self._history.wiped.get(key, -1.0) >= time
        for aspect in self._existence:
            if not (is_gone and aspect.name == _STATUS):
                yield self._since(time, urn, aspect)

    def _sibling(self, lineage: AssetLineage, time: float) -> Proposals:
        if lineage.sibling is not None:
            aspect = SiblingsClass(siblings=[lineage.sibling], primary=False)
            yield self._since(time, lineage.urn, aspect)

    def _dependencies(self, lineage: AssetLineage, time: float) -> Proposals:
        """The keys of what SQL reads, as the sensor plugin sends them, or of all if asked for."""
        for urn in sorted(dependencies(lineage, self._context) - self._keyed):
            self._keyed.add(urn)
            yield self._since(time, urn, DatasetUrn.from_string(urn).to_key_aspect())

    def _operation(self, event: Event, asset: Materialization, course: AssetCourse) -> Proposals:
        """One for all that the run did to the asset."""
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

    def _observed(self) -> Proposals:
        for key, course in self._history.observed.items():
            if not self._assets.allows(key):
                continue
            try:
                urn = urns.asset_urn(key, self._context)
            except urns.InvalidUrn as error:
                yield Problem("/".join(key), "datasetKey", str(error))
                continue
            yield from self._newest_observation(course.newest, urn)
            for event, asset in course.events:
                alone = course_of(event, asset)
                message = f"{self._message(event, asset)}:{event.storage_id}"
                texts = plain_texts(asset.metadata)
                operation = observation_operation(message, alone, asset, texts, self._run_id)
                yield self._once(asset, operation)
                yield from self._profiles(message, alone, asset)

    def _newest_observation(self, newest: AssetEvent, urn: str) -> Proposals:
        """The asset's own state, unless Dagster makes it: then its materialisations decide."""
        event, asset = newest
        key, facts = asset.asset_key, self._assets.facts(asset.asset_key)
        if key in self._history.materialized:
            return
        if (facts is not None and not facts.is_external) or not self._is_over:
            yield from self._exists(key, urn, event.time)
            return
        yield from self._state(event, asset, urn)
        known = AssetLineage(urn, dataset=self._assets.dataset(key, asset))
        yield from self._sibling(known, event.time)
        self._edges.add_sibling(known, event.time)

    def _unmade(self) -> Proposals:
        """The assets that the run did not get to make, by definition: its ops name them."""
        for key, time in unmade(self._history, self._log, is_over=self._is_over).items():
            urn = self._assets.urn(key) if self._assets.allows(key) else None
            if urn is None:
                continue
            if key not in self._history.observed:
                yield from self._exists(key, urn, time)
            facts = self._assets.facts(key)
            is_sent = facts is not None and facts.is_external and key in self._history.observed
            if facts is not None and self._is_over and not is_sent:
                yield from self._defined(facts, self._history.began)

    def _failed(self) -> Proposals:
        """One operation for all partitions of an asset that the run failed to make."""
        is_wanted = self._config.health.failed_materializations and self._run_id
        for key, failed in (failed_assets(self._log) if is_wanted else {}).items():
            urn = self._assets.urn(key) if self._assets.allows(key) else None
            if urn is not None:
                facts = self._assets.facts(key)
                partitions = facts.partitions if facts else None
                message = f"{self._run_id}:{'/'.join(key)}"
                label = failure_label(failed, self._log.run, partitions)
                operation = failure_operation(message, failed, label, self._run_id, partitions)
                yield instance(urn, operation, self._run_id)

    def _defined(self, facts: AssetFacts, since: float) -> Proposals:
        lineage = asset_lineage(facts.key, None, self._assets)
        yield from lineage.problems
        yield from definition_proposals(facts, lineage, since, self._run_id, self._context)
        # Nothing of the tables that it makes: what is added to a table stays.
        yield from self._dependencies(replace(lineage, downstreams=frozenset()), since)

    def _wiped(self) -> Proposals:
        if not self._config.remove_wiped_assets:
            return
        for key, time in sorted(self._history.wiped.items()):
            urn = self._assets.urn(key) if self._assets.allows(key) else None
            course = self._history.materialized.get(key)
            if urn is not None and (course is None or course.last <= time):
                yield self._since(time, urn, StatusClass(removed=True))

    def _profiles(self, message: str, course: AssetCourse, asset: Materialization) -> Proposals:
        columns = column_count(self._assets.facts(asset.asset_key), asset)
        for profile in profiles(message, course, columns):
            yield self._once(asset, profile)

    def _message(self, event: Event, asset: Materialization) -> str:
        return f"{self._run_id or event.storage_id}:{'/'.join(asset.asset_key)}"

    def _since(self, time: float, urn: str, aspect: Aspect) -> Proposal | Problem:
        return state(urn, aspect, time, self._run_id)

    def _once(self, asset: Materialization, aspect: Aspect) -> Proposal | Problem:
        return instance(urns.asset_urn(asset.asset_key, self._context), aspect, self._run_id)
