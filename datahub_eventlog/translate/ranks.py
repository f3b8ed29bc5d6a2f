"""How much a state of an asset knows, expressed as its time: older never overwrites newer.

From the strongest to the weakest; within one, the newer wins:

1. the time itself: an event, completed by the asset's definition
2. `ranked_time_alone`: the definition without a run that made the asset
3. `ranked_time` of a materialisation whose definition is unknown
4. `ranked_time` of an observation whose definition is unknown
5. `ranked_time_of_columns`: the columns of a definition alone, which can't be added to what a
   run knows

So a weaker state never replaces a stronger one, in whatever order they are delivered.
"""

from __future__ import annotations


def ranked_time(time: float, facts: object | None, *, was_made: bool = True) -> float:
    """The time of an event's state; `facts` is the definition, if that is known."""
    if facts is not None:
        return time
    return time / 1_000_000 if was_made else time / 1_000_000_000_000


def ranked_time_alone(time: float) -> float:
    """The time of the metadata, tables and lineage of a definition by itself."""
    return time / 1_000


def ranked_time_of_columns(time: float) -> float:
    """The time of the columns of a definition by itself."""
    return time / 1_000_000_000_000_000
