"""Finding the functions that dagster.yaml names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from datahub_eventlog import error_text
from datahub_eventlog.errors import ConfigurationError


def load(path: str | None, option: str, arguments: int) -> Callable[..., Any] | None:
    """The function at `path`, such as `package.module:function`; None without a path.

    Raises `ConfigurationError` if it can't be imported, or called with that many arguments.
    """
    if path is None:
        return None
    module, _, name = path.partition(":")
    try:
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
    except Exception as error:
        raise ConfigurationError(
            f"datahub: {option}: {path} can't be imported here: {error_text.describe(error)}."
            " It must be importable where delivery happens: in the daemon's or a worker's image."
        ) from error
    if not callable(function):
        raise ConfigurationError(f"datahub: {option}: {path} is not a function")
    _check_signature(function, path, option, arguments)
    checked: Callable[..., Any] = function
    return checked


def _check_signature(function: Callable[..., Any], path: str, option: str, arguments: int) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some builtins have no signature
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        raise ConfigurationError(
            f"datahub: {option}: {path}({', '.join(signature.parameters)}) can't be called with"
            f" {arguments} argument{'s' if arguments > 1 else ''}: {error}"
        ) from None
