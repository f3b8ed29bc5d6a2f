"""The facts of an entity for people: sections made of its aspects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datahub_eventlog.preview.entities import Entity
from datahub_eventlog.preview.names import (
    dataset_of,
    entity_type,
    environment_of,
    name_of,
    platform_of,
)
from datahub_eventlog.preview.sections import (
    Cell,
    Section,
    duration,
    entity_link,
    entity_list,
    moment,
    pairs,
    text,
)

RUN_EVENT = "dataProcessInstanceRunEvent"
CHECK_EVENT = "assertionRunEvent"
RESULTS = {
    "SUCCESS": "succeeded",
    "FAILURE": "failed",
    "SKIPPED": "skipped",
    "UP_FOR_RETRY": "up for retry",
    "ERROR": "broken",
}
"""The words for the results of runs, steps and checks."""

_INFO = {
    "dataFlow": "dataFlowInfo",
    "dataJob": "dataJobInfo",
    "dataset": "datasetProperties",
    "assertion": "assertionInfo",
    "dataProcessInstance": "dataProcessInstanceProperties",
}


def info(entity: Entity) -> Mapping[str, Any]:
    """The aspect that holds the entity's name, description and properties."""
    return entity.aspect(_INFO.get(entity_type(entity.urn), ""))


def described(entity: Entity) -> Iterator[Section]:
    """The facts of entities of all types: properties, tags, owners, where they are found."""
    yield pairs("Properties", info(entity).get("customProperties") or {})
    tags = entity.aspect("globalTags").get("tags") or []
    yield Section("Tags", tuple((name_of(tag["tag"]),) for tag in tags))
    owners = [owner["owner"] for owner in entity.aspect("ownership").get("owners") or []]
    names = (name_of(urn) + " (group)" * (":corpGroup:" in urn) for urn in owners)
    yield Section("Owners", tuple((name,) for name in names))
    yield pairs("In DataHub", dict(_place(entity)))


def job_io(entity: Entity) -> Iterator[Section]:
    """What an op reads, writes and waits for."""
    io = entity.aspect("dataJobInputOutput")
    yield entity_list("Reads", edges(io, "inputDataset"))
    yield entity_list("Writes", edges(io, "outputDataset"))
    yield entity_list("Takes from", edges(io, "inputDatajob"))


def edges(io: Mapping[str, Any], side: str) -> list[str]:
    """The urns on one side of a dataJobInputOutput, such as `inputDataset`."""
    urns = [edge["destinationUrn"] for edge in io.get(f"{side}Edges") or []]
    return urns + list(io.get(f"{side}s") or [])


def runs(instances: Sequence[Entity]) -> Iterator[Section]:
    """The runs of a job, or of an op: what they are, and how they went."""
    rows = [
        _attempt(instance, event) for instance in instances for event in instance.events(RUN_EVENT)
    ]
    yield Section("Runs", tuple(rows), ("run", "attempt", "time (UTC)", "state", "took"))
    for instance in instances:
        title = f"Run {_short(instance)}" if len(instances) > 1 else "Run"
        own = info(instance)
        values = {"name": own.get("name"), "link": own.get("externalUrl"), "type": own.get("type")}
        yield pairs(title, {**values, **(own.get("customProperties") or {})})


def run_state(events: Sequence[Mapping[str, Any]]) -> str:
    """How a run went, in one word; empty where nothing is known of it."""
    if not events:
        return ""
    result = events[-1].get("result")
    return RESULTS.get(result["type"], result["type"]) if result else "running"


def columns(entity: Entity) -> Iterator[Section]:
    """A dataset's columns."""
    fields = entity.aspect("schemaMetadata").get("fields") or []
    rows = tuple(
        (column["fieldPath"], _type(column), column.get("description") or "") for column in fields
    )
    yield Section("Columns", rows, ("column", "type", "description"))


def lineage(entity: Entity) -> Iterator[Section]:
    """What a dataset and its columns are made of, and the datasets that are the same thing."""
    lineage = entity.aspect("upstreamLineage")
    yield entity_list(
        "Made of", (upstream["dataset"] for upstream in lineage.get("upstreams") or [])
    )
    rows = [row for edge in lineage.get("fineGrainedLineages") or [] for row in _column_rows(edge)]
    yield Section("Column lineage", tuple(rows), ("column", "comes from", "of"))
    yield entity_list("Is the same as", entity.aspect("siblings").get("siblings") or [])


