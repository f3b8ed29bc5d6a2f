"""One run of many assets: by the plugin, by us, and its proposals by the client alone."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dagster as dg
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from datahub.emitter.rest_emitter import DatahubRestEmitter, EmitMode
from datahub.emitter.serialization_helper import post_json_transform
from datahub.ingestion.graph.client import DatahubClientConfig
from datahub.metadata.schema_classes import (
    ASPECT_NAME_MAP,
    GenericAspectClass,
    MetadataChangeProposalClass,
)
from datahub_dagster_plugin.client.dagster_generator import DatahubDagsterSourceConfig
from datahub_dagster_plugin.sensors.datahub_sensors import DatahubSensors
from ledgers import facts_of

from benchmarks.endpoint import Write
from benchmarks.environment import Environment
from benchmarks.histories import assets
from benchmarks.pairs import Cost, Pair, cpu, wall
from benchmarks.rows import Row
from datahub_eventlog.dispatcher import redactor_of
from datahub_eventlog.ledger import Facts
from datahub_eventlog.operations import Operations
from datahub_eventlog.source import Source
from datahub_eventlog.values import Change, Problem, Proposal

REQUESTS = 40
"""Goals of 200 assets."""
SHARE_OF_PLUGIN = 1 / 8
SHARE_OF_OWN = 1.5
SHARE_OF_FIRST = 0.5
SHARE_OF_CLIENT = 0.6
SHARE_OF_REDACTION = 1.03


@dataclass(frozen=True)
class OneRun:
    """Two runs of the same assets, and how to deliver them."""

    environment: Environment
    count: int
    latencies: Sequence[float]
    repeats: int
    plugin_latencies: Sequence[float]
    run_ids: list[str] = field(default_factory=list)

    def execute(self) -> None:
        """Execute both."""
        made = assets(self.count)
        for _ in range(2):
            self.run_ids.append(dg.materialize(made, instance=self.environment.instance).run_id)

    @property
    def name(self) -> str:
        """What stands in the table."""
        return f"a run of {self.count} assets"

    def rows(self) -> Iterator[Row]:
        """All of them."""
        facts = facts_of(self.environment.ledger, self.run_ids[0])
        yield from self._counts(facts)
        yield from self._times(facts)
        yield self._redacting(facts)
        yield from self._beside_client(facts)

    def _counts(self, facts: Facts | None) -> Iterator[Row]:
        endpoint = self.environment.endpoint
        endpoint.reset(keep=True)
        self._by_plugin()
        theirs = endpoint.writes()
        endpoint.reset(keep=True)
        self.environment.forget()
        self._by_us(self.run_ids[0], facts)
        ours = endpoint.writes()
        endpoint.reset(keep=True)
        self._by_us(self.run_ids[1], facts)
        again = endpoint.writes()
        yield self._requests(ours, theirs)
        yield self._repeats(ours, theirs)
        yield self._second(ours, again)

    def _requests(self, ours: Sequence[Write], theirs: Sequence[Write]) -> Row:
        return Row(
            f"{self.name}: requests",
            plugin=f"{len(theirs)}",
            ours=f"{len(ours)}",
            goal=f"at most {REQUESTS}",
            is_met=len(ours) <= REQUESTS,
        )

    def _repeats(self, ours: Sequence[Write], theirs: Sequence[Write]) -> Row:
        return Row(
            f"{self.name}: exact repeats, %",
            plugin=f"{_repeated(theirs):.1f}",
            ours=f"{_repeated(ours):.1f}",
            goal="0",
            is_met=_repeated(ours) == 0,
        )

    def _second(self, ours: Sequence[Write], again: Sequence[Write]) -> Row:
        first, second = _number(ours), _number(again)
        return Row(
            f"{self.name}: proposals of the first and the second run",
            ours=f"{first}, {second} ({second / first:.2f})",
            goal=f"at most {SHARE_OF_FIRST} of the first",
            is_met=second / first <= SHARE_OF_FIRST,
        )

    def _times(self, facts: Facts | None) -> Iterator[Row]:
        own: Cost | None = None
        for latency in self.latencies:
            costs = [self._own_cost(latency, facts) for _ in range(self.repeats)]
            took = min(costs, key=lambda cost: cost.wall)
            own = took if own is None else own
            plugin = self._plugin_cost(latency)
            yield _time(self.name, latency, took, own, plugin)

    def _own_cost(self, latency: float, facts: Facts | None) -> Cost:
        self.environment.endpoint.reset(latency)
        self.environment.forget()
        return cost(lambda: self._by_us(self.run_ids[0], facts))

    def _plugin_cost(self, latency: float) -> Cost | None:
        if latency not in self.plugin_latencies:
            return None
        self.environment.endpoint.reset(latency)
        return cost(self._by_plugin)

    def _redacting(self, facts: Facts | None) -> Row:
        """Pairs of the whole delivery without redaction and with it, in turn."""
        self.environment.endpoint.reset()
        pairs = []
        for _ in range(self.repeats):
            plain, redacted = (self._delivery(facts, is_redacting=is_on) for is_on in (False, True))
            pairs.append(Pair(plain=plain, other=redacted))
        on_clock, of_processor = wall(pairs), cpu(pairs)
        return Row(
            f"{self.name}: hiding secrets, the delivery without it being 1",
            ours=f"{on_clock.text()}, of the processor {of_processor.text()}",
            goal=f"at most {SHARE_OF_REDACTION}",
            is_met=of_processor.value <= SHARE_OF_REDACTION,
        )

    def _delivery(self, facts: Facts | None, *, is_redacting: bool) -> Cost:
        self.environment.forget()
        redactor_of.cache_clear()  # another run has other texts
        self.environment.touch(self.run_ids[0], facts)
        with self.environment.dispatcher(is_redacting=is_redacting) as dispatcher:
            return cost(lambda: dispatcher.deliver([self.run_ids[0]]))

    def _beside_client(self, facts: Facts | None) -> Iterator[Row]:
        """Pairs of the whole delivery and of the client's batches, in turn."""
        results = list(Operations(self.environment.instance).preview(self.run_ids[0]))
        proposals = [result for result in results if not isinstance(result, Problem)]
        self.environment.endpoint.reset()
        pairs = []
        for _ in range(self.repeats):
            objects = [object_of(proposal) for proposal in proposals]
            client = cost(partial(by_client, self.environment, objects))
            self.environment.forget()
            ours = cost(partial(self._by_us, self.run_ids[0], facts))
            pairs.append(Pair(plain=ours, other=client))
        on_clock, of_processor = wall(pairs), cpu(pairs)
        yield Row(
            f"{self.name}: speed of the whole delivery, the client's own batches being 1",
            ours=f"{on_clock.text('.2f')}, of the processor {of_processor.text('.2f')}",
            goal=f"at least {SHARE_OF_CLIENT}",
            is_met=on_clock.value >= SHARE_OF_CLIENT,
        )

    def _by_us(self, run_id: str, facts: Facts | None) -> None:
        self.environment.touch(run_id, facts)
        with self.environment.dispatcher() as dispatcher:
            dispatcher.deliver([run_id])

    def _by_plugin(self) -> None:
        """As its sensor does it when the run has ended, with what we do by default."""
        client = DatahubClientConfig(server=self.environment.endpoint.url)
        options = {
            "datahub_client_config": client,
            "emit_mode": EmitMode.SYNC_PRIMARY,
            "capture_input_output": True,
        }
        sensors = DatahubSensors(DatahubDagsterSourceConfig(**options))
        sensors._emit_metadata(Source(self.environment.instance).sensor_context(self.run_ids[0]))


