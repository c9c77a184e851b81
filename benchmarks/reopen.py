"""`reopen`: from a killed writer's files, with a full WAL, to the first answer."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import bare, events
from benchmarks.harness import Bench, Case
from benchmarks.result import Goal

MB = 1_000_000
_FILE = "shard-0000.db"


def reopen(bench: Bench) -> Iterator[Case]:
    """A WAL of 64 MB is what a shard has at most: at that size its writer moves it into the file."""
    wal_bytes = bench.pick(full=64 * MB, quick=8 * MB, tiny=MB)
    left = bench.directory()
    events_told = _killed(left, wal_bytes)
    yield Case(
        f"a shard after kill -9, its WAL of {wal_bytes // MB} MB, until it has answered",
        "ms",
        lambda: 1000 * asyncio.run(_ours(_copy(left, bench), events_told)),
        {"sqlite3": lambda: 1000 * _bare(_copy(left, bench), events_told)},
        (Goal("<=", 1000, "figure"),),
    )


def _killed(directory: Path, wal_bytes: int) -> int:
    """Have a child write until its WAL is that large, kill it, and return how many events it was told are stored."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.reopen", str(directory), str(wal_bytes)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = int(child.stdout.readline())
    child.kill()
    child.communicate()
    assert (directory / f"{_FILE}-wal").stat().st_size >= wal_bytes
    return told


async def _write(directory: Path, wal_bytes: int) -> None:
    shard, wal, streams = await events.open_shard(directory), directory / f"{_FILE}-wal", events.names(1000)
    while wal.stat().st_size < wal_bytes:
        commands = events.commands(shard.head, 100, 140, ids=True)
        await asyncio.gather(*(shard.append_batch(stream, commands) for stream in streams[:: len(streams) // 10]))
    print(shard.head, flush=True)
    await asyncio.Event().wait()


def _copy(left: Path, bench: Bench) -> Path:
    to = bench.directory()
    for path in left.iterdir():
        shutil.copy(path, to / path.name)
    return to


async def _ours(directory: Path, told: int) -> float:
    begun = time.perf_counter()
    shard = await events.open_shard(directory, create=False)
    page = await shard.read(after=told - 1)
    seconds = time.perf_counter() - begun
    assert (shard.head, [record.position for record in page]) == (told, [told])
    await shard.close()
    return seconds


def _bare(directory: Path, told: int) -> float:
    begun = time.perf_counter()
    with closing(bare.connect(directory / _FILE)) as connection:
        found = connection.execute("SELECT max(position) FROM events").fetchone()
        seconds = time.perf_counter() - begun
        assert found == (told,)
    return seconds


if __name__ == "__main__":
    asyncio.run(_write(Path(sys.argv[1]), int(sys.argv[2])))
