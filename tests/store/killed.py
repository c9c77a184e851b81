"""A process that works with a store and kills itself at a chosen point: `python -m tests.store.killed DIR POINT N`.

A point is the text of an event, such as "before sql COMMIT", "after write shard-0000.db" or "before head"; the process
ends at the n-th one that begins so. What the store tells is written to stdout as lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventray.store.connection import StoreConnection
from eventray.store.head import HeadFile
from tests.store import vfs, workload

COMMANDS = 25


class Killer(vfs.Watcher):
    """Counts the events that begin with `point`, and ends the process at the n-th."""

    def __init__(self, point: str, nth: int) -> None:
        self._point, self._left = point, nth

    def at(self, event: str) -> None:
        if event.startswith(self._point):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, do: Callable[[], Any]) -> Any:
        self.at(f"before {name}")
        result = do()
        self.at(f"after {name}")
        return result

    def before(self, op: vfs.Op) -> int:
        self.at(f"before {op.kind} {op.name}")
        return vfs.OK

    def after(self, op: vfs.Op) -> None:
        self.at(f"after {op.kind} {op.name}")


def install(killer: Killer) -> None:
    """Put the killer around every statement, every record of the witness, and every step of replacing a file."""

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *args: Any) -> Any:
            return killer.around(f"sql {sql}", lambda: super(Cursor, self).execute(sql, *args))

        def executemany(self, sql: str, *args: Any) -> Any:
            return killer.around(f"sql {sql}", lambda: super(Cursor, self).executemany(sql, *args))

    def cursor(self: StoreConnection) -> sqlite3.Cursor:
        return sqlite3.Connection.cursor(self, Cursor)

    def execute(self: StoreConnection, sql: str, *args: Any) -> Any:
        return killer.around(f"sql {sql}", lambda: run(self, sql, *args))

    def write(self: HeadFile, *args: Any) -> None:
        killer.around("head", lambda: write_head(self, *args))

    run, write_head, replace, fsync = StoreConnection.execute, HeadFile.write, os.replace, os.fsync
    StoreConnection.cursor, StoreConnection.execute, HeadFile.write = cursor, execute, write  # type: ignore
    os.replace = lambda *paths: killer.around(f"replace {Path(paths[1]).name}", lambda: replace(*paths))
    os.fsync = lambda fd: killer.around("fsync", lambda: fsync(fd))


def tell(*facts: Any) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


async def main(directory: Path) -> None:
    async with await workload.opened(directory) as store:
        await workload.work(store, tell, COMMANDS)


if __name__ == "__main__":
    killer = Killer(sys.argv[2], int(sys.argv[3]))
    install(killer)
    with vfs.watched(killer) if vfs.AVAILABLE else contextlib.nullcontext():
        asyncio.run(main(Path(sys.argv[1])))
