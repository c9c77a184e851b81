"""The columns of history as data: from the annotations of events to Arrow types, and from values to what Arrow takes.

What has no honest Arrow type (unions, what contains itself, what has no fields) is JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal
from uuid import UUID

import msgspec
import pyarrow as pa

from eventray.domain.messages import Event
from eventray.store.compile import Compiler
from eventray.store.fit import DataclassNode, DictNode, EnumNode, Fixed, Items, LiteralNode, Node, Scalar, UnionNode

Convert = Callable[[Any], Any]
Decimals = tuple[int, int] | Literal["text"]


@dataclass(frozen=True)
class Kind:
    """How the values of one annotation stand in a column.

    Attributes:
        type: the Arrow type.
        shown: what tells it from every other kind; JSON text from text, too.
        convert: makes a value (never None) one that Arrow takes; None: it takes it as it is.
    """

    type: Any
    shown: str
    convert: Convert | None = None


def json_text(value: Any) -> str:
    """A value as JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except TypeError:  # None or a bool as a key
        return json.dumps(msgspec.to_builtins(value))


def _plain(type: Any, convert: Convert | None = None) -> Kind:
    return Kind(type, str(type), convert)


_JSON = Kind(pa.string(), "JSON text", json_text)
_TEXT = _plain(pa.string(), str)
_SCALARS: dict[Any, Kind] = {
    bool: _plain(pa.bool_()),
    int: _plain(pa.int64()),
    float: _plain(pa.float64()),
    str: _plain(pa.string()),
    bytes: _plain(pa.binary()),
    date: _plain(pa.date32()),
    datetime: _plain(pa.timestamp("us", "UTC")),
    timedelta: _plain(pa.duration("us")),
    UUID: _TEXT,
    type(None): _plain(pa.null()),
}  # a time is text: it may have an offset, which no Arrow type keeps


class Kinds:
    """Tells the kinds of the fields of events.

    Args:
        decimals: precision and scale of every Decimal column, or "text".

    Raises:
        ValueError: `decimals` is neither.
    """

    def __init__(self, decimals: Decimals) -> None:
        self._decimal = _decimal_kind(decimals)

    def of_fields(self, event: type[Event]) -> dict[str, Kind]:
        """The kinds of an event's fields, by name."""
        compiler = Compiler()
        try:
            node = compiler.compile(event, event.__name__)
        finally:
            compiler.forget_caches()
        assert isinstance(node, DataclassNode)
        return {name: self._kind(field) for name, field in node.fields.items()}

    def _kind(self, node: Node) -> Kind:
        match node:
            case Scalar(kind=kind):
                return self._decimal if kind is Decimal else _SCALARS.get(kind, _TEXT)
            case EnumNode(kind=kind):
                return _plain(_SCALARS[type(next(iter(kind)).value)].type, attrgetter("value"))
            case LiteralNode(kinds=kinds):
                return self._one_of([_SCALARS[kind] for kind in kinds if kind is not type(None)])
            case UnionNode(members=members):
                return self._one_of([self._kind(m) for m in members if m.kind is not type(None)])
            case Items(item=item):
                return self._items(self._kind(item))
            case Fixed(items=items) if items:
                parts = {str(place): self._kind(item) for place, item in enumerate(items)}
                return _struct(parts, tuple)
            case DictNode(key=Scalar() | EnumNode() as key, value=value) if key.kind is not type(None):
                return _map(self._kind(key), self._kind(value))
            case DataclassNode(fields=fields) if fields and not _contains(node, node):
                parts = {name: self._kind(field) for name, field in fields.items()}
                return _struct(parts, lambda value: [getattr(value, name) for name in parts])
        return _JSON

    @staticmethod
    def _one_of(kinds: list[Kind]) -> Kind:
        return kinds[0] if len(kinds) == 1 else _JSON

    @staticmethod
    def _items(item: Kind) -> Kind:
        convert = _nullable(item)
        return Kind(pa.list_(item.type), f"list<{item.shown}>", lambda value: [convert(x) for x in value])


def _decimal_kind(decimals: Decimals) -> Kind:
    match decimals:
        case "text":
            return _TEXT
        case (int() as precision, int() as scale) if 0 <= scale <= precision and 0 < precision <= 76:
            return _plain((pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale))
    raise ValueError(f'decimals={decimals!r}: give (precision, scale) with 0 <= scale <= precision <= 76, or "text"')


def _struct(parts: dict[str, Kind], values: Convert) -> Kind:
    converts = {name: _nullable(kind) for name, kind in parts.items()}

    def convert(value: Any) -> dict[str, Any]:
        return {name: of(x) for (name, of), x in zip(converts.items(), values(value), strict=True)}

    shown = ", ".join(f"{name}: {kind.shown}" for name, kind in parts.items())
    return Kind(pa.struct([(name, kind.type) for name, kind in parts.items()]), f"struct<{shown}>", convert)


def _map(key: Kind, value: Kind) -> Kind:
    of_key, of_value = _nullable(key), _nullable(value)
    shown = f"map<{key.shown}, {value.shown}>"
    return Kind(pa.map_(key.type, value.type), shown, lambda v: [(of_key(k), of_value(x)) for k, x in v.items()])


def _nullable(kind: Kind) -> Convert:
    convert = kind.convert
    if convert is None:
        return lambda value: value
    return lambda value: None if value is None else convert(value)


def _contains(node: Node, wanted: Node) -> bool:
    """Whether a dataclass stands, at any depth, within a node's parts."""
    seen: set[int] = set()
    waiting = list(_parts(node))
    while waiting:
        part = waiting.pop()
        if part is wanted:
            return True
        if id(part) not in seen:
            seen.add(id(part))
            waiting.extend(_parts(part))
    return False


def _parts(node: Node) -> list[Node]:
    match node:
        case UnionNode(members=parts) | Fixed(items=parts):
            return list(parts)
        case Items(item=item):
            return [item]
        case DictNode(key=key, value=value):
            return [key, value]
        case DataclassNode(fields=fields):
            return list(fields.values())
        case _:
            return []
