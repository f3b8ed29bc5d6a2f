"""What DataHub lacks of deliveries that were complete once, and is to be sent again alone.

A repair names the proposals of a run, of a catalogue or of the events without a run. Its row in
`runs`, `repair:<id of their row>`, is leased and delivered like a run; theirs is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from datahub_eventlog.ledger.database import LedgerPart, in_transaction, on_connection
from datahub_eventlog.ledger.dialects import insert_absent
from datahub_eventlog.ledger.records import REPAIR
from datahub_eventlog.ledger.tables import repairs, runs
from datahub_eventlog.ledger.touches import touch

c = repairs.c


class Repairs(LedgerPart):
    """Asking for repairs, and what they consist of."""

    @in_transaction
    def request(self, connection: Connection, wanted: Mapping[str, Collection[str]]) -> None:
        """Have the proposals with these keys sent, by the ids of the rows that they belong to."""
        for row_id, keys in sorted(wanted.items()):
            before = _keys(connection, row_id)
            _store(connection, row_id, before.union(keys))
            repair = repair_row(row_id)
            touch(connection, self.database.now, repair, is_urgent=True, definitions_hash=None)
            # Live runs come first.
            later = update(runs).where(runs.c.run_id == repair)
            connection.execute(later.values(backfilled=1))

    @on_connection
    def keys(self, connection: Connection, row_id: str) -> frozenset[str]:
        """The keys of what is to be sent; none if there is nothing to repair any more."""
        return _keys(connection, row_id)

    @in_transaction
    def done(self, connection: Connection, row_id: str, keys: Collection[str]) -> None:
        """Forget what was sent; what was asked for since stays."""
        _store(connection, row_id, _keys(connection, row_id).difference(keys))


def repair_row(row_id: str) -> str:
    """The id of the row of `runs` that stands for the repair of another row."""
    return f"{REPAIR}{row_id}"


def _keys(connection: Connection, row_id: str) -> frozenset[str]:
    stored = select(c.proposals).where(c.run_id == row_id).with_for_update()
    text = connection.execute(stored).scalar()
    return frozenset() if text is None else frozenset(json.loads(text))


def _store(connection: Connection, row_id: str, keys: Collection[str]) -> None:
    if not keys:
        connection.execute(delete(repairs).where(c.run_id == row_id))
        return
    values = {"run_id": row_id, "proposals": json.dumps(sorted(keys))}
    connection.execute(insert_absent(connection.dialect.name, repairs, values))
    changed = update(repairs).where(c.run_id == row_id)
    connection.execute(changed.values(proposals=values["proposals"]))
