"""Why an asset is linked to its datasets: the reasons behind its lineage.

Nothing is decided here. `lineage.evidence` ranks what names the table, `lineage.asset_lineage`
finds what the asset is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from datahub_eventlog.translate import step_datasets
from datahub_eventlog.translate.context import Context
from datahub_eventlog.translate.datasets import INPUTS, OUTPUTS, Column, Datasets
from datahub_eventlog.translate.lineage.asset_details import (
    DATAHUB_URN,
    PATH,
    TABLE_NAME,
    TABLE_URI,
    URI,
    AssetDetails,
    details_of,
)
from datahub_eventlog.translate.lineage.asset_lineage import (
    COLUMN_LINEAGE,
    AssetLineage,
    asset_lineage,
)
from datahub_eventlog.translate.lineage.evidence import (
    CONVERTER,
    KEY,
    LONG_KEY,
    Evidence,
    ranked,
    winner,
)
from datahub_eventlog.translate.lineage.queries import QUERY
from datahub_eventlog.translate.lineage.run_assets import RunAssets
from datahub_eventlog.values import INPUT_VERSION, AssetKey, Event, Materialization, RunLog

State: TypeAlias = Literal["found", "lost", "no dataset", "wrong", "not found"]
"""It decides; stronger evidence decides; it is there and names no dataset; it was meant to name a
dataset and can't; it isn't there."""

DEFINITION = "definition"
ORIGIN = "table of an external asset"
TABLE = "its table"


@dataclass(frozen=True)
class Verdict:
    """The outcome at one place where evidence for the asset's table may stand."""

    source: str
    state: State
    found: str | None = None
    """What stands there."""
    urn: str | None = None
    """The dataset that it names."""
    reason: str | None = None
    """Why it doesn't decide."""


@dataclass(frozen=True)
class Related:
    """A dataset that the asset is made of, or makes."""

    urn: str
    sources: tuple[str, ...]
    """Everything that names it."""


@dataclass(frozen=True)
class Explanation:
    """What the asset is linked to, as of one materialisation, and why."""

    key: AssetKey
    urn: str
    """The dataset that stands for the asset."""
    run_id: str
    """Empty, if the event belongs to no run."""
    time: float
    partition: str | None
    is_defined: bool
    """Its definition was stored when the run started."""
    is_of_dbt: bool
    verdicts: tuple[Verdict, ...]
    """On each place, the strongest first."""
    dataset: str | None
    """The dataset on a data platform that the asset is."""
    siblings: tuple[str, ...] = ()
    upstreams: tuple[Related, ...] = ()
    downstreams: tuple[Related, ...] = ()
    columns: Mapping[str, tuple[Column, ...]] = field(default_factory=dict)
    op: Datasets = field(default_factory=Datasets)
    """What the asset's op reads and writes in this run beside the datasets above: its other assets,
    paths, what it declares."""
    remarks: tuple[str, ...] = ()
    """Why parts of it are not in DataHub."""


def explain(
    key: AssetKey, event: Event, asset: Materialization, log: RunLog, context: Context
) -> Explanation:
    """The reasons, as of a materialisation of the run.

    Raises `urns.InvalidUrn` if the key makes no urn.
    """
    assets = RunAssets(log, context)
    details = details_of(key, assets.facts(key), asset, log.run)
    lineage = asset_lineage(key, asset, assets)
    sibling = lineage.sibling if context.config.emit_assets else None
    named_by = {TABLE: [lineage.dataset], OUTPUTS: lineage.outputs, QUERY: lineage.written}
    return Explanation(
        key=key,
        urn=lineage.urn,
        run_id=log.run.run_id,
        time=event.time,
        partition=asset.partition,
        is_defined=assets.facts(key) is not None,
        is_of_dbt=details.is_of_dbt,
        verdicts=tuple(_verdicts(details, context)),
        dataset=lineage.dataset,
        siblings=() if sibling is None else (sibling,),
        upstreams=_related(lineage.upstreams, _upstream_sources(key, lineage, asset, assets)),
        downstreams=_related(lineage.downstreams, named_by),
        columns={name: tuple(sorted(sources)) for name, sources in sorted(lineage.columns.items())},
        op=_op(event.step_key, lineage, log, context),
        remarks=tuple(_remarks(key, lineage, assets, log)),
    )


