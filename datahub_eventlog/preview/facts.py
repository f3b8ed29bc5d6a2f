"""The facts of an entity, as people read them: sections made of its aspects."""

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
    Link,
    Section,
    duration,
    entities,
    is_web,
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
"""What the result of a run, a step or a check is called."""

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
    """What entities of all types have: properties, tags, owners, where they are found."""
    yield pairs("Properties", info(entity).get("customProperties") or {})
    tags = entity.aspect("globalTags").get("tags") or []
    yield Section("Tags", tuple((name_of(each["tag"]),) for each in tags))
    owners = entity.aspect("ownership").get("owners") or []
    yield Section("Owners", tuple((_owner(each["owner"]),) for each in owners))
    yield pairs("In DataHub", dict(_place(entity)))


def job_io(entity: Entity) -> Iterator[Section]:
    """What an op reads, writes and waits for."""
    found = entity.aspect("dataJobInputOutput")
    yield entities("Reads", edges(found, "inputDataset"))
    yield entities("Writes", edges(found, "outputDataset"))
    yield entities("Takes from", edges(found, "inputDatajob"))


def edges(found: Mapping[str, Any], side: str) -> list[str]:
    """The urns on one side of a dataJobInputOutput, such as `inputDataset`."""
    urns = [each["destinationUrn"] for each in found.get(f"{side}Edges") or []]
    return urns + list(found.get(f"{side}s") or [])


def runs(instances: Sequence[Entity]) -> Iterator[Section]:
    """The runs of a job, or of an op: what they are, and how they went."""
    rows = [_attempt(each, event) for each in instances for event in each.events(RUN_EVENT)]
    yield Section("Runs", tuple(rows), ("run", "attempt", "time (UTC)", "state", "took"))
    for each in instances:
        title = f"Run {_short(each)}" if len(instances) > 1 else "Run"
        own = info(each)
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
    rows = tuple((each["fieldPath"], _type(each), each.get("description") or "") for each in fields)
    yield Section("Columns", rows, ("column", "type", "description"))


def lineage(entity: Entity) -> Iterator[Section]:
    """What a dataset, and each of its columns, is made of, and what else it is."""
    found = entity.aspect("upstreamLineage")
    yield entities("Made of", (each["dataset"] for each in found.get("upstreams") or []))
    rows = [row for each in found.get("fineGrainedLineages") or [] for row in _column_rows(each)]
    yield Section("Column lineage", tuple(rows), ("column", "comes from", "of"))
    yield entities("Is the same as", entity.aspect("siblings").get("siblings") or [])


def happenings(entity: Entity) -> Iterator[Section]:
    """When a dataset's data changed, and how many rows it has."""
    operations = entity.events("operation")
    yield Section(
        "Operations",
        tuple(
            (_operation(each), moment(each["timestampMillis"]), _part(each)) for each in operations
        ),
        ("operation", "time (UTC)", "partition"),
    )
    for each in operations[-1:]:
        yield pairs("Last operation", each.get("customProperties") or {})
    profiles = entity.events("datasetProfile")
    rows = ((text(each.get("rowCount", "")), _part(each)) for each in profiles)
    yield Section("Rows", tuple(rows), ("rows", "partition"))


def results(entity: Entity) -> Iterator[Section]:
    """What an asset check found."""
    events = entity.events(CHECK_EVENT)
    rows = ((check_state([each]), moment(each["timestampMillis"]), _part(each)) for each in events)
    yield Section("Results", tuple(rows), ("result", "time (UTC)", "partition"))
    for each in events[-1:]:
        result = each.get("result") or {}
        error = (result.get("error") or {}).get("properties") or {}
        yield pairs("Last result", {**(result.get("nativeResults") or {}), **error})


def check_state(events: Sequence[Mapping[str, Any]]) -> str:
    """How a check went, in one word."""
    found = run_state(events)
    return {"succeeded": "passed", "running": ""}.get(found, found)


def queries(found: Sequence[Entity]) -> Iterator[Section]:
    """The SQL that is about a dataset."""
    said = [each.aspect("queryProperties").get("statement") or {} for each in found]
    yield Section("Queries", tuple((each["value"],) for each in said if "value" in each))


def left_out(entity: Entity) -> Iterator[Section]:
    """What could not be translated."""
    rows = ((each.aspect, each.reason) for each in entity.problems)
    yield Section("Left out", tuple(rows), ("aspect", "why"))


def _owner(urn: str) -> str:
    return f"{name_of(urn)} (group)" if ":corpGroup:" in urn else name_of(urn)


def _place(entity: Entity) -> Iterator[tuple[str, Cell]]:
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
        " / ".join(name_of(each["id"]) if each.get("urn") else each["id"] for each in path),
    )
    yield "removed", "yes" if entity.aspect("status").get("removed") else ""
    url = info(entity).get("externalUrl") or ""
    yield "link", Link(url, url=url) if is_web(url) else url


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
    downstream = ", ".join(name_of(each) for each in edge.get("downstreams") or [])
    for each in edge.get("upstreams") or []:
        table = dataset_of(each)
        yield downstream, name_of(each), Link(name_of(table), urn=table)


def _operation(event: Mapping[str, Any]) -> str:
    found = event.get("customOperationType") or event.get("operationType") or ""
    return str(found).lower()


def _part(event: Mapping[str, Any]) -> str:
    spec = event.get("partitionSpec") or {}
    return "" if spec.get("type") == "FULL_TABLE" else str(spec.get("partition") or "")
