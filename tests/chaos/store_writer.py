"""The process that `store_kills` kills: writers on many streams of one store, until it is killed.

Its stdin names the commands that are still to be settled; its stdout says, in the order in which it happens, what is
sent, what is answered, and what is read.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

from eventray.store import EventStore, NewCommand, NewRecord, StoreLimits
from tests.store import vfs

APP = "chaos"
SHARDS = 4
WRITERS = 4
STREAMS_PER_WRITER = 12
EVENTS = 3
LIMITS = StoreLimits(wal_bytes_max=200_000)  # so that the WAL is emptied now and then


def streams_of(writer: int) -> list[str]:
    return [f"Writer{writer}/{n}" for n in range(STREAMS_PER_WRITER)]


def bodies(stream: str, expected: int) -> tuple[bytes, ...]:
    """The data of the command that is sent for a version of a stream: no two of a store are equal."""
    size = crc32(b"%d %s" % (expected, stream.encode())) % 1200
    return tuple(b"%s@%d %d %s" % (stream.encode(), expected, part, b"." * size) for part in range(EVENTS))


def command(stream: str, expected: int) -> NewCommand:
    return NewCommand(f"{stream}@{expected}", [NewRecord("Noted", data) for data in bodies(stream, expected)])


def say(*facts: Any) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


class KilledAt(vfs.Watcher):
    """Ends the process before the n-th operation of SQLite on any file, or right after it."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def before(self, op: vfs.Op) -> int:
        self._left -= op.kind != "open"
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return vfs.OK


async def write(store: EventStore, writer: int, unsettled: list[tuple[str, int]], chance: random.Random) -> None:
    """Settle what was in flight, then append to streams by chance, several in flight; now and then read one back."""
    streams = streams_of(writer)
    versions = {stream: (await store.shard_of(stream).load(stream)).version for stream in streams}
    for stream, expected in unsettled:
        if stream in versions:
            versions[stream] = await send(store, stream, expected)
    for turn in count():
        chosen = chance.sample(streams, 3)
        for stream, version in zip(
            chosen, await asyncio.gather(*(send(store, s, versions[s]) for s in chosen)), strict=True
        ):
            versions[stream] = version
        if turn % 4 == writer:
            await look(store, chosen[0])
        if turn % 6 == writer:
            await store.save_snapshot(chosen[1], version=versions[chosen[1]], data=b"state")
            await store.save_checkpoint("View", await store.heads())


async def send(store: EventStore, stream: str, expected: int) -> int:
    say("send", stream, expected)
    (done,) = await store.append_batch(stream, [command(stream, expected)], expected_version=expected)
    say("receipt", *done)
    return done.version


async def look(store: EventStore, stream: str) -> None:
    say("look", stream)
    found = [record.data async for record in store.read(stream)]
    say("found", stream, len(found), crc32(b"".join(found)))


async def main(directory: Path, seed: int) -> None:
    unsettled = [(stream, expected) for stream, expected in json.loads(sys.stdin.readline())]
    async with await EventStore.open(directory, app=APP, shards=SHARDS, limits=LIMITS) as store:
        say("open")
        chances = [random.Random(f"{seed} {writer}") for writer in range(WRITERS)]
        await asyncio.gather(*(write(store, writer, unsettled, chances[writer]) for writer in range(WRITERS)))


def watching(nth: int) -> Any:
    return vfs.watched(KilledAt(nth)) if nth and vfs.AVAILABLE else nullcontext()


def lines(raw: bytes) -> Iterator[list[Any]]:
    """What a child said; a line that the kill cut off was not said."""
    return (json.loads(line) for line in raw.splitlines(keepends=True) if line.endswith(b"\n"))


if __name__ == "__main__":
    with watching(int(sys.argv[3])):
        asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
