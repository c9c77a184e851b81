"""A small store with something of everything in it, and the means to damage copies of it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from eventray.store import EventStore, NewRecord, rows, schema
from tests.store.conftest import deposits

APP = "bank"
STREAMS = [f"Account/{n}" for n in range(12)]
UUID7 = "0190f3c0-1234-7abc-8def-0123456789ab"


async def build(directory: Path, *, shards: int = 2) -> None:
    """Commands with ids of all kinds and without, of one and of several events, metadata, snapshots, a checkpoint."""
    async with await EventStore.open(directory, app=APP, shards=shards) as store:
        for turn in range(4):
            for n, stream in enumerate(STREAMS):
                id = [None, f"tx-{n}-{turn}", str(uuid.UUID(int=97 * n + turn, version=4)), UUID7[:-2] + f"{n:x}{turn}"]
                records = [NewRecord("Opened", b"body of %d" % n, b"meta"), *deposits(*range(turn))]
                await store.append(stream, records, command_id=id[(n + turn) % 4])
        for stream in STREAMS[:4]:
            await store.save_snapshot(stream, version=3, data=b"state of " + stream.encode())
        await store.save_checkpoint("Balances", await store.heads(), b"view")


async def contents(store: EventStore) -> dict[str, list[tuple[Any, ...]]]:
    """All that an instance's stream says, but for where it is stored."""
    return {
        stream: [
            (r.version, r.type, r.data, r.meta, r.recorded_at, r.command_id, r.type_version)
            async for r in store.read(stream)
        ]
        for stream in STREAMS
    }


def copy_of(sound: Path, target: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound, target))


@contextlib.contextmanager
def opened(directory: Path, shard: int = 0) -> Iterator[sqlite3.Connection]:
    """The file of a shard, for changes behind the store's back."""
    with contextlib.closing(sqlite3.connect(directory / f"shard-{shard:04d}.db", isolation_level=None)) as connection:
        yield connection


def forge(connection: sqlite3.Connection, position: int, **changes: object) -> None:
    """Change an event and make its checksum fit again, as someone would who knows the format."""
    for column, value in changes.items():
        connection.execute(f"UPDATE events SET {column} = ? WHERE position = ?", (value, position))
    row = connection.execute("SELECT * FROM events WHERE position = ?", (position,)).fetchone()
    _, stream, version, type_key, at, key, index, flags, data, meta, _ = row
    name = connection.execute("SELECT name FROM streams WHERE key = ?", (stream,)).fetchone()[0]
    kind = rows.type_name(*connection.execute(f"{schema.TYPES} WHERE key = ?", (type_key,)).fetchone())
    head = rows.HEAD.pack(position, version, at, index, flags, kind.version, kind.crc)
    crc = rows.checksum(crc32(name.encode()), head, key, meta, data)
    connection.execute("UPDATE events SET crc = ? WHERE position = ?", (crc, position))
