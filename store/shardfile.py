"""One shard's file with its lock, its witness and its two connections: opening, failing, opening again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, TypeVarTuple

import aiosqlite

from eventray.domain.errors import EventRayError, ShardFenced, ShardUnavailable, StoreCorrupted
from eventray.store import schema
from eventray.store.connection import Durability, StoreConnection, call, connect, require_writable
from eventray.store.failures import FILE_ERRORS, is_full, translated
from eventray.store.files import sync
from eventray.store.head import HeadFile
from eventray.store.identity import check_info, check_structure
from eventray.store.limits import StoreLimits
from eventray.store.lock import FileLock, boot_id
from eventray.store.moving import shard_file
from eventray.store.quiet import wal_bytes
from eventray.store.reading import ReadConnection
from eventray.store.writing import Clock, Opening, WriteConnection

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """Which shard of which store this is, and how it is to be opened."""

    directory: Path
    index: int
    store_id: str
    generation: int
    run: str
    durability: Durability
    limits: StoreLimits
    clock: Clock

    def path(self, suffix: str) -> Path:
        """Return one of the shard's files: `db`, `lock` or `head`."""
        return self.directory / shard_file(self.index, suffix)

    @property
    def info(self) -> dict[str, object]:
        """What the file must say of itself."""
        return schema.shard_info(self.store_id, self.index, self.generation)


