"""The differences from the sensor plugin that are meant, each by a name.

`docs/differences-from-the-sensor.md` has the same names, with the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from parity_assets import TABLE
from parity_compare import LINEAGE, PROPERTIES, RUN_EVENT, Difference
from parity_ops import REVENUE
from parity_sides import Told

RELATIONSHIPS = "dataProcessInstanceRelationships"
SIDES = {LINEAGE, "dataProcessInstanceInput", "dataProcessInstanceOutput"}
EPHEMERAL = "__ephemeral_asset_job__"
FILE = "urn:li:dataset:(urn:li:dataPlatform:file,"
DAGSTER = "urn:li:dataset:(urn:li:dataPlatform:dagster,"
JOBS = {"dataFlow", "dataJob"}
TEXTS = ("datasetProperties.customProperties.", "dataFlowInfo.customProperties.")
RUN_FACTS = (
    *("trigger", "partition", "backfill_id", "schedule_name", "code_location", "failure_reason"),
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


@rule("Jobs and ops have a browse path and a subtype")
def _(found: Difference, _: Told) -> object:
    aspects = {"browsePathsV2", "dataPlatformInstance", "subTypes"}
    is_new = found.aspect in aspects and found.is_gain and found.path == ()
    return found.kind in JOBS and is_new


@rule("An op that makes an asset has the subtype Asset")
def _(found: Difference, _: Told) -> object:
    is_kind = found.kind == "dataJob" and found.place == "subTypes.typeNames.*"
    return is_kind and (found.theirs == "Op" or found.ours == "Asset")


@rule("Edges instead of the deprecated lists")
def _(found: Difference, _: Told) -> object:
    return found.place == f"{LINEAGE}.form"


@rule("Inputs and outputs of ops are readable")
def _(found: Difference, _: Told) -> object:
    name = found.path[-1] if found.path else ""
    is_port = name.startswith(("input.", "output_"))
    return found.aspect == "dataJobInfo" and is_port and found.theirs == "{}"


@rule("Tags have values")
def _(found: Difference, _: Told) -> object:
    is_tag = len(found.path) > 1 and found.path[1].startswith("tags.")
    return found.aspect in {"dataJobInfo", "dataFlowInfo", PROPERTIES} and is_tag and found.is_gain


@rule("Each tag of a run is a property")
def _(found: Difference, _: Told) -> object:
    return found.place == f"{PROPERTIES}.customProperties.tags" and found.is_loss


@rule("Jobs name their code location")
def _(found: Difference, _: Told) -> object:
    names = {"code_location", "repository"}
    is_named = bool(found.path) and found.path[-1] in names
    return found.aspect == "dataFlowInfo" and is_named and found.is_gain


@rule("Values are plain")
def _(found: Difference, _: Told) -> object:
    is_text = found.place.startswith(TEXTS)
    return is_text and "MetadataValue(" in str(found.theirs) and found.ours


@rule("Names are complete")
def _(found: Difference, _: Told) -> object:
    names = {"dataFlowInfo.name", "dataJobInfo.name"}
    return found.place in names and str(found.ours).endswith(f"__{found.theirs}")


@rule("Links lead to pages that exist")
def _(found: Difference, _: Told) -> object:
    """The job that `materialize()` makes up has no page."""
    return found.path[-1:] == ("externalUrl",) and (found.ours or EPHEMERAL in found.urn)


@rule("Implicit asset jobs have readable names")
def _(found: Difference, _: Told) -> object:
    return found.place == "dataFlowInfo.name" and EPHEMERAL in found.urn


@rule("The prefix tells code locations apart")
def _(found: Difference, told: Told) -> object:
    if told.scenario.name != "job_of_a_code_location":
        return False
    if found.is_gain or found.is_loss:
        return (found.urn in told.theirs) != (found.urn in told.ours)
    return str(found.theirs).replace("prod/", "shop/") == found.ours


# ------------------------------------------------------------------------------------------ lineage


@rule("Declared outputs always count")
def _(found: Difference, told: Told) -> object:
    if told.scenario.options.get("connect_ops_to_ops"):
        return False
    is_key = found.aspect == "datasetKey" and found.urn.replace(",DEV)", ",PROD)") == REVENUE
    return found.is_gain and (is_key or REVENUE in _urns(found.ours))


@rule("Declared inputs and outputs of assets count")
def _(found: Difference, told: Told) -> object:
    if told.scenario.name != "declared_datasets_of_assets":
        return False
    declared = {TABLE.replace("target", side) for side in ("read", "made", "own")}
    return found.is_gain and declared & {found.urn, *_urns(found.ours)}


@rule("Steps are connected to all assets, whatever their keys")
def _(found: Difference, _: Told) -> object:
    assets = all("dataPlatform:dagster," in each for each in _urns(found.ours))
    return found.aspect in SIDES and found.is_gain and assets


@rule("Connected ops have correct urns")
def _(found: Difference, _: Told) -> object:
    """Without a module the plugin writes None where `prod` stands elsewhere."""
    urns = str(found.theirs if found.is_loss else found.ours)
    return found.place == f"{LINEAGE}.inputDatajobs.*" and (",None/" in urns or found.is_gain)


@rule("A partial run removes nothing")
def _(found: Difference, _: Told) -> object:
    empty = found.is_loss and found.path == () and not _urns(found.theirs)
    return found.aspect == LINEAGE and empty


@rule("Buckets and containers are part of a path")
def _(found: Difference, told: Told) -> object:
    if told.scenario.name != "paths_of_io_managers":
        return False
    urns = [found.urn] if found.aspect == "datasetKey" else _urns(found.theirs, found.ours)
    is_remote = [not urn.startswith(FILE) for urn in urns]
    return found.aspect in {*SIDES, "datasetKey"} and urns and all(is_remote)


@rule("The partitions of an asset are one dataset")
def _(found: Difference, told: Told) -> object:
    if told.scenario.name != "partitions_in_files":
        return False
    if found.urn.startswith(FILE):
        return found.aspect in {"datasetKey", "upstreamLineage"}
    urns = _urns(found.theirs, found.ours)
    return found.aspect in SIDES and urns and all(urn.startswith(FILE) for urn in urns)


# --------------------------------------------------------------------------------------------- runs


@rule("Only runs launched by Dagster are called scheduled")
def _(found: Difference, _: Told) -> object:
    types = ("BATCH_SCHEDULED", "BATCH_AD_HOC")
    return found.place == f"{PROPERTIES}.type" and (found.theirs, found.ours) == types


@rule("Runs have more properties")
def _(found: Difference, _: Told) -> object:
    is_fact = len(found.path) > 1 and found.path[1].startswith(RUN_FACTS)
    return found.aspect == PROPERTIES and is_fact and found.is_gain


@rule("Runs belong to the platform instance")
def _(found: Difference, _: Told) -> object:
    is_new = found.place == "dataPlatformInstance" and found.is_gain
    return found.kind == "dataProcessInstance" and is_new


@rule("Step runs belong to their run and follow each other")
def _(found: Difference, told: Told) -> object:
    places = {f"{RELATIONSHIPS}.parentInstance", f"{RELATIONSHIPS}.upstreamInstances.*"}
    return found.place in places and found.is_gain and not _belongs_to_a_backfill(found, told)


@rule("Runs of a backfill belong to it")
def _(found: Difference, told: Told) -> object:
    is_parent = found.place == f"{RELATIONSHIPS}.parentInstance"
    is_backfill = found.urn not in told.theirs
    return found.is_gain and (is_parent or is_backfill) and _belongs_to_a_backfill(found, told)


@rule("Run events have attempts, durations and ids")
def _(found: Difference, _: Told) -> object:
    fields = {"attempt", "durationMillis", "messageId"}
    return found.aspect == RUN_EVENT and found.path[-1:] and found.path[-1] in fields


@rule("Each attempt has its pair of events")
def _(found: Difference, _: Told) -> object:
    whole = found.path == ("*",) and found.is_gain
    return found.aspect == RUN_EVENT and whole


@rule("Skipped steps belong to their run")
def _(found: Difference, told: Told) -> object:
    sent = told.theirs.get(found.urn, {})
    return found.kind == "dataProcessInstance" and found.is_gain and PROPERTIES not in sent


# ------------------------------------------------------------------------------------------- assets


@rule("Every asset is a dataset")
def _(found: Difference, told: Told) -> object:
    unknown = not told.theirs.get(found.urn, {}).keys() - {"datasetKey"}
    return found.urn.startswith(DAGSTER) and unknown and found.is_gain


@rule("Assets have all of their facts")
def _(found: Difference, _: Told) -> object:
    aspects = {"operation", "datasetProfile", "schemaMetadata", "ownership"}
    is_fact = found.place.startswith("datasetProperties.customProperties.dagster/")
    is_new = found.aspect in aspects and found.path == ()
    is_said = is_new or is_fact or found.place == "datasetProperties.description"
    return found.urn.startswith(DAGSTER) and found.is_gain and is_said


@rule("Assets have the lineage of the asset graph")
def _(found: Difference, _: Told) -> object:
    is_new = found.place in {"upstreamLineage", "upstreamLineage.upstreams.*"}
    assets = all(each.startswith(DAGSTER) for each in _urns(found.ours))
    return found.urn.startswith(DAGSTER) and is_new and found.is_gain and assets


@rule("Columns have lineage")
def _(found: Difference, _: Told) -> object:
    return found.place.startswith("upstreamLineage.fineGrainedLineages") and found.is_gain


@rule("Assets and their tables are siblings")
def _(found: Difference, _: Told) -> object:
    return found.aspect == "siblings" and found.is_gain


@rule("Groups are known from the first run")
def _(found: Difference, _: Told) -> object:
    """Where the plugin's cache is empty; as `asset_groups` shows, it says the same with it."""
    tags = found.place in {"globalTags", "globalTags.tags.*"} and "asset_group:" in str(found.ours)
    return (tags or found.place == "browsePathsV2.path.*") and found.is_gain


