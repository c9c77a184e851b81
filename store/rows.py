"""The bytes of an event's row: its meta envelope, command key, checksum and leaf of the digest chain.

An envelope is a MessagePack array `[meta]`, on the first event of a command with an id
`[meta, id, name, events, fingerprint]`, and NULL when all of it is empty. An id that is a canonical UUID is stored
as its 16 bytes, a UUIDv7 as its last 10 (the command key begins with the first 6), any other as text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import repeat
from operator import add
from typing import Any, NamedTuple, cast
from zlib import crc32

import msgspec

from eventray.store import schema
from eventray.store.records import maker

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_UUID_CHARS, _UUID_DASHES_AT, _UUID_VERSION_AT = 36, (8, 13, 18, 23), 14
KEY_BYTES, _TIME_BYTES, _TAIL_BYTES = 16, 6, 10
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode

# position, version, recorded_at, command_index, flags, type_version, crc of the type's name
HEAD = struct.Struct("<qqqIIII")
_LENGTH = struct.Struct("<I")
CRC_SIGN = 1 << 31  # stored signed: SQLite keeps such an integer in 4 bytes, an unsigned one often in 6
_NO_ENVELOPE = (b"",)
EMPTY_HASH = blake2b(b"").digest()


class TypeName(NamedTuple):
    """A type and version of events with what its rows need: its key in the file, checksum and hashed form."""

    key: int
    name: str
    version: int
    crc: int
    part: bytes


class Envelope(NamedTuple):
    """What the meta column of an event says; `command_id` is None on all but a command's first event."""

    meta: bytes
    command_id: str | None
    name: str
    events: int
    fingerprint: bytes


def type_name(key: int, name: str, version: int) -> TypeName:
    """Return the type stored under `key` with its derived bytes."""
    raw = name.encode()
    return TypeName(key, name, version, crc32(raw), framed(raw) + _LENGTH.pack(version))


def framed(raw: bytes) -> bytes:
    """Return `raw` behind its length, so that two parts cannot trade bytes unnoticed."""
    return _LENGTH.pack(len(raw)) + raw


class CommandId(NamedTuple):
    """A command id in a stream: its bytes, the 16 that make it unique there, and what the envelope keeps of it."""

    raw: bytes
    key: bytes
    stored: str | bytes


_command_id = maker(CommandId)


def command_ids(stream_parts: Sequence[bytes], ids: Sequence[str]) -> list[CommandId]:
    """Return the forms of ids, each in the stream of that framed name; the keys of UUIDv7 keep their order in time."""
    raws = [id.encode() for id in ids]
    keys = [blake2b(whole, digest_size=KEY_BYTES).digest() for whole in map(add, stream_parts, raws)]
    whole = b"".join(raws)
    if _are_uuid7s(ids, whole):
        uuids = bytes.fromhex(whole.replace(b"-", b"").decode())
        times = [uuids[at : at + _TIME_BYTES] for at in range(0, len(uuids), KEY_BYTES)]
        tails = [uuids[at : at + _TAIL_BYTES] for at in range(_TIME_BYTES, len(uuids), KEY_BYTES)]
        keys = [time + key[:_TAIL_BYTES] for time, key in zip(times, keys, strict=True)]
        return list(map(_command_id, zip(raws, keys, tails, strict=True)))
    return [_command_id(forms) for forms in map(_forms, ids, raws, keys)]


def _are_uuid7s(ids: Sequence[str], whole: bytes) -> bool:
    """Tell whether all of them, which are `whole` together, are canonical: the Router's are, and those cost least."""
    dashes = b"-" * len(ids)
    return (
        set(map(len, ids)) == {_UUID_CHARS}
        and all(whole[at::_UUID_CHARS] == dashes for at in _UUID_DASHES_AT)
        and whole[_UUID_VERSION_AT::_UUID_CHARS] == b"7" * len(ids)
        and whole.translate(None, b"0123456789abcdef") == dashes * len(_UUID_DASHES_AT)
    )


def _forms(id: str, raw: bytes, key: bytes) -> tuple[bytes, bytes, str | bytes]:
    if len(id) != _UUID_CHARS or not _UUID(id):
        return raw, key, id
    uuid = bytes.fromhex(id.replace("-", ""))
    if id[_UUID_VERSION_AT] != "7":
        return raw, key, uuid
    return raw, uuid[:_TIME_BYTES] + key[:_TAIL_BYTES], uuid[_TIME_BYTES:]


def command_key(stream: bytes, id: str) -> bytes:
    """Return the 16 bytes that make a command id unique in its stream."""
    return command_ids([framed(stream)], [id])[0].key


def pack_command(meta: bytes, id: CommandId, name: str, events: int, fingerprint: bytes) -> bytes:
    """Return the envelope of a command's first event."""
    return _pack((meta, id.stored, name, events, fingerprint))


def pack_meta(meta: bytes) -> bytes | None:
    """Return the envelope of any other event."""
    return _pack((meta,)) if meta else None


