"""How the steps that ran belong to those of the execution plan and to op nodes.

A step that is mapped over a dynamic output stands in the plan as `op[?]`, and runs as `op[key]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from datahub_eventlog.values import AssetKey, CheckKey, RunLog, Step

UNRESOLVED = "[?]"


def is_mapped(key: str) -> bool:
    """Whether a step is one of several of its op node."""
    return key.endswith("]")


def unresolved(key: str) -> str:
    """A step's key as the plan has it."""
    return f"{_base(key)}{UNRESOLVED}" if is_mapped(key) else key


@dataclass(frozen=True)
class OpNode:
    """One op node of the plan."""

    handle: str
    steps: tuple[Step, ...] = ()

    @property
    def assets(self) -> tuple[AssetKey, ...]:
        """The assets that the run was to produce here."""
        keys = {output.asset_key for step in self.steps for output in step.outputs}
        return tuple(sorted(key for key in keys if key is not None))

    @property
    def checks(self) -> tuple[CheckKey, ...]:
        """The asset checks that the run was to evaluate here."""
        checks = {output.check for step in self.steps for output in step.outputs}
        present = (check for check in checks if check is not None)
        return tuple(sorted(present, key=lambda check: (check.asset_key, check.name)))

    @property
    def upstream(self) -> tuple[str, ...]:
        """The plan's keys of the steps whose outputs it takes."""
        return tuple(sorted({key for step in self.steps for key in step.upstream}))


@dataclass(frozen=True)
class Plan:
    """The execution plan of a run; empty where its snapshot is gone."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    nodes: Mapping[str, OpNode] = field(default_factory=dict)
    """By handle."""

    def handle(self, key: str) -> str:
        """The handle of the op node of a step that ran."""
        step = self.steps.get(unresolved(key))
        return step.handle if step else _base(key)

    def name(self, key: str) -> str:
        """What a step that ran is called in its urn: the handle, or the key of a mapped one."""
        return key if is_mapped(key) else self.handle(key)

    def upstream_runs(self, key: str, ran: Mapping[str, frozenset[str]]) -> Iterator[str]:
        """Those of the steps that `ran`, by their keys in the plan, whose outputs the step takes.

        A mapped step takes from the one with its own mapping key, a collecting one from all.
        """
        step = self.steps.get(unresolved(key))
        for upstream in step.upstream if step else ():
            candidates = ran.get(upstream, frozenset())
            if is_mapped(upstream) and is_mapped(key):
                candidates &= {f"{_base(upstream)}{key[key.rindex('[') :]}"}
            yield from sorted(candidates)


def plan_of(log: RunLog) -> Plan:
    """The plan of a run, by the keys of its steps and the handles of its nodes."""
    grouped: dict[str, list[Step]] = {}
    for step in log.steps:
        grouped.setdefault(step.handle, []).append(step)
    nodes = {handle: OpNode(handle, tuple(steps)) for handle, steps in sorted(grouped.items())}
    return Plan({step.key: step for step in log.steps}, nodes)


def by_plan_key(ran: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """The steps that ran, by their keys in the plan."""
    grouped: dict[str, set[str]] = {}
    for key in ran:
        grouped.setdefault(unresolved(key), set()).add(key)
    return {key: frozenset(keys) for key, keys in grouped.items()}


def handles(log: RunLog, plan: Plan, ran: Iterable[str]) -> list[str]:
    """All op nodes of the run's job, also those that did not run."""
    if log.job is not None:
        return sorted({op.handle for op in log.job.ops})
    return sorted(plan.nodes.keys() | {plan.handle(key) for key in ran})


def _base(key: str) -> str:
    return key[: key.rindex("[")] if is_mapped(key) and "[" in key else key
