"""Bringing what the ledger holds to DataHub; see `core` for the order of things."""

import warnings

from datahub_eventlog.dispatcher.core import Dispatcher, Parts
from datahub_eventlog.dispatcher.outgoing import redactor_of, run_items
from datahub_eventlog.dispatcher.starting import (
    DaemonThread,
    Open,
    Opened,
    Worker,
    assemble,
    deliver_runs,
    pool,
    require_delivery,
    start_in_daemon,
)

__all__ = [
    "DaemonThread",
    "Dispatcher",
    "Open",
    "Opened",
    "Parts",
    "Worker",
    "assemble",
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
