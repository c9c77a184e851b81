"""`append`: the store alone, eight writers, against bare sqlite3 that stores the same rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from benchmarks import bare, events
from benchmarks.harness import Bench, Case
from benchmarks.result import Goal
from eventray.store import NewCommand

WRITERS = 8
BODY_BYTES = 140
Batches = Sequence[tuple[str, Sequence[NewCommand]]]


def append(bench: Bench) -> Iterator[Case]:
    """Batches of 100 and of 1,000 events, as one command each; and of 1,000 commands with an id each."""
    streams = events.names(WRITERS)
    total = bench.pick(full=160_000, quick=16_000, tiny=8_000)
    for size, ids in ((100, False), (1000, False), (1000, True)):
        what = f"{WRITERS} writers, batches of {size:,} events" + (", a UUIDv7 each" if ids else "")
        batches = [
            (streams[n % WRITERS], events.commands(n * size, size, BODY_BYTES, ids=ids)) for n in range(total // size)
        ]
        yield Case(
            what,
            "events/s",
            lambda batches=batches: asyncio.run(_ours(bench, batches, total)),  # type: ignore[misc]
            {"sqlite3": lambda batches=batches: _bare(bench, batches, total)},  # type: ignore[misc]
            () if ids else (Goal(">=", 0.9),),
        )


async def _ours(bench: Bench, batches: Batches, total: int) -> float:
    directory = bench.directory()
    shard = await events.open_shard(directory)

    async def write(own: Batches) -> None:
        for stream, commands in own:
            await shard.append_batch(stream, commands)

    begun = time.perf_counter()
    await asyncio.gather(*(write(batches[n::WRITERS]) for n in range(WRITERS)))
    seconds = time.perf_counter() - begun
    last = await shard.read(after=total - 1)
    assert (shard.head, len(last)) == (total, 1)
    await shard.close()
    return total / seconds


def _bare(bench: Bench, batches: Batches, total: int) -> float:
    streams = events.names(WRITERS)
    rows = bare.rows_of(batches, streams)
    with closing(bare.make(bench.directory() / "bare.db", streams)) as connection:
        begun = time.perf_counter()
        for batch in rows:
            bare.append(connection, batch)
        seconds = time.perf_counter() - begun
        assert connection.execute("SELECT count(*), max(position) FROM events").fetchone() == (total, total)
    return total / seconds
