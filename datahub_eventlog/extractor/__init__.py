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
from datahub_eventlog.extractor.deadline import TookTooLong, call_within
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
"""For one call of a function; it is not called again in a process in which it took longer."""
_EXTRACTOR_OPTION = "asset_lineage_extractor"
_CONVERTER_OPTION = "asset_keys_to_dataset_urn_converter"
"""The options that name the functions."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Extraction:
    """What the user's functions returned and emitted for one run."""

    lineages: Mapping[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)
    platform_urns: Mapping[AssetKey, str] = field(default_factory=dict)
    proposals: tuple[Proposal, ...] = ()
    problems: tuple[Problem, ...] = ()


class Extractor:
    """Calls the functions that the configuration names.

    What a function raises is a problem of the run, which is delivered without its facts. Raises
    `ConfigurationError` at once if one can't be imported or takes other arguments.
    """

    def __init__(
        self, config: Config, translation: Translation, deadline: timedelta = DEADLINE
    ) -> None:
        self._config = config
        self._translation = translation
        self._deadline = deadline
        self._off: set[str] = set()
        self._extract = load(config.asset_lineage_extractor, _EXTRACTOR_OPTION, 3)
        self._convert = load(config.asset_keys_to_dataset_urn_converter, _CONVERTER_OPTION, 1)
        self._converted: dict[AssetKey, str | None] = {}

    @property
    def has_extractor(self) -> bool:
        """Whether `lineages` needs the run's context and a graph at all."""
        return self._extract is not None

    def platform_urns(self, keys: Iterable[AssetKey]) -> Extraction:
        """The platform datasets of those assets, from the converter."""
        convert = self._convert
        if convert is None:
            return Extraction()
        problems: list[Problem] = []
        for key in sorted(set(keys) - self._converted.keys()):
            try:
                urn = self._within_deadline(
                    _CONVERTER_OPTION, functools.partial(convert, list(key))
                )
                self._converted[key] = None if urn is None else str(urn)
            except Exception as error:  # noqa: BLE001 - anything may come out of users' code
                problems.append(self._problem(_CONVERTER_OPTION, ".".join(key), error))
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
        """The lineage of the run's steps from the extractor, and what it emitted itself.

        `time` is the run's end: what the extractor emits is the state of that moment.
        `scratch` are the directories that are Dagster's own storage.
        """
        if self._extract is None:
            return Extraction()
        run_id = log.run.run_id
        collected: list[MetadataChangeProposalClass] = []
        generator = DagsterGenerator(
            self._config, collected.append, self._convert, self._translation.of(log, scratch)
        )
        try:
            extract = functools.partial(
                self._extract, context(), generator, collecting_graph(graph, collected.append)
            )
            returned = self._within_deadline(_EXTRACTOR_OPTION, extract) or {}
            lineages = {str(step): _lineage(lineage) for step, lineage in returned.items()}
            proposals = tuple(_proposal(mcp, time, run_id) for mcp in collected)
        except Exception as error:  # noqa: BLE001 - anything may come out of users' code
            return Extraction(problems=(self._problem(_EXTRACTOR_OPTION, run_id, error),))
        return Extraction(lineages, proposals=proposals)

    def _within_deadline(self, option: str, function: Callable[[], Result]) -> Result:
        if option in self._off:
            raise TookTooLong("took too long before")
        try:
            return call_within(self._deadline, function)
        except TookTooLong:
            self._off.add(option)
            raise

    def _problem(self, option: str, subject: str, error: Exception) -> Problem:
        function = getattr(self._config, option)
        reason = f"{function} failed: {error_text.describe(error)}"
        if option in self._off:
            reason += "; it is off in this process from now on, `retry` delivers the run again"
        logger.warning("%s %s: %s", option, subject, reason)
        return Problem(subject, option, reason)


def _lineage(returned: Any) -> tuple[frozenset[str], frozenset[str]]:
    inputs, outputs = returned
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
