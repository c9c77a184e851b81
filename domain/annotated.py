"""Which events a class deals in: read off its annotations, and off what its commands return."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from eventray.domain.aggregate import commands_of
from eventray.domain.hints import resolve_class, resolve_function
from eventray.domain.messages import Event
from eventray.domain.projection import queries_of

_SEQUENCES = (list, tuple, collections.abc.Sequence)
_UNIONS = (typing.Union, types.UnionType)


def resolve(cls: type[Any], frame: Any = None) -> None:
    """Make the annotations of an aggregate or projection real types, those of its `apply`, commands and queries too.

    Args:
        cls: the class.
        frame: where names of local classes are looked up (a frame, with its callers).

    Raises:
        TypeError: naming class and field, or method and parameter.
    """
    resolve_class(cls, frame)
    methods: dict[str, Any] = {**commands_of(cls), **queries_of(cls)}
    for name, method in methods.items():
        resolve_function(method.function, f"{cls.__name__}.{name}", cls, frame)
    apply = getattr(cls, "apply", None)
    if callable(apply):
        resolve_function(apply, f"{cls.__name__}.apply", cls, frame)


def events_in(annotation: Any, where: str, *, sequences: bool) -> frozenset[type[Event]]:
    """The event classes that an annotation names; `Event` itself is among them when it is named.

    Args:
        annotation: `Opened | Deposited`, or, when `sequences`, also `list[Opened] | None`.
        where: what the error calls it.
        sequences: whether lists, tuples and None may stand in it.

    Raises:
        TypeError: naming `where`: it holds something else.
    """
    found: set[type[Event]] = set()
    origin = typing.get_origin(annotation)
    if origin in _UNIONS or (sequences and origin in _SEQUENCES):
        for part in typing.get_args(annotation):
            if part is not Ellipsis:
                found |= events_in(part, where, sequences=sequences)
        return frozenset(found)
    if isinstance(annotation, type) and issubclass(annotation, Event):
        return frozenset({annotation})
    if sequences and annotation in (None, type(None)):
        return frozenset()
    allowed = "an event class, a union or list of them, or None" if sequences else "an event class or a union of them"
    raise TypeError(f"{where}: {annotation!r} is annotated; it must be {allowed}")


def with_subclasses(events: Iterable[type[Event]]) -> frozenset[type[Event]]:
    """The classes and those derived from them; `Event` itself, which stands for all of an app's, is left out."""
    latest: dict[str, type[Event]] = {}
    given = [event for event in events if event is not Event]
    waiting = list(given)
    while waiting:
        event = waiting.pop(0)
        latest[f"{event.__module__}.{event.__qualname__}"] = event  # one defined again (in a notebook) replaces the old
        waiting.extend(event.__subclasses__())
    return frozenset(latest.values()) | frozenset(given)


def applied_by(cls: type[Any], *, parameters: tuple[int, int]) -> tuple[Callable[..., None] | None, frozenset[Any]]:
    """The `apply` of a class and the event classes of its annotation; (None, empty) when it has none.

    Args:
        cls: an aggregate or a projection.
        parameters: how many it may have after `self`, at least and at most.

    Raises:
        TypeError: naming the class: it has no annotation, other parameters, or is no ordinary method.
    """
    where = f"{cls.__name__}.apply"
    function = inspect.getattr_static(cls, "apply", None)
    if function is None:
        return None, frozenset()
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"{where} must be an ordinary method: the engine calls it with each event")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{where} must be an ordinary method, neither async nor a generator")
    names = list(inspect.signature(function).parameters)[1:]
    if not parameters[0] <= len(names) <= parameters[1]:
        expected = "(self, event)" if parameters[1] == 1 else "(self, event, meta)"
        raise TypeError(f"{where} has parameters ({', '.join(['self', *names])}); it must be apply{expected}")
    if names[0] not in function.__annotations__:
        raise TypeError(f"{where}.{names[0]} has no annotation: it says which events the class gets")
    return function, events_in(function.__annotations__[names[0]], f"{where}.{names[0]}", sequences=False)


def as_events(returned: object, where: str) -> list[Event]:
    """What a command returned, as a list.

    Raises:
        TypeError: it is not an event, a list or tuple of events, or None.
    """
    if returned is None:
        return []
    events: list[Any] = list(returned) if isinstance(returned, (list, tuple)) else [returned]
    for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"{where} returned {event!r}: return an event, a list of events, or None")
    return events
