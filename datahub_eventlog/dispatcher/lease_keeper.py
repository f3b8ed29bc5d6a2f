"""Keeping a lease while a delivery takes long."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from datahub_eventlog.ledger import Lease, Ledger


class LeaseKeeper:
    """Extends a lease, as long as `keep` is called often enough; most calls do nothing."""

    def __init__(
        self, ledger: Ledger, lease: Lease, ttl: timedelta, on_call: Callable[[], None]
    ) -> None:
        """`on_call` is called each time; what it raises passes through."""
        self._ledger = ledger
        self._lease = lease
        self._ttl = ttl
        self._on_call = on_call
        self._extended = time.monotonic()

    def keep(self) -> None:
        """Extend the lease once a quarter of it is over; raises `LeaseLost` if it is another's."""
        self._on_call()
        if time.monotonic() - self._extended > self._ttl.total_seconds() / 4:
            self._ledger.leases.extend(self._lease, self._ttl)
            self._extended = time.monotonic()