def unpack(column: bytes | None, key: bytes | None) -> Envelope:
    """Return what an envelope holds; ValueError when it cannot be one."""
    if column is None:
        return Envelope(b"", None, "", 0, b"")
    try:
        parts: list[Any] = _unpack(column)
        if key is None:
            return Envelope(parts[0], None, "", 0, b"")
        meta, stored, name, events, fingerprint = parts
        return Envelope(meta, _id(stored, key), name, events, fingerprint)
    except (msgspec.DecodeError, TypeError, IndexError) as error:
        raise ValueError(f"its meta is not an envelope ({error})") from error


def unpack_columns(metas: Sequence[bytes | None], keys: Sequence[bytes | None]) -> tuple[list[bytes], list[str | None]]:
    """Return the metadata and the command ids of many envelopes; any of several errors when one cannot be one."""
    envelopes: list[Any] = [_NO_ENVELOPE if meta is None else _unpack(meta) for meta in metas]
    pairs = zip(envelopes, keys, strict=True)
    ids = [None if key is None else _id(envelope[1], key) for envelope, key in pairs]
    return [envelope[0] for envelope in envelopes], ids


def _id(stored: str | bytes, key: bytes) -> str:
    if isinstance(stored, str):
        return stored
    pairs = (key[:6] + stored if len(stored) == _TAIL_BYTES else stored).hex("-", 2)
    return pairs[:4] + pairs[5:29] + pairs[30:34] + pairs[35:]


def checksum(stream_crc: int, head: bytes, key: bytes | None, meta: bytes | None, data: bytes) -> int:
    """Return the CRC over all fields of a row, in the signed form in which it is stored."""
    crc = crc32(head, stream_crc)
    if key is not None:
        crc = crc32(key, crc)
    if meta is not None:
        crc = crc32(meta, crc)
    return crc32(data, crc) - CRC_SIGN


def checksums(
    heads: Iterable[bytes],
    stream_crcs: Iterable[int],
    keys: Sequence[bytes | None],
    metas: Sequence[bytes | None],
    data: Sequence[bytes],
) -> list[int]:
    """Return the `checksum` of each of many rows, column by column; joining a row costs less than a call a part."""
    wholes = map(b"".join, zip(heads, _filled(keys), _filled(metas), data, strict=False))
    return [crc - CRC_SIGN for crc in map(crc32, wholes, stream_crcs)]


def _filled(column: Sequence[bytes | None]) -> Iterable[bytes]:
    if None not in column:
        return cast("Sequence[bytes]", column)
    return repeat(b"") if column.count(None) == len(column) else [b"" if part is None else part for part in column]


def leaf(stream_part: bytes, type_part: bytes, head: bytes, id_part: bytes, meta: bytes | None, data: bytes) -> bytes:
    """Return the event's leaf: bodies enter as their hashes, so that one may be erased and the chain still verifies."""
    meta_hash = EMPTY_HASH if meta is None else blake2b(meta).digest()
    return blake2b(b"".join((stream_part, type_part, head, id_part, meta_hash, blake2b(data).digest()))).digest()


def leaves(
    stream_parts: Iterable[bytes],
    type_parts: Iterable[bytes],
    heads: Iterable[bytes],
    id_parts: Iterable[bytes],
    metas: Iterable[bytes | None],
    data: Iterable[bytes],
) -> list[bytes]:
    """Return the `leaf` of each of many rows, column by column."""
    bodies = [blake2b(body).digest() for body in data]
    hashes = [EMPTY_HASH if meta is None else blake2b(meta).digest() for meta in metas]
    wholes = zip(stream_parts, type_parts, heads, id_parts, hashes, bodies, strict=True)
    return [blake2b(whole).digest() for whole in map(b"".join, wholes)]


def chain(previous: bytes, leaves: list[bytes]) -> bytes:
    """Return the digest of a commit: of the one before it and of its events' leaves, in order."""
    digest = blake2b(previous, digest_size=schema.DIGEST_BYTES)
    digest.update(b"".join(leaves))
    return digest.digest()


def snapshot_checksum(stream: str, version: int, position: int, fingerprint: str, data: bytes) -> int:
    """Return the CRC over all fields of a snapshot."""
    return crc32(data, crc32(_pack((stream, version, position, fingerprint)))) - CRC_SIGN


def checkpoint_checksum(name: str, generation: int, fingerprint: str, positions: bytes, parts: Iterable[bytes]) -> int:
    """Return the CRC over all fields of a checkpoint; `parts` are its state."""
    crc = crc32(_pack((name, generation, fingerprint, positions)))
    for part in parts:
        crc = crc32(part, crc)
    return crc - CRC_SIGN


def fingerprint_of(records: list[tuple[str, int, bytes]]) -> bytes:
    """Return 8 bytes that tell the (type, version, data) of some events from others."""
    return blake2b(_pack(records), digest_size=8).digest()
