"""SQLite connections that do a whole transaction in one hop into their aiosqlite thread."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, TypeVarTuple, cast

import aiosqlite

from eventray.store import schema

Ts = TypeVarTuple("Ts")
T = TypeVar("T")
C = TypeVar("C", bound="StoreConnection")
Durability = Literal["power", "os"]

_CALL = "CALL"
_BUSY_TIMEOUT_S = 10.0


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

    def prepare(self, path: Path, pragmas: Sequence[str]) -> None:
        """Say which file this is, and apply its settings."""
        self.path = path
        for pragma in (*schema.PRAGMAS, *pragmas):
            self.execute(pragma)

    def undo(self) -> None:
        """Roll back the open transaction, if there is one."""
        with contextlib.suppress(sqlite3.Error):  # the failure that led here says more than one on the way back
            if self.in_transaction:
                self.execute("ROLLBACK")


async def connect(factory: type[C], path: Path, durability: Durability, *pragmas: str) -> aiosqlite.Connection:
    """Open an existing database file in a thread of its own; raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode=rw"  # never creates a file: one that is gone must be noticed
    connection = aiosqlite.connect(
        uri, uri=True, factory=factory, isolation_level=None, timeout=_BUSY_TIMEOUT_S, cached_statements=256
    )
    opened = await connection
    try:
        await call(opened, factory.prepare, path, (schema.SYNCHRONOUS[durability], *pragmas))
    except BaseException:
        await opened.close()
        raise
    return opened


async def call(connection: aiosqlite.Connection, method: Callable[[C, *Ts], T], *args: *Ts) -> T:
    """Run a method of the connection in its thread. It runs to its end also when the caller is cancelled."""
    return cast("T", await connection.execute_fetchall(_CALL, (method, args)))
