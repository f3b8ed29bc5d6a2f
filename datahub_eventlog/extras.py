"""The packages that only delivery needs, and what brings them: a code location has neither."""

from __future__ import annotations

from importlib.util import find_spec

DELIVERY = ("datahub", "regex", "tenacity")
"""Modules of the extra `datahub`, without which nothing can be sent."""


def missing() -> list[str]:
    """Those of `DELIVERY` that this process can't import."""
    return [each for each in DELIVERY if find_spec(each) is None]


def command(extra: str = "datahub") -> str:
    """What installs that extra."""
    return f'pip install "datahub-eventlog[{extra}]"'