def by_client(environment: Environment, objects: Sequence[Any]) -> None:
    """Send them as the client's own batches."""
    emitter = DatahubRestEmitter(
        environment.endpoint.url, openapi_ingestion=False, retry_max_times=0
    )
    for start in range(0, len(objects), 200):
        emitter.emit_mcps(objects[start : start + 200], emit_mode=EmitMode.SYNC_PRIMARY)
    emitter.close()


def _time(name: str, latency: float, took: Cost, own: Cost, plugin: Cost | None) -> Row:
    goals, met = [], []
    if plugin is not None:
        goals.append("1/8 of the plugin's")
        met.append(took.wall <= plugin.wall * SHARE_OF_PLUGIN)
    if latency:
        goals.append(f"{SHARE_OF_OWN} of our own at 0 ms ({took.wall / own.wall:.2f})")
        met.append(took.wall <= own.wall * SHARE_OF_OWN)
    part = f"; 1/{plugin.wall / took.wall:.0f}" if plugin else ""
    return Row(
        f"{name}: seconds at {1000 * latency:g} ms (of the processor)",
        plugin="" if plugin is None else _text(plugin),
        ours=f"{_text(took)}{part}",
        goal=" and ".join(goals),
        is_met=all(met) if met else None,
    )


def _text(cost: Cost) -> str:
    return f"{cost.wall:.2f} ({cost.cpu:.2f})"


def object_of(proposal: Proposal) -> Any:
    """A proposal as the client's users make them: an aspect that is not serialised yet."""
    if proposal.change is Change.PATCH:
        return MetadataChangeProposalClass(
            entityType=proposal.entity_type,
            entityUrn=proposal.urn,
            changeType="PATCH",
            aspectName=proposal.aspect,
            aspect=GenericAspectClass(proposal.body.encode(), "application/json-patch+json"),
        )
    kind = ASPECT_NAME_MAP[proposal.aspect]
    aspect = kind.from_obj(post_json_transform(json.loads(proposal.body)))
    return MetadataChangeProposalWrapper(entityUrn=proposal.urn, aspect=aspect)


def cost(work: Callable[[], object]) -> Cost:
    """How long it takes."""
    gc.collect()  # of what was there before
    on_clock, of_processor = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - on_clock, time.process_time() - of_processor)


def _contents(writes: Sequence[Write]) -> list[tuple[str, str, str, str]]:
    return [_words(proposal) for write in writes for proposal in write.proposals]


def _words(proposal: Any) -> tuple[str, str, str, str]:
    """The content of a proposal, without what tells senders or times apart."""
    aspect = proposal.get("aspect") or {}
    names = ("entityUrn", "aspectName", "changeType")
    urn, name, change = (str(proposal.get(key)) for key in names)
    return urn, name, change, json.dumps(aspect, sort_keys=True)


def _number(writes: Sequence[Write]) -> int:
    return len(_contents(writes))


def _repeated(writes: Sequence[Write]) -> float:
    contents = _contents(writes)
    return 100 * (1 - len(set(contents)) / len(contents))
