"""What the configuration takes from environment variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

PREFIX = "DATAHUB_EVENTLOG_"

Environ: TypeAlias = Mapping[str, str]


class UnsetVariable(Exception):
    """The block names an environment variable that is not set in this process."""


class WrongVariable(Exception):
    """An environment variable has a text that can't be used; the message says what is expected."""


def is_variable(value: Any) -> bool:
    """Whether a value of the block is `{env: X}`."""
    return isinstance(value, Mapping) and set(value) == {"env"} and isinstance(value["env"], str)


def resolve(value: Any, environ: Environ) -> Any:
    """The value with each `{env: X}` in it replaced; raises `UnsetVariable`."""
    if is_variable(value):
        variable = value["env"]
        if variable not in environ:
            raise UnsetVariable(f"datahub: the environment variable {variable} is not set here")
        return environ[variable]
    if isinstance(value, Mapping):
        return {key: resolve(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, environ) for item in value]
    return value


def from_json(text: str) -> Any:
    """What a variable's text stands for where the option takes no plain string.

    Raises `WrongVariable`.
    """
    try:
        return json.loads(text.lower() if text.lower() in {"true", "false"} else text)
    except ValueError:
        raise WrongVariable("expected JSON, such as true, 5 or {...}") from None
