"""Kills processes and injects faults while real Dagster works, then audits what arrived.

Exits with 0 if every run and event of Dagster's event log has arrived, if DataHub's state equals
that of an undisturbed delivery, and if no run failed because of this package; else with 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dagster import DagsterInstance, DagsterRun, RunsFilter

from chaos.audit import UNFINISHED, Audit, Report
from chaos.failures import own_errors_in
from chaos.faults import Faults, Tally
from chaos.system import System, start_system
from datahub_eventlog.dispatcher.dispatcher import LEASE_TTL, SECOND_LOOK
from datahub_eventlog.dispatcher.reconciler import NEW_RUN_GRACE, RECONCILE_EVERY
from datahub_eventlog.ledger import Ledger
from datahub_eventlog.ledger_location import ledger_of

DELIVERY_SECONDS = (
    RECONCILE_EVERY.total_seconds() + NEW_RUN_GRACE.total_seconds() + LEASE_TTL.total_seconds()
)
"""After this time the reconciler has found, and a dispatcher delivered, every run."""
ORPHAN_SECONDS = 30.0
"""After this time a run that has not ended has lost its process."""
SHOWN_LINES = 20
LOGS = ("code.log", "web.log")
"""Of runs, steps and the webserver. An error of this package there counts as a failure."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run each seed, and return the exit code."""
    options = _parser().parse_args(arguments)
    is_good = True
    for seed in options.seed:
        with TemporaryDirectory(prefix="chaos-") as folder:
            home = (options.keep or Path(folder)) / f"{options.storage}-{seed}"
            is_good = _run_seed(options.storage, seed, options.minutes, home) and is_good
    return 0 if is_good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--storage", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--minutes", type=float, default=1.0, help="of faults, for each seed")
    parser.add_argument("--keep", type=Path, help="a folder in which to keep the instance and logs")
    return parser


def _run_seed(storage: str, seed: int, minutes: float, home: Path) -> bool:
    """Inject faults, wait for the deliveries, print the report; return whether it is good."""
    with start_system(storage, home) as system:
        print(f"chaos on {storage}, seed {seed}: {minutes:g} minutes of faults", flush=True)
        faults = Faults(system, seed)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            faults.step()
            time.sleep(faults.pause())
        faults.stop()
        with system.deployment.instance() as instance:
            ledger = ledger_of(instance, patience=30)
            audit = Audit(instance, ledger, system.receiver)
            canceled = _end_runs(system, instance)
            seconds = _drain(system, audit, ledger)
            report = audit.report(faults.tally)
            report.failed += own_errors_in(home, LOGS)
            _print(faults.tally, report, canceled, seconds)
    return report.is_good


def _end_runs(system: System, instance: DagsterInstance) -> int:
    """Wait for runs to end, cancel those that have lost their process, and return their number."""
    _wait_until(lambda: not system.workers()[0], DELIVERY_SECONDS)
    _wait_until(lambda: not _unfinished(instance), ORPHAN_SECONDS)
    orphans = _unfinished(instance)
    for run in orphans:
        instance.report_run_canceled(run)
    return len(orphans)


def _unfinished(instance: DagsterInstance) -> Sequence[DagsterRun]:
    return instance.get_runs(RunsFilter(statuses=UNFINISHED))


def _drain(system: System, audit: Audit, ledger: Ledger) -> float:
    """Wait until everything has arrived, and return how many seconds that took."""
    start = time.monotonic()

    def is_drained() -> bool:
        system.restart_ended()
        return ledger.leases.is_drained() and not audit.lost()

    _wait_until(is_drained, DELIVERY_SECONDS)
    seconds = time.monotonic() - start
    # A dispatcher looks at an ended run once more.
    time.sleep(SECOND_LOOK.total_seconds() + 5)
    system.stop_dispatchers()
    return seconds


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for the condition, at most for so many seconds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(1)


def _print(tally: Tally, report: Report, canceled: int, seconds: float) -> None:
    causes = report.external_causes
    lines = {
        "runs": f"{report.runs} ({_counts(report.states)}; {canceled} without a process, canceled)",
        "failed": f"{sum(causes.values())} ({_counts(causes)})",
        "retried, canceled": f"{tally.retried}, {len(tally.canceled)}",
        "reported without a run": str(tally.reported),
        "events audited": str(report.events),
        "refused by Dagster": f"{sum(tally.refused.values())} ({_counts(tally.refused)})",
        "kills": f"{sum(tally.killed.values())} ({_counts(tally.killed)})",
        "faults": f"{sum(tally.faults.values())} ({_counts(tally.faults)})",
        "drained after": f"{seconds:.0f} s",
        "lost": _listed(report.lost),
        "differing": _listed(report.differing),
        "failed because of us": _listed(report.failed),
    }
    for name, text in lines.items():
        print(f"  {name:22} {text}", flush=True)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _listed(lines: Sequence[str]) -> str:
    shown = [f"\n    {line}" for line in lines[:SHOWN_LINES]]
    more = [f"\n    and {len(lines) - SHOWN_LINES} more"] if len(lines) > SHOWN_LINES else []
    return "".join([str(len(lines)), *shown, *more])


if __name__ == "__main__":
    sys.exit(main())
