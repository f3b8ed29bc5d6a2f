"""Scenarios, each executed once and told to two receivers: by the sensor plugin and by us."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import build_multi_asset_sensor_context
from datahub.emitter.rest_emitter import EmitMode
from datahub.ingestion.graph.client import DatahubClientConfig
from datahub_dagster_plugin.client.dagster_generator import (
    DATAHUB_ASSET_GROUP_NAME_CACHE,
    DatahubDagsterSourceConfig,
)
from datahub_dagster_plugin.sensors.datahub_sensors import DatahubSensors
from deployment import sqlite_yaml
from instances import configured
from ledgers import counts_of, facts_of
from receiver import Json, Receiver

from datahub_eventlog.config import Config, read
from datahub_eventlog.definitions import decode
from datahub_eventlog.dispatcher import Dispatcher, Opened, assemble
from datahub_eventlog.dispatcher.context import context_of
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import ledger_of
from datahub_eventlog.source import Source
from datahub_eventlog.translate import Context
from datahub_eventlog.values import RunLog

State = dict[str, dict[str, Json]]
"""All aspects by urn and name; of a timeseries the list of its documents."""
Execute = Callable[[dg.DagsterInstance], Sequence[str]]
"""Executes the runs of a scenario, and returns their ids in their order."""


@dataclass(frozen=True)
class Scenario:
    """Something that people do with Dagster, and how both sides are configured for it."""

    execute: Execute
    options: Mapping[str, Any] = field(default_factory=dict)
    """For both: they have the same names."""
    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    repository: dg.Definitions | None = None
    """What the plugin's sensor for groups looks at beforehand, as it does in a code location."""
    crash: str | None = None
    """What the plugin's error says where it gives up."""

    @property
    def name(self) -> str:
        return getattr(self.execute, "__name__", "scenario")


class Scenarios(list[Scenario]):
    """Takes the functions that it decorates."""

    def add(self, **settings: Any) -> Callable[[Execute], Execute]:
        def take(execute: Execute) -> Execute:
            self.append(Scenario(execute, **settings))
            return execute

        return take


@dataclass(frozen=True)
class Told:
    """What both sides made of the same runs."""

    scenario: Scenario
    runs: Sequence[str]
    home: str
    theirs: State
    ours: State
    plugin_errors: Sequence[str]
    problems: Sequence[tuple[str, str, str]]
    """Ours: urn or subject, aspect and reason."""
    again: State
    """Ours, after somebody who knows nothing of the first delivery has repeated it backwards."""
    logs: Sequence[tuple[RunLog, Context]]
    """What we translated."""
    unaccepted: int
    """Requests of ours that the receiver did not take as they were."""


def tell(scenario: Scenario, home: Path) -> Told:
    """Execute a scenario, and let both sides tell it."""
    with (
        _environment(scenario.environ),
        configured(home, **sqlite_yaml({"dispatch": "off"})) as instance,
        Receiver() as theirs,
        Receiver() as ours,
    ):
        runs = scenario.execute(instance)
        errors = _tell_by_plugin(scenario, instance, runs, theirs)
        config = our_config(ours.url, {**scenario.options, **scenario.ours})
        captured = ledger_of(instance, patience=5)
        problems = _tell_by_us(config, instance, captured)
        state = ours.state()
        _tell_by_us(config, instance, _forgetful(home, captured, runs))
        return Told(
            scenario=scenario,
            runs=runs,
            home=str(home),
            theirs=theirs.state(),
            ours=state,
            plugin_errors=errors,
            problems=problems,
            again=ours.state(),
            logs=_logs(config, instance, captured, runs),
            unaccepted=sum(not write.applied for write in ours.writes),
        )


def _tell_by_us(
    config: Config, instance: dg.DagsterInstance, ledger: Ledger
) -> list[tuple[str, str, str]]:
    with assemble(Opened(instance, ledger), config) as parts:
        dispatcher = Dispatcher(config, parts)
        while dispatcher.run_once():
            pass
    assert counts_of(ledger).keys() <= {"delivered"}
    return sorted((each.urn, each.aspect, each.reason) for each in ledger.reports.status().rejected)


def _forgetful(home: Path, captured: Ledger, runs: Sequence[str]) -> Ledger:
    """A ledger with the same runs, the last one first, and no word of what was sent."""
    ledger = Ledger.in_file(str(home / "again.db"), patience=5)
    ledger.database.migrate()
    for run_id in reversed(runs):
        ledger.runs.touch(run_id, definitions=facts_of(captured, run_id))
    return ledger


def _logs(
    config: Config, instance: dg.DagsterInstance, captured: Ledger, runs: Sequence[str]
) -> list[tuple[RunLog, Context]]:
    found = []
    with assemble(Opened(instance, captured), config) as parts:
        for run_id in runs:
            facts = facts_of(captured, run_id)
            run = parts.source.run(run_id)
            assert run is not None
            log = parts.source.log(run, None if facts is None else decode(facts.blob))
            found.append((log, context_of(log, config, parts)[0]))
    return found


def our_config(url: str, options: Mapping[str, Any]) -> Config:
    block = {"datahub_client_config": {"server": url}, **options}
    return read(block, {}).strict()


def _tell_by_plugin(
    scenario: Scenario, instance: dg.DagsterInstance, runs: Sequence[str], receiver: Receiver
) -> list[str]:
    """Run the plugin's code as its sensors would; what it logged as errors."""
    sensors = DatahubSensors(
        DatahubDagsterSourceConfig(
            datahub_client_config=DatahubClientConfig(server=receiver.url),
            emit_mode=EmitMode.SYNC_PRIMARY,
            **{**scenario.options, **scenario.theirs},
        )
    )
    DATAHUB_ASSET_GROUP_NAME_CACHE.clear()
    if scenario.repository is not None:
        sensors._emit_asset_metadata(_group_context(scenario.repository, instance))
    errors: list[str] = []
    for run_id in runs:
        context = Source(instance).sensor_context(run_id)
        context.log.addHandler(_Errors(errors))
        sensors._emit_metadata(context)
    DATAHUB_ASSET_GROUP_NAME_CACHE.clear()
    return errors


def _group_context(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> dg.MultiAssetSensorEvaluationContext:
    return build_multi_asset_sensor_context(
        monitored_assets=dg.AssetSelection.all(),
        repository_def=definitions.get_repository_def(),
        instance=instance,
    )


class _Errors(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(record.getMessage())


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
