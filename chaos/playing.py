"""Kills and breaks whatever can be, while real Dagster works, and then reckons up.

Exits with 0 if every run and event of Dagster's event log is accounted for, if DataHub's state
is the one of an undisturbed delivery, and if no run failed for our sake; else with 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from accounts import UNFINISHED, Accounts, Reckoning
from blame import outbursts_in
from dagster import DagsterInstance, DagsterRun, RunsFilter
from faults import Faults, Tally
from stage import Stage, stage

from datahub_eventlog.dispatcher.dispatcher import LEASE_TTL, SECOND_LOOK
from datahub_eventlog.dispatcher.reconciler import NEW_RUN_GRACE, RECONCILE_EVERY
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import ledger_of

PATIENCE = (
    RECONCILE_EVERY.total_seconds() + NEW_RUN_GRACE.total_seconds() + LEASE_TTL.total_seconds()
)
"""Seconds in which everything must have been found and delivered, whatever happened."""
QUIET = 30.0
"""Seconds in which a run that nobody works at any more would have ended."""
SHOWN = 20
LOGS = ("code.log", "web.log")
"""Of the processes in which our code must never be the one that fails: runs, steps, webserver."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, reckon, and return the exit code."""
    options = _parser().parse_args(arguments)
    is_good = True
    for seed in options.seed:
        with TemporaryDirectory(prefix="chaos-") as folder:
            home = (options.keep or Path(folder)) / f"{options.storage}-{seed}"
            is_good = _play(options.storage, seed, options.minutes, home) and is_good
    return 0 if is_good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python chaos", description=__doc__)
    parser.add_argument("--storage", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--minutes", type=float, default=1.0, help="of trouble, for each seed")
    parser.add_argument("--keep", type=Path, help="a folder where the instance and logs stay")
    return parser


def _play(storage: str, seed: int, minutes: float, home: Path) -> bool:
    """One seed; whether all is well."""
    with stage(storage, home) as running:
        print(f"chaos on {storage}, seed {seed}: {minutes:g} minutes of trouble", flush=True)
        faults = Faults(running, seed)
        _trouble(faults, minutes)
        faults.calm_down()
        with running.deployment.instance() as instance:
            ledger = ledger_of(instance, patience=30)
            accounts = Accounts(instance, ledger, running.receiver)
            left = _end_runs(running, instance)
            seconds = _drain(running, accounts, ledger)
            found = accounts.reckon(faults.tally)
            found.failed += outbursts_in(home, LOGS)
            _report(faults.tally, found, left, seconds)
    return found.is_good


def _trouble(faults: Faults, minutes: float) -> None:
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        faults.go_on()
        time.sleep(faults.pause())


def _end_runs(running: Stage, instance: DagsterInstance) -> int:
    """Let runs end; cancel those whose processes are gone, and return how many that were."""
    _until(lambda: not running.workers()[0], PATIENCE)
    _until(lambda: not _unfinished(instance), QUIET)
    left = _unfinished(instance)
    for run in left:
        instance.report_run_canceled(run)
    return len(left)


def _unfinished(instance: DagsterInstance) -> Sequence[DagsterRun]:
    return instance.get_runs(RunsFilter(statuses=UNFINISHED))


def _drain(running: Stage, accounts: Accounts, ledger: Ledger) -> float:
    """Wait until everything is accounted for, and for the last look; how many seconds it took."""
    start = time.monotonic()

    def is_drained() -> bool:
        running.keep_up()
        return ledger.leases.is_drained() and not accounts.lost()

    _until(is_drained, PATIENCE)
    seconds = time.monotonic() - start
    time.sleep(SECOND_LOOK.total_seconds() + 5)
    running.stop_dispatchers()
    return seconds


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for the condition; whether it came true in time."""
    end = time.monotonic() + seconds
    while not (said := condition()) and time.monotonic() < end:
        time.sleep(1)
    return said


def _report(tally: Tally, found: Reckoning, left: int, seconds: float) -> None:
    lines = {
        "runs": f"{found.runs} ({_counted(found.states)}; {left} left without an end, canceled)",
        "failed": f"{sum(found.excuses.values())} ({_counted(found.excuses)})",
        "retried, canceled": f"{tally.retried}, {len(tally.canceled)}",
        "reported from outside": str(tally.reported),
        "events looked for": str(found.events),
        "refused by Dagster": f"{sum(tally.refused.values())} ({_counted(tally.refused)})",
        "kills": f"{sum(tally.killed.values())} ({_counted(tally.killed)})",
        "faults": f"{sum(tally.faults.values())} ({_counted(tally.faults)})",
        "drained after": f"{seconds:.0f} s",
        "lost": _listed(found.lost),
        "differing": _listed(found.differing),
        "failed for our sake": _listed(found.failed),
    }
    for name, text in lines.items():
        print(f"  {name:22} {text}", flush=True)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _listed(lines: Sequence[str]) -> str:
    shown = [f"\n    {each}" for each in lines[:SHOWN]]
    more = [f"\n    and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "".join([str(len(lines)), *shown, *more])
