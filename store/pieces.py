"""Pieces: a dataclass to the bytes that its codec reads, piece by piece: they are never in memory all at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgpack

from eventray.domain.errors import EncodingError
from eventray.store.codec import Codec

ITEMS = 100  # of a container in one piece
_CONTAINERS = (dict, list, set, frozenset, tuple)


class PieceCodec:
    """Encodes the values of a dataclass, as `Codec` of the same class does, containers in its fields by `ITEMS`.

    Args:
        kind: a dataclass of which there is a `Codec`.
        where: what errors call it.
    """

    def __init__(self, kind: type[Any], where: str) -> None:
        self._codecs = {
            field.name: Codec[Any](field.type, f"{where}.{field.name}") for field in dataclasses.fields(kind)
        }

    def encode(self, value: Any) -> Iterator[bytes]:
        """The pieces, in order. The value must not change meanwhile.

        Raises:
            EncodingError: it does not fit its annotation, as "Balances.total['a']".
        """
        yield msgpack.Packer().pack_map_header(len(self._codecs))
        for name, codec in self._codecs.items():
            yield msgpack.packb(name)
            try:
                yield from _pieces(codec, getattr(value, name))
            except EncodingError:
                codec.encode(getattr(value, name))  # says the place in the whole, not in a piece
                raise


def _pieces(codec: Codec[Any], value: Any) -> Iterator[bytes]:
    kind = type(value)
    if kind not in _CONTAINERS or len(value) <= ITEMS:
        yield codec.encode(value)
        return
    yield _header(kind, len(value))
    items = iter(value.items() if kind is dict else value)
    while some := tuple(islice(items, ITEMS)):
        yield codec.encode(kind(some))[len(_header(kind, len(some))) :]


def _header(kind: type, length: int) -> bytes:
    packer = msgpack.Packer()
    header: bytes = packer.pack_map_header(length) if kind is dict else packer.pack_array_header(length)
    return header
