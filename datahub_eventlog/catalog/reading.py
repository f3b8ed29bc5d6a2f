"""What a code location defines, read from the snapshots that Dagster has of it.

Nothing of the user's is imported, called or run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, ParamSpec, TypeVar

from dagster import DagsterInstance

from datahub_eventlog import error_text
from datahub_eventlog.catalog.asset_nodes import AssetNodes, ranks
from datahub_eventlog.catalog.steps import steps_of_job
from datahub_eventlog.catalog.triggers import triggers_by_job
from datahub_eventlog.catalog.workspace import LocationState
from datahub_eventlog.dagster_internals import JobSnap, job_snapshots
from datahub_eventlog.log import logger
from datahub_eventlog.source.runs import code_of, job_of
from datahub_eventlog.values import AssetFacts, AssetKey, CatalogJob, CatalogPart, CodeRepository

PART_SIZE = 100
"""Assets of a part at most; and of a part of several jobs, their ops and assets together."""
MOST_NAMED = 5
"""Unreadable definitions that a warning names; one is seldom alone."""

P = ParamSpec("P")
T = TypeVar("T")


def read_location(
    state: LocationState, states: Sequence[LocationState], instance: DagsterInstance
) -> LocationReading:
    """A reading of all that a location defines; nothing is read before its parts are asked for.

    `states` are those of all the workspace's locations: an asset that several define is in the
    parts of one of them, that which makes it, else observes it, else describes it, the first by
    name.
    """
    return LocationReading(state, states, instance)


class LocationReading:
    """The definitions of a code location, and afterwards whether these were all."""

    def __init__(
        self, state: LocationState, states: Sequence[LocationState], instance: DagsterInstance
    ) -> None:
        self._state = state
        self._others = [other for other in states if other.name != state.name]
        self._instance = instance
        self._unreadable: list[str] = []
        self._is_read = False

    @property
    def is_complete(self) -> bool:
        """All parts have been read, and nothing was left out: what is absent is defined no more."""
        return self._is_read and not self._unreadable

    def parts(self) -> Iterator[CatalogPart]:
        """The parts of each repository: its assets, then its jobs.

        What can't be read is left out with a warning. Raises what reading the states of schedules
        and sensors in the instance raises.
        """
        self._is_read = False
        self._unreadable.clear()
        states = {state.selector_id: state for state in self._instance.all_instigator_state()}
        for repository in repositories(self._state):
            yield from self._asset_parts(repository)
            yield from self._job_parts(repository, states)
        self._is_read = self._state.location is not None
        if self._unreadable:
            logger.warning(
                "DataHub does not get %d definitions of the code location %s, which can't be read:"
                " %s",
                len(self._unreadable),
                self._state.name,
                ", ".join(self._unreadable[:MOST_NAMED]),
            )

    def _asset_parts(self, repository: Any) -> Iterator[CatalogPart]:
        """The assets that this repository delivers, and those directly upstream of them."""
        origin = code_repository(self._state, repository)
        nodes = AssetNodes(repository)
        delivered = set(self._delivered(repository))
        keys = iter(sorted(delivered))
        while page := list(islice(keys, PART_SIZE)):
            assets = tuple(self._facts(nodes, page))
            upstream = tuple(self._facts_of_upstream(nodes, assets))
            yield CatalogPart(origin, assets=assets, upstream=upstream)
        shared = sorted({key for key, _ in ranks(repository)} - delivered)
        if shared:
            yield CatalogPart(origin, shared=tuple(shared))

    def _delivered(self, repository: Any) -> Iterator[AssetKey]:
        """The keys of the assets that this repository delivers, and no other."""
        mine = (self._state.name, repository.name)
        best = {key: (rank, *mine) for key, rank in ranks(repository)}
        for state in (self._state, *self._others):
            for other in repositories(state):
                for key, rank in ranks(other):
                    if key in best:
                        best[key] = min(best[key], (rank, state.name, other.name))
        return (key for key, (_, *origin) in best.items() if tuple(origin) == mine)

    def _job_parts(self, repository: Any, states: Mapping[str, Any]) -> Iterator[CatalogPart]:
        """The jobs: a large one in a part of its own, small ones together."""
        origin = code_repository(self._state, repository)
        nodes = AssetNodes(repository)
        name = f"schedules and sensors of {repository.name}"
        triggers = self._read(name, triggers_by_job, repository, states) or {}
        jobs: list[CatalogJob] = []
        size = 0
        for name, snapshot in sorted(job_snapshots(repository), key=itemgetter(0)):
            job = self._read(f"job {name}", self._job, name, snapshot, nodes)
            if job is None:
                continue
            job = dataclasses.replace(job, triggers=tuple(triggers.get(name, ())))
            if jobs and size + _size(job) > PART_SIZE:
                yield CatalogPart(origin, jobs=tuple(jobs))
                jobs, size = [], 0
            jobs.append(job)
            size += _size(job)
        if jobs:
            yield CatalogPart(origin, jobs=tuple(jobs))

    def _job(self, name: str, snapshot: Callable[[], JobSnap], nodes: AssetNodes) -> CatalogJob:
        job = snapshot()
        steps = steps_of_job(job, nodes.of_job(name), nodes.checks_of_job(name))
        outputs = [output for step in steps for output in step.outputs]
        made = {output.asset_key for output in outputs if output.asset_key is not None}
        checked = {output.check.asset_key for output in outputs if output.check is not None}
        assets = list(self._facts(nodes, sorted(made | checked), has_columns=False))
        assets += self._facts_of_upstream(nodes, assets)
        return CatalogJob(job_of(job), steps, tuple(assets))

    def _facts_of_upstream(
        self, nodes: AssetNodes, assets: Sequence[AssetFacts]
    ) -> Iterator[AssetFacts]:
        keys = {dep for asset in assets for dep in asset.deps}
        upstream = sorted(keys - {asset.key for asset in assets})
        return self._facts(nodes, upstream, has_columns=False)

    def _facts(
        self, nodes: AssetNodes, keys: Iterable[AssetKey], *, has_columns: bool = True
    ) -> Iterator[AssetFacts]:
        for key in keys:
            name = f"asset {'/'.join(key)}"
            facts = self._read(name, nodes.facts, key, has_columns=has_columns)
            if facts is not None:
                yield facts

    def _read(self, name: str, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What can be read, else None; remembers what can't."""
        try:
            return read(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - one bad definition costs only itself
            if name not in self._unreadable:
                self._unreadable.append(name)
            logger.debug("Can't read the %s: %s", name, error_text.describe(error))
            return None


def repositories(state: LocationState) -> Iterable[Any]:
    """The repositories of a location, sorted by name; none while it isn't loaded."""
    if state.location is None:
        return ()
    return [item for _, item in sorted(state.location.get_repositories().items())]


def code_repository(state: LocationState, repository: Any) -> CodeRepository:
    """Where a repository's definitions come from, as the runs of its jobs say it."""
    pointers = state.location.repository_code_pointer_dict
    module, file = code_of(pointers.get(repository.name))
    return CodeRepository(state.name, repository.name, module=module, file=file)


def _size(job: CatalogJob) -> int:
    return len(job.steps) + len(job.assets)
