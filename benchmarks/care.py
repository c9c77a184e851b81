"""`verify` and `backup`: a whole store proven, and carried away."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import events
from benchmarks.harness import Bench, Case
from benchmarks.result import Goal
from eventray.store import EventStore, backup, verify

SHARDS = 4
BODY_BYTES = 100
EVENTS_A_BATCH = 50
BATCHES_A_COMMIT = 100
MB = 1_000_000


def verifying(bench: Bench) -> Iterator[Case]:
    """1,000,000 events on 4 shards, every checksum and digest recomputed."""
    total = bench.pick(full=1_000_000, quick=20_000, tiny=2_000)
    directory = bench.directory()
    asyncio.run(_fill(directory, total))
    limit_s = 15 * total / 1_000_000

    def ours() -> float:
        begun = time.perf_counter()
        report = verify(directory)
        seconds = time.perf_counter() - begun
        assert (report.ok, report.events) == (True, total), report.problems
        return seconds

    yield Case(f"{total:,} events on {SHARDS} shards, proven", "s", ours, goals=(Goal("<=", limit_s, "figure"),))


def backing_up(bench: Bench) -> Iterator[Case]:
    """The same store copied, against copying and syncing its files while nothing has them open."""
    total = bench.pick(full=1_000_000, quick=20_000, tiny=2_000)
    directory = bench.directory()
    asyncio.run(_fill(directory, total))
    shards = sorted(directory.glob("shard-*.db"))
    size = sum(path.stat().st_size for path in shards)

    def ours() -> float:
        to = bench.directory() / "backup"
        begun = time.perf_counter()
        report = backup(directory, to)
        seconds = time.perf_counter() - begun
        assert (sum(report.positions.values()), report.bytes) == (total, size)
        return size / MB / seconds

    def copying() -> float:
        to = bench.directory()
        begun = time.perf_counter()
        for path in shards:
            shutil.copyfile(path, to / path.name)
            _sync(to / path.name)
        seconds = time.perf_counter() - begun
        assert sum(path.stat().st_size for path in to.iterdir()) == size
        return size / MB / seconds

    yield Case(
        f"a backup of {total:,} events on {SHARDS} shards",
        "MB/s",
        ours,
        {"copyfile and fsync": copying},
        (Goal(">=", 0.8),),
    )


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def _fill(directory: Path, total: int) -> None:
    streams = events.names(max(SHARDS, total // 1000))
    async with await EventStore.open(directory, app="bench", shards=SHARDS) as store:
        for first in range(0, total, EVENTS_A_BATCH * BATCHES_A_COMMIT):
            waiting = []
            for at in range(first, min(total, first + EVENTS_A_BATCH * BATCHES_A_COMMIT), EVENTS_A_BATCH):
                stream = streams[at // EVENTS_A_BATCH % len(streams)]
                commands = events.commands(at, EVENTS_A_BATCH, BODY_BYTES, ids=True)
                waiting.append(store.append_batch(stream, commands))
            await asyncio.gather(*waiting)
        assert sum((await store.heads()).values()) == total
