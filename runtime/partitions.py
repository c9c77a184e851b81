"""Partitions: which actor of a view that is spread over several an event, or a question, belongs to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgpack

from eventray.domain.projection import Projection

Key = Callable[[Any, Any], object]  # of an event and its Meta


def partition_of(key: object, partitions: int) -> int:
    """The partition, 1 to `partitions`, of a key: the same everywhere and for ever.

    Raises:
        TypeError: it is no str, int or bytes.
    """
    if type(key) not in (str, int, bytes):
        raise TypeError(f"a key is a str, an int or bytes, not {key!r}")
    if partitions == 1:
        return 1
    digest = blake2b(msgpack.packb(key, use_bin_type=True), digest_size=8).digest()
    return int.from_bytes(digest) % partitions + 1


def key_of(cls: type[Projection], partitions: int) -> Key | None:
    """The class's `key`, if it has one.

    Raises:
        TypeError: it cannot be called with an event and its Meta, or partitions are wanted and there is none.
    """
    found = inspect.getattr_static(cls, "key", None)
    function = found.__func__ if isinstance(found, staticmethod) else found
    if function is None and partitions == 1:
        return None
    how = f"{cls.__name__}.key: write it as @staticmethod def key(event, meta), which gives the key of an event"
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError(how if function is not None else f"{how}; partitions={partitions} needs one")
    if len(inspect.signature(function).parameters) != 2 or "self" in inspect.signature(function).parameters:
        raise TypeError(how)
    key: Key = function
    return key
