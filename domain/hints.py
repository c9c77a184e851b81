"""Turns written annotations into real types, and writes them back to the class or function they belong to.

Strings (from `from __future__ import annotations`, or quoted) have to become types before a class travels to another
process: there, the names they mention may not exist any more.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

_FRAMES_MAX = 40
_CO_NEWLOCALS = 0x2  # set on functions; a module's or class body's locals are reached through globals anyway


class UnresolvedError(TypeError):
    """An annotation that names something which is not there."""


def resolve_class(cls: type[Any], frame: types.FrameType | None = None, *, strict: bool = True) -> None:
    """Make the annotations of a class and its bases real types, those of nested dataclasses too.

    Args:
        cls: the class; its `__annotations__` and dataclass fields are updated.
        frame: where local names are looked up, with the frames that called it.
        strict: False leaves what cannot be resolved yet as it is.

    Raises:
        UnresolvedError: (a TypeError) naming class, field and the missing name.
    """
    _resolve_class(cls, frame, strict, set())


def _resolve_class(cls: type[Any], frame: types.FrameType | None, strict: bool, seen: set[type[Any]]) -> None:
    seen.add(cls)
    for owner in cls.__mro__:
        annotations = inspect.get_annotations(owner)
        if owner.__module__.startswith("eventray.domain.") or not annotations:
            continue
        fields: dict[str, dataclasses.Field[Any]] = vars(owner).get("__dataclass_fields__", {})
        module = sys.modules.get(owner.__module__)
        globalns = vars(module) if module is not None else {}
        for name in annotations:
            where, needed = f"{owner.__name__}.{name}", strict and name in fields
            _resolve_entry(annotations, name, where, globalns, {owner.__name__: owner}, frame, needed)
            if name in fields:
                fields[name].type = annotations[name]
                _resolve_nested(annotations[name], frame, strict, seen)
        owner.__annotations__ = annotations


def resolve_function(
    function: Callable[..., Any],
    where: str,
    owner: type[Any],
    frame: types.FrameType | None = None,
    *,
    strict: bool = True,
) -> None:
    """Make the annotations of a method real types, those of dataclasses they name too.

    Raises:
        UnresolvedError: (a TypeError) naming method, parameter and the missing name.
    """
    annotations = getattr(function, "__annotations__", {})
    globalns = getattr(function, "__globals__", {})
    for name in list(annotations):
        _resolve_entry(annotations, name, f"{where}.{name}", globalns, {owner.__name__: owner}, frame, strict)
        _resolve_nested(annotations[name], frame, strict, {owner})


def _resolve_nested(annotation: object, frame: types.FrameType | None, strict: bool, seen: set[type[Any]]) -> None:
    for leaf in leaves(annotation):
        if isinstance(leaf, type) and dataclasses.is_dataclass(leaf) and leaf not in seen:
            _resolve_class(leaf, frame, strict, seen)


def leaves(annotation: object) -> Iterator[object]:
    """The types that an annotation is made of: `list[A | None]` gives list, A, NoneType."""
    origin = typing.get_origin(annotation)
    if origin is None:
        yield annotation
        return
    yield origin
    if origin is not typing.Literal:
        for part in typing.get_args(annotation):
            yield from leaves(part)


def _resolve_entry(
    annotations: MutableMapping[str, Any],
    name: str,
    where: str,
    globalns: dict[str, Any],
    localns: dict[str, Any],
    frame: types.FrameType | None,
    strict: bool,
) -> None:
    annotation = annotations[name]
    try:
        annotations[name] = _evaluate(annotation, globalns, localns, frame)
    except Exception as error:
        if strict:
            raise UnresolvedError(
                f"{where}: the annotation {annotation!r} cannot be resolved ({error}). "
                "Define or import the name at module level, or before the class in the same function."
            ) from error


def _evaluate(annotation: Any, globalns: dict[str, Any], localns: dict[str, Any], frame: types.FrameType | None) -> Any:
    try:
        return _hint(annotation, globalns, localns)
    except NameError:
        if frame is None:
            raise
        return _hint(annotation, globalns, {**_locals_of(frame), **localns})


def _hint(annotation: Any, globalns: dict[str, Any], localns: Mapping[str, Any]) -> Any:
    holder = type("holder", (), {"__annotations__": {"it": annotation}})
    return typing.get_type_hints(holder, globalns, dict(localns))["it"]


def _locals_of(frame: types.FrameType) -> dict[str, Any]:
    """The locals of the functions that are running, the innermost winning."""
    found: list[dict[str, Any]] = []
    walk: types.FrameType | None = frame
    while walk is not None and len(found) < _FRAMES_MAX:
        if walk.f_code.co_flags & _CO_NEWLOCALS:
            found.append(dict(walk.f_locals))
        walk = walk.f_back
    merged: dict[str, Any] = {}
    for names in reversed(found):
        merged.update(names)
    return merged
