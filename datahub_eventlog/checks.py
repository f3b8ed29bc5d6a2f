"""Checks of the whole setup, before any run, each with what to do where it fails."""

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
    RestTarget,
    fits,
    inline_secrets,
    obstacle_in,
)
from datahub_eventlog.default_storage import mixed_storages
from datahub_eventlog.errors import DataHubEventLogError, LedgerMissing, PatternTooSlow
from datahub_eventlog.ledger import Dispatcher
from datahub_eventlog.ledger_location import LEDGER_LOCK_SECONDS, ledger_beside
from datahub_eventlog.operations import NO_HOME, Operations
from datahub_eventlog.sinks import Finding, where
from datahub_eventlog.storages import DataHubEventLogStorage, DataHubStorage

MAX_SKEW_SECONDS = 5.0
"""By which the clocks of this machine and of the database may differ."""
SAMPLE = 1000
"""Runs and assets whose names the patterns are tried on."""
HARD_LETTERS = 8
HARD_LENGTH = 60
"""Letters of a hard name; the time of a bad pattern doubles with each, so this is enough."""
MOVE_TO_VARIABLE = (
    "stands in dagster.yaml itself. Dagster passes its configuration on in the arguments of"
    " processes, where everybody on the machine can read it: write"
)
JOB_NAMES = (
    "each is <module>/<job> in DataHub, or <code location>/<job> if its code is a file. What"
    " `dagster job execute -f x.py` executes is x.py/<job>, and what a program executes in its own"
    " process is prod/<job>; to give them one name, set urn_prefix"
)
NO_DISPATCHER = {
    "auto": "none is alive; until dagster-daemon is started, each run's own process delivers it."
    " If the daemon is running, its environment lacks the extra: see its log",
    "off": "none is needed: with dispatch: off, runs are captured and nothing is delivered",
}


def check_instance() -> list[Finding]:
    """Check everything; what can't be checked, because something else failed, is left out."""
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        return [Finding(is_ok=False, what="DAGSTER_HOME", text=NO_HOME)]
    findings = [Finding(is_ok=True, what="DAGSTER_HOME", text=home)]
    try:
        with DagsterInstance.get() as instance:
            findings += _on_instance(instance)
    except Exception as error:  # noqa: BLE001 - whatever Dagster raises is the finding
        findings.append(Finding(is_ok=False, what="dagster.yaml", text=error_text.describe(error)))
    return findings


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
    if not operations.reading.delivery_faults:
        yield jobs(operations.config)
        if not extras.missing():
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
    for place in inline_secrets(operations.block):
        name = "DATAHUB_GMS_TOKEN" if place == "datahub_client_config: token" else "A_VARIABLE"
        key = place.rpartition(": ")[2]
        text = f"{place} {MOVE_TO_VARIABLE} {key}: {{env: {name}}}"
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
    """Where the block says to deliver to, or all that is wrong in it."""
    reading = operations.reading
    wrong = "; ".join(fault.message for fault in reading.delivery_faults) or obstacle_in(
        reading.config
    )
    if wrong:
        return Finding(is_ok=False, what="datahub", text=wrong)
    return Finding(is_ok=True, what="datahub", text=f"delivers to {where(reading.config.target)}")


def jobs(config: Config) -> Finding:
    """What jobs are called in DataHub, which depends on how they are executed."""
    text = JOB_NAMES
    if config.urn_prefix is not None:
        text = f"each is {config.urn_prefix}/<job> in DataHub, as urn_prefix says"
    return Finding(is_ok=True, what="jobs", text=text)


def _ledger(operations: Operations, instance: DagsterInstance) -> Iterator[Finding]:
    """Whether the ledger's tables exist or can be created, and can be written."""
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
    """Whether the clocks agree, since leases and heartbeats use the database's."""
    text = f"the database's clock differs from this machine's by {skew:.1f} s"
    if abs(skew) <= MAX_SKEW_SECONDS:
        return Finding(is_ok=True, what="clock", text=text)
    return Finding(is_ok=False, what="clock", text=f"{text}: synchronize both by NTP")


def _place(instance: DagsterInstance) -> Finding:
    """Whether the ledger is where the events are; a local file only serves one machine."""
    try:
        ledger_beside(
            instance.event_log_storage, patience=LEDGER_LOCK_SECONDS
        ).reports.dispatchers()
    except LedgerMissing as error:
        text = f"it is a local file, which only this machine sees. {error}"
        return Finding(is_ok=False, what="ledger", text=text)
    return Finding(is_ok=True, what="ledger", text="its tables exist and can be written")


