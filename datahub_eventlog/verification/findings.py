"""What a comparison finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from datahub_eventlog.values import Json

Kind: TypeAlias = Literal["missing", "differs", "removed", "newer"]
"""DataHub lacks it; it has something else; a person has removed the entity; it has the state of a
newer run. The last two are no faults: nothing is to be done about them."""
FAULTS: tuple[Kind, ...] = ("missing", "differs")


@dataclass(frozen=True)
class FieldDifference:
    """A field that is not in DataHub as it was sent."""

    path: str
    """The names from the aspect inwards, such as `/customProperties/code_version`."""
    ours: Json
    theirs: Json
    """None where DataHub has nothing."""


@dataclass(frozen=True)
class Finding:
    """Something about an aspect that is not as it was sent."""

    kind: Kind
    urn: str
    aspect: str
    run_id: str
    """The run that it comes from; `catalog:<code location>`, or empty for events without a run."""
    fields: tuple[FieldDifference, ...] = ()
    detail: str = ""
    """Which one, of a timeseries; or what is known besides."""

    @property
    def is_fault(self) -> bool:
        """Whether DataHub does not show what Dagster knows."""
        return self.kind in FAULTS


@dataclass(frozen=True)
class DanglingColumn:
    """A column that lineage leads to or comes from, and that no schema has."""

    dataset: str
    column: str
    named_by: str
    """The dataset whose lineage names it."""


@dataclass
class Tally:
    """How much was compared."""

    entities: int = 0
    aspects: int = 0
    """Those of a timeseries counted one by one."""
    found: Counter[str] = field(default_factory=Counter)
    """By kind."""
    not_readable: dict[str, str] = field(default_factory=dict)
    """Why something could not be read, by what that is."""

    def count(self, findings: Iterable[Finding]) -> None:
        """Add findings."""
        self.found.update(finding.kind for finding in findings)

    @property
    def faults(self) -> int:
        """How much DataHub lacks, or has otherwise."""
        return sum(self.found[kind] for kind in FAULTS)