@rule("An asset's properties are sent as a whole")
def _(found: Difference, _: Told) -> object:
    return found.place == "datasetProperties.tags" and (found.is_gain and found.ours == [])


@rule("Keys follow from the urns")
def _(found: Difference, _: Told) -> object:
    """DataHub adds them itself to whatever has another aspect."""
    return found.urn.startswith(DAGSTER) and found.place == "datasetKey" and found.is_loss


@rule("Asset checks and freshness policies are assertions")
def _(found: Difference, _: Told) -> object:
    return found.kind == "assertion" and found.is_gain


@rule("Incidents, if asked for")
def _(found: Difference, told: Told) -> object:
    return "incidents" in told.scenario.ours and found.kind == "incident" and found.is_gain


@rule("capture_dataset_from_asset_key has an effect")
def _(found: Difference, told: Told) -> object:
    obeyed = told.scenario.options.get("capture_dataset_from_asset_key") is False
    return obeyed and found.place == "upstreamLineage" and found.is_loss


@rule("Every kind of SQL is read")
def _(found: Difference, told: Told) -> object:
    """Several statements, those beside one that can't be parsed, and a SELECT alone."""
    scripts = {"sql_of_several_statements", "sql_that_cannot_be_parsed", "sql_select"}
    is_new = found.aspect in {"upstreamLineage", "datasetKey"} and found.is_gain
    return told.scenario.name in scripts and is_new


@rule("Lineage names its query")
def _(found: Difference, _: Told) -> object:
    return found.place == "upstreamLineage.upstreams.*.query" and found.is_gain


@rule("Queries have the time of their event")
def _(found: Difference, _: Told) -> object:
    return found.aspect == "queryProperties" and found.path[-1:] == ("time",)


def _belongs_to_a_backfill(found: Difference, told: Told) -> bool:
    """Whether it is about the instance of a run, not of a step, that a backfill launched."""
    properties = told.ours.get(found.urn, {}).get(PROPERTIES, {}).get("customProperties", {})
    return "backfill_id" in properties


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
