"""What each code location defines, and which entities were made of it.

A catalogue is stored in parts, under the hash of its content. The row of `runs` with the id
`catalog:<location>` is touched with it, and a dispatcher delivers it like a run.

An entity is noted once for each code location that defines it. It is gone where its code location
does not define it any more, and to be removed if no other code location does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, delete, literal, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Insert

from datahub_eventlog.ledger.chunks import chunks
from datahub_eventlog.ledger.database import LedgerPart, in_transaction, on_connection
from datahub_eventlog.ledger.dialects import Instant, insert_absent, later, upsert
from datahub_eventlog.ledger.records import Gone, StoredCatalog
from datahub_eventlog.ledger.tables import CATALOG, catalog_parts, catalogs, entities, runs
from datahub_eventlog.ledger.touches import touch

LONGEST_NAME = 200
"""Characters of a code location's name."""

c = catalogs.c
p = catalog_parts.c
e = entities.c


class Catalogs(LedgerPart):
    """The catalogues of the code locations, and the entities in them."""

    @on_connection
    def find(self, connection: Connection, location: str) -> StoredCatalog | None:
        """The newest catalogue of the code location, None if there is none."""
        is_it = c.location == stored_name(location)
        row = connection.execute(select(catalogs).where(is_it)).first()
        if row is None:
            return None
        return StoredCatalog(
            location=row.location,
            hash=row.hash,
            parts=row.parts,
            loaded=float(row.loaded),
            is_whole=bool(row.whole),
            is_confirmed=bool(row.confirmed),
        )

    @on_connection
    def locations(self, connection: Connection, age: timedelta) -> list[str]:
        """The names of the code locations whose catalogue was compared with them so lately."""
        is_recent = c.seen >= self.database.now - age.total_seconds()
        return list(connection.execute(select(c.location).where(is_recent)).scalars())

    @in_transaction
    def store(
        self,
        connection: Connection,
        location: str,
        blobs: Sequence[bytes],
        loaded: float,
        *,
        is_whole: bool,
        is_confirmed: bool = False,
    ) -> bool:
        """Store a catalogue and have it delivered; False if that one is there and was delivered.

        Nor is one stored that was loaded before the one that is there: its process still has an
        older version of the code. `is_confirmed`: it is delivered in any case, and however many
        entities are gone, they are removed.
        """
        now, location = self.database.now, stored_name(location)
        values: dict[str, Any] = {
            "location": location,
            "hash": content_hash(blobs, is_whole=is_whole),
            "parts": len(blobs),
            "loaded": loaded,
            "latest": loaded,
            "whole": int(is_whole),
            "confirmed": int(is_confirmed),
        }
        before = _hash_of(connection, location)
        connection.execute(_publishing(connection.dialect.name, now, values), values)
        is_there = _hash_of(connection, location) == values["hash"]
        if is_there and (before != values["hash"] or is_confirmed):
            _put_parts(connection, location, values["hash"], blobs)
            touch(connection, now, catalog_row(location), is_urgent=True, definitions_hash=None)
            return True
        if is_there:
            seen = update(catalogs).where(c.location == location)
            connection.execute(seen.values(latest=later(c.latest, literal(loaded)), seen=now))
        return _deliver_undelivered(connection, now, location)

    @on_connection
    def part(self, connection: Connection, catalog: StoredCatalog, number: int) -> bytes | None:
        """The part of that number, from 0 on; None if a newer catalogue has taken its place."""
        key = _part_key(catalog.location, catalog.hash, number)
        blob = connection.execute(select(p.blob).where(p.digest == key)).scalar()
        return None if blob is None else bytes(blob)

    @on_connection
    def removed(self, connection: Connection, location: str) -> list[str]:
        """The urns of the code location's entities that are marked as removed in DataHub."""
        is_it = (e.location == stored_name(location)) & e.removed.is_not(None)
        return list(connection.execute(select(e.urn).where(is_it)).scalars())

    @on_connection
    def gone(self, connection: Connection, location: str, urns: Collection[str]) -> Gone:
        """What is gone of a code location that defines these entities now."""
        columns = (e.urn_digest, e.urn, e.removed)
        rows = connection.execute(select(*columns).where(e.location == location)).all()
        absent = {row.urn_digest: row for row in rows if row.urn not in urns}
        elsewhere: set[str] = set()
        for chunk in chunks(sorted(absent)):
            others = select(e.urn_digest).where(
                e.urn_digest.in_(chunk), e.location != location, e.removed.is_(None)
            )
            elsewhere.update(connection.execute(others).scalars())
        nowhere = [row for key, row in absent.items() if key not in elsewhere]
        return Gone(
            known=sum(row.removed is None for row in rows),
            urns=tuple(sorted(row.urn for row in nowhere)),
            newly=sum(row.removed is None for row in nowhere),
            elsewhere=tuple(sorted(absent[key].urn for key in elsewhere)),
        )

    @in_transaction
    def note_defined(self, connection: Connection, location: str, urns: Collection[str]) -> None:
        """Remember that the code location defines these entities."""
        known = {
            row.urn: row.removed is not None
            for row in connection.execute(select(e.urn, e.removed).where(e.location == location))
        }
        absent = [
            {
                "digest": _hash(location.encode(), urn.encode()),
                "location": location,
                "urn_digest": _hash(urn.encode()),
                "urn": urn,
            }
            for urn in sorted(urns)
            if urn not in known
        ]
        if absent:
            values: dict[str, Any] = {name: bindparam(name) for name in absent[0]}
            connection.execute(insert_absent(connection.dialect.name, entities, values), absent)
        back = [_hash(urn.encode()) for urn in sorted(urns) if known.get(urn)]
        for chunk in chunks(back):
            is_back = (e.location == location) & e.urn_digest.in_(chunk)
            connection.execute(update(entities).where(is_back).values(removed=None))

    @in_transaction
    def note_removed(self, connection: Connection, catalog: StoredCatalog, gone: Gone) -> None:
        """Remember that DataHub has taken the removal of what is gone."""
        now, location = self.database.now, catalog.location
        for chunk in chunks([_hash(urn.encode()) for urn in gone.urns]):
            is_it = (e.location == location) & e.urn_digest.in_(chunk) & e.removed.is_(None)
            connection.execute(update(entities).where(is_it).values(removed=now))
        for chunk in chunks([_hash(urn.encode()) for urn in gone.elsewhere]):
            is_it = (e.location == location) & e.urn_digest.in_(chunk)
            connection.execute(delete(entities).where(is_it))
        # Not of a newer one, whose removal somebody may have asked for meanwhile.
        is_same = (c.location == location) & (c.hash == catalog.hash)
        is_same &= c.confirmed == int(catalog.is_confirmed)
        connection.execute(update(catalogs).where(is_same).values(confirmed=0, held=0))

    @on_connection
    def others_wait(self, connection: Connection, location: str) -> bool:
        """Whether the catalogue of another code location is still to be sent.

        Not one whose delivery fails, nor one that was sent and waits itself: its cursor says so.
        """
        others = connection.execute(select(c.location, c.hash).where(c.location != location)).all()
        hashes = {catalog_row(row.location): row.hash for row in others}
        for chunk in chunks(sorted(hashes)):
            is_under_way = runs.c.state.in_(("pending", "leased")) & (runs.c.attempts <= 1)
            rows = select(runs.c.run_id, runs.c.cursor).where(runs.c.run_id.in_(chunk))
            for row in connection.execute(rows.where(is_under_way)):
                if row.cursor != hashes[row.run_id]:
                    return True
        return False

    @on_connection
    def hold_back(self, connection: Connection, location: str, entities_gone: int) -> None:
        """Note that so many entities are gone, and are too many to be removed unasked."""
        held = update(catalogs).where(c.location == location)
        connection.execute(held.values(held=entities_gone))


