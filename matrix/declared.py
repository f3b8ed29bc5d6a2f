"""Notes which versions are installed here, and what of them declares not to go with this Python."""

from __future__ import annotations

import platform
from importlib.metadata import Distribution, distributions
from pathlib import Path

from findings import FILE, Findings
from refusals import declared_refusal

SHOWN = ("dagster", "acryl-datahub", "sqlalchemy")
FIELD = "Requires-Python"


def _required(package: Distribution) -> str | None:
    said = package.metadata
    return said[FIELD] if FIELD in said else None  # noqa: SIM401  # its type has no `get` in 3.10


packages = [(each.name, each.version, _required(each)) for each in distributions()]
versions = {name.lower(): version for name, version, _ in packages}
Findings(Path(FILE)).note(
    versions={each: versions.get(each) for each in SHOWN},
    refusal=declared_refusal(packages, platform.python_version()),
)
