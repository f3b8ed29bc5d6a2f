"""The user's own functions, called with a deadline: the lineage extractor and the urn converter.

Both are named in dagster.yaml as `package.module:function`. An extractor written for the sensor
of `acryl-datahub-dagster-plugin` works after changing its import: it gets a real
`RunStatusSensorContext`, a `DagsterGenerator` and a `DataHubGraph` (None for Kafka and files).
What it emits itself is collected and goes out in the run's own ordered batches.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from datahub_eventlog import error_text
from datahub_eventlog.config import Config
from datahub_eventlog.extractor.deadline import Call, TookTooLong
from datahub_eventlog.extractor.functions import load
from datahub_eventlog.extractor.generator import (
    DagsterGenerator,
    DatasetLineage,
    Translation,
    collecting_graph,
)
from datahub_eventlog.log import logger
from datahub_eventlog.values import AssetKey, Change, Problem, Proposal, RunLog

if TYPE_CHECKING:
    from dagster import RunStatusSensorContext
    from datahub.ingestion.graph.client import DataHubGraph
    from datahub.metadata.schema_classes import MetadataChangeProposalClass

__all__ = ["DagsterGenerator", "DatasetLineage", "Extraction", "Extractor", "Translation"]

DEADLINE = timedelta(seconds=60)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Extraction:
    """What the user's functions said about one run."""

    lineages: Mapping[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)
    platform_urns: Mapping[AssetKey, str] = field(default_factory=dict)
    proposals: tuple[Proposal, ...] = ()
    problems: tuple[Problem, ...] = ()


class Extractor:
    """Calls the functions that the configuration names, each as long as it behaves.

    Raises `ConfigurationError` at once if one can't be imported or takes other arguments.
    """

    def __init__(
        self, config: Config, translation: Translation, deadline: timedelta = DEADLINE
    ) -> None:
        self._config = config
        self._translation = translation
        self._deadline = deadline
        self._off: set[str] = set()
        self._extract = load(config.asset_lineage_extractor, "asset_lineage_extractor", 3)
        self._convert = load(
            config.asset_keys_to_dataset_urn_converter, "asset_keys_to_dataset_urn_converter", 1
        )
        self._converted: dict[AssetKey, str | None] = {}

    @property
    def has_extractor(self) -> bool:
        """Whether `lineages` needs the run's context and a graph at all."""
        return self._extract is not None

    def platform_urns(self, keys: Iterable[AssetKey]) -> Extraction:
        """The platform datasets of those assets, as the converter says."""
        if self._convert is None:
            return Extraction()
        problems: list[Problem] = []
        for key in sorted(set(keys) - self._converted.keys()):
            try:
                self._converted[key] = self._converter_says(key)
            except Exception as error:  # noqa: BLE001 - anything may come out of users' code
                problems.append(
                    self._problem("asset_keys_to_dataset_urn_converter", ".".join(key), error)
                )
        known = {key: urn for key in keys if (urn := self._converted.get(key))}
        return Extraction(platform_urns=known, problems=tuple(problems))

    def lineages(
        self,
        context: Callable[[], RunStatusSensorContext],
        graph: DataHubGraph | None,
        time: float,
        log: RunLog,
        scratch: tuple[str, ...] = (),
    ) -> Extraction:
        """What the extractor says of the run's steps, and what it emitted itself.

        `time` is the run's end: what the extractor emits is the state of that moment.
        `scratch` are the directories that are Dagster's own storage.
        """
        name = "asset_lineage_extractor"
        if self._extract is None:
            return Extraction()
        run_id = log.run.run_id
        collected: list[MetadataChangeProposalClass] = []
        generator = DagsterGenerator(
            self._config, collected.append, self._convert, self._translation.of(log, scratch)
        )
        try:
            said = self._within_deadline(
                name,
                functools.partial(
                    self._extract, context(), generator, collecting_graph(graph, collected.append)
                ),
            )
            lineages = {str(step): _lineage(each) for step, each in (said or {}).items()}
            proposals = tuple(_proposal(each, time, run_id) for each in collected)
        except Exception as error:  # noqa: BLE001 - anything may come out of users' code
            return Extraction(problems=(self._problem(name, run_id, error),))
        return Extraction(lineages, proposals=proposals)

    def _converter_says(self, key: AssetKey) -> str | None:
        name = "asset_keys_to_dataset_urn_converter"
        if self._convert is None:
            return None
        said = self._within_deadline(name, functools.partial(self._convert, list(key)))
        return None if said is None else str(said)

    def _within_deadline(self, name: str, call: Callable[[], Result]) -> Result:
        if name in self._off:
            raise TookTooLong("took too long before")
        try:
            return Call(call).result(self._deadline)
        except TookTooLong:
            self._off.add(name)
            raise

    def _problem(self, name: str, about: str, error: Exception) -> Problem:
        function = getattr(self._config, name)
        reason = f"{function} failed: {error_text.describe(error)}"
        if name in self._off:
            reason += "; it is off in this process from now on, `retry` delivers the run again"
        logger.warning("%s %s: %s", name, about, reason)
        return Problem(about, name, reason)


def _lineage(said: Any) -> tuple[frozenset[str], frozenset[str]]:
    inputs, outputs = said
    return frozenset(map(str, inputs)), frozenset(map(str, outputs))


def _proposal(mcp: MetadataChangeProposalClass, time: float, run_id: str) -> Proposal:
    from datahub.emitter.aspect import TIMESERIES_ASPECT_MAP

    aspect = mcp.aspect
    body = json.loads(aspect.value) if aspect else {}
    return Proposal(
        urn=str(mcp.entityUrn),
        entity_type=mcp.entityType,
        aspect=str(mcp.aspectName),
        body=json.dumps(body, sort_keys=True, separators=(",", ":")),
        change=Change.PATCH if str(mcp.changeType) == "PATCH" else Change.UPSERT,
        time=None if str(mcp.aspectName) in TIMESERIES_ASPECT_MAP else time,
        run_id=run_id,
    )
