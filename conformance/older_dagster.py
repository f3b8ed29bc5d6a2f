"""Lets the tests of a newer Dagster be imported on an older one, which publishes none itself.

What they import was often there already, in another module. What was not makes a test that
uses it skip itself, on either side.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from conformance.archives import suite_version
from conformance.suites import files

OWNERS = frozenset({"dagster", "dagster_shared"})
"""The packages whose names are looked for."""
MODULES = {
    "dagster_shared.seven": "dagster._seven",
    "dagster_shared.yaml_utils": "dagster._utils.yaml_utils",
}
"""Modules that are imported as such, by the name they have now, and the one they had."""


def restore_names() -> None:
    """Add to the installed Dagster the names that the tests import from it.

    Does nothing where it is as new as they are.
    """
    if suite_version() == version("dagster"):
        return
    for now, then in MODULES.items():
        _add_module(now, import_module(then))
    wanted = [(_module(module), name) for module, name in _imports()]
    homes = _homes()
    for module, name in wanted:
        if not hasattr(module, name):
            setattr(module, name, homes.get(name) or _absent(name))


def _imports() -> Iterator[tuple[str, str]]:
    """The names that the tests import, with their modules."""
    for path in _files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and _is_owned(node.module):
                yield from ((node.module, name.name) for name in node.names)


def _files() -> Iterator[Path]:
    for name in files():
        package, _, rest = name.partition("/")
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            path = Path(folder, rest)
            yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _is_owned(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in OWNERS


def _module(name: str) -> ModuleType:
    """The module of that name, or a new one."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        module = ModuleType(name)
        module.__path__ = []
        _add_module(name, module)
        return module


def _add_module(name: str, module: ModuleType) -> None:
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(_module(parent), last, module)


def _homes() -> dict[str, Any]:
    """Whatever the loaded modules of Dagster define, by its name."""
    modules = [module for name, module in sorted(sys.modules.items()) if _is_owned(name)]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if not isinstance(value, ModuleType)
    }


def _absent(name: str) -> Any:
    """Stands for something that this Dagster doesn't have: whoever uses it is skipped."""

    class Absent(type):
        def __getattr__(cls, attribute: str) -> NoReturn:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            cls()

        def __call__(cls, *arguments: Any, **options: Any) -> NoReturn:
            pytest.skip(f"Dagster {version('dagster')} has no {name}")

    return Absent(name, (), {})
