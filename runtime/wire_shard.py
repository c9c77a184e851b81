"""What travels between a dedicated activation and its shard: appends and what they came to, and what is loaded.

As MessagePack: pickling an append takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from eventray.domain.errors import EventRayError
from eventray.store.admission import admitted, check_command_id, check_expected
from eventray.store.limits import StoreLimits
from eventray.store.page import Columns, Records
from eventray.store.records import BatchResult, Loaded, NewCommand, Snapshot, check_stream

_BYTES_MAX = 2**63 - 1  # the shard's own limits are lower
_ANY_SIZE = StoreLimits(event_bytes_max=_BYTES_MAX, batch_bytes_max=_BYTES_MAX, batch_events_max=_BYTES_MAX)


class Append(NamedTuple):
    """The arguments of `ShardPort.append_batch`."""

    stream: str
    commands: Sequence[NewCommand]
    expected_version: int | None
    token: int | None
    lookups: Sequence[str]


_encode = msgspec.msgpack.Encoder().encode
_decode_append = msgspec.msgpack.Decoder(tuple[str, list[NewCommand], int | None, int | None, tuple[str, ...]]).decode
_decode_result = msgspec.msgpack.Decoder(BatchResult).decode
_decode_loaded = msgspec.msgpack.Decoder(tuple[int, int, int, Snapshot | None, Columns, bool]).decode


def pack_append(append: Append) -> bytes | None:
    """An append as bytes; None if no shard would store it, and it might arrive as something that one does."""
    stream, commands, expected_version, token, lookups = append
    try:
        check_stream(stream)
        check_expected(expected_version)
        check_expected(token)
        for id in lookups:
            check_command_id(id)
        admitted(stream, commands, _ANY_SIZE)
        return _encode(append)
    except (EventRayError, ValueError, TypeError, ArithmeticError):
        return None


def unpack_append(data: bytes) -> Append:
    """The append in `data`."""
    return Append(*_decode_append(data))


def pack_result(result: BatchResult) -> bytes:
    """What an append came to as bytes."""
    return _encode(result)


def unpack_result(data: bytes) -> BatchResult:
    """The result in `data`."""
    return _decode_result(data)


def pack_loaded(loaded: Loaded) -> bytes:
    """What was loaded as bytes."""
    columns = Records.of(loaded.records).columns
    return _encode((loaded.token, loaded.version, loaded.position, loaded.snapshot, columns, loaded.more))


def unpack_loaded(data: bytes) -> Loaded:
    """What was loaded, from `data`."""
    token, version, position, snapshot, columns, more = _decode_loaded(data)
    return Loaded(token, version, position, snapshot, Records(columns), more)