class ShardFile:
    """The open file. A failure whose outcome is unknown closes both connections; the next call opens new ones.

    `lost_with_power`: when it was opened its last commits may have been gone by right (`durability="os"`).
    """

    def __init__(self, place: ShardPlace, reopened: Callable[[int, int], None]) -> None:
        """`reopened(epoch, position)` is called whenever the connections are open (again)."""
        self.place = place
        self.path = place.path("db")
        self.epoch = 0
        self.lost_with_power = False
        self._reopened = reopened
        self._lock: FileLock | None = None
        self._head_file: HeadFile | None = None
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        self._index_keeper: aiosqlite.Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._fenced: ShardFenced | None = None
        self._closed = False

    async def open(self, *, create: bool) -> None:
        """Lock and open the file; with `create` make it if it is not there. Raises errors of eventray only."""
        try:
            self._lock = await _acquired(self.place.path("lock"), self.place.run)
            self._require_file(create)
            looker = await (self._make() if create else self._look())
            try:
                synced = self.place.durability == "power"
                self._head_file = HeadFile(self.place.path("head"), synced=synced, boot=boot_id())
                await self._connect(repair=False)
            finally:
                await _close(looker)  # not before: the writer shares what it found in the WAL
        except BaseException as error:
            await self.close()
            if isinstance(error, FILE_ERRORS):
                raise translated(error, self.path) from error
            raise

    def _require_file(self, create: bool) -> None:
        if not self.path.exists():
            if not create:
                raise ShardUnavailable(self.place.index, f"its file {self.path} is gone; put it back or restore it")
            # SQLite would make it readable for others.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        elif not create and not self.path.stat().st_size:
            raise StoreCorrupted(str(self.path), "the file is empty")
        require_writable(self.path)

    async def _look(self) -> aiosqlite.Connection:
        # Closing a connection that may write moves a WAL into the file, also into one that is refused; closing one that
        # may not leaves an empty WAL where there was none.
        mode: Literal["rw", "ro"] = "ro" if wal_bytes(self.path) else "rw"
        looker = await connect(StoreConnection, self.path, "power", mode=mode)
        try:
            await call(looker, check_info, self.place.info)
        except BaseException:
            await looker.close()
            raise
        return looker

    async def _make(self) -> None:
        connection = await connect(_Maker, self.path, "power", *schema.WRITER_PRAGMAS)
        try:
            await call(connection, _Maker.make, self.place.info)
        finally:
            await connection.close()
        sync(self.place.directory)

    async def _connect(self, *, repair: bool) -> None:
        assert self._head_file is not None
        place, durability = self.place, self.place.durability
        self._require_file(create=False)
        wal_bytes_max = place.limits.wal_bytes_max
        writer = await connect(
            WriteConnection, self.path, durability, *schema.WRITER_PRAGMAS, wal_bytes_max=wal_bytes_max
        )
        reader = None
        try:
            await call(writer, check_info, place.info)
            await call(writer, check_structure, place.limits.check_bytes_max)
            opening = Opening(
                place.index, self._head_file, place.clock, place.limits.cached_streams_max, self.epoch, repair
            )
            self.epoch, position, lost_with_power = await call(writer, WriteConnection.start, opening)
            reader = await connect(ReadConnection, self.path, durability, "PRAGMA query_only=ON")
            await call(reader, ReadConnection.start, place.index, place.limits)
        except BaseException as error:
            await _close(reader, writer)
            if isinstance(error, ShardFenced):
                self._fenced = error
            raise
        await self._let_index_go()
        self._reader, self._writer = reader, writer
        self.lost_with_power = self.lost_with_power or lost_with_power
        self._reopened(self.epoch, position)

    def require_unfenced(self) -> None:
        """Raise `ShardFenced` once another writer took over."""
        if self._fenced is not None:
            raise ShardFenced(self._fenced.shard, self._fenced.epoch, self._fenced.current)

    def require_service(self) -> None:
        """Raise `ShardFenced` once another writer took over, `ShardUnavailable` once closed."""
        self.require_unfenced()
        if self._closed:
            raise ShardUnavailable(self.place.index, f"{self.path} is closed")

    async def _ready(self) -> None:
        self.require_service()
        if self._writer is not None:
            return
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(repair=True))
            self._connecting.add_done_callback(self._connected)
        try:
            await asyncio.shield(self._connecting)
        except FILE_ERRORS as error:
            raise translated(error, self.path) from error

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # seen: whoever waits gets it, and the next call tries again

    async def write(self, method: Callable[[WriteConnection, *Ts], T], *args: *Ts) -> T:
        """Run a transaction of the writer. After `StoreUnavailable` its outcome is unknown."""
        await self._ready()
        writer = self._writer
        assert writer is not None
        try:
            return await call(writer, method, *args)
        except ShardFenced as error:
            self._fenced = error
            raise
        except EventRayError:
            raise
        except Exception as error:
            if not is_full(error):
                await asyncio.shield(asyncio.ensure_future(self._drop(writer)))
            raise translated(error, self.path) from error

    async def read(self, method: Callable[[ReadConnection, *Ts], T], *args: *Ts) -> T:
        """Run a method of the reader."""
        await self._ready()
        reader = self._reader
        assert reader is not None
        try:
            return await call(reader, method, *args)
        except EventRayError:
            raise
        except Exception as error:
            if self._reader is not reader:
                raise ShardUnavailable(self.place.index, "its file is being opened again") from error
            raise translated(error, self.path) from error

    async def _drop(self, writer: aiosqlite.Connection) -> None:
        if self._writer is writer:
            # While the reader is open, closing the writer checkpoints nothing, and SQLite keeps the index of the WAL,
            # which does not count what failed. Without it all that looks whole would, be it on the disk or not.
            self._index_keeper, self._reader, self._writer = self._reader, None, None
            await _close(writer)

    async def _let_index_go(self) -> None:
        reader, self._index_keeper = self._index_keeper, None
        await _close(reader)

    async def close(self) -> None:
        """Close the connections, then give up the lock; a second call does nothing."""
        self._closed = True
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        reader, writer, self._reader, self._writer = self._reader, self._writer, None, None
        await self._let_index_go()
        await _close(reader, writer)
        if self._head_file is not None:
            self._head_file.close()
        if self._lock is not None:
            self._lock.release()


class _Maker(StoreConnection):
    """Makes the tables of a new shard, all or none; one that has them stays as it is."""

    def make(self, info: dict[str, object]) -> None:
        self.execute("BEGIN IMMEDIATE")
        try:
            if self.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
                for table in schema.TABLES:
                    self.execute(table)
                self.executemany("INSERT INTO info VALUES(?,?)", [*info.items(), ("epoch", 0)])
            self.execute("COMMIT")
        finally:
            self.undo()
        # The tables belong in the file itself, so that it can be told from others should its WAL get lost.
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


async def _acquired(path: Path, run: str) -> FileLock:
    waiting = asyncio.ensure_future(asyncio.to_thread(FileLock.acquire, path, run))
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        waiting.add_done_callback(_release)
        raise


def _release(acquired: asyncio.Future[FileLock]) -> None:
    if acquired.exception() is None:
        acquired.result().release()


async def _close(*connections: aiosqlite.Connection | None) -> None:
    for connection in connections:
        if connection is not None:
            with contextlib.suppress(sqlite3.Error, ValueError, OSError):
                await connection.close()
