"""An asset by its definition alone: one that a run was to make and did not.

What only a definition knows (name, description, owners, group and the like) is as new as the code
that was loaded. What a run may know better (metadata, tables, lineage, columns) ranks below the
state of any run that made the asset, see `ranks`; until there is one, the newest definition counts.

The tables that the asset makes are left out. What is added to a table stays, and only a run that
makes the asset knows which they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from datahub.metadata.schema_classes import SiblingsClass

from datahub_eventlog.translate.aspects import additions, patches, state
from datahub_eventlog.translate.assets.description import (
    asset_schema,
    browse_path,
    definition_metadata,
    definition_properties,
    tag_names,
)
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_lineage import AssetLineage
from datahub_eventlog.translate.lineage.upstream_aspects import upstream_additions
from datahub_eventlog.translate.ranks import ranked_time_alone, ranked_time_of_columns
from datahub_eventlog.values import AssetFacts, Materialization, Problem, Proposal

FACTS = "definition"
METADATA = "definition metadata"
"""The topics of patches."""


def dependencies(lineage: AssetLineage, context: Context) -> frozenset[str]:
    """The datasets whose keys are sent: what SQL reads, as the sensor plugin does, or all."""
    if context.config.materialize_dependencies:
        return lineage.queried | lineage.upstreams | lineage.downstreams
    return lineage.queried


def definition_proposals(
    facts: AssetFacts, lineage: AssetLineage, since: float, run_id: str, context: Context
) -> Iterator[Proposal | Problem]:
    """The asset as its definition describes it; `since` is when that was loaded."""
    urn, below = lineage.urn, ranked_time_alone(since)
    yield state(urn, browse_path(facts), since, run_id)
    tags = list(tag_names(facts))
    yield from additions(urn, tags=tags, owners=facts.owners, run_id=run_id, time=since)
    own = definition_properties(facts, context)
    yield from patches(own, run_id, time=since, topic=FACTS)
    metadata = definition_metadata(facts, context)
    yield from patches(metadata, run_id, time=below, topic=METADATA)
    yield from patches(upstream_additions(lineage), run_id, time=below, topic=FACTS)
    if columns := asset_schema(facts.key, facts, Materialization(facts.key)):
        yield state(urn, columns, ranked_time_of_columns(since), run_id)
    if lineage.sibling is not None:
        yield state(urn, SiblingsClass(siblings=[lineage.sibling], primary=False), below, run_id)
