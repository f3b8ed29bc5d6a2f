"""Valid proposals of every kind, for the tests of what delivers them."""

from __future__ import annotations

import json
from typing import Any

from datahub_eventlog.values import Change, Proposal

RUN_ID = "5f0f5e1c-1111-4222-8333-0123456789ab"


def dataset_urn(name: object) -> str:
    return f"urn:li:dataset:(urn:li:dataPlatform:dagster,{name},PROD)"


def instance_urn(name: object) -> str:
    return f"urn:li:dataProcessInstance:{name}"


def body(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def proposal(urn: str, aspect: str, value: Any, **options: Any) -> Proposal:
    kind = urn.split(":")[2]
    return Proposal(urn, kind, aspect, body(value), **{"run_id": RUN_ID, **options})


def properties(name: object, description: str = "", **options: Any) -> Proposal:
    value = {"name": str(name), "description": description or f"the dataset {name}"}
    return proposal(dataset_urn(name), "datasetProperties", value, **options)


def tag(name: object, tag: str) -> Proposal:
    """Adds a tag to a dataset, and keeps those that it has."""
    urn = f"urn:li:tag:{tag}"
    patch = [{"op": "add", "path": f"/tags/{urn}", "value": {"tag": urn}}]
    return proposal(dataset_urn(name), "globalTags", patch, change=Change.PATCH)


def run_event(name: object, status: str = "STARTED", time: int = 1_700_000_000_000) -> Proposal:
    value = {"timestampMillis": time, "status": status, "messageId": f"{name}:{status}"}
    return proposal(instance_urn(name), "dataProcessInstanceRunEvent", value)


def created(name: object, description: str) -> Proposal:
    """Written only where the dataset has no properties yet."""
    return properties(name, description, change=Change.CREATE)


def many(count: int) -> list[Proposal]:
    return [properties(number) for number in range(count)]


def mixture() -> list[Proposal]:
    """An entity's state twice, patches after it, timeseries, text from everywhere."""
    return [
        properties("a", "old"),
        properties("a", "new: Grüße, “λ” and \U0001f600\n"),
        tag("a", "first"),
        tag("a", "second"),
        proposal(dataset_urn("a"), "status", {"removed": False}, run_id=""),
        proposal(dataset_urn("b"), "datasetProperties", {}),
        created("a", "not written: it is there"),
        created("c", "first"),
        created("c", "not written: it was created"),
        run_event("r", "STARTED"),
        run_event("r", "COMPLETE", 1_700_000_005_000),
    ]
