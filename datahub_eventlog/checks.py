"""Whether all is well, before any run: each thing that must be right, and what to do if not."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence

from dagster import DagsterInstance

from datahub_eventlog import error_text, extras, sinks
from datahub_eventlog.config import (
    Config,
    Pattern,
    Redaction,
    fits,
    inline_secrets,
    obstacle_in,
)
from datahub_eventlog.default_storage import mixed_storages
from datahub_eventlog.errors import DataHubEventLogError, LedgerMissing, PatternTooSlow
from datahub_eventlog.ledger import Dispatcher
from datahub_eventlog.ledger_location import ledger_beside
from datahub_eventlog.operations import NO_HOME, Operations
from datahub_eventlog.reopening import LEDGER_LOCK_SECONDS
from datahub_eventlog.sinks import Finding, where
from datahub_eventlog.storages import DataHubEventLogStorage, DataHubStorage

SKEW = 5.0
"""Seconds by which the clocks of this machine and of the database may differ."""
TRIED = 1000
"""Runs and assets whose names the patterns are tried on."""
TRIED_LETTERS = 8
HARD_LENGTH = 60
"""Letters of a name that is hard for some patterns; of what doubles with each, this is enough."""
INLINE = (
    "stands in dagster.yaml itself. Dagster hands its configuration on in the arguments of"
    " processes, where everybody on the machine can read it: write"
)
FLOWS = (
    "each is <module>/<job> in DataHub, or <code location>/<job> if its code is a file. What"
    " `dagster job execute -f x.py` executes is x.py/<job>, whatever its location is called; what"
    " a program executes in its own process prod/<job>: if they are to be one, set urn_prefix"
)
NOBODY = {
    "auto": "none is alive now; runs deliver themselves at their end until dagster-daemon is"
    " started. If it is running, its environment lacks the extra: its log says so",
    "off": "none is needed: with dispatch: off, runs are captured and nothing is delivered",
}


def check_instance() -> list[Finding]:
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
        found.append(Finding(is_ok=False, what="dagster.yaml", text=error_text.describe(error)))
    return found


def _home() -> Finding:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        return Finding(is_ok=False, what="DAGSTER_HOME", text=NO_HOME)
    return Finding(is_ok=True, what="DAGSTER_HOME", text=home)


def _on_instance(instance: DagsterInstance) -> Iterator[Finding]:
    try:
        operations = Operations(instance)
    except DataHubEventLogError as error:
        yield Finding(is_ok=False, what="storage", text=str(error))
        return
    yield _storage(instance)
    yield _configuration(operations)
    yield from _secrets(operations)
    yield _redaction(operations.reading.config.redact)
    yield from _ledger(operations, instance)
    yield _extra()
    if not operations.reading.faults:
        yield jobs(operations.config)
        yield from _patterns(operations.config, instance)
        yield from _delivery(operations.config)


def _storage(instance: DagsterInstance) -> Finding:
    """Which of the two styles is used, around what."""
    mixture = mixed_storages(instance)
    unified = instance.get_ref().storage_data
    is_unified = unified is not None and unified.class_name == DataHubStorage.__name__
    style = (DataHubStorage if is_unified else DataHubEventLogStorage).__name__
    name = instance.event_log_storage.__class__.__name__
    text = mixture or f"{style}; events are stored by {name}"
    return Finding(is_ok=mixture is None, what="storage", text=text)


def _secrets(operations: Operations) -> Iterator[Finding]:
    for each in inline_secrets(operations.block):
        name = "DATAHUB_GMS_TOKEN" if each == "datahub_client_config: token" else "A_VARIABLE"
        key = each.rpartition(": ")[2]
        text = f"{each} {INLINE} {key}: {{env: {name}}}"
        yield Finding(is_ok=False, what="secret", text=text)


def _redaction(redact: Redaction) -> Finding:
    if not redact.enabled:
        text = "off: what looks like a secret in metadata, tags, SQL and errors is sent to DataHub"
    else:
        text = "on: passwords, tokens and keys in metadata, tags, SQL and errors are sent as ***"
        own = [f"{len(redact.patterns)} patterns"] if redact.patterns else []
        own += [f"the keys {', '.join(redact.keys)}"] if redact.keys else []
        text += f"; so are {' and '.join(own)} of yours" if own else ""
    return Finding(is_ok=True, what="redact", text=text)


def _configuration(operations: Operations) -> Finding:
    """What the block says, or all that is wrong in it."""
    reading = operations.reading
    wrong = "; ".join(each.message for each in reading.faults) or obstacle_in(reading.config)
    if wrong:
        return Finding(is_ok=False, what="datahub", text=wrong)
    return Finding(is_ok=True, what="datahub", text=f"delivers to {where(reading.config.target)}")


def jobs(config: Config) -> Finding:
    """What the flows are called, since a job can be executed in ways that name it otherwise."""
    text = FLOWS
    if config.urn_prefix is not None:
        text = f"each is {config.urn_prefix}/<job> in DataHub, as urn_prefix says"
    return Finding(is_ok=True, what="jobs", text=text)


def _ledger(operations: Operations, instance: DagsterInstance) -> Iterator[Finding]:
    """The ledger's tables are there, or can be made, and take a row."""
    try:
        ledger = operations.ledger
        ledger.database.migrate()
        ledger.upkeep.set_watermark(ledger.upkeep.watermark())
        skew = ledger.database.read_clock() - time.time()
        ahead = ledger.upkeep.ahead()
        dispatchers = ledger.reports.dispatchers()
    except DataHubEventLogError as error:
        yield Finding(is_ok=False, what="ledger", text=str(error))
        return
    yield _place(instance)
    yield clock(skew)
    if ahead:
        yield Finding(is_ok=False, what="clock", text=str(ahead))
    yield _dispatchers(operations.reading.config, dispatchers)


