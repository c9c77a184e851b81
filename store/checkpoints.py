"""Checkpoints of views and processes, in `views.db`: apart from the event writers, so neither waits for the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import aiosqlite
import msgspec

from eventray.domain.errors import StoreCorrupted, StoreMismatch, StoreUnavailable
from eventray.store import rows, schema
from eventray.store.admission import check_checkpoint
from eventray.store.connection import Durability, StoreConnection, call, connect, require_writable
from eventray.store.failures import FILE_ERRORS, is_full, translated
from eventray.store.lock import FileLock
from eventray.store.moving import shard_file
from eventray.store.records import Checkpoint
from eventray.store.spool import Spool

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

_log = logging.getLogger("eventray.store")
_POSITIONS = msgspec.msgpack.Decoder(dict[int, int]).decode

_TABLES = (
    "CREATE TABLE IF NOT EXISTS info(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS checkpoints(
        name TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        positions BLOB NOT NULL,
        data BLOB NOT NULL,
        crc INTEGER NOT NULL,
        witness INTEGER NOT NULL)""",
)
_SAVE = """INSERT OR REPLACE INTO checkpoints(name, generation, fingerprint, positions, data, crc, witness)
    VALUES(?,?,?,?,{data},?,?)"""
_LOAD = "SELECT generation, fingerprint, positions, data, crc FROM checkpoints WHERE name = ?"
_WITNESSES = "SELECT name, positions FROM checkpoints WHERE generation = ? AND witness"


class _Connection(StoreConnection):
    def make(self, info: dict[str, object]) -> None:
        self.execute("BEGIN IMMEDIATE")
        try:
            for table in _TABLES:
                self.execute(table)
            for key, value in info.items():
                self.execute("INSERT OR IGNORE INTO info VALUES(?,?)", (key, value))
            found = dict(self.execute("SELECT key, value FROM info").fetchall())
            for key, value in info.items():
                if found[key] != value:
                    raise StoreMismatch(str(self.path), key, value, found[key])
            self.execute("COMMIT")
        finally:
            self.undo()

    def save(self, facts: tuple[str, int, str, bytes], data: bytes | Spool, witness: bool) -> None:
        parts = [data] if isinstance(data, bytes) else data.parts()
        crc = rows.checkpoint_checksum(*facts, parts)
        if isinstance(data, bytes):
            self.execute(_SAVE.format(data="?"), (*facts, data, crc, int(witness)))
        else:
            self._save_in_parts(facts, data, crc, witness)
        self.bound_wal()

    def _save_in_parts(self, facts: tuple[str, int, str, bytes], spool: Spool, crc: int, witness: bool) -> None:
        self.execute("BEGIN IMMEDIATE")
        try:
            row = self.execute(
                _SAVE.format(data="zeroblob(?)"), (*facts, spool.size_bytes, crc, int(witness))
            ).lastrowid
            with self.blobopen("checkpoints", "data", row) as blob:
                for part in spool.parts():
                    blob.write(part)
            self.execute("COMMIT")
        finally:
            self.undo()

    def drop(self, name: str) -> None:
        self.execute("DELETE FROM checkpoints WHERE name = ?", (name,))

    def load(self, name: str) -> tuple[int, str, bytes, bytes, int] | None:
        found: tuple[int, str, bytes, bytes, int] | None = self.execute(_LOAD, (name,)).fetchone()
        return found

    def names(self) -> list[str]:
        return [name for (name,) in self.execute("SELECT name FROM checkpoints ORDER BY name").fetchall()]

    def witnesses(self, generation: int) -> list[tuple[str, bytes]]:
        return [(name, positions) for name, positions in self.execute(_WITNESSES, (generation,)).fetchall()]


