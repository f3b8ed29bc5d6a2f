"""Bringing what the ledger holds to DataHub; see `core` for the order of things."""

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
