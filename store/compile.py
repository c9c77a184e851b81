"""From an annotation to its node, refusing what cannot be stored exactly."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any, NoReturn

import msgspec

from eventray.domain.errors import EncodingError
from eventray.domain.hints import resolve_class
from eventray.store.fit import DataclassNode, DictNode, EnumNode, Fixed, Items, LiteralNode, Node, Scalar, UnionNode
from eventray.store.scalars import PLAIN, enum_values_problem

_CONTAINERS = (list, set, frozenset, tuple, dict)
_MSGSPEC_CACHE = "__msgspec_cache__"


class Compiler:
    """Compiles one annotation with everything in it.

    Attributes:
        recursive: a dataclass contains itself, so that values have no depth by nature.
    """

    def __init__(self) -> None:
        self.recursive = False
        self._dataclasses: dict[type[Any], DataclassNode] = {}
        self._enums: set[type[enum.Enum]] = set()
        self._open: list[Any] = []

    def compile(self, annotation: Any, where: str) -> Node:
        """The node of an annotation.

        Raises:
            TypeError: naming `where`, the annotation, why, and what to use instead.
        """
        if hasattr(annotation, "__supertype__"):  # NewType
            return self.compile(annotation.__supertype__, where)
        if annotation is None or annotation in PLAIN_TYPES:
            return Scalar(type(None) if annotation is None else annotation)
        origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (typing.Union, types.UnionType):
            return self._union(annotation, parts, where)
        if origin is typing.Literal:
            return self._literal(annotation, parts, where)
        if origin in _CONTAINERS:
            return self._container(annotation, origin, parts, where)
        if origin is None and isinstance(annotation, type):
            return self._class(annotation, where)
        if type(annotation).__name__ == "TypeAliasType" and annotation not in self._open:
            self._open.append(annotation)
            return self.compile(annotation.__value__, where)
        return _refuse(annotation, where)

    def forget_caches(self) -> None:
        """Drop what msgspec keeps on classes: it does not pickle, and the classes have to."""
        for kind in (*self._dataclasses, *self._enums):
            if _MSGSPEC_CACHE in vars(kind):
                delattr(kind, _MSGSPEC_CACHE)

    def _class(self, kind: type[Any], where: str) -> Node:
        if issubclass(kind, enum.Enum):
            problem = enum_values_problem(kind)
            if problem:
                _refuse(kind, where, problem)
            self._enums.add(kind)
            return EnumNode(kind)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind, where)
        return _refuse(kind, where)

    def _dataclass(self, kind: type[Any], where: str) -> Node:
        known = self._dataclasses.get(kind)
        if known is not None:
            self.recursive = self.recursive or kind in self._open
            return known
        resolve_class(kind)
        node = self._dataclasses[kind] = DataclassNode(kind)
        self._open.append(kind)
        for name, field in kind.__dataclass_fields__.items():
            place = f"{kind.__name__}.{name}"
            if field._field_type.name == "_FIELD_INITVAR" or not field.init:
                raise TypeError(f"{place}: a stored field must be an ordinary one (no InitVar, no init=False)")
            if field._field_type.name == "_FIELD":
                node.fields[name] = self.compile(field.type, place)
        self._open.remove(kind)
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                _check_default(node.fields[field.name], field.default, f"{kind.__name__}.{field.name}")
        return node

    def _union(self, annotation: Any, parts: tuple[Any, ...], where: str) -> Node:
        node = UnionNode([self.compile(part, where) for part in parts])
        try:
            msgspec.msgpack.Decoder(annotation)
        except (TypeError, NotImplementedError):
            _refuse(
                annotation,
                where,
                "the stored bytes cannot tell its members apart; use one dataclass with optional fields, or two fields",
            )
        return node

    def _literal(self, annotation: Any, values: tuple[Any, ...], where: str) -> Node:
        if any(value is not None and type(value) not in (bool, int, str) for value in values):
            _refuse(annotation, where, "a Literal holds None, bool, int and str only; use an Enum")
        for value in values:
            _check_default(Scalar(type(value)), value, where)
        return LiteralNode(values)

    def _container(self, annotation: Any, origin: type, parts: tuple[Any, ...], where: str) -> Node:
        if origin is tuple and parts[1:] != (Ellipsis,):
            return Fixed([self.compile(part, where) for part in parts if part != ()])
        if origin is dict:
            key, value = (self.compile(part, where) for part in parts)
            if not key.scalar:
                _refuse(annotation, where, "its keys must be scalars: other readers cannot hash lists and maps")
            return DictNode(key, value)
        return Items(origin, self.compile(parts[0], where))


PLAIN_TYPES = frozenset(PLAIN)


def _check_default(node: Node, default: object, where: str) -> None:
    try:
        node.plain(default, where)
    except EncodingError as error:
        raise TypeError(f"{where}: the default does not fit: {error.reason}") from error


def _refuse(annotation: Any, where: str, why: str = "") -> NoReturn:
    shown = annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else annotation
    if not why and annotation in _CONTAINERS:
        why = f"say what is in it, as in {shown}[str{', int' if annotation is dict else ''}]"
    if not why and isinstance(annotation, str):
        why = "it is a string that was not resolved to a type"
    raise TypeError(
        f"{where}: {shown} cannot be stored"
        + (f": {why}" if why else "")
        + ". Stored are None, bool, int, float, str, bytes, Decimal, datetime, date, time, timedelta, UUID, Enum, "
        "dataclass, list, tuple, set, frozenset, dict, Optional, Literal and unions of them"
    )
