"""What is known of a cell: a file of JSON that each step adds to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "findings.json"


@dataclass(frozen=True)
class Findings:
    """The file's content, by name."""

    path: Path

    @property
    def known(self) -> Mapping[str, Any]:
        """Everything that was noted so far."""
        known: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return known

    def note(self, **found: Any) -> None:
        """Add something, or replace it."""
        self.path.write_text(json.dumps({**self.known, **found}, indent=1))
