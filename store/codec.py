"""Codec: values of one annotation to and from MessagePack bytes, exactly or not at all.

The bytes are readable by any MessagePack reader: dataclasses are maps by field name, datetimes the timestamp
extension, Decimal, UUID, date, time and timedelta text, an Enum its value, sets and tuples arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from eventray.domain.errors import EncodingError
from eventray.store.compile import Compiler
from eventray.store.fit import LEVELS_MAX, DataclassNode, Names, Node, too_deep

T = TypeVar("T")

_pack = msgspec.msgpack.Encoder().encode
_pack_sorted = msgspec.msgpack.Encoder(order="deterministic").encode


class DecodingError(ValueError):
    """Bytes that do not hold a value of the annotation."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where, self.reason = where, reason


class Codec(Generic[T]):
    """Encodes and decodes the values of one annotation.

    Unknown fields of a stored dataclass are ignored and missing ones take their defaults, so fields may be added.

    Args:
        annotation: a type, as written in a class; a refusal lists what can be stored.
        where: what errors call it, as in "Deposited" or "Account.deposit.amount".
        canonical: equal values give equal bytes: sets and the keys of dicts are sorted.

    Attributes:
        encode: value -> bytes. Raises EncodingError(where, reason) for a value that does not fit the annotation.
        unpack: bytes -> value, raising whatever msgspec raises.

    Raises:
        TypeError: naming `where`: the annotation is outside what can be stored.
    """

    __slots__ = ("_annotation", "_canonical", "_node", "_recursive", "_where", "encode", "unpack")

    encode: Callable[[T], bytes]
    unpack: Callable[[bytes], T]

    def __init__(self, annotation: Any, where: str, *, canonical: bool = False) -> None:
        compiler = Compiler()
        self._annotation = annotation
        self._where = where
        self._canonical = canonical
        self._node = compiler.compile(annotation, where)
        self._recursive = compiler.recursive
        try:
            self.unpack = msgspec.msgpack.Decoder(annotation).decode
        except (TypeError, NotImplementedError) as error:
            raise TypeError(f"{where}: {annotation} cannot be stored: {error}") from error
        finally:
            compiler.forget_caches()
        self.encode = self._fast_encode()

    def __reduce__(self) -> tuple[Any, ...]:
        return _codec, (self._annotation, self._where, self._canonical)

    @property
    def shape(self) -> str:
        """A description of the annotation with all fields and types in it: another shape, another text."""
        return self._node.describe()

    def decode(self, data: bytes) -> T:
        """The value that the bytes hold.

        Raises:
            DecodingError: they hold none of this annotation.
        """
        try:
            return self.unpack(data)
        except Exception as error:  # a dataclass's __post_init__ may raise anything
            raise DecodingError(self._where, f"{type(error).__name__}: {error}") from error

    def _fast_encode(self) -> Callable[[T], bytes]:
        """The encoder as generated source: one function that tests the usual case inline."""
        names, node = Names(), self._node
        known = self._node.order_known or not self._canonical
        names.values.update(pack=_pack_sorted if self._canonical else _pack, slow=self._slow, too_deep=too_deep)
        body = ["def encode(v):", "  try:"]
        if isinstance(node, DataclassNode):
            lines, fits = node.field_test("v", names, "      ")
            body += [f"    if type(v) is {names.of(node.kind)}:", *lines]
        else:
            fits = node.test("v", names)
            body += ["    if True:"]
        guard = "not too_deep(v) and " if self._recursive else ""
        body += [f"      if {guard}{known} and {fits}: return pack(v)"]
        body += ["  except Exception: pass", "  return slow(v)\n"]
        exec("\n".join([*names.source, *body]), names.values)
        encode: Callable[[T], bytes] = names.values["encode"]
        return encode

    def _slow(self, value: Any) -> bytes:
        """Encode what is unusual (a subclass of str, an int for a float, ...), or say what does not fit and where."""
        if self._recursive and too_deep(value):
            raise EncodingError(self._where, f"it is nested deeper than {LEVELS_MAX} levels, or contains itself")
        try:
            plain = self._node.plain(value, self._where)
            return _pack(_sorted(plain)) if self._canonical else _pack(plain)
        except EncodingError:
            raise
        except Exception as error:
            raise EncodingError(self._where, f"{type(error).__name__}: {error}") from error


def _codec(annotation: Any, where: str, canonical: bool) -> Codec[Any]:
    return Codec(annotation, where, canonical=canonical)


def _sorted(value: Any) -> Any:
    """The value with sets and keys in an order that depends on the content alone."""
    if isinstance(value, (set, frozenset)):
        return sorted((_sorted(x) for x in value), key=_pack)
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=_pack)}
    if isinstance(value, (list, tuple)):
        return [_sorted(x) for x in value]
    if dataclasses.is_dataclass(value):
        return {f.name: _sorted(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


def node_of(codec: Codec[Any]) -> Node:
    """The compiled annotation, for what builds on it."""
    return codec._node
