"""The ledger: which runs have something new, who delivers them, and what DataHub already has.

```
           touch               lease            settle (untouched since it was read)
  ───────► PENDING ──────────► LEASED ─────────────────► delivered | filtered | gone
             ▲  ▲                │ │                                │
             │  └─ defer, wait ──┘ └─ park ──► PARKED ── revive ──► PENDING
             └─────────── touch (a later event) ────────────────────┘
                           an expired lease can be taken by anyone
```

All the package's SQL is in this folder, for SQLite, Postgres and MySQL alike.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import timedelta
from functools import cached_property, partial

from sqlalchemy import select
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger import clocks, leases, moving, reports, states, touches, upkeep
from datahub_eventlog.ledger.chunks import chunks
from datahub_eventlog.ledger.clocks import AHEAD
from datahub_eventlog.ledger.database import Connect, Database, T, file_connections
from datahub_eventlog.ledger.dialects import Clock, Instant, impatient, instant
from datahub_eventlog.ledger.records import (
    Ahead,
    Claim,
    Dispatcher,
    Facts,
    Lease,
    Outcome,
    Parked,
    Rejection,
    State,
    Status,
)
from datahub_eventlog.ledger.tables import ddl, definitions, runs

__all__ = [
    "AHEAD",
    "Ahead",
    "Claim",
    "Connect",
    "Dispatcher",
    "Facts",
    "Lease",
    "Ledger",
    "Outcome",
    "Parked",
    "Rejection",
    "State",
    "Status",
    "ddl",
]

FEW = 200
"""Claims in one transaction where it keeps all other writers waiting."""


class Ledger:
    """The tables beside an event log, and all that can be done with them.

    `connect` lends a connection; Dagster's own serve (`index_connection`), as do those of an
    engine (`engine.connect`). Nothing is kept open between two calls, and any thread or forked
    process may call. Every method raises `LedgerUnavailable` if the database fails; those that
    take a lease raise `LeaseLost`, and write nothing, if somebody else has taken the run.

    Times are UTC epoch seconds by the database's clock, for which `clock` stands in in tests.
    With `autocreate` missing tables are made by whoever first needs them; without, that is
    `LedgerMissing`.
    """

    def __init__(
        self, connect: Connect, *, clock: Clock | None = None, autocreate: bool = True
    ) -> None:
        self._clock = clock
        seed: Callable[[Connection], None] = lambda c: upkeep.seed(c, self._now)  # noqa: E731
        self._database = Database(connect, seed, autocreate=autocreate)

    @classmethod
    def in_file(cls, path: str, *, patience: float, clock: Clock | None = None) -> Ledger:
        """A ledger in a SQLite file, whose connections wait `patience` seconds for a lock."""
        return cls(file_connections(path, patience), clock=clock)

    # Touching: the write path of every Dagster process.

    def touch(
        self, run_id: str, *, urgent: bool = True, definitions: Facts | None = None
    ) -> float | None:
        """Note that a run has something new, and return the newest heartbeat's age in seconds.

        None if no dispatcher was ever seen. What is not urgent waits until the run's last look
        is some seconds old. One statement, or two with the facts of the run's definitions, each
        of which waits at most a second for locks; MySQL needs one more to be told so, and one to
        be asked for the heartbeat.
        """

        def work(connection: Connection) -> float | None:
            hash_ = None if definitions is None else definitions.hash
            with impatient(connection):
                if definitions is not None:
                    touches.store(connection, self._now, definitions)
                return touches.touch(
                    connection, self._now, run_id, is_urgent=urgent, definitions=hash_
                )

        return self._run(work)

    # Leasing and ending a delivery.

    def lease(
        self, owner: str, limit: int, ttl: timedelta, *, run_ids: Sequence[str] | None = None
    ) -> list[Lease]:
        """Take up to `limit` of the runs that are due, or of those among `run_ids`.

        Live runs come first, then backfilled ones; the longest due before the others. A lease
        ends after `ttl` unless it is extended.
        """
        return self._run(lambda c: leases.lease(c, self._now, owner, limit, ttl, run_ids))

    def extend(self, lease: Lease, ttl: timedelta) -> None:
        """Keep the lease for so long from now on."""
        self._run(lambda c: leases.extend(c, self._now, lease, ttl))

    def attempt(self, lease: Lease, ttl: timedelta) -> None:
        """Begin a delivery: the lease holds for so long from now on, and an attempt is counted.

        All that ends a delivery counts for itself whether it failed, so this one stays only if
        the process dies, or hangs until another takes the run.
        """
        self._run(lambda c: leases.attempt(c, self._now, lease, ttl))

    def settle(
        self,
        lease: Lease,
        outcome: Outcome,
        *,
        look_again: timedelta | None = None,
        cursor: str | None = None,
    ) -> bool:
        """End the delivery and return True, or make the run due again if it was touched since.

        After `look_again` the run can be leased once more, without leaving its state.
        """
        return self._run(lambda c: leases.settle(c, self._now, lease, outcome, look_again, cursor))

    def wait(self, lease: Lease, delay: timedelta, cursor: str | None = None) -> None:
        """Give back a run that goes on and was shown as far as it goes.

        It is due after the delay, or about now if it was touched since.
        """
        self._run(lambda c: leases.wait(c, self._now, lease, delay, cursor))

    def defer(self, lease: Lease, delay: timedelta, error: str, *, counts: bool) -> None:
        """Have the run tried again after the delay; the failed attempt counts, or doesn't."""
        self._run(lambda c: leases.defer(c, self._now, lease, delay, error, counts=counts))

    def park(self, lease: Lease, error: str) -> bool:
        """Lay the run aside for somebody to look at, unless it was touched since."""
        return self._run(lambda c: leases.park(c, self._now, lease, error))

    def release(self, lease: Lease) -> None:
        """Give the run back for anybody to take at once."""
        self._run(lambda c: leases.release(c, self._now, lease))

    def is_drained(self, run_ids: Sequence[str] | None = None) -> bool:
        """Whether nothing is due and nothing is leased, of all runs or of those.

        Runs that go on, that wait for their next attempt, or for the one more look after their
        delivery, don't count.
        """
        return self._run(lambda c: leases.is_drained(c, self._now, run_ids))

    # Older never overwrites newer.

    def claim(
        self, lease: Lease, ttl: timedelta, claims: Sequence[Claim], *, resend_after: timedelta
    ) -> list[bool]:
        """Extend the lease, and say which of these states are to be sent.

        Not those of which a newer one was claimed, nor those that DataHub has already, unless
        that is `resend_after` ago or the lease says `again`. What is to be sent is this run's
        until something newer comes. Of several claims for one slot only the newest is sent.
        """
        granted: list[bool] = []
        for some in self._portions(claims) or [()]:
            granted += self._claim(lease, ttl, some, resend_after)
        if lease.is_unfinished:
            self.make_way(lease, claims)
        return granted

    def _claim(
        self, lease: Lease, ttl: timedelta, claims: Sequence[Claim], resend_after: timedelta
    ) -> list[bool]:
        def work(connection: Connection) -> list[bool]:
            leases.begin(connection, self._now, lease, ttl)
            return states.claim(connection, self._now, lease, claims, resend_after)

        return self._run(work, is_atomic=True)

    def confirm(self, lease: Lease, claims: Sequence[Claim]) -> None:
        """Note that DataHub took these states.

        Where a newer run claimed one meanwhile, that run is touched and sends it once more:
        DataHub may have applied ours last. That holds for a lost lease too. So it is with a
        newer run that has added to one of them.
        """
        for some in self._portions(claims):
            if not self._run(partial(states.confirm, now=self._now, lease=lease, claims=some)):
                self.make_way(lease, some)
        takers = [each for each in claims if each.takes_additions]
        added = self._run(lambda c: states.additions(c, lease, takers)) if takers else {}
        if added:
            self._run(partial(states.yield_to, now=self._now, found=added), is_atomic=True)

    def _portions(self, claims: Sequence[Claim]) -> list[Sequence[Claim]]:
        """What of them goes into one transaction: on SQLite runs that write wait for its end."""
        size = FEW if len(claims) > FEW and self._has_one_writer else max(1, len(claims))
        return chunks(claims, size)

    @cached_property
    def _has_one_writer(self) -> bool:
        return self.dialect() == "sqlite"

    # Asking for a delivery.

    def missing(self, run_ids: Sequence[str]) -> list[str]:
        """Those of the runs that have no row, in their order."""
        return self._run(lambda c: touches.missing(c, run_ids))

    def add(self, run_ids: Sequence[str], *, backfilled: bool) -> list[str]:
        """Make runs that have no row pending, in their order, and return them."""
        return self._run(
            lambda c: touches.add(c, self._now, run_ids, backfilled=backfilled), is_atomic=True
        )

    def redeliver(
        self, run_ids: Sequence[str], *, backfilled: bool, settled_before: float | None = None
    ) -> int:
        """Make settled runs pending, unchanged state included, and return how many.

        With a time: only those that were settled before it.
        """
        return self._run(
            lambda c: touches.redeliver(
                c, self._now, run_ids, settled_before, backfilled=backfilled
            )
        )

    def recall_runless(self, since: float, *, again: bool) -> None:
        """Have the events without a run delivered from that time on; `again`: all of them."""
        self._run(lambda c: upkeep.recall_runless(c, self._now, since, again=again), is_atomic=True)

    def look_for_runless(self) -> None:
        """Have somebody look whether there are events without a run that nobody noted."""
        self._run(lambda c: upkeep.look_for_runless(c, self._now))

    def revive(self, run_ids: Sequence[str] | None = None) -> int:
        """Make parked runs and those with rejections pending, and return how many.

        All of them, or those among `run_ids`. They are delivered whole, unchanged state
        included; their rejections stay until then.
        """
        return self._run(lambda c: touches.revive(c, self._now, run_ids))

    # What people see.

    def rejected(
        self, run_id: str, rejections: Iterable[tuple[str, str, str]], *, is_whole: bool = True
    ) -> None:
        """Note urn, aspect and reason of what of a run was refused or could not be translated.

        They replace what was noted of it before, unless this delivery was not a whole one. The
        newest thousand of all runs are kept.
        """
        noted = list(rejections)
        self._run(
            lambda c: reports.reject(c, self._now, run_id, noted, is_whole=is_whole),
            is_atomic=bool(noted),
        )

    def status(self) -> Status:
        """Everything at once; the row of the runless events is in no count."""
        return self._run(lambda c: reports.status(c, self._now))

    def state(self, run_id: str) -> State | None:
        """The state of a run, None if it has no row."""
        return self.states([run_id]).get(run_id)

    def states(self, run_ids: Sequence[str]) -> dict[str, State]:
        """The states of those of the runs that have a row."""
        return self._run(lambda c: reports.states(c, run_ids))

    def settled_since(self, run_ids: Sequence[str], moment: float) -> set[str]:
        """Those of the runs that were settled then or later."""
        return self._run(lambda c: reports.settled_since(c, run_ids, moment))

    def heartbeat(self, host: str, pid: int, version: str) -> None:
        """Say that this process can deliver; it counts for `reports.ALIVE`."""
        self._run(lambda c: reports.beat(c, self._now, host, pid, version))

    def retire(self, host: str, pid: int) -> None:
        """Say that this process does not deliver any more."""
        self._run(lambda c: reports.retire(c, host, pid))

    def dispatchers(self) -> list[Dispatcher]:
        """The processes that can deliver, the one last seen first."""
        return self._run(lambda c: reports.alive(c, self._now))

    # Upkeep.

    def migrate(self) -> None:
        """Make missing tables, columns and indexes; the dispatcher does it when it starts.

        Raises `LedgerMissing` with what is to be done if `autocreate` is off.
        """
        self._database.migrate()

    def facts(self, hash: str) -> bytes | None:  # noqa: A002 - it is one
        """The facts that a touch brought under this hash."""
        statement = select(definitions.c.blob).where(definitions.c.hash == hash)
        found = self._run(lambda c: c.execute(statement).scalar())
        return None if found is None else bytes(found)

    def definitions_of(self, run_id: str) -> str | None:
        """The hash of the facts that were stored for a run, None if it has none."""
        statement = select(runs.c.definitions).where(runs.c.run_id == run_id)
        return self._run(lambda c: c.execute(statement).scalar())

    def dialect(self) -> str:
        """SQLAlchemy's name for the kind of database: sqlite, postgresql or mysql."""
        return self._run(lambda c: c.dialect.name)

    def created(self) -> float:
        """When the ledger was made."""
        return self._number(clocks.CREATED)

    def runless_since(self) -> float:
        """From when on events without a run are delivered; at first shortly before `created`.

        The ledger is made by the first touch, whose event is stored by then.
        """
        recalled = self._run(lambda c: upkeep.number(c, upkeep.RUNLESS))
        return self.created() - upkeep.BEFORE if recalled is None else recalled

    def begun(self, name: str) -> float:
        """When the undertaking of that name began: now, or before it was interrupted."""
        return self._run(lambda c: upkeep.begin(c, self._now, name), is_atomic=True)

    def finished(self, name: str) -> None:
        """Forget an undertaking: the next of its name begins anew."""
        self._run(lambda c: upkeep.forget(c, name))

    def take_over(self, old: Ledger) -> None:
        """Take what another ledger holds, which served the same event log before this one could.

        What it takes stays there. Done once more, only what was written there since is taken:
        by a process that had not noticed that there is another ledger now.
        """
        old.migrate()
        begun = old.now()
        moved = old._run(lambda c: upkeep.number(c, moving.MOVED))
        last = None if moved is None else min(moved, begun)
        for table, rows in moving.pages(old._database, last):
            self._run(partial(moving.put, now=self._now, table=table, rows=rows), is_atomic=True)
        if last is None:
            self._go_back_to(old)
        old._run(lambda c: upkeep.set_number(c, moving.MOVED, begun))

    def exists(self) -> bool:
        """Whether its tables are there; asking makes none."""
        return self._database.exists()

    def switched_off(self) -> None:
        """Note that capture is off: what happens from now on is left out on purpose."""
        self._run(lambda c: upkeep.set_number(c, upkeep.OFF, self._now))

    def switched_on(self) -> None:
        """Note that capture is on; if it was off, `since` and the watermark begin anew."""
        self._run(lambda c: upkeep.switch_on(c, self._now), is_atomic=True)

    def since(self) -> float:
        """From when on runs are captured; what ended before is history, for a backfill."""
        switched = self._run(lambda c: upkeep.number(c, upkeep.SINCE))
        return self.created() if switched is None else switched

    def watermark(self) -> float:
        """Up to when the reconciler has compared the instance's runs; at first `since`."""
        return self._number(upkeep.WATERMARK)

    def set_watermark(self, moment: float) -> None:
        """Remember up to when the instance's runs were compared."""
        self._run(lambda c: upkeep.set_number(c, upkeep.WATERMARK, moment))

    def ahead(self) -> Ahead | None:
        """By how much stored times are ahead of the clock, None if they are not."""
        return self._run(lambda c: clocks.ahead(c, self._now))

    def now(self) -> float:
        """The time by the ledger's clock."""
        return float(self._run(lambda c: c.execute(select(self._now)).scalar_one()))

    def sweep(self, retention: timedelta) -> int:
        """Remove runs settled longer ago than that and what else is old; how many runs.

        Times that are ahead of the clock are set to now, so that nothing waits for them.
        """
        self._run(lambda c: clocks.set_right(c, self._now))
        removed = 0
        while some := self._run(lambda c: upkeep.expire(c, self._now, retention), is_atomic=True):
            removed += some
        self._run(lambda c: upkeep.tidy(c, self._now, retention))
        return removed

    @property
    def _now(self) -> Instant:
        return instant(self._clock)

    def _run(self, work: Callable[[Connection], T], *, is_atomic: bool = False) -> T:
        return self._database.run(work, is_atomic=is_atomic)

    def _number(self, name: str) -> float:
        """A number that every seeded ledger has; tables made from `ddl` are not seeded yet."""
        found = self._run(lambda c: upkeep.number(c, name))
        if found is None:
            self._run(lambda c: upkeep.seed(c, self._now))
            found = self._run(lambda c: upkeep.number(c, name))
        return found or 0.0

    def _go_back_to(self, old: Ledger) -> None:
        """Look from then on, from when on the other one did, for what nobody noted."""
        since = min(self.since(), old.since())
        mark = min(self.watermark(), old.watermark())
        runless = min(self.runless_since(), old.runless_since())

        def work(connection: Connection) -> None:
            upkeep.set_number(connection, upkeep.SINCE, since)
            upkeep.set_number(connection, upkeep.WATERMARK, mark)
            upkeep.recall_runless(connection, self._now, runless, again=False)

        self._run(work, is_atomic=True)

    def make_way(self, lease: Lease, claims: Sequence[Claim]) -> None:
        """Have newer runs send again what this one may have overwritten.

        In rounds, since still newer ones may come: each round is whole, so that a crash
        between two leaves no run out.
        """
        touched: set[str] = set()
        while found := self._newer(lease, claims, touched):
            self._run(partial(states.yield_to, now=self._now, found=found), is_atomic=True)
            touched.update(found.values())

    def _newer(
        self, lease: Lease, claims: Sequence[Claim], touched: Container[str]
    ) -> dict[str, str]:
        found = self._run(lambda c: states.newer(c, lease, claims))
        return {digest: run_id for digest, run_id in found.items() if run_id not in touched}
