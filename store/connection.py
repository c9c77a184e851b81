"""SQLite connections that do a whole transaction in one hop into their aiosqlite thread."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, TypeVarTuple, cast

import aiosqlite

from eventray.store import schema
from eventray.store.failures import is_full
from eventray.store.limits import WAL_BYTES_MAX

Ts = TypeVarTuple("Ts")
T = TypeVar("T")
C = TypeVar("C", bound="StoreConnection")
Durability = Literal["power", "os"]

_CALL = "CALL"
_BUSY_TIMEOUT_S = 10.0
_READERS_TIMEOUT_MS = 100  # how long emptying the WAL waits for readers, and with it the writer
_WAL_FRAME_BYTES = 4096 + 24


class _Returned:
    """What a called method returned, in the shape in which aiosqlite hands results back."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def fetchall(self) -> object:
        return self.value


class StoreConnection(sqlite3.Connection):
    """A connection whose methods are its stored procedures: `call` runs one of them in the connection's thread.

    Three awaits per transaction (begin, insert, commit) would cost 230 us more than one. aiosqlite forwards
    `execute_fetchall(sql, parameters)` to `execute(sql, parameters).fetchall()`; a call travels that way.
    """

    path: Path

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Run a statement, or the method that `call` sent."""
        if sql is not _CALL:
            return super().execute(sql, parameters)
        method, args = parameters
        return _Returned(method(self, *args))

    def prepare(self, path: Path, durability: Durability, wal_bytes_max: int, pragmas: Sequence[str]) -> None:
        """Say which file this is, and apply its settings."""
        self.path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._wal_bytes_max = self._wal_bytes_due = wal_bytes_max
        # SQLite checkpoints without shrinking the WAL, which is faster, if no reader is in its way. It keeps errors of
        # that to itself: harmless as long as every commit is synced.
        pages = wal_bytes_max * 4 // 5 // _WAL_FRAME_BYTES if durability == "power" else 0
        sizes = (f"PRAGMA wal_autocheckpoint={pages}", f"PRAGMA journal_size_limit={wal_bytes_max}")
        for pragma in (*schema.PRAGMAS, schema.SYNCHRONOUS[durability], *sizes, *pragmas):
            self.execute(pragma)

    def bound_wal(self) -> None:
        """Empty the WAL into the file when it has grown above its limit; raises sqlite3.Error. For the writer only.

        A reader that holds on to the WAL delays the writer for a moment, and a full disk does not matter to what is
        committed: then it is tried again when the WAL has grown by as much again.
        """
        size = self._wal.stat().st_size
        self._wal_bytes_due = max(self._wal_bytes_max, min(self._wal_bytes_due, size + self._wal_bytes_max))
        if size > self._wal_bytes_due:
            self._wal_bytes_due = size + self._wal_bytes_max
            self.execute(f"PRAGMA busy_timeout={_READERS_TIMEOUT_MS}")
            try:
                self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.OperationalError as error:
                if not is_full(error):
                    raise
            finally:
                self.execute(f"PRAGMA busy_timeout={round(1000 * _BUSY_TIMEOUT_S)}")

    def undo(self) -> None:
        """Roll back the open transaction, if there is one."""
        with contextlib.suppress(sqlite3.Error):  # the failure that led here says more than one on the way back
            if self.in_transaction:
                self.execute("ROLLBACK")


def require_writable(path: Path) -> None:
    """Raise PermissionError unless the file may be read and written; SQLite would open it for reading and go on."""
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


async def connect(
    factory: type[C],
    path: Path,
    durability: Durability,
    *pragmas: str,
    wal_bytes_max: int = WAL_BYTES_MAX,
    mode: Literal["rw", "ro"] = "rw",
) -> aiosqlite.Connection:
    """Open an existing database file in a thread of its own; raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"  # never creates a file: one that is gone must be noticed
    connection = aiosqlite.connect(
        uri, uri=True, factory=factory, isolation_level=None, timeout=_BUSY_TIMEOUT_S, cached_statements=256
    )
    opened = await connection
    try:
        await call(opened, factory.prepare, path, durability, wal_bytes_max, pragmas)
    except BaseException:
        await opened.close()
        raise
    return opened


async def call(connection: aiosqlite.Connection, method: Callable[[C, *Ts], T], *args: *Ts) -> T:
    """Run a method of the connection in its thread. It runs to its end also when the caller is cancelled."""
    return cast("T", await connection.execute_fetchall(_CALL, (method, args)))
