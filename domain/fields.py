"""How a class derived from Event, Aggregate or Projection becomes a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
from typing import Any

from eventray.domain.hints import resolve_class, resolve_function

_CLASS_VARIABLE = re.compile(r"^\s*(?:\w+\.)*ClassVar\b")


def make_dataclass(cls: type[Any], frame: types.FrameType, *, frozen: bool, kw_only: bool) -> None:
    """Turn `cls`, fresh from its class statement, into a dataclass in place.

    A default `{}`, `[]` or `set()` becomes a fresh one per instance.

    Args:
        cls: the class.
        frame: the frame of the class statement, for local names in annotations.
        frozen: instances cannot be changed, and are hashed by their fields.
        kw_only: the constructor takes keywords only.

    Raises:
        TypeError: naming class and field: another mutable default, or one without an annotation.
    """
    resolve_class(cls, frame, strict=False)
    for name, attribute in list(vars(cls).items()):
        function = getattr(attribute, "function", attribute)
        if isinstance(function, types.FunctionType):
            resolve_function(function, f"{cls.__name__}.{name}", cls, frame, strict=False)
    annotations: dict[str, Any] = inspect.get_annotations(cls)
    for name, default in list(vars(cls).items()):
        if name.startswith("__") or _is_class_variable(annotations.get(name)):
            continue
        _check_default(cls, name, default, annotated=name in annotations)
    dataclasses.dataclass(frozen=frozen, kw_only=kw_only)(cls)


def defining_frame() -> types.FrameType:
    """The frame of the class statement, seen from `__init_subclass__`."""
    return sys._getframe(2)


def _is_class_variable(annotation: object) -> bool:
    text = annotation if isinstance(annotation, str) else repr(annotation)
    return annotation is not None and _CLASS_VARIABLE.match(text) is not None


def _check_default(cls: type[Any], name: str, default: object, *, annotated: bool) -> None:
    kind = type(default)
    if kind.__hash__ is not None or isinstance(default, dataclasses.Field):
        return
    if not annotated:
        raise TypeError(
            f"{cls.__name__}.{name} is a {kind.__name__} that all instances would share and that is not stored: "
            f"annotate it as a field, or as ClassVar[...]"
        )
    if default or kind not in (dict, list, set):
        raise TypeError(
            f"{cls.__name__}.{name} has a mutable default ({kind.__name__}) that all instances would share: "
            f"only {{}}, [] and set() are made anew for each; use dataclasses.field(default_factory=...)"
        )
    setattr(cls, name, dataclasses.field(default_factory=kind))


def check_stored_name(cls: type[Any], name: object, version: object) -> None:
    """Check the `name=` and `version=` of a class statement.

    Raises:
        ValueError: naming the class.
    """
    if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable():
        raise ValueError(f"{cls.__name__}: name={name!r} must be 1 to 200 printable characters")
    if type(version) is not int or not 0 < version < 2**31:
        raise ValueError(f"{cls.__name__}: version={version!r} must be 1, 2, 3, ...")
