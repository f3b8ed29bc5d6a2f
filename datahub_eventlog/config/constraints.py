"""The types of options: what YAML may hold for each, and what the value becomes.

Pydantic applies them. A `ValueError` says what is expected; it never repeats a value that may be
a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict

LONGEST_SECONDS = 100 * 365 * 24 * 3600
"""A hundred years, which every clock and lock can count."""

NO_OTHER_KEYS = ConfigDict(extra="forbid")
"""For the `__pydantic_config__` of what is a mapping in YAML."""


def _seconds(value: Any) -> timedelta:
    # Written so that it refuses NaN, too.
    if not isinstance(value, int | float) or not 0 <= value <= LONGEST_SECONDS:
        raise ValueError(f"expected seconds, 0 to {LONGEST_SECONDS}")
    return timedelta(seconds=value)


def _positive_seconds(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value <= LONGEST_SECONDS:
        raise ValueError(f"expected seconds, more than 0 and at most {LONGEST_SECONDS}")
    return value


def _positive_duration(value: Any) -> timedelta:
    return timedelta(seconds=_positive_seconds(value))


def http_address(value: str) -> str:
    """The address of a server, without a slash at its end."""
    if not re.match(r"https?://[^/\s]+", value):
        raise ValueError("expected an address such as http://localhost:3000")
    return value.rstrip("/")


def _function(value: str) -> str:
    if not re.fullmatch(r"[\w.]+:[\w.]+", value):
        raise ValueError("expected package.module:function")
    return value


def _folder(value: str) -> str:
    try:
        return str(Path(value).expanduser())
    except RuntimeError:
        raise ValueError("there is no home directory for its ~ in this process") from None


def text(check: Callable[[str], str]) -> BeforeValidator:
    """Accept strings that pass `check`, which may change them."""

    # Not `StrictStr` with a validator after it, which Pydantic 2.0 does not take in a dataclass.
    def validate(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("expected a string")  # noqa: TRY004 - Pydantic lets others through
        return check(value)

    return BeforeValidator(validate)


def one_of(*names: str, in_any_case: bool = False) -> BeforeValidator:
    """Accept these names only."""

    def check(value: Any) -> str:
        name = value.upper() if in_any_case and isinstance(value, str) else value
        if name not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return str(name)

    return BeforeValidator(check)


Duration = Annotated[timedelta, BeforeValidator(_seconds)]
PositiveDuration = Annotated[timedelta, BeforeValidator(_positive_duration)]
PositiveSeconds = Annotated[float, BeforeValidator(_positive_seconds)]
HttpAddress = Annotated[str, text(http_address)]
FunctionName = Annotated[str, text(_function)]
Folder = Annotated[str, text(_folder)]
