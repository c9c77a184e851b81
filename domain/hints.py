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
from collections.abc import Callable, Iterator
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
        if owner is object or owner.__module__.startswith("eventray.domain."):
            continue
        fields: dict[str, dataclasses.Field[Any]] = vars(owner).get("__dataclass_fields__", {})
        module = sys.modules.get(owner.__module__)
        scope = _Scope(owner, vars(module) if module is not None else {}, frame, complete=strict)
        _mend(fields)
        for name in annotations:
            where, needed = f"{owner.__name__}.{name}", strict and name in fields
            _resolve_entry(annotations, name, where, scope, needed)
            if name in fields:
                fields[name].type = annotations[name]
                _resolve_nested(annotations[name], frame, strict, seen)
        if annotations:
            owner.__annotations__ = annotations


def _mend(fields: dict[str, dataclasses.Field[Any]]) -> None:
    """Give the fields of a class that was rebuilt in another process their sentinel back.

    `dataclasses` tells "no default" by one object's identity, which does not survive a class that is pickled by value.
    """
    for field in fields.values():
        for name in ("default", "default_factory"):
            if type(getattr(field, name)) is type(dataclasses.MISSING):
                setattr(field, name, dataclasses.MISSING)


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
    scope = _Scope(owner, getattr(function, "__globals__", {}), frame, complete=strict)
    for name in list(annotations):
        _resolve_entry(annotations, name, f"{where}.{name}", scope, strict)
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


def _resolve_entry(annotations: dict[str, Any], name: str, where: str, scope: _Scope, strict: bool) -> None:
    annotation = annotations[name]
    try:
        annotations[name] = scope.evaluate(annotation)
    except Exception as error:
        if strict:
            raise UnresolvedError(
                f"{where}: the annotation {annotation!r} cannot be resolved ({error}). "
                "Define or import the name at module level, or before the class in the same function."
            ) from error


class _Scope:
    """What names mean in the annotations of a class: as near as can be to what they mean where it is written.

    Args:
        owner: the class.
        globalns: the globals of its module.
        frame: the class statement's, or that of a caller who may know its local names.
        complete: all names are defined by now; else one that the function assigns further down is not a global.
    """

    def __init__(
        self, owner: type[Any], globalns: dict[str, Any], frame: types.FrameType | None, *, complete: bool
    ) -> None:
        self._globals = globalns
        self._frame = frame
        self._own = {name: value for name, value in vars(owner).items() if isinstance(value, type)}
        self._own[owner.__name__] = owner
        self._local = "<locals>" in owner.__qualname__
        self._complete = complete

    def evaluate(self, annotation: Any) -> Any:
        try:
            return _hint(annotation, self._globals, self._lexical())
        except NameError:
            if self._frame is None:
                raise
            known = _locals_of(self._frame, None)
            return _hint(annotation, self._globals, _Names({**known, **self._own}, self._pending()))

    def _lexical(self) -> _Names:
        if self._frame is None or not self._local:
            return _Names(self._own, frozenset())
        return _Names({**_locals_of(self._frame, self._globals), **self._own}, self._pending())

    def _pending(self) -> frozenset[str]:
        if self._complete or self._frame is None or not self._local:
            return frozenset()
        code = self._frame.f_code
        return frozenset(code.co_varnames + code.co_cellvars + code.co_freevars) - self._frame.f_locals.keys()


class _Names(dict[str, Any]):
    """Local names, some of which are known to come later: those must not be taken from the globals."""

    def __init__(self, names: dict[str, Any], pending: frozenset[str]) -> None:
        super().__init__(names)
        self._pending = pending

    def __missing__(self, name: str) -> Any:
        if name in self._pending:
            raise NameError(f"name {name!r} is not defined yet")
        raise KeyError(name)


def _hint(annotation: Any, globalns: dict[str, Any], localns: _Names) -> Any:
    holder = type("holder", (), {"__annotations__": {"it": annotation}})
    return typing.get_type_hints(holder, globalns, localns)["it"]


def _locals_of(frame: types.FrameType, globalns: dict[str, Any] | None) -> dict[str, Any]:
    """The locals of the functions that are running, the innermost winning; of one module's, when it is given."""
    found: list[dict[str, Any]] = []
    walk: types.FrameType | None = frame
    while walk is not None and len(found) < _FRAMES_MAX:
        if walk.f_code.co_flags & _CO_NEWLOCALS and (globalns is None or walk.f_globals is globalns):
            found.append(dict(walk.f_locals))
        walk = walk.f_back
    merged: dict[str, Any] = {}
    for names in reversed(found):
        merged.update(names)
    return merged
