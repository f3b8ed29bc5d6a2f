"""What the ledger takes and gives: frozen values, times in UTC epoch seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["delivered", "filtered", "gone"]
"""How a run's delivery can end: delivered; left out on purpose; no longer in the event log."""

REPAIR = "repair:"
"""The beginning of the id of a row that stands for the repair of another row."""

BACKFILL = "backfill:"
"""The beginning of the id of a row that stands for the runs of a backfill together."""

START = ""
"""The cursor of a run that is to be read anew; a new run's cursor is None."""

TRANSITION = "transition:"
"""The beginning of the hash of a state that is sent only when it changes."""

State: TypeAlias = Literal["pending", "leased", "delivered", "filtered", "gone", "parked"]


@dataclass(frozen=True)
class Facts:
    """Facts of a run's definitions, kept once however many runs have the same."""

    hash: str
    """Of the content; at most 64 characters."""
    blob: bytes


@dataclass(frozen=True)
class Lease:
    """The right to deliver one run, and what was known of it when it was given."""

    run_id: str
    token: str
    touches: int
    """The counter that every touch bumps: `settle` sees by it whether there is news."""
    attempts: int
    definitions_hash: str | None
    """Under which `Runs.facts` has the facts of the run's definitions."""
    cursor: str | None
    again: bool
    """State that DataHub already has is sent too."""
    backfilled: bool
    first_touch: float
    last_touch: float
    begun: float
    """When it was given."""
    was: State
    """The state before; `delivered` means that this is the one more look."""
    is_unfinished: bool
    """An earlier delivery did not come to its end, and may have sent a part of what it had."""

    @property
    def sender(self) -> str:
        """In whose name states are claimed: a repair sends what its run would."""
        return self.run_id.removeprefix(REPAIR)

    @property
    def is_repair(self) -> bool:
        """Whether it is about what DataHub lacks of an earlier delivery."""
        return self.run_id.startswith(REPAIR)


@dataclass(frozen=True)
class Claim:
    """State that a run wants to send: what `slot` of `urn` was at a moment."""

    urn: str
    slot: str
    """The aspect, or whatever part of it is replaced on its own."""
    time: float
    """Of the event that it comes from: older never overwrites newer."""
    hash: str
    """Of the content; at most 64 characters."""
    base: str | None = None
    """The slot that this one adds to. Where that is newer, it has the last word; where that was
    sent since, it may have replaced what was added, which is then sent once more."""
    takes_additions: bool = False
    """Other claims may have this slot as their base."""
    is_vacant: bool = False
    """It says that there is nothing: to be sent only where something else was sent before."""

    @property
    def is_transition(self) -> bool:
        """Whether it is sent only where another state, or none, was sent before."""
        return self.hash.startswith(TRANSITION)

    @cached_property
    def row_key(self) -> str:
        """The key of its row: a urn can be too long for an index."""
        return _row_key(self.urn, self.slot)

    @cached_property
    def base_row_key(self) -> str | None:
        """The key of the row of what it adds to."""
        return None if self.base is None else _row_key(self.urn, self.base)


def _row_key(urn: str, slot: str) -> str:
    return hashlib.blake2b(f"{urn}\n{slot}".encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class Standing:
    """What became of a claim since."""

    is_newest: bool
    """No other run has claimed its slot, or what it adds to, with something newer."""
    is_same: bool
    """The newest content of its slot is equal to its own, whichever run sent that."""
    run_id: str | None
    """The run that claimed the slot last, None if nobody is known to have done so."""
    sent: float | None
    """When DataHub took the newest content; None if it did not, or that is not known."""


@dataclass(frozen=True)
class RunRow:
    """What the ledger has of a run."""

    state: State
    definitions_hash: str | None
    settled: float | None


@dataclass(frozen=True)
class Rejection:
    """A proposal that DataHub refused, or a fact that could not be translated."""

    run_id: str
    urn: str
    aspect: str
    reason: str


@dataclass(frozen=True)
class Parked:
    """A run that needs somebody to look at it, and why."""

    run_id: str
    error: str


@dataclass(frozen=True)
class Dispatcher:
    """A process that can deliver, and whose last heartbeat is recent."""

    host: str
    pid: int
    version: str
    last_seen_seconds: float


@dataclass(frozen=True)
class StoredCatalog:
    """What a code location defines, as the ledger has it."""

    location: str
    hash: str
    """Of the content."""
    parts: int
    """The number of its parts."""
    loaded: float
    """When the code location was loaded, by the ledger's clock: the time of its state."""
    is_whole: bool
    """All definitions could be read, so that what is not among them is gone."""
    is_confirmed: bool
    """Whatever is gone is to be removed, however much it is."""


@dataclass(frozen=True)
class Gone:
    """The entities that a code location defined once and does not define any more."""

    known: int
    """How many it defined until now."""
    urns: tuple[str, ...] = ()
    """Those that no other code location defines, the ones that were removed before included."""
    newly: int = 0
    """How many of them were not removed before."""
    elsewhere: tuple[str, ...] = ()
    """Those that another code location defines."""


@dataclass(frozen=True)
class Removed:
    """An entity that was marked as removed in DataHub, since its definition is gone."""

    location: str
    urn: str
    time: float


@dataclass(frozen=True)
class HeldBack:
    """A code location of which too much is gone at once for its removal."""

    location: str
    entities: int


@dataclass(frozen=True)
class Left:
    """What an interrupted undertaking has left to do, and has found so far."""

    number: int
    faults: int


@dataclass(frozen=True)
class Ahead:
    """The ledger has times that are ahead of its clock."""

    seconds: float
    is_local: bool
    """Its clock is this machine's, not that of a database server."""

    def __str__(self) -> str:
        """Which clock it is, and what to do."""
        clock = "this machine's clock" if self.is_local else "the clock of the database's server"
        return (
            f"the ledger has times that are {self.seconds:.0f} s ahead of {clock}, which was ahead"
            " when they were stored, or is behind now: synchronize it by NTP. A dispatcher takes"
            " such times for now, within minutes"
        )


@dataclass(frozen=True)
class Status:
    """What `datahub-eventlog status` shows."""

    runs: Mapping[str, int]
    """By state, all seven present; `expired` are settled ones that retention has removed."""
    oldest_pending_seconds: float | None
    """For how long the longest waiting run has been due; None if none is."""
    delivered_last_minute: int
    rejected: tuple[Rejection, ...]
    parked: tuple[Parked, ...]
    """The newest ones; `runs` has their number."""
    dispatchers: tuple[Dispatcher, ...]
    ahead: Ahead | None = None
    """None where the clocks are right."""
    removed: tuple[Removed, ...] = ()
    """The newest ones."""
    held_back: tuple[HeldBack, ...] = ()
