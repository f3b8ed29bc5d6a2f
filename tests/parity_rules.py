"""The differences from the sensor plugin that are meant, each by a name.

`docs/differences-from-the-sensor.md` has the same names, with the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from parity_compare import LINEAGE, PROPERTIES, RUN_EVENT, Difference
from parity_ops import REVENUE
from parity_sides import Told

RELATIONSHIPS = "dataProcessInstanceRelationships"
JOBS = {"dataFlow", "dataJob"}
TEXTS = ("datasetProperties.customProperties.", "dataFlowInfo.customProperties.")
RUN_FACTS = (
    *("trigger", "partition", "schedule_name", "code_location", "failure_reason"),
    *("failure_message", "failure."),
)


@dataclass(frozen=True)
class Rule:
    """A kind of difference that is meant."""

    name: str
    allows: Callable[[Difference, Told], object]


RULES: list[Rule] = []


def rule(name: str) -> Callable[[Callable[[Difference, Told], object]], None]:
    return lambda allows: RULES.append(Rule(name, allows))


def rules_for(difference: Difference, told: Told) -> list[str]:
    """The names of the rules that allow it."""
    return [each.name for each in RULES if each.allows(difference, told)]


# ------------------------------------------------------------------------------------ jobs and ops


@rule("Tags and owners are only added")
def _(found: Difference, _: Told) -> object:
    """Empty lists are not sent."""
    if found.aspect not in {"globalTags", "ownership"} or found.path or not found.is_loss:
        return False
    return not (found.theirs.get("tags") or found.theirs.get("owners"))


@rule("Jobs and ops have a place and a kind")
def _(found: Difference, _: Told) -> object:
    aspects = {"browsePathsV2", "dataPlatformInstance", "subTypes"}
    return found.kind in JOBS and found.aspect in aspects and found.is_gain


@rule("An op that makes an asset is called so")
def _(found: Difference, _: Told) -> object:
    is_kind = found.kind == "dataJob" and found.place == "subTypes.typeNames.*"
    return is_kind and (found.theirs == "Op" or found.ours == "Asset")


@rule("Edges instead of the deprecated lists")
def _(found: Difference, _: Told) -> object:
    return found.place == f"{LINEAGE}.form"


@rule("What an op takes and returns is told in words")
def _(found: Difference, _: Told) -> object:
    name = found.path[-1] if found.path else ""
    is_port = name.startswith(("input.", "output_"))
    return found.aspect == "dataJobInfo" and is_port and found.theirs == "{}"


@rule("Tags have values")
def _(found: Difference, _: Told) -> object:
    is_tag = len(found.path) > 1 and found.path[1].startswith("tags.")
    return found.aspect in {"dataJobInfo", "dataFlowInfo", PROPERTIES} and is_tag and found.is_gain


@rule("A run's tags are told one by one")
def _(found: Difference, _: Told) -> object:
    return found.place == f"{PROPERTIES}.customProperties.tags" and found.is_loss


@rule("Where a job comes from")
def _(found: Difference, _: Told) -> object:
    names = {"code_location", "repository"}
    is_named = bool(found.path) and found.path[-1] in names
    return found.aspect == "dataFlowInfo" and is_named and found.is_gain


@rule("Values are clean")
def _(found: Difference, _: Told) -> object:
    is_text = found.place.startswith(TEXTS)
    return is_text and "MetadataValue(" in str(found.theirs) and found.ours


@rule("Names are whole")
def _(found: Difference, _: Told) -> object:
    names = {"dataFlowInfo.name", "dataJobInfo.name"}
    return found.place in names and str(found.ours).endswith(f"__{found.theirs}")


@rule("Links lead somewhere")
def _(found: Difference, _: Told) -> object:
    return found.place.endswith(".externalUrl") and found.ours and not found.is_loss


@rule("The hidden jobs of assets have names for people")
def _(found: Difference, _: Told) -> object:
    return found.place == "dataFlowInfo.name" and found.urn.count("__") and found.ours in {
        "Ephemeral asset job"
    }


# ------------------------------------------------------------------------------------------ lineage


@rule("Declared outputs always count")
def _(found: Difference, told: Told) -> object:
    if told.scenario.options.get("connect_ops_to_ops"):
        return False
    is_key = found.aspect == "datasetKey" and found.urn.replace(",DEV)", ",PROD)") == REVENUE
    return found.is_gain and (is_key or REVENUE in _urns(found.ours))


@rule("A step works on assets, whatever their keys")
def _(found: Difference, _: Told) -> object:
    sides = {LINEAGE, "dataProcessInstanceInput", "dataProcessInstanceOutput"}
    assets = all("dataPlatform:dagster," in each for each in _urns(found.ours))
    return found.aspect in sides and found.is_gain and assets


@rule("Connected ops have the urns that they have")
def _(found: Difference, _: Told) -> object:
    """Without a module the plugin writes None where `prod` stands elsewhere."""
    urns = str(found.theirs if found.is_loss else found.ours)
    return found.place == f"{LINEAGE}.inputDatajobs.*" and (",None/" in urns or found.is_gain)


@rule("A run that knows less takes nothing away")
def _(found: Difference, _: Told) -> object:
    empty = found.is_loss and found.path == () and not _urns(found.theirs)
    return found.aspect == LINEAGE and empty


@rule("Buckets and containers are part of a path")
def _(found: Difference, told: Told) -> object:
    if not told.scenario.options.get("capture_input_output"):
        return False
    told_urns = [found.urn] if found.aspect == "datasetKey" else _urns(found.theirs, found.ours)
    places = ("gcs", "s3", "abs", "abfss", "hdfs", "file")
    return all(f"dataPlatform:{each}," in urn for urn in told_urns for each in places if each in urn)


# --------------------------------------------------------------------------------------------- runs


@rule("A run is called scheduled only if something launched it")
def _(found: Difference, _: Told) -> object:
    types = ("BATCH_SCHEDULED", "BATCH_AD_HOC")
    return found.place == f"{PROPERTIES}.type" and (found.theirs, found.ours) == types


@rule("Runs say more about themselves")
def _(found: Difference, _: Told) -> object:
    is_fact = len(found.path) > 1 and found.path[1].startswith(RUN_FACTS)
    return found.aspect == PROPERTIES and is_fact and found.is_gain


@rule("Step runs belong to their run and follow each other")
def _(found: Difference, _: Told) -> object:
    places = {f"{RELATIONSHIPS}.parentInstance", f"{RELATIONSHIPS}.upstreamInstances.*"}
    return found.place in places and found.is_gain


@rule("Run events have attempts, durations and ids")
def _(found: Difference, _: Told) -> object:
    fields = {"attempt", "durationMillis", "messageId"}
    return found.aspect == RUN_EVENT and found.path[-1:] and found.path[-1] in fields


@rule("Each attempt has its pair of events")
def _(found: Difference, _: Told) -> object:
    whole = found.path == ("*",) and found.is_gain
    return found.aspect == RUN_EVENT and whole


@rule("Skipped steps are no orphans")
def _(found: Difference, told: Told) -> object:
    sent = told.theirs.get(found.urn, {})
    return found.kind == "dataProcessInstance" and found.is_gain and PROPERTIES not in sent


# ------------------------------------------------------------------------------------------- assets


@rule("Every asset is a dataset")
def _(found: Difference, told: Told) -> object:
    is_asset = found.urn.startswith("urn:li:dataset:(urn:li:dataPlatform:dagster,")
    return is_asset and not told.theirs.get(found.urn, {}).keys() - {"datasetKey"} and found.is_gain


def _urns(*values: object) -> list[str]:
    """All urns of datasets in those values."""
    return list(_found_urns(values))


def _found_urns(value: object) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("urn:li:dataset:"):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _found_urns(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _found_urns(each)