def _op(step: str | None, lineage: AssetLineage, log: RunLog, context: Context) -> Datasets:
    if step is None or not log.run.run_id:
        return Datasets()
    shown = {lineage.urn, *lineage.upstreams, *lineage.downstreams}
    datasets = step_datasets(log, context).get(step, Datasets())
    return Datasets(datasets.inputs - shown, datasets.outputs - shown)


def _verdicts(details: AssetDetails, context: Context) -> Iterator[Verdict]:
    places = ranked(details, context)
    best = winner(tuple(item for items in places.values() for item in items))
    for source, items in places.items():
        if not items:
            yield Verdict(source, "not found", reason=_absence(source, details, context))
        for item in items:
            state, reason = _state(item, best)
            yield Verdict(item.source, state, item.text, item.urn, reason)


def _state(evidence: Evidence, best: Evidence | None) -> tuple[State, str | None]:
    if evidence is best:
        return "found", None
    if evidence.urn is None or best is None:
        return ("wrong" if evidence.is_wrong else "no dataset"), evidence.reason
    same = ", and names the same" if evidence.urn == best.urn else ""
    return "lost", f"{best.source} is stronger{same}"


def _absence(source: str, details: AssetDetails, context: Context) -> str:
    """What is missing at a place without evidence."""
    config = context.config
    if source == CONVERTER:
        named = config.asset_keys_to_dataset_urn_converter
        return f"{named} returned nothing for this key" if named else "no converter is configured"
    if source == KEY and not config.capture_dataset_from_asset_key:
        return "capture_dataset_from_asset_key is false"
    if source == KEY:
        return f"{len(details.key)} of at least {LONG_KEY} parts: environment/platform/name"
    return _ABSENT[source]


_ABSENT = {
    DATAHUB_URN: "no such text in its metadata",
    TABLE_NAME: "no such text in its metadata",
    URI: "no such text in its metadata",
    TABLE_URI: "no such text in its metadata",
    PATH: "no such path or URL in its metadata",
}


def _upstream_sources(
    key: AssetKey, lineage: AssetLineage, asset: Materialization, assets: RunAssets
) -> Mapping[str, Iterable[str | None]]:
    """Everything that names upstream datasets, and what it names."""
    facts = assets.facts(key)
    tables = {table for sources in lineage.columns.values() for table, _ in sources}
    return {
        DEFINITION: map(assets.urn, facts.deps if facts else ()),
        INPUT_VERSION.rstrip("/"): map(assets.urn, asset.made_of),
        INPUTS: lineage.inputs,
        ORIGIN: lineage.origins,
        QUERY: lineage.queried,
        COLUMN_LINEAGE: tables - lineage.queried,
    }


def _related(
    datasets: Iterable[str], sources: Mapping[str, Iterable[str | None]]
) -> tuple[Related, ...]:
    named = {source: frozenset(urns) for source, urns in sources.items()}
    return tuple(
        Related(urn, tuple(source for source, urns in named.items() if urn in urns))
        for urn in sorted(datasets)
    )


def _remarks(key: AssetKey, lineage: AssetLineage, assets: RunAssets, log: RunLog) -> Iterator[str]:
    config = assets.context.config
    if not config.capture_asset_materialization:
        yield "it is not sent: capture_asset_materialization is false"
    if not assets.allows(key):
        yield "it is not sent: asset_pattern leaves it out"
    if not config.emit_assets:
        yield "emit_assets is false: its step is connected to the tables, the asset is not sent"
    if assets.facts(key) is None:
        yield f"its definition is not known: {_unknown(log)}"
    if lineage.unread is not None:
        yield f"{QUERY}: {lineage.unread}"
    yield from (problem.reason for problem in lineage.problems)


def _unknown(log: RunLog) -> str:
    """Why the definition of the asset is not known."""
    if not log.run.run_id:
        return "the event belongs to no run"
    if log.definitions is None:
        return "the run was not captured when it started"
    if log.definitions.is_cut:
        return "the definitions were too large to be stored whole"
    return "the code of the run does not define it"
