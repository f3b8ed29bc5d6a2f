"""Why a combination can't be installed: by the packages' metadata, or by a resolver's message."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.specifiers import SpecifierSet

_BY_PIP = re.compile(r"requirement (?P<name>[\w-]+)==(?P<version>[\w.]+)")
_CONFLICT = re.compile(r"Because (.+?)(?:, we can conclude|\.\s*$)", re.DOTALL)
"""The first step of uv's explanation."""


def declared_refusal(packages: Iterable[tuple[str, str, str | None]], python: str) -> str | None:
    """The first package that doesn't allow this Python.

    Each is its name, its version and its `Requires-Python`. uv looks at lower bounds only: it
    installs what declares that it doesn't go with this Python.
    """
    for name, version, requires in sorted(packages):
        if requires and not SpecifierSet(requires).contains(python, prereleases=True):
            return f"{name} {version} needs Python {requires}"
    return None


def refusal(output: str) -> str | None:
    """Why nothing could be installed, as pip or uv say; None if it failed otherwise."""
    return _refusal_of_pip(output) or _refusal_of_uv(output)


def _refusal_of_pip(output: str) -> str | None:
    requirement = _BY_PIP.search(output)
    if requirement is None:
        return None
    name, version = requirement["name"], requirement["version"]
    python = re.search(rf"[:;] {re.escape(version)} Requires-Python ([^;\s]+)", output)
    return python and f"{name} {version} needs Python {python[1]}"


def _refusal_of_uv(output: str) -> str | None:
    text = " ".join(output.split())
    conflict = _CONFLICT.search(text) if "No solution found" in text else None
    return conflict and conflict[1]
