"""A format 2 that there is not, to migrate to; a process that installs it can be told where to die on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventray.store import EventStore, Manifest, formats, schema
from eventray.store.formats import Step

Reached = Callable[[str], None]


def install(set: Callable[[object, str, object], None], reached: Reached = lambda _: None) -> None:
    """Make 2 this version's format; `reached` hears where a migration is, within each file's transaction."""

    def shard(connection: sqlite3.Connection) -> None:
        [index] = connection.execute("SELECT value FROM info WHERE key = 'shard'").fetchone()
        reached(f"begin {index}")
        connection.execute("INSERT INTO info SELECT 'events', count(*) FROM events")
        reached(f"end {index}")

    def views(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE marks(name TEXT)")
        reached("end views")

    def manifest(raw: dict[str, Any]) -> dict[str, Any]:
        return raw | {"shards": [entry | {"node": "here"} for entry in raw["shards"]]}

    save = Manifest.set_format

    def set_format(self: Manifest, format: int) -> None:
        reached("before store.json")
        save(self, format)

    set(formats, "STEPS", {1: Step(shard, views, manifest)})
    set(schema, "FORMAT", 2)
    set(Manifest, "set_format", set_format)


def die_at(place: str) -> Reached:
    def reached(here: str) -> None:
        if here == place:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


async def _open(directory: Path) -> None:
    await (await EventStore.open(directory, app="notes")).close()


if __name__ == "__main__":
    install(setattr, die_at(sys.argv[2]))
    asyncio.run(_open(Path(sys.argv[1])))