def content_hash(blobs: Sequence[bytes], *, is_whole: bool) -> str:
    """The hash by which the ledger tells one catalogue from another."""
    return _hash(*blobs, str(is_whole).encode())


def stored_name(location: str) -> str:
    """The name of a code location in the ledger; the end of a long one becomes its hash."""
    plain = location.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(plain) <= LONGEST_NAME:
        return plain
    digest = _hash(location.encode(errors="replace"))
    return f"{plain[: LONGEST_NAME - len(digest)]}{digest}"


def catalog_row(location: str) -> str:
    """The id of the row of `runs` that stands for the catalogue of a code location."""
    return f"{CATALOG}{stored_name(location)}"


def location_of(row_id: str) -> str | None:
    """The code location whose catalogue a row of `runs` stands for; None for a run."""
    return row_id.removeprefix(CATALOG) if row_id.startswith(CATALOG) else None


def _hash_of(connection: Connection, location: str) -> str | None:
    return connection.execute(select(c.hash).where(c.location == location)).scalar()


def _publishing(dialect: str, now: Instant, names: Iterable[str]) -> Insert:
    """The statement that makes other content the catalogue, unless its code was loaded before."""
    return upsert(
        dialect,
        catalogs,
        {**{name: bindparam(name) for name in names}, "seen": now},
        # MySQL sees what an earlier one has set, and the condition reads the last two.
        lambda new: [
            (name, new[name])
            for name in ("parts", "whole", "confirmed", "seen", "loaded", "latest", "hash")
        ],
        lambda new: or_(
            new["confirmed"] == 1, (c.latest <= new["latest"]) & (c.hash != new["hash"])
        ),
    )


def _put_parts(connection: Connection, location: str, hash_: str, blobs: Sequence[bytes]) -> None:
    """Replace the parts of a code location."""
    connection.execute(delete(catalog_parts).where(p.location == location))
    parts = [
        {"digest": _part_key(location, hash_, number), "location": location, "blob": blob}
        for number, blob in enumerate(blobs)
    ]
    if parts:
        connection.execute(catalog_parts.insert(), parts)


def _deliver_undelivered(connection: Connection, now: Instant, location: str) -> bool:
    """Touch the row of a catalogue that nobody has delivered, such as an older dispatcher."""
    row_id = catalog_row(location)
    state = connection.execute(select(runs.c.state).where(runs.c.run_id == row_id)).scalar()
    if state not in {None, "gone", "filtered"}:
        return False
    touch(connection, now, row_id, is_urgent=True, definitions_hash=None)
    return True


def _part_key(location: str, hash_: str, number: int) -> str:
    return _hash(location.encode(), hash_.encode(), str(number).encode())


def _hash(*parts: bytes) -> str:
    """The hash of all parts, whatever is in them."""
    total = hashlib.blake2b(digest_size=20)
    for part in parts:
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()
