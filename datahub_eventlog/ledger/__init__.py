"""The ledger: which runs have something new, who delivers them, and what DataHub already has.

All the package's SQL is in this folder, for SQLite, Postgres and MySQL alike.
"""

from __future__ import annotations

from datahub_eventlog.ledger.catalogs import (
    Catalogs,
    catalog_row,
    content_hash,
    location_of,
    stored_name,
)
from datahub_eventlog.ledger.claims import Claims
from datahub_eventlog.ledger.clocks import CLOCK_TOLERANCE_SECONDS
from datahub_eventlog.ledger.database import Connect, Database, file_connections
from datahub_eventlog.ledger.dialects import Clock
from datahub_eventlog.ledger.leases import Leases
from datahub_eventlog.ledger.records import (
    TRANSITION,
    Ahead,
    Claim,
    Dispatcher,
    Facts,
    Gone,
    HeldBack,
    Lease,
    Outcome,
    Parked,
    Rejection,
    Removed,
    RunRow,
    Standing,
    State,
    Status,
    StoredCatalog,
)
from datahub_eventlog.ledger.repairs import Repairs, repair_row
from datahub_eventlog.ledger.reports import Reports
from datahub_eventlog.ledger.runs import Runs, backfill_of, backfill_row
from datahub_eventlog.ledger.tables import ddl
from datahub_eventlog.ledger.upkeep import Upkeep

__all__ = [
    "CLOCK_TOLERANCE_SECONDS",
    "TRANSITION",
    "Ahead",
    "Claim",
    "Connect",
    "Dispatcher",
    "Facts",
    "Gone",
    "HeldBack",
    "Lease",
    "Ledger",
    "Outcome",
    "Parked",
    "Rejection",
    "Removed",
    "RunRow",
    "Standing",
    "State",
    "Status",
    "StoredCatalog",
    "backfill_of",
    "backfill_row",
    "catalog_row",
    "content_hash",
    "ddl",
    "location_of",
    "repair_row",
    "stored_name",
]


class Ledger:
    """The tables beside an event log, in seven parts that share one database.

    ```
           runs.touch       leases.take     leases.settle (untouched since it was read)
      ───────► PENDING ──────────► LEASED ─────────────────► delivered | filtered | gone
                 ▲  ▲                │ │                                │
                 │  └─ defer, wait ──┘ └─ park ──► PARKED ── revive ──► PENDING
                 └───────────── touch (a later event) ──────────────────┘
                               an expired lease can be taken by anyone
    ```

    `runs` asks for deliveries, `leases` makes and ends them, `claims` keeps older state from
    overwriting newer, `catalogs` has what code locations define, `repairs` what DataHub lacks,
    `reports` is what people see, `upkeep` the ledger's own numbers and sweep.

    To touch a run is to mark it as having news: a row that is not there is made, a settled run
    becomes pending, and a leased one is delivered once more.

    `connect` lends a connection; Dagster's own serve (`index_connection`), as do those of an
    engine (`engine.connect`). Nothing is kept open between two calls, and any thread or forked
    process may call. Every method raises `LedgerUnavailable` if the database fails.

    Times are UTC epoch seconds by the database's clock, for which `clock` stands in in tests.
    With `autocreate` missing tables are made by whoever first needs them; without, that is
    `LedgerMissing`.
    """

    def __init__(
        self, connect: Connect, *, clock: Clock | None = None, autocreate: bool = True
    ) -> None:
        self.database = Database(connect, clock, autocreate=autocreate)
        self.runs = Runs(self.database)
        self.leases = Leases(self.database)
        self.claims = Claims(self.database)
        self.catalogs = Catalogs(self.database)
        self.repairs = Repairs(self.database)
        self.reports = Reports(self.database)
        self.upkeep = Upkeep(self.database)

    @classmethod
    def in_file(cls, path: str, *, patience: float, clock: Clock | None = None) -> Ledger:
        """A ledger in a SQLite file, whose connections wait `patience` seconds for a lock."""
        return cls(file_connections(path, patience), clock=clock)
