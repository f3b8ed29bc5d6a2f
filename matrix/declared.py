"""Notes which versions are installed here, and what of them declares not to go with this Python."""

from __future__ import annotations

import platform
from importlib.metadata import distributions
from pathlib import Path

from findings import FILE, Findings
from refusals import declared_refusal

SHOWN = ("dagster", "acryl-datahub", "sqlalchemy")

packages = [(each.name, each.version, each.metadata["Requires-Python"]) for each in distributions()]
versions = {name.lower(): version for name, version, _ in packages}
Findings(Path(FILE)).note(
    versions={each: versions.get(each) for each in SHOWN},
    refusal=declared_refusal(packages, platform.python_version()),
)