class CheckpointStore:
    """The checkpoints of one store. A checkpoint replaces the one before it as a whole, or not at all.

    Methods raise `StoreFull`, `StoreUnavailable` and `StoreCorrupted`; a checkpoint that fails is simply not saved.
    """

    def __init__(self, path: Path, durability: Durability, store_id: str) -> None:
        self.path = path
        self._durability = durability
        self._info: dict[str, object] = {"format": schema.FORMAT, "store_id": store_id}
        self._lock: FileLock | None = None
        self._connection: aiosqlite.Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(
        cls, directory: Path | str, *, run: str, durability: Durability = "power", store_id: str = ""
    ) -> CheckpointStore:
        """Open `views.db`, made if it is not there: checkpoints can be rebuilt from the log.

        Raises `StoreLocked`, `StoreMismatch` (the views of another store, if `store_id` is given), `StoreCorrupted`,
        `StoreUnavailable`, `StoreFull`.
        """
        store = cls(Path(directory) / "views.db", durability, store_id)
        try:
            store._lock = await asyncio.to_thread(FileLock.acquire, store.path.with_suffix(".lock"), run)
            store._connection = await store._connect()
        except BaseException as error:
            await store.close()
            if isinstance(error, FILE_ERRORS):
                raise translated(error, store.path) from error
            raise
        return store

    async def _connect(self) -> aiosqlite.Connection:
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        require_writable(self.path)
        connection = await connect(_Connection, self.path, self._durability, "PRAGMA journal_mode=WAL")
        try:
            info = {key: value for key, value in self._info.items() if value}
            await call(connection, _Connection.make, info)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def save(
        self,
        name: str,
        positions: Mapping[int, int],
        data: bytes | Spool,
        *,
        generation: int,
        fingerprint: str = "",
        witness: bool = True,
    ) -> None:
        """Save positions (per shard) and state together.

        A spool, however large, takes the memory of one of its parts. With `witness` the store takes a shard that ends
        before its position for one that went back in time.
        """
        check_checkpoint(name, positions, data)  # what could not be read back must not replace what can
        stored = msgspec.msgpack.encode(dict(positions))
        await self._call(_Connection.save, (name, generation, fingerprint, stored), data, witness)

    async def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint; None when there is none or it is corrupt (a warning says so)."""
        row = await self._call(_Connection.load, name)
        if row is None:
            return None
        generation, fingerprint, positions, data, crc = row
        try:
            if rows.checkpoint_checksum(name, generation, fingerprint, positions, [data]) != crc:
                raise ValueError("its checksum does not fit")
            return Checkpoint(_POSITIONS(positions), data, generation, fingerprint)
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            _log.warning("the checkpoint %r in %s is ignored: %s", name, self.path, error)
            return None

    async def drop(self, name: str) -> None:
        """Forget a checkpoint: its view is built anew."""
        await self._call(_Connection.drop, name)

    async def names(self) -> list[str]:
        """Return the names that have a checkpoint, in order."""
        return await self._call(_Connection.names)

    async def witnessed(self, generation: int) -> dict[int, tuple[int, str]]:
        """Return per shard the highest position of a checkpoint that vouches for it, and that checkpoint's name."""
        seen: dict[int, tuple[int, str]] = {}
        for name, stored in await self._call(_Connection.witnesses, generation):
            try:
                positions = _POSITIONS(stored)
            except msgspec.MsgspecError:
                continue  # load() warns of it
            for shard, position in positions.items():
                seen[shard] = max(seen.get(shard, (0, "")), (position, name))
        return seen

    async def compare(self, ends: Mapping[int, tuple[int, bool]], *, generation: int) -> None:
        """A checkpoint is a witness: a shard that ends before a position which a view has applied went back in time.

        `ends` has the last position of each shard, and whether it lost commits by right (`durability="os"` and a power
        cut): then a view that saw more is built anew; else `StoreCorrupted`.
        """
        for index, (position, name) in (await self.witnessed(generation)).items():
            head, lost_with_power = ends.get(index, (position, False))
            if head >= position:
                continue
            if lost_with_power:
                _log.warning("shard %d lost commits that %r had seen: that view is built anew", index, name)
                await self.drop(name)
                return await self.compare(ends, generation=generation)
            raise StoreCorrupted(
                str(self.path.with_name(shard_file(index, "db"))),
                f"it ends at position {head}, but the checkpoint {name!r} has seen position {position}: an older copy, "
                "or a lost WAL. Put the newer file back, or accept the loss by removing views.db",
            )
        return None

    async def _call(self, method: Callable[[_Connection, *Ts], T], *args: *Ts) -> T:
        if self._closed:
            raise StoreUnavailable(str(self.path), "it is closed")
        connection = None
        try:
            async with self._connecting:
                connection = self._connection = self._connection or await self._connect()
            return await call(connection, method, *args)
        except (sqlite3.Error, OSError, ValueError) as error:
            if connection is not None and not is_full(error):
                await self._drop(connection)
            raise translated(error, self.path) from error

    async def _drop(self, connection: aiosqlite.Connection | None) -> None:
        if connection is None:
            return
        if self._connection is connection:
            self._connection = None
        with contextlib.suppress(sqlite3.Error, ValueError, OSError):
            await connection.close()

    async def close(self) -> None:
        """Close the file, then free its lock; a second call does nothing."""
        self._closed = True
        await self._drop(self._connection)
        if self._lock is not None:
            self._lock.release()