def activity(entity: Entity) -> Iterator[Section]:
    """When a dataset's data changed, and how many rows it has."""
    operations = entity.events("operation")
    yield Section(
        "Operations",
        tuple(
            (_operation(operation), moment(operation["timestampMillis"]), _part(operation))
            for operation in operations
        ),
        ("operation", "time (UTC)", "partition"),
    )
    for operation in operations[-1:]:
        yield pairs("Last operation", operation.get("customProperties") or {})
    profiles = entity.events("datasetProfile")
    rows = ((text(profile.get("rowCount", "")), _part(profile)) for profile in profiles)
    yield Section("Rows", tuple(rows), ("rows", "partition"))


def results(entity: Entity) -> Iterator[Section]:
    """The results of an asset check."""
    events = entity.events(CHECK_EVENT)
    rows = (
        (check_state([event]), moment(event["timestampMillis"]), _part(event)) for event in events
    )
    yield Section("Results", tuple(rows), ("result", "time (UTC)", "partition"))
    for event in events[-1:]:
        result = event.get("result") or {}
        error = (result.get("error") or {}).get("properties") or {}
        yield pairs("Last result", {**(result.get("nativeResults") or {}), **error})


def check_state(events: Sequence[Mapping[str, Any]]) -> str:
    """How a check went, in one word."""
    state = run_state(events)
    return {"succeeded": "passed", "running": ""}.get(state, state)


def queries(about: Sequence[Entity]) -> Iterator[Section]:
    """The SQL that is about a dataset."""
    statements = [query.aspect("queryProperties").get("statement") or {} for query in about]
    yield Section(
        "Queries", tuple((statement["value"],) for statement in statements if "value" in statement)
    )


def left_out(entity: Entity) -> Iterator[Section]:
    """What could not be translated."""
    rows = ((problem.aspect, problem.reason) for problem in entity.problems)
    yield Section("Left out", tuple(rows), ("aspect", "why"))


def _place(entity: Entity) -> Iterator[tuple[str, str]]:
    yield "urn", entity.urn
    if entity.urn.startswith("urn:li:dataset:"):
        yield "platform", platform_of(entity.urn)
        yield "environment", environment_of(entity.urn)
    instance = entity.aspect("dataPlatformInstance").get("instance")
    yield "platform instance", name_of(instance).rpartition(",")[2] if instance else ""
    yield "type", ", ".join(entity.aspect("subTypes").get("typeNames") or [])
    path = entity.aspect("browsePathsV2").get("path") or []
    yield (
        "browse path",
        " / ".join(name_of(folder["id"]) if folder.get("urn") else folder["id"] for folder in path),
    )
    yield "removed", "yes" if entity.aspect("status").get("removed") else ""
    yield "link", info(entity).get("externalUrl") or ""


def _attempt(entity: Entity, event: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        _short(entity),
        text(event.get("attempt", 1)),
        moment(event["timestampMillis"]),
        run_state([event]) if event.get("result") else "started",
        duration(event.get("durationMillis")),
    )


def _short(entity: Entity) -> str:
    """A run by the start of its id; a step's run by its step."""
    own = info(entity)
    step = (own.get("customProperties") or {}).get("step_key")
    return step or str(own.get("name") or name_of(entity.urn))[:8]


def _type(field: Mapping[str, Any]) -> str:
    native = str(field.get("nativeDataType") or "")
    return native if field.get("nullable") else f"{native} not null".strip()


def _column_rows(edge: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    downstream = ", ".join(name_of(column) for column in edge.get("downstreams") or [])
    for source in edge.get("upstreams") or []:
        table = dataset_of(source)
        yield downstream, name_of(source), entity_link(table)


def _operation(event: Mapping[str, Any]) -> str:
    kind = event.get("customOperationType") or event.get("operationType") or ""
    return str(kind).lower()


def _part(event: Mapping[str, Any]) -> str:
    spec = event.get("partitionSpec") or {}
    return "" if spec.get("type") == "FULL_TABLE" else str(spec.get("partition") or "")
