"""From rows of the events table to records, every one checked against its checksum."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from zlib import crc32

from eventray.domain.errors import StoreCorrupted
from eventray.store import rows
from eventray.store.records import Appended, Committed, Record
from eventray.store.rows import TypeName

# position, stream, version, type, recorded_at, command_key, command_index, flags, data, meta, crc
EventRow = tuple[int, int, int, int, int, bytes | None, int, int, bytes, bytes | None, int]
Names = Mapping[int, tuple[str, int]]  # stream key -> its name and the checksum of that

UNREADABLE = (struct.error, TypeError, ValueError, KeyError)


def named(stream: str) -> tuple[str, int]:
    """Return a stream's name with the checksum of it."""
    return stream, crc32(stream.encode())


def envelope_of(row: EventRow, stream_crc: int, types: Mapping[int, TypeName]) -> rows.Envelope:
    """Return the envelope of a row that is intact; ValueError (or its like) when it is not."""
    position, _, version, type_key, at, key, index, flags, data, meta, crc = row
    type = types[type_key]
    packed = rows.HEAD.pack(position, version, at, index, flags, type.version, type.crc)
    if rows.checksum(stream_crc, packed, key, meta, data) != crc:
        raise ValueError("the checksum of this event does not fit its fields")
    return rows.unpack(meta, key)


def committed(
    path: str, shard: int, stream: str, command_id: str, first: EventRow, types: Mapping[int, TypeName]
) -> Committed:
    """Return what the command did whose first event is `first`; `StoreCorrupted` when that row is not intact."""
    try:
        envelope = envelope_of(first, named(stream)[1], types)
    except UNREADABLE as error:
        raise corrupted(path, stream, first[2], error) from error
    more = envelope.events - 1  # a command's events are contiguous
    appended = Appended(stream, first[2] + more, shard, first[0] + more, envelope.events, command_id, True)
    return Committed(appended, envelope.name, envelope.fingerprint)


def corrupted(path: str, stream: str, version: int, error: BaseException) -> StoreCorrupted:
    """Return the error for a row that cannot be trusted."""
    reason = f"it names an unknown type or stream ({error})" if isinstance(error, KeyError) else str(error)
    return StoreCorrupted(path, reason, stream, version if isinstance(version, int) else 0)


def records_of(
    found: Iterable[EventRow],
    names: Names,
    types: Mapping[int, TypeName],
    ids: dict[int, str | None],
    path: str,
    shard: int,
) -> list[Record]:
    """Return the records of rows; `ids` knows the command id at each first position that is not among them.

    Raises `StoreCorrupted` naming stream and version of the first row that is not intact.
    """
    records: list[Record] = []
    add, make, pack, checksum, unpack = records.append, Record, rows.HEAD.pack, rows.checksum, rows.unpack
    name, version = "", 0
    try:
        for position, stream, version, type_key, at, key, index, flags, data, meta, crc in found:
            name, stream_crc = names[stream]
            _, type, type_version, type_crc, _ = types[type_key]
            if crc != checksum(
                stream_crc, pack(position, version, at, index, flags, type_version, type_crc), key, meta, data
            ):
                raise ValueError("the checksum of this event does not fit its fields")
            if meta is None:
                user, id = b"", None
            else:
                user, id, _, _, _ = unpack(meta, key)
            if index:
                id = ids[position - index]
            add(make(name, version, type, data, user, shard, position, at, id, type_version))
    except UNREADABLE as error:
        raise corrupted(path, name, version, error) from error
    return records
