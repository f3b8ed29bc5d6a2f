"""Bringing what the ledger holds to DataHub; `dispatcher.Dispatcher` has the order of things."""

import warnings

from datahub_eventlog.dispatcher.assembling import Open, Opened, assemble, pool, require_delivery
from datahub_eventlog.dispatcher.at_exit import deliver_runs
from datahub_eventlog.dispatcher.daemon_thread import DaemonThread, start_in_daemon
from datahub_eventlog.dispatcher.dispatcher import Dispatcher
from datahub_eventlog.dispatcher.observer import Observer
from datahub_eventlog.dispatcher.parts import Parts
from datahub_eventlog.dispatcher.proposals import (
    backfill_items,
    catalog_items,
    redactor_of,
    run_items,
)
from datahub_eventlog.dispatcher.worker import Worker

__all__ = [
    "DaemonThread",
    "Dispatcher",
    "Observer",
    "Open",
    "Opened",
    "Parts",
    "Worker",
    "assemble",
    "backfill_items",
    "catalog_items",
    "deliver_runs",
    "pool",
    "redactor_of",
    "require_delivery",
    "run_items",
    "start_in_daemon",
]

# DataHub's SQL parser loads sqlglot, which warns where what older versions were sped up by is left
# over. In here since whatever delivers, or shows what would be delivered, imports this first.
warnings.filterwarnings("ignore", r"sqlglot\[rs\] is deprecated", UserWarning, r"sqlglot\b")
