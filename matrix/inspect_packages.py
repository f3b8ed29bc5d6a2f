"""Notes the installed versions, and the first package that does not allow this Python."""

from __future__ import annotations

import platform
from importlib.metadata import Distribution, distributions
from pathlib import Path

from matrix.findings import FILE, Findings
from matrix.refusals import declared_refusal

SHOWN = ("dagster", "acryl-datahub", "sqlalchemy")
FIELD = "Requires-Python"


def _required(package: Distribution) -> str | None:
    fields = package.metadata
    return fields[FIELD] if FIELD in fields else None  # noqa: SIM401  # no `get` in Python 3.10


packages = [(one.name, one.version, _required(one)) for one in distributions()]
versions = {name.lower(): version for name, version, _ in packages}
Findings(Path(FILE)).note(
    versions={package: versions.get(package) for package in SHOWN},
    refusal=declared_refusal(packages, platform.python_version()),
)
