"""An asset by its definition alone: one that a run was to make and did not.

What nobody but a definition can say (name, description, owners, group and the like) is as new as
the code that was loaded. What a run may know better (metadata, tables, lineage, columns) never
takes the place of what a run said that made the asset, however old that is; until there is one,
the newest definition counts. So neither takes from the other, in whatever order they arrive.

Which tables the asset makes is left for a run to say that makes it: what is added to a table stays.
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
    rank_alone,
    rank_of_columns,
    tag_names,
)
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.lineage.asset_lineage import AssetLineage
from datahub_eventlog.translate.lineage.upstream_aspects import upstream_additions
from datahub_eventlog.values import AssetFacts, Materialization, Problem, Proposal

FACTS = "definition"
METADATA = "definition metadata"
"""The topics of patches."""


def definition_proposals(
    facts: AssetFacts, lineage: AssetLineage, since: float, run_id: str, context: Context
) -> Iterator[Proposal | Problem]:
    """All that the definition says of the asset itself; `since` it was loaded."""
    urn, below = lineage.urn, rank_alone(since)
    yield state(urn, browse_path(facts), since, run_id)
    tags = list(tag_names(facts))
    yield from additions(urn, tags=tags, owners=facts.owners, run_id=run_id, time=since)
    own = definition_properties(facts, context)
    yield from patches(own, run_id, time=since, topic=FACTS)
    metadata = definition_metadata(facts, context)
    yield from patches(metadata, run_id, time=below, topic=METADATA)
    yield from patches(upstream_additions(lineage), run_id, time=below, topic=FACTS)
    if columns := asset_schema(facts.key, facts, Materialization(facts.key)):
        yield state(urn, columns, rank_of_columns(since), run_id)
    if lineage.dataset not in {None, urn}:
        yield state(urn, SiblingsClass(siblings=[lineage.dataset], primary=False), below, run_id)