def _dispatchers(config: Config, alive: Sequence[Dispatcher]) -> Finding:
    if alive:
        names = [f"{row.host}:{row.pid} ({row.version})" for row in alive]
        return Finding(is_ok=True, what="dispatcher", text=f"alive: {', '.join(names)}")
    if config.dispatch == "worker":
        text = "none is alive: start `datahub-eventlog worker`"
        return Finding(is_ok=False, what="dispatcher", text=text)
    return Finding(is_ok=True, what="dispatcher", text=NO_DISPATCHER[config.dispatch])


def _extra() -> Finding:
    if missing := extras.missing():
        names, command = " and ".join(missing), extras.command()
        text = f"{names} can't be imported in this process: {command} wherever runs are delivered"
        return Finding(is_ok=False, what="extra", text=text)
    return Finding(is_ok=True, what="extra", text="this process can deliver")


def _patterns(config: Config, instance: DagsterInstance) -> Iterator[Finding]:
    """Whether each pattern decides in time, for the instance's names and for hard ones."""
    options = {"job_pattern": config.job_pattern, "asset_pattern": config.asset_pattern}
    used = {name: option for name, option in options.items() if option != Pattern()}
    names = _names(instance) if used else ()
    for name, option in used.items():
        yield _decides(name, (*option.allow, *option.deny), names)


def _decides(option: str, patterns: Sequence[str], names: Sequence[str]) -> Finding:
    try:
        for pattern in patterns:
            for name in (*names, *hard_names(pattern)):
                fits(pattern, name)
    except PatternTooSlow as error:
        return Finding(is_ok=False, what=option, text=str(error))
    return Finding(is_ok=True, what=option, text=f"{', '.join(patterns)} can be used")


def _names(instance: DagsterInstance) -> Sequence[str]:
    """The names of the newest runs' jobs, and of assets."""
    try:
        jobs = {run.job_name for run in instance.get_runs(limit=SAMPLE)}
        keys = instance.get_asset_keys(limit=SAMPLE)
    except Exception:  # noqa: BLE001 - this Dagster can't read them: the hard names remain
        return []
    return [*jobs, *("/".join(key.path) for key in keys)]


def hard_names(pattern: str) -> Iterator[str]:
    """Names for which a bad pattern backtracks.

    They repeat the pattern's letters, after its beginning, and end with a letter it can't match.
    """
    start = re.match(r"\^?([\w/-]*)", pattern)
    letters = sorted(set(re.findall(r"[^\W_]", pattern)))[:HARD_LETTERS]
    for prefix in {"", start[1] if start else ""}:
        for letter in (*letters, "".join(letters), *"a0_/ "):
            yield f"{prefix}{letter * HARD_LENGTH}"[: len(prefix) + HARD_LENGTH] + "\0"


def _delivery(config: Config) -> Iterator[Finding]:
    """Whether the target answers, and the user's functions can be called."""
    if config.target is not None:
        try:
            probed = sinks.probe(config.target)
        except DataHubEventLogError as error:
            probed = [Finding(is_ok=False, what="target", text=str(error))]
        yield from probed
        # A server that does not answer is not waited for again.
        if isinstance(config.target, RestTarget) and all(finding.is_ok for finding in probed):
            yield from _reading(config, config.target)
    named = (config.asset_lineage_extractor, config.asset_keys_to_dataset_urn_converter)
    functions = [name for name in named if name]
    if functions:
        yield _functions(config, functions)


def _reading(config: Config, target: RestTarget) -> Iterator[Finding]:
    """Whether `verify` can read what is delivered; nothing if DataHub does not answer at all."""
    from datahub_eventlog.sinks.reading import unreadable

    try:
        reasons = unreadable(target)
    except DataHubEventLogError:
        return
    if not reasons:
        yield Finding(is_ok=True, what="reading", text="`verify` can read all that is delivered")
        return
    text = f"`verify` can't compare everything: {'; '.join(reasons)}"
    yield Finding(is_ok=not config.verify.sample, what="reading", text=text)


def _functions(config: Config, functions: Sequence[str]) -> Finding:
    from datahub_eventlog.dispatcher.translation import ForExtractor
    from datahub_eventlog.extractor import Extractor

    try:
        Extractor(config, ForExtractor(config))
    except DataHubEventLogError as error:
        return Finding(is_ok=False, what="functions", text=str(error))
    return Finding(is_ok=True, what="functions", text=f"{', '.join(functions)} can be called")
