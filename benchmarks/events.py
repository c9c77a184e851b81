"""Events to store, and a shard to store them in."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.durability import require_full
from eventray.store import NewCommand, NewRecord, Shard
from eventray.store.connection import call
from eventray.store.writing import WriteConnection


def uuid7() -> str:
    """Return a command id as the client makes them: a UUID of version 7."""
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def body(number: int, size_bytes: int) -> bytes:
    """Return bytes that are those of no other number."""
    return number.to_bytes(8, "big") * (size_bytes // 8) + b"." * (size_bytes % 8)


def record(number: int, size_bytes: int) -> NewRecord:
    """Return an event of a size."""
    return NewRecord("Deposited", body(number, size_bytes))


def commands(first: int, events: int, size_bytes: int, *, ids: bool) -> list[NewCommand]:
    """Return a batch of events: a command with an id for each, or all in one without."""
    records = [record(number, size_bytes) for number in range(first, first + events)]
    if not ids:
        return [NewCommand(None, records)]
    return [NewCommand(uuid7(), [one], "deposit", b"\x01" * 8) for one in records]


def _synchronous(connection: WriteConnection) -> object:
    return connection.execute("PRAGMA synchronous").fetchone()[0]


async def open_shard(directory: Path, *, create: bool = True, **options: Any) -> Shard:
    """Open shard 0 alone, and see that it syncs each commit."""
    given = {"store_id": "bench", "generation": 1, "run": "bench", **options}
    shard = await Shard.open(directory, 0, create=create, **given)
    try:
        writer = shard._file._writer
        assert writer is not None
        require_full(await call(writer, _synchronous))
    except BaseException:
        await shard.close()
        raise
    return shard


def names(count: int) -> Sequence[str]:
    """Return the names of some streams."""
    return [f"Account/{number:06d}" for number in range(count)]
