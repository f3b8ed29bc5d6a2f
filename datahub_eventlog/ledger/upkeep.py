"""What the ledger knows of itself, and the removal of what is old."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, exists, select, update
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger import clocks
from datahub_eventlog.ledger.database import LedgerPart, in_transaction, on_connection
from datahub_eventlog.ledger.dialects import insert_absent, upsert
from datahub_eventlog.ledger.named_values import (
    CAPTURE_OFF,
    CAPTURED_SINCE,
    CREATED,
    EXPIRED,
    RUNLESS_SINCE,
    WATERMARK,
    forget_value,
    read_value,
    seed,
    write_value,
)
from datahub_eventlog.ledger.records import BACKFILL, REPAIR, Ahead, Left
from datahub_eventlog.ledger.tables import (
    definitions,
    dispatchers,
    entities,
    is_run,
    meta,
    rejections,
    runs,
    states,
)

LEFT, FAULTS, TURN = "_left", "_faults", "_turn"
"""The ends of the names of what belongs to an undertaking."""
RUNLESS_MARGIN_SECONDS = 60.0
"""By which an event may be older than the ledger that its touch has made; clocks differ."""
SWEPT_ROWS = 500
"""Removed in one transaction, so that nobody waits long for it."""
GRACE_SECONDS = 24 * 3600.0
"""Younger definitions may be named by a run at any moment."""
STATES_KEPT = timedelta(days=365)
"""What was not claimed for so long is forgotten, or for `retention` if that is longer."""


class Upkeep(LedgerPart):
    """The ledger's own numbers, and its sweep."""

    def created(self) -> float:
        """When the ledger was made."""
        return self._seeded(CREATED)

    def captured_since(self) -> float:
        """From when on runs are captured; what ended before is history, for a backfill."""
        since = self._read(CAPTURED_SINCE)
        return self.created() if since is None else since

    def live_since(self) -> float:
        """From when on what happens is no history; its time may lie a little before its touch."""
        return self.captured_since() - RUNLESS_MARGIN_SECONDS

    def runless_since(self) -> float:
        """From when on events without a run are delivered; at first shortly before `created`.

        The ledger is made by the first touch, whose event is stored by then.
        """
        since = self._read(RUNLESS_SINCE)
        return self.created() - RUNLESS_MARGIN_SECONDS if since is None else since

    def watermark(self) -> float:
        """Up to when the reconciler has compared the instance's runs; at first `created`."""
        return self._seeded(WATERMARK)

    @on_connection
    def set_watermark(self, connection: Connection, moment: float) -> None:
        """Remember up to when the instance's runs were compared."""
        write_value(connection, WATERMARK, moment)

    @on_connection
    def switched_off(self, connection: Connection) -> None:
        """Note that capture is off: what happens from now on is left out on purpose."""
        write_value(connection, CAPTURE_OFF, self.database.now)

    @in_transaction
    def switched_on(self, connection: Connection) -> None:
        """Note that capture is on; if it was off, what is captured and compared begins now."""
        now = self.database.now
        if forget_value(connection, CAPTURE_OFF):
            for name in (CAPTURED_SINCE, WATERMARK):
                write_value(connection, name, now)
            # Events without a run that still wait were stored before.
            waits = (runs.c.run_id == "") & runs.c.state.in_(("pending", "leased", "parked"))
            if connection.execute(select(runs.c.run_id).where(waits)).first() is None:
                write_value(connection, RUNLESS_SINCE, now)

    @in_transaction
    def begin(self, connection: Connection, name: str) -> float:
        """When the undertaking of that name began: now, or before it was interrupted."""
        values = {"name": name, "value": self.database.now}
        connection.execute(insert_absent(connection.dialect.name, meta, values))
        return read_value(connection, name) or 0.0

    @on_connection
    def finish(self, connection: Connection, name: str) -> None:
        """Forget an undertaking: the next of its name begins anew."""
        for its in (name, f"{name}{LEFT}", f"{name}{FAULTS}"):
            forget_value(connection, its)

    @in_transaction
    def note_left(self, connection: Connection, name: str, number: int, faults: int) -> None:
        """Remember how much an undertaking has left to do, in case that it is interrupted."""
        write_value(connection, f"{name}{LEFT}", float(number))
        write_value(connection, f"{name}{FAULTS}", float(faults))

    def left(self, name: str) -> Left | None:
        """How much an interrupted undertaking has left to do, None if there is none."""
        number, faults = (self._read(f"{name}{part}") for part in (LEFT, FAULTS))
        return None if number is None else Left(int(number), int(faults or 0))

    @in_transaction
    def may_begin(self, connection: Connection, name: str, every: timedelta) -> bool:
        """Whether it is time for something that the dispatchers of a ledger do in turns.

        Only one of them gets True until `every` has passed again.
        """
        now = self.database.now
        values = {"name": f"{name}{TURN}", "value": 0.0}
        connection.execute(insert_absent(connection.dialect.name, meta, values))
        is_due = meta.c.value <= now - every.total_seconds()
        taken = update(meta).where(meta.c.name == values["name"], is_due).values(value=now)
        return connection.execute(taken).rowcount > 0

    @on_connection
    def ahead(self, connection: Connection) -> Ahead | None:
        """By how much stored times are ahead of the clock, None if they are not."""
        return clocks.times_ahead(connection, self.database.now)

    def sweep(self, retention: timedelta) -> int:
        """Remove runs settled longer ago than that and what else is old; how many runs.

        Times that are ahead of the clock are set to now, so that nothing waits for them.
        """
        self.database.run(lambda connection: clocks.set_right(connection, self.database.now))
        removed = 0
        while expired := self._expire(retention):
            removed += expired
        self._remove_unused(retention)
        return removed

    @in_transaction
    def _expire(self, connection: Connection, retention: timedelta) -> int:
        """Remove and count some runs that were settled long ago."""
        is_settled = runs.c.state.in_(("delivered", "filtered", "gone")) & runs.c.due.is_(None)
        is_old = runs.c.settled < self.database.now - retention.total_seconds()
        # The row of the events without a run has their cursor.
        old = select(runs.c.run_id).where(is_run(), is_settled, is_old).limit(SWEPT_ROWS)
        run_ids = connection.execute(old).scalars().all()
        if not run_ids:
            return 0
        statement = delete(runs).where(runs.c.run_id.in_(run_ids), is_settled, is_old)
        removed = connection.execute(statement).rowcount
        add_up = upsert(
            connection.dialect.name,
            meta,
            {"name": EXPIRED, "value": float(removed)},
            lambda new: [("value", meta.c.value + new["value"])],
        )
        connection.execute(add_up)
        return removed

    @on_connection
    def _remove_unused(self, connection: Connection, retention: timedelta) -> None:
        """Remove what no run needs any more."""
        now = self.database.now
        # NOT IN would go through all runs for each row, where they are too many to be kept at hand.
        has_run = exists().where(runs.c.run_id == rejections.c.run_id)
        connection.execute(delete(rejections).where(~has_run))
        used = select(runs.c.definitions).where(runs.c.definitions.is_not(None)).distinct()
        is_orphan = definitions.c.hash.not_in(used) & (definitions.c.seen < now - GRACE_SECONDS)
        connection.execute(delete(definitions).where(is_orphan))
        connection.execute(delete(dispatchers).where(dispatchers.c.seen < now - GRACE_SECONDS))
        is_repaired = runs.c.run_id.like(f"{REPAIR}%") & runs.c.state.in_(("delivered", "gone"))
        connection.execute(delete(runs).where(is_repaired, runs.c.settled < now - GRACE_SECONDS))
        is_backfill = runs.c.run_id.like(f"{BACKFILL}%") & runs.c.due.is_(None)
        is_old = runs.c.settled < now - retention.total_seconds()
        is_settled = runs.c.state.in_(("delivered", "gone"))
        connection.execute(delete(runs).where(is_backfill, is_settled, is_old))
        kept = max(STATES_KEPT, retention).total_seconds()
        connection.execute(delete(states).where(states.c.claimed < now - kept))
        connection.execute(delete(entities).where(entities.c.removed < now - kept))

    def _seeded(self, name: str) -> float:
        """A value that every seeded ledger has; tables made from `ddl` are not seeded yet."""
        value = self._read(name)
        if value is None:
            self.database.run(lambda connection: seed(connection, self.database.now))
            value = self._read(name)
        return value or 0.0

    def _read(self, name: str) -> float | None:
        return self.database.run(lambda connection: read_value(connection, name))
