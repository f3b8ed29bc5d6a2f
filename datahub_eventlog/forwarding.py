"""A storage that stands in for another one: whoever looks at it sees the other.

It is generated over the base class of the Dagster that is installed, so that a method of a newer
Dagster reaches the backend, too.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from datahub_eventlog.dagster_internals import EventLogStorage

OWN = "_datahub"
"""How the names of the stand-in's own attributes begin; every other one is the backend's."""

_KEPT = frozenset({"has_instance", "_instance", "_instance_weakref", "register_instance"})
"""What the stand-in answers itself: the instance is registered with it, too."""

_Class = TypeVar("_Class", bound=type)


def _seen_class(storage: object) -> Any:
    return vars(storage).get(f"{OWN}_class", type(storage))


class _Disguise:
    """Answers `isinstance` as the backend would; `type()` stays our own.

    A class of its own, since a class body that defines `__class__` can't call `super()`.
    """

    __class__ = property(_seen_class)


def forwarding(base: type, target: str) -> Callable[[_Class], _Class]:
    """Give a class a member for each one of `base` that it has not, towards its own `target`."""

    def completed(cls: _Class) -> _Class:
        for name, member in _members(base):
            if name not in vars(cls) and name not in _KEPT:
                setattr(cls, name, _forwarded(name, member, target))
        abc.update_abstractmethods(cls)
        return cls

    return completed


def _members(storage_class: type) -> Iterator[tuple[str, Any]]:
    for cls in reversed(storage_class.__mro__):
        if cls.__module__.split(".")[0] == "dagster":
            for name, member in vars(cls).items():
                if not name.startswith(("__", "_abc_")) and _is_forwarded(member):
                    yield name, member


def _is_forwarded(member: Any) -> bool:
    return not isinstance(member, type) and (callable(member) or hasattr(member, "__get__"))


def _forwarded(name: str, member: Any, target: str) -> Any:
    if callable(member) and not isinstance(member, staticmethod):
        return _method(name, member, target)
    return _property(name, target)


def _method(name: str, original: Any, target: str) -> Callable[..., Any]:
    def forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(getattr(self, target), name)(*args, **kwargs)

    # Not the original's `__dict__`: it says that the method is abstract.
    return functools.update_wrapper(forward, original, updated=())


def _property(name: str, target: str) -> property:
    def forward(self: Any) -> Any:
        return getattr(getattr(self, target), name)

    return property(forward, doc=f"The backend's `{name}`.")


@forwarding(EventLogStorage, f"{OWN}_backend")
class ForwardingEventLogStorage(_Disguise, EventLogStorage):
    """Forwards everything to a backend: methods, properties, and attributes of any name.

    Only the registration of the instance is kept here as well. A subclass overrides what it
    adds to, and names its own attributes `_datahub...`.
    """

    _datahub_backend: EventLogStorage
    _datahub_class: type[EventLogStorage]

    def __init__(self, backend: EventLogStorage | type[EventLogStorage]) -> None:
        """Stand in for `backend`, or for the one that `_datahub_build` makes at its first use.

        In that case `backend` is the class that it will have.
        """
        super().__init__()
        if isinstance(backend, type):
            self._datahub_class = backend
        else:
            self._datahub_class = backend.__class__
            self._datahub_backend = backend

    def _datahub_build(self) -> EventLogStorage:
        raise AttributeError(f"{OWN}_backend")

    def register_instance(self, instance: Any) -> None:
        """Register the instance here and with the backend, if it has none yet."""
        super().register_instance(instance)
        backend = vars(self).get(f"{OWN}_backend")
        if backend is not None and not backend.has_instance:
            backend.register_instance(instance)

    def __getattr__(self, name: str) -> Any:
        if name == f"{OWN}_backend":
            return self._datahub_build()
        if name.startswith(OWN):
            raise AttributeError(name)
        return getattr(self._datahub_backend, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if _is_own(name):
            object.__setattr__(self, name, value)
        else:
            setattr(self._datahub_backend, name, value)

    def __delattr__(self, name: str) -> None:
        if _is_own(name):
            object.__delattr__(self, name)
        else:
            delattr(self._datahub_backend, name)


def _is_own(name: str) -> bool:
    return name.startswith(OWN) or name == "_instance_weakref"
