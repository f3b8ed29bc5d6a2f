"""Secrets in the block itself: hidden where the block is shown, and named by `check`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from datahub_eventlog.config.environment import is_variable
from datahub_eventlog.config.options import TARGETS
from datahub_eventlog.error_text import without_secrets

_KEY_ITSELF = "key.pem"
"""How the name of Kafka's option ends that has the key itself, and not its password."""
_HIDDEN_BELOW = ("extra_headers", "producer_config", "schema_registry_config")
"""Keys of the block all of whose values are hidden."""


def masked(block: Any) -> Any:
    """The block with `***` for what may be secret; it may be anything."""
    if isinstance(block, Mapping):
        return {
            key: _hidden(value) if _is_secret_name(key) or key in _HIDDEN_BELOW else masked(value)
            for key, value in block.items()
        }
    if isinstance(block, list):
        return [masked(item) for item in block]
    return without_secrets(block) if isinstance(block, str) else block


def _hidden(value: Any) -> Any:
    if is_variable(value):
        return value
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    return "***"


def inline_secrets(block: Any) -> list[str]:
    """The places where dagster.yaml holds a secret itself instead of naming a variable."""
    given = block if isinstance(block, Mapping) else {}
    targets = {name: given[name] for name in TARGETS if name in given}
    return [
        ": ".join(path)
        for path, text in _texts(targets)
        if _is_secret_name(path[-1]) or re.match(r"\w+://[^/\s]*:[^/\s]*@", text)
    ]


def _texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of the block with the keys above it, without the names of variables."""
    if isinstance(value, Mapping) and not is_variable(value):
        for key, item in value.items():
            yield from _texts(item, (*path, str(key)))
    elif isinstance(value, str):
        yield path, value


def _is_secret_name(key: object) -> bool:
    # Its patterns take long to compile, and few processes show the block.
    from datahub_eventlog.redact import DEFAULT

    return DEFAULT.is_secret_name(str(key)) or str(key).lower().endswith(_KEY_ITSELF)
