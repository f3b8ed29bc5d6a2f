"""The results of a cell: a JSON file to which each step adds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "findings.json"


@dataclass(frozen=True)
class Findings:
    """The content of the file."""

    path: Path

    @property
    def known(self) -> Mapping[str, Any]:
        """All results so far."""
        known: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return known

    def note(self, **results: Any) -> None:
        """Add results, or replace those of the same names."""
        self.path.write_text(json.dumps({**self.known, **results}, indent=1))
