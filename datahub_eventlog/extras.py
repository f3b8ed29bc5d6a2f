"""The packages that only delivery needs, and the command that installs them."""

from __future__ import annotations

from importlib.util import find_spec

DELIVERY = ("datahub", "regex", "tenacity")
"""Modules of the extra `datahub`, without which nothing can be sent."""


def missing() -> list[str]:
    """Those of `DELIVERY` that this process can't import."""
    return [module for module in DELIVERY if find_spec(module) is None]


def command(extra: str = "datahub") -> str:
    """The command that installs the extra."""
    return f'pip install "datahub-eventlog[{extra}]"'
