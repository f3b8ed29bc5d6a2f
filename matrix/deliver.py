"""Delivers the captured runs, with the extra installed."""

from __future__ import annotations

import json

from datahub.emitter.mcp import MetadataChangeProposalWrapper

from matrix.instance import FILES, JOBS, command, runs

command("datahub-eventlog", "worker", "--until-empty")
counts = runs()
assert counts["delivered"] == len(JOBS), counts
proposals = [body for path in FILES.glob("*.json") for body in json.loads(path.read_text())]
for body in proposals:
    proposal = MetadataChangeProposalWrapper.from_obj(body)
    assert proposal.validate(), body
    is_typed = isinstance(proposal, MetadataChangeProposalWrapper)
    assert is_typed or body["changeType"] != "UPSERT", body
flows = {body["entityUrn"] for body in proposals if body["entityType"] == "dataFlow"}
assert len(flows) == len(JOBS), flows
types = sorted({body["entityType"] for body in proposals})
assert {"dataFlow", "dataJob", "dataProcessInstance", "dataset"} <= set(types), types
print("delivered:", len(proposals), "proposals of", types)
