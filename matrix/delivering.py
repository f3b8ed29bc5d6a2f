"""Delivers what the base package captured, now that the extra is there."""

from __future__ import annotations

import json

from cell_runs import FILES, JOBS, command, runs
from datahub.emitter.mcp import MetadataChangeProposalWrapper

command("datahub-eventlog", "worker", "--until-empty")
found = runs()
assert found["delivered"] == len(JOBS), found
proposals = [each for path in FILES.glob("*.json") for each in json.loads(path.read_text())]
for each in proposals:
    read = MetadataChangeProposalWrapper.from_obj(each)
    assert read.validate(), each
    is_known = isinstance(read, MetadataChangeProposalWrapper)
    assert is_known or each["changeType"] != "UPSERT", each
flows = {each["entityUrn"] for each in proposals if each["entityType"] == "dataFlow"}
assert len(flows) == len(JOBS), flows
types = sorted({each["entityType"] for each in proposals})
assert {"dataFlow", "dataJob", "dataProcessInstance", "dataset"} <= set(types), types
print("delivered:", len(proposals), "proposals of", types)