def clock(skew: float) -> Finding:
    """How far the two clocks are apart, in seconds: leases and heartbeats go by the database's."""
    text = f"the database's clock differs from this machine's by {skew:.1f} s"
    if abs(skew) <= SKEW:
        return Finding(is_ok=True, what="clock", text=text)
    return Finding(is_ok=False, what="clock", text=f"{text}: let NTP set both")


def _place(instance: DagsterInstance) -> Finding:
    """A local file serves one machine; with a database for the events, that is seldom meant."""
    try:
        ledger_beside(
            instance.event_log_storage, patience=LEDGER_LOCK_SECONDS
        ).reports.dispatchers()
    except LedgerMissing as error:
        text = f"it is a local file, which only this machine sees. {error}"
        return Finding(is_ok=False, what="ledger", text=text)
    return Finding(is_ok=True, what="ledger", text="its tables are there and can be written")


def _dispatchers(config: Config, alive: Sequence[Dispatcher]) -> Finding:
    if alive:
        names = [f"{each.host}:{each.pid} ({each.version})" for each in alive]
        return Finding(is_ok=True, what="dispatcher", text=f"alive: {', '.join(names)}")
    if config.dispatch == "worker":
        text = "none is alive: start `datahub-eventlog worker`"
        return Finding(is_ok=False, what="dispatcher", text=text)
    return Finding(is_ok=True, what="dispatcher", text=NOBODY[config.dispatch])


def _extra() -> Finding:
    if missing := extras.missing():
        names, command = " and ".join(missing), extras.command()
        text = f"{names} can't be imported in this process: {command} wherever runs are delivered"
        return Finding(is_ok=False, what="extra", text=text)
    return Finding(is_ok=True, what="extra", text="this process can deliver")


def _patterns(config: Config, instance: DagsterInstance) -> Iterator[Finding]:
    """Each pattern decides in time about the names that are there, and about hard ones."""
    if not _extra().is_ok:
        return
    options = {"job_pattern": config.job_pattern, "asset_pattern": config.asset_pattern}
    for name, option in options.items():
        patterns = (*option.allow, *option.deny)
        if option != Pattern():
            yield _decides(name, patterns, _names(instance))


def _decides(option: str, patterns: Sequence[str], names: Sequence[str]) -> Finding:
    try:
        for pattern in patterns:
            for name in (*names, *hard_names(pattern)):
                fits(pattern, name)
    except PatternTooSlow as error:
        return Finding(is_ok=False, what=option, text=str(error))
    return Finding(is_ok=True, what=option, text=f"{', '.join(patterns)} can be used")


def _names(instance: DagsterInstance) -> Sequence[str]:
    """Of the newest runs' jobs, and of assets."""
    try:
        jobs = {run.job_name for run in instance.get_runs(limit=TRIED)}
        keys = instance.get_asset_keys(limit=TRIED)
    except Exception:  # noqa: BLE001 - runs that this Dagster can't read: the hard names are left
        return []
    return [*jobs, *("/".join(key.path) for key in keys)]


def hard_names(pattern: str) -> Iterator[str]:
    """Names that a pattern has to try again and again, if there are such for it.

    They repeat its letters, after what it begins with, and end with what it can't know.
    """
    start = re.match(r"\^?([\w/-]*)", pattern)
    letters = sorted(set(re.findall(r"[^\W_]", pattern)))[:TRIED_LETTERS]
    for prefix in {"", start[1] if start else ""}:
        for letter in (*letters, "".join(letters), *"a0_/ "):
            yield f"{prefix}{letter * HARD_LENGTH}"[: len(prefix) + HARD_LENGTH] + "\0"


def _delivery(config: Config) -> Iterator[Finding]:
    """The target answers, and the user's functions can be called."""
    if not _extra().is_ok:
        return
    if config.target is not None:
        try:
            yield from sinks.probe(config.target)
        except DataHubEventLogError as error:
            yield Finding(is_ok=False, what="target", text=str(error))
    named = (config.asset_lineage_extractor, config.asset_keys_to_dataset_urn_converter)
    functions = [each for each in named if each]
    if functions:
        yield _functions(config, functions)


def _functions(config: Config, functions: list[str]) -> Finding:
    from datahub_eventlog.dispatcher.translation import ForExtractor
    from datahub_eventlog.extractor import Extractor

    try:
        Extractor(config, ForExtractor(config))
    except DataHubEventLogError as error:
        return Finding(is_ok=False, what="functions", text=str(error))
    return Finding(is_ok=True, what="functions", text=f"{', '.join(functions)} can be called")
