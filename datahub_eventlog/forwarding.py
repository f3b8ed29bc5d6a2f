"""A storage that stands in for another one: whoever looks at it sees the other.

It is generated over the base class of the Dagster that is installed, so that a method of a newer
Dagster reaches the backend, too.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from datahub_eventlog.dagster_internals import EventLogStorage

OWN_ATTRIBUTE = "datahub"
"""The stand-in's only attribute; every other one is the backend's."""

KEPT = frozenset({"has_instance", "_instance", "_instance_weakref", "register_instance"})
"""What the stand-in answers itself: the instance is registered with it, too."""

_OWN = frozenset({OWN_ATTRIBUTE, "_instance_weakref"})

_Class = TypeVar("_Class", bound=type)


def forwarding(base: type, target: str) -> Callable[[_Class], _Class]:
    """Give a class a member for each one of `base` that it has not, towards its own `target`.

    `target` is the path of an attribute, such as `datahub.backend`.
    """

    def completed(cls: _Class) -> _Class:
        for name, member in _members(base):
            if name not in vars(cls) and name not in KEPT:
                setattr(cls, name, _forwarded(name, member, attrgetter(target)))
        abc.update_abstractmethods(cls)
        return cls

    return completed


def _members(storage_class: type) -> Iterator[tuple[str, Any]]:
    """The members that Dagster itself gives to a base class of its storages."""
    for cls in reversed(storage_class.__mro__):
        if cls.__module__.split(".")[0] == "dagster":
            for name, member in vars(cls).items():
                if not name.startswith(("__", "_abc_")) and _is_forwarded(member):
                    yield name, member


def _is_forwarded(member: Any) -> bool:
    return not isinstance(member, type) and (callable(member) or hasattr(member, "__get__"))


def _forwarded(name: str, member: Any, target: Callable[[Any], Any]) -> Any:
    if not callable(member) or isinstance(member, staticmethod):
        return property(lambda self: getattr(target(self), name), doc=f"The backend's `{name}`.")

    def forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(target(self), name)(*args, **kwargs)

    # Not the original's `__dict__`: it says that the method is abstract.
    return functools.update_wrapper(forward, member, updated=())


class Target(Protocol):
    """What a stand-in holds in its attribute `datahub`."""

    @property
    def backend(self) -> EventLogStorage:
        """The storage behind it, which may be made when this is asked for."""
        ...

    @property
    def has_backend(self) -> bool:
        """Whether that storage is there already."""
        ...

    @property
    def backend_class(self) -> type:
        """The class that `isinstance` sees."""
        ...


def _seen_class(storage: object) -> Any:
    target = vars(storage).get(OWN_ATTRIBUTE)
    return type(storage) if target is None else target.backend_class


class _Disguise:
    """Answers `isinstance` as the backend would; `type()` stays our own.

    A class of its own, since a class body that defines `__class__` can't call `super()`.
    """

    __class__ = property(_seen_class)


@forwarding(EventLogStorage, f"{OWN_ATTRIBUTE}.backend")
class ForwardingEventLogStorage(_Disguise, EventLogStorage):
    """Forwards everything to a backend: methods, properties, and attributes of any name.

    Only the registration of the instance is kept here as well. A subclass overrides what it
    adds to, and keeps what it needs for that in `datahub`.
    """

    datahub: Target

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.datahub = target

    def register_instance(self, instance: Any) -> None:
        """Register the instance here and with the backend, if it has none yet."""
        super().register_instance(instance)
        if self.datahub.has_backend and not self.datahub.backend.has_instance:
            self.datahub.backend.register_instance(instance)

    def __getattr__(self, name: str) -> Any:
        if name == OWN_ATTRIBUTE:
            raise AttributeError(name)
        return getattr(self.datahub.backend, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.datahub.backend, name, value)

    def __delattr__(self, name: str) -> None:
        if name in _OWN:
            object.__delattr__(self, name)
        else:
            delattr(self.datahub.backend, name)
