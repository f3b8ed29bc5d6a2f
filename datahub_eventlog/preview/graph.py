"""A run as a picture: jobs, ops, assets, datasets and checks as nodes, with their facts.

It is drawn from the proposals that would be sent, so that it shows what DataHub would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from datahub_eventlog.preview import entity_facts
from datahub_eventlog.preview.entities import Entity, entities_of
from datahub_eventlog.preview.names import (
    Kind,
    entity_type,
    flow_of,
    kind_of,
    name_of,
    platform_of,
)
from datahub_eventlog.preview.sections import Cell, Link, Section, duration, entity_list, moment
from datahub_eventlog.values import Problem, Proposal

EdgeKind: TypeAlias = Literal["lineage", "same", "order", "check", "begins"]
"""The flow of data; two datasets that are the same thing; the order of ops; a check and its asset;
a job and the ops that it begins with."""

_RELATIONS = "dataProcessInstanceRelationships"
_DRAWN = frozenset({"dataFlow", "dataJob", "dataset", "assertion"})


@dataclass(frozen=True)
class Node:
    """An entity in the picture."""

    urn: str
    kind: Kind
    name: str
    note: str = ""
    """The line below the name: what it is, and how it went."""
    state: str = ""
    """How it went, such as `failed`; empty for what doesn't run."""
    description: str = ""
    sections: tuple[Section, ...] = ()
    sent: tuple[Proposal, ...] = ()


@dataclass(frozen=True)
class Edge:
    """A line of the picture."""

    source: str
    target: str
    kind: EdgeKind


@dataclass(frozen=True)
class Graph:
    """The whole picture."""

    title: str
    summary: tuple[str, ...] = ()
    """The run in a few words: its id, how it went, when and how long."""
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    problems: tuple[Problem, ...] = ()
    """What could not be translated."""


def graph_of(items: Iterable[Proposal | Problem]) -> Graph:
    """The picture of a run's proposals."""
    return _GraphBuilder(entities_of(items)).graph()


@dataclass
class _GraphBuilder:
    entities: Mapping[str, Entity]
    runs: dict[str, list[Entity]] = field(default_factory=dict)
    """The runs of each job and op."""
    queries: dict[str, list[Entity]] = field(default_factory=dict)
    """The queries about each dataset."""

    def __post_init__(self) -> None:
        relations = [entity.aspect(_RELATIONS) for entity in self.entities.values()]
        # Above a job's run there is nothing but a backfill, which is no run of it.
        backfills = {
            each.get("parentInstance")
            for each in relations
            if entity_type(each.get("parentTemplate") or "::") == "dataFlow"
        }
        for entity in self.entities.values():
            template = entity.aspect(_RELATIONS).get("parentTemplate")
            if template and entity.urn not in backfills:
                self.runs.setdefault(template, []).append(entity)
            for subject in entity.aspect("querySubjects").get("subjects") or []:
                self.queries.setdefault(subject["entity"], []).append(entity)

    def graph(self) -> Graph:
        known = self.entities.values()
        every = [edge for entity in known for edge in (*_edges(entity), *self._order(entity))]
        users, checks = _by_source(every)
        edges = _drawn(every)
        edges += list(self._beginnings(edges))
        drawn = [urn for urn in self.entities if entity_type(urn) in _DRAWN]
        ends = [urn for edge in edges for urn in (edge.source, edge.target)]
        nodes = [self._node(urn, users, checks) for urn in dict.fromkeys([*drawn, *ends])]
        title, summary = self._run()
        problems = tuple(problem for entity in known for problem in entity.problems)
        return Graph(title, summary, tuple(nodes), tuple(edges), problems)

    def _run(self) -> tuple[str, tuple[str, ...]]:
        """The run's job, and the run in a few words."""
        for urn, instances in self.runs.items():
            if entity_type(urn) == "dataFlow":
                return self._name(urn), tuple(_summary(instances[0]))
        jobs = [self._name(urn) for urn in self.entities if entity_type(urn) == "dataFlow"]
        return (jobs[0] if jobs else "Nothing was captured"), ()

    def _order(self, run: Entity) -> Iterator[Edge]:
        """The order of two ops, from the order of their runs."""
        relations = run.aspect(_RELATIONS)
        for upstream in relations.get("upstreamInstances") or []:
            before = self.entities[upstream].aspect(_RELATIONS) if upstream in self.entities else {}
            ends = (before.get("parentTemplate"), relations.get("parentTemplate"))
            if all(ends) and ends[0] != ends[1]:
                yield Edge(str(ends[0]), str(ends[1]), "order")

    def _beginnings(self, edges: Sequence[Edge]) -> Iterator[Edge]:
        """From a job to those of its ops that no other of them feeds."""
        made = {edge.target for edge in edges if entity_type(edge.source) == "dataJob"}
        fed = {edge.target for edge in edges if edge.source in made}
        after = {edge.target for edge in edges if edge.kind == "order"}
        for urn in self.entities:
            if entity_type(urn) == "dataJob" and urn not in fed | after:
                yield Edge(flow_of(urn), urn, "begins")

    def _node(
        self, urn: str, users: Mapping[str, list[str]], checks: Mapping[str, list[str]]
    ) -> Node:
        entity = self.entities.get(urn) or Entity(urn)
        state = self._state(entity)
        kind = kind_of(urn)
        label = platform_of(urn) if kind == "dataset" else kind
        sections = [
            *entity_facts.left_out(entity),
            *self._own(entity),
            entity_list("Goes into", () if kind == "op" else users.get(urn, ())),
            entity_list("Checks", checks.get(urn, ())),
            *entity_facts.described(entity),
        ]
        return Node(
            urn=urn,
            kind=kind,
            name=self._name(urn),
            note=f"{label} · {state}" if state else label,
            state=state,
            description=entity_facts.info(entity).get("description") or "",
            sections=tuple(self._named(section) for section in sections if section.rows),
            sent=tuple(entity.sent),
        )

    def _named(self, section: Section) -> Section:
        """The section, its links under the names of their entities: urns needn't hold these."""
        return replace(section, rows=tuple(tuple(map(self._cell, row)) for row in section.rows))

    def _cell(self, cell: Cell) -> Cell:
        if isinstance(cell, Link) and cell.urn is not None:
            return replace(cell, text=self._name(cell.urn))
        return cell

    def _own(self, entity: Entity) -> Iterator[Section]:
        """The sections that only entities of its kind have."""
        match kind_of(entity.urn):
            case "job":
                yield from entity_facts.runs(self.runs.get(entity.urn, []))
            case "op":
                yield from entity_facts.job_io(entity)
                yield from entity_facts.runs(self.runs.get(entity.urn, []))
            case "check":
                yield from entity_facts.results(entity)
            case "asset" | "dataset":
                yield from entity_facts.columns(entity)
                yield from entity_facts.lineage(entity)
                yield from entity_facts.activity(entity)
                yield from entity_facts.queries(self.queries.get(entity.urn, []))

    def _name(self, urn: str) -> str:
        entity = self.entities.get(urn)
        if entity is None or kind_of(urn) in ("asset", "dataset"):
            return name_of(urn)
        own = entity_facts.info(entity)
        check = (own.get("customProperties") or {}).get("check_name")
        return str(check or own.get("name") or name_of(urn))

    def _state(self, entity: Entity) -> str:
        if kind_of(entity.urn) == "check":
            return entity_facts.check_state(entity.events(entity_facts.CHECK_EVENT))
        runs = self.runs.get(entity.urn, [])
        states = [entity_facts.run_state(run.events(entity_facts.RUN_EVENT)) for run in runs]
        return min(states, key=lambda state: _WORST_FIRST.get(state, 0), default="")


