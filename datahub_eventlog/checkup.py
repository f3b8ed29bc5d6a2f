"""Whether all is well, before any run: each thing that must be right, and what to do if not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib.util import find_spec

from dagster import DagsterInstance

from datahub_eventlog import sinks
from datahub_eventlog.config import Config, inline_token
from datahub_eventlog.dispatcher.starting import NEEDED, where
from datahub_eventlog.dispatcher.translation import ForExtractor
from datahub_eventlog.errors import DataHubEventLogError
from datahub_eventlog.extractor import Extractor
from datahub_eventlog.operations import Operations
from datahub_eventlog.sinks import Finding
from datahub_eventlog.storages import mixture_of

SKEW = 5.0
"""Seconds by which the clocks of this machine and of the database may differ."""
INLINE = (
    "datahub_client_config: token: is written into dagster.yaml. Dagster hands its configuration"
    " on in the arguments of processes, where everybody on the machine can read it: write"
    " token: {env: DATAHUB_GMS_TOKEN}"
)


def checkup() -> list[Finding]:
    """Look at everything; what can't be looked at, because something else failed, is left out."""
    found: list[Finding] = []
    home = _home()
    found.append(home)
    if not home.is_ok:
        return found
    try:
        with DagsterInstance.get() as instance:
            found += _on_instance(instance)
    except Exception as error:  # noqa: BLE001 - whatever Dagster raises is the finding
        found.append(Finding(is_ok=False, what="dagster.yaml", text=_words(error)))
    return found


def _home() -> Finding:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        text = "DAGSTER_HOME is not set: set it to the folder that has your dagster.yaml"
        return Finding(is_ok=False, what="DAGSTER_HOME", text=text)
    return Finding(is_ok=True, what="DAGSTER_HOME", text=home)


def _on_instance(instance: DagsterInstance) -> Iterator[Finding]:
    try:
        operations = Operations(instance)
    except DataHubEventLogError as error:
        yield Finding(is_ok=False, what="storage", text=str(error))
        return
    yield _storage(instance)
    yield _configuration(operations)
    if inline_token(operations.block):
        yield Finding(is_ok=False, what="token", text=INLINE)
    yield from _ledger(operations)
    yield _extra()
    if not operations.reading.faults:
        yield from _delivery(operations.config)


def _storage(instance: DagsterInstance) -> Finding:
    mixture = mixture_of(instance)
    name = instance.event_log_storage.__class__.__name__
    return Finding(
        is_ok=mixture is None, what="storage", text=mixture or f"events are stored by {name}"
    )


def _configuration(operations: Operations) -> Finding:
    """What the block says, or all that is wrong in it."""
    faults = operations.reading.faults
    config = operations.reading.config
    if faults:
        text = "; ".join(each.message for each in faults)
    elif not config.enabled:
        text = "datahub: enabled is false: nothing is captured or delivered"
    elif config.target is None:
        text = (
            "datahub: no target is configured: set datahub_client_config (or DATAHUB_GMS_URL),"
            " datahub_kafka_config or datahub_file_config"
        )
    else:
        return Finding(is_ok=True, what="datahub", text=f"delivers to {where(config.target)}")
    return Finding(is_ok=False, what="datahub", text=text)


def _ledger(operations: Operations) -> Iterator[Finding]:
    """The ledger's tables are there, or can be made, and take a row."""
    try:
        ledger = operations.ledger
        ledger.migrate()
        ledger.set_watermark(ledger.watermark())
        skew = ledger.now() - time.time()
        dispatchers = ledger.dispatchers()
    except DataHubEventLogError as error:
        yield Finding(is_ok=False, what="ledger", text=str(error))
        return
    yield Finding(is_ok=True, what="ledger", text="its tables are there and can be written")
    yield Finding(
        is_ok=abs(skew) <= SKEW,
        what="clock",
        text=f"the database's clock differs from this machine's by {skew:.1f} s"
        + ("" if abs(skew) <= SKEW else ": let NTP set both"),
    )
    yield _dispatchers(operations.reading.config, [f"{d.host}:{d.pid}" for d in dispatchers])


def _dispatchers(config: Config, alive: list[str]) -> Finding:
    if alive:
        return Finding(is_ok=True, what="dispatcher", text=f"alive: {', '.join(alive)}")
    if config.dispatch == "auto":
        text = (
            "none is alive now; runs deliver themselves at their end until dagster-daemon is"
            " started (with the extra `datahub` installed)"
        )
        return Finding(is_ok=True, what="dispatcher", text=text)
    text = "none is alive: start `datahub-eventlog worker`"
    return Finding(is_ok=False, what="dispatcher", text=text)


def _extra() -> Finding:
    missing = [each for each in NEEDED if find_spec(each) is None]
    if missing:
        text = f'{", ".join(missing)} missing: pip install "datahub-eventlog[datahub]"'
        return Finding(is_ok=False, what="extra", text=text)
    return Finding(is_ok=True, what="extra", text="this process can deliver")


def _delivery(config: Config) -> Iterator[Finding]:
    """The target answers, and the user's functions can be called."""
    if config.target is not None and _extra().is_ok:
        try:
            yield from sinks.probe(config.target)
        except DataHubEventLogError as error:
            yield Finding(is_ok=False, what="target", text=str(error))
    named = (config.asset_lineage_extractor, config.asset_keys_to_dataset_urn_converter)
    functions = [each for each in named if each]
    if functions:
        yield _functions(config, functions)


def _functions(config: Config, functions: list[str]) -> Finding:
    try:
        Extractor(config, ForExtractor(config))
    except DataHubEventLogError as error:
        return Finding(is_ok=False, what="functions", text=str(error))
    return Finding(is_ok=True, what="functions", text=f"{', '.join(functions)} can be called")


def _words(error: Exception) -> str:
    """The error in one line, with what caused it."""
    lines = [each.strip() for each in str(error).splitlines() if each.strip()]
    return f"{type(error).__name__}: {' '.join(lines)}"
