"""A reader of a store's files without a line of eventray: what docs/storage-format.md says, and nothing else."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from collections.abc import Iterator
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any
from uuid import UUID
from zlib import crc32

import msgpack

HEAD = struct.Struct("<qqqIIII")
UUID7 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
EVENTS = "SELECT * FROM events WHERE position BETWEEN ? AND ? ORDER BY position"


def manifest_of(directory: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((directory / "store.json").read_bytes())
    assert (raw["format"], raw["hash"], raw.get("unfinished")) == (1, "blake2b-64", None)
    checksum = raw.pop("checksum", None)
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    assert checksum in (None, crc32(text.encode())), "store.json was changed"
    return raw


def shard_of(manifest: dict[str, Any], stream: str) -> int:
    bucket = int.from_bytes(blake2b(stream.encode(), digest_size=8).digest(), "big") % 4096
    runs: list[tuple[int, int]] = manifest["buckets"]
    ends = accumulate(count for _, count in runs)
    return next(shard for (shard, _), end in zip(runs, ends, strict=True) if bucket < end)


def framed(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw


def command_key(stream: str, id: str) -> bytes:
    hashed = blake2b(framed(stream) + id.encode(), digest_size=16).digest()
    return UUID(id).bytes[:6] + hashed[:10] if UUID7.fullmatch(id) else hashed


def id_of(stored: str | bytes, key: bytes) -> str:
    if isinstance(stored, str):
        return stored
    return str(UUID(bytes=key[:6] + stored if len(stored) == 10 else stored))


def checksum(stream: str, head: bytes, key: bytes | None, meta: bytes | None, data: bytes) -> int:
    return crc32(stream.encode() + head + (key or b"") + (meta or b"") + data) - 2**31


def leaf(stream: str, type: str, type_version: int, head: bytes, id: str, meta: bytes | None, data: bytes) -> bytes:
    names = framed(stream) + framed(type) + struct.pack("<I", type_version)
    hashes = blake2b(meta or b"").digest() + blake2b(data).digest()
    return blake2b(names + head + (framed(id) if id else b"") + hashes).digest()


def read_shard(directory: Path, index: int) -> Iterator[tuple[Any, ...]]:
    """Every event of a shard in the order of positions; checks events, commits and the digest chain on the way.

    As stream, version, type, data, metadata, shard, position, recorded_at, command id, type version.
    """
    db = sqlite3.connect(f"file:{directory}/shard-{index:04d}.db?mode=ro", uri=True)
    manifest, info = manifest_of(directory), dict(db.execute("SELECT key, value FROM info"))
    assert (info["format"], info["shard"]) == (1, index)
    assert [info[key] for key in ("store_id", "generation")] == [manifest["store_id"], manifest["generation"]]
    streams = dict(db.execute("SELECT key, name FROM streams"))
    types = {key: (name, version) for key, name, version in db.execute("SELECT key, name, version FROM types")}
    digest, position, command = info.get("chain_start", bytes(32)), 0, ""
    ends: dict[str, tuple[int, int]] = {}  # the last version and time of each stream
    for last, first, committed_at, expected in db.execute("SELECT * FROM commits ORDER BY last"):
        assert first == position + 1 <= last, "events or commits are missing"
        chain = blake2b(digest, digest_size=32)
        for at, stream_key, version, type_key, time, key, place, flags, data, meta, crc in db.execute(
            EVENTS, (first, last)
        ):
            stream, (type, type_version) = streams[stream_key], types[type_key]
            head = HEAD.pack(at, version, time, place, flags, type_version, crc32(type.encode()))
            assert checksum(stream, head, key, meta, data) == crc, f"{stream}@{version} was changed"
            envelope = [b""] if meta is None else msgpack.unpackb(meta)
            id = "" if key is None else id_of(envelope[1], key)
            assert key == (command_key(stream, id) if id else None)
            command = command if place else id  # the events of a command follow each other
            chain.update(leaf(stream, type, type_version, head, id, meta, data))
            before, since = ends.get(stream, (0, 0))
            assert (at, version) == (position + 1, before + 1), "an event is missing"
            assert time > since
            assert (flags, shard_of(manifest, stream)) == (0, index)
            position, ends[stream] = at, (version, time)
            yield stream, version, type, data, envelope[0], index, at, time, command or None, type_version
        digest = chain.digest()
        assert (position, time, digest) == (last, committed_at, expected), f"the commit up to {last} was changed"
    assert db.execute("SELECT count(*) FROM events").fetchone() == (position,)
    db.close()