_WORST_FIRST = {
    name: place
    for place, name in enumerate(("failed", "running", "up for retry", "succeeded", "skipped", ""))
}


def _summary(run: Entity) -> Iterator[str]:
    events = run.events(entity_facts.RUN_EVENT)
    yield str(entity_facts.info(run).get("name") or name_of(run.urn))
    if events:
        yield entity_facts.run_state(events)
        yield f"{moment(events[0]['timestampMillis'])} UTC"
        yield from filter(None, [duration(events[-1].get("durationMillis"))])


def _edges(entity: Entity) -> Iterator[Edge]:
    """All lines that an entity's own aspects name."""
    io = entity.aspect("dataJobInputOutput")
    yield from (Edge(urn, entity.urn, "lineage") for urn in entity_facts.edges(io, "inputDataset"))
    yield from (Edge(entity.urn, urn, "lineage") for urn in entity_facts.edges(io, "outputDataset"))
    yield from (Edge(urn, entity.urn, "order") for urn in entity_facts.edges(io, "inputDatajob"))
    for upstream in entity.aspect("upstreamLineage").get("upstreams") or []:
        yield Edge(upstream["dataset"], entity.urn, "lineage")
    for sibling in entity.aspect("siblings").get("siblings") or []:
        first, second = sorted((entity.urn, sibling), key=lambda urn: kind_of(urn) != "asset")
        yield Edge(first, second, "same")
    judged = (entity.aspect("assertionInfo").get("customAssertion") or {}).get("entity")
    if judged:
        yield Edge(judged, entity.urn, "check")


def _drawn(edges: Sequence[Edge]) -> list[Edge]:
    """Each line once, without those that others make superfluous.

    Two datasets that are the same thing need no second line for the data between them. Data that
    flow through a drawn op need no direct line, nor do ops between which data flow.
    """
    same = {frozenset((edge.source, edge.target)) for edge in edges if edge.kind == "same"}
    detours = _detours(edges)
    return [
        edge
        for edge in dict.fromkeys(edges)
        if edge.kind not in ("lineage", "order")
        or not (
            frozenset((edge.source, edge.target)) in same or (edge.source, edge.target) in detours
        )
    ]


def _detours(edges: Iterable[Edge]) -> set[tuple[str, str]]:
    """The pairs of datasets with an op between them, and of ops with a dataset between them."""
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for edge in edges:
        types = {entity_type(edge.source), entity_type(edge.target)}
        if edge.kind == "lineage" and types == {"dataset", "dataJob"}:
            before.setdefault(edge.target, []).append(edge.source)
            after.setdefault(edge.source, []).append(edge.target)
    return {
        (source, target)
        for middle, sources in before.items()
        for source in sources
        for target in after.get(middle, ())
    }


def _by_source(edges: Iterable[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """For each entity, what it goes into, and its checks."""
    users: dict[str, list[str]] = {}
    checks: dict[str, list[str]] = {}
    for edge in edges:
        if edge.kind == "check":
            checks.setdefault(edge.source, []).append(edge.target)
        elif edge.kind in ("lineage", "order"):
            users.setdefault(edge.source, []).append(edge.target)
    return users, checks
