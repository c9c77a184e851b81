"""`size`: what the file takes for an event, above its body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from benchmarks import events
from benchmarks.harness import Bench, Case
from benchmarks.result import Goal

BODY_BYTES = 100
EVENTS_A_STREAM = 100
EVENTS_A_BATCH = 10
BATCHES_A_COMMIT = 100


def size(bench: Bench) -> Iterator[Case]:
    """1,000,000 events of 100-byte bodies in 10,000 streams that grow side by side."""
    total = bench.pick(full=1_000_000, quick=50_000, tiny=10_000)
    for ids in (False, True):
        yield Case(
            f"{total:,} events of {BODY_BYTES} bytes, " + ("a UUIDv7 each" if ids else "no command ids"),
            "bytes above the body",
            lambda ids=ids: asyncio.run(_ours(bench, total, ids=ids)),  # type: ignore[misc]
            goals=(Goal("<=", 90, "figure"),),
            rounds=1,
        )


async def _ours(bench: Bench, total: int, *, ids: bool) -> float:
    directory = bench.directory()
    await fill(directory, total, ids=ids)
    stored = sum(path.stat().st_size for path in directory.glob("shard-0000.db*"))
    shard = await events.open_shard(directory, create=False)
    assert shard.head == total
    assert [len(record.data) for record in await shard.read(after=total - 1)] == [BODY_BYTES]
    await shard.close()
    return stored / total - BODY_BYTES


async def fill(directory: Path, total: int, *, ids: bool, body_bytes: int = BODY_BYTES) -> None:
    """Append events to many streams in turns; the shard is closed and its WAL in its file afterwards."""
    shard = await events.open_shard(directory)
    streams = events.names(max(1, total // EVENTS_A_STREAM))
    batches = ((n, streams[n % len(streams)]) for n in range(total // EVENTS_A_BATCH))
    waiting = []
    for n, stream in batches:
        commands = events.commands(n * EVENTS_A_BATCH, EVENTS_A_BATCH, body_bytes, ids=ids)
        waiting.append(shard.append_batch(stream, commands))
        if len(waiting) == BATCHES_A_COMMIT:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)
    await shard.close()
