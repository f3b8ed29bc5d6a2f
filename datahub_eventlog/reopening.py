"""An instance opened a second time, so that delivery shares no storage with anybody."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dagster import DagsterInstance

from datahub_eventlog.dagster_internals import InstanceRef, instance_ref, is_complete

if TYPE_CHECKING:
    from datahub_eventlog.dispatcher import Opened
    from datahub_eventlog.ledger import Ledger

COMPLETION_SECONDS = 60.0
"""In which an instance that has registered its storages is complete."""


@contextmanager
def opened(ref: InstanceRef) -> Iterator[Opened]:
    """An instance and its ledger for a dispatcher."""
    from datahub_eventlog.dispatcher import Opened

    with opened_with_ledger(ref) as (instance, ledger):
        yield Opened(instance, ledger)


@contextmanager
def opened_with_ledger(ref: InstanceRef) -> Iterator[tuple[DagsterInstance, Ledger]]:
    """An instance and its ledger, where what delivers need not be installed."""
    from datahub_eventlog.ledger_location import LEDGER_LOCK_SECONDS, ledger_of

    with DagsterInstance.from_ref(ref) as instance:
        yield instance, ledger_of(instance, patience=LEDGER_LOCK_SECONDS)


def completed_ref(instance: weakref.ref[DagsterInstance]) -> InstanceRef | None:
    """Wait until the instance is complete; None if it is gone or can't be opened again."""
    end = time.monotonic() + COMPLETION_SECONDS
    while time.monotonic() < end:
        alive = instance()
        if alive is None:
            return None
        if is_complete(alive):
            return instance_ref(alive)
        del alive
        time.sleep(0.01)
    return None
