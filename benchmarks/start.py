"""`start`: from `run()` to an app that serves, on Ray, beyond what Ray itself takes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bank import SHARDS, app, run
from benchmarks.events import uuid7
from benchmarks.harness import Bench, Case, Goal, benchmark
from benchmarks.own_ray import own_ray, ray_files
from eventray.store import EventStore, NewCommand, NewRecord

BODY = b"\x81\xa6amount\x01"  # of a deposit of 1
BATCH = 1_000


@benchmark("start")
def start(bench: Bench) -> Iterator[Case]:
    """Each in a process of its own that starts its Ray; `ours` is the time after `ray.init()`."""
    events = bench.pick(full=1_000_000, quick=100_000, tiny=2_000)
    store = bench.directory()
    asyncio.run(_fill(store, events))
    yield Case(
        "an empty store",
        "s beyond ray.init()",
        lambda: _in_child(bench.directory(), 0),
        goals=(Goal("<=", 2, "figure"),),
    )
    yield Case(
        f"a store of {events:,} events",
        "s beyond ray.init()",
        lambda: _in_child(store, events),
        goals=(Goal("<=", 3, "figure"),),
    )


async def _fill(directory: Path, events: int) -> None:
    name = app("packed").name
    async with await EventStore.open(directory, app=name, shards=SHARDS) as store:
        for first in range(0, events, BATCH):
            made = [
                NewCommand(uuid7(), [NewRecord("Deposited", BODY)], "deposit", b"\x01" * 8)
                for _ in range(min(BATCH, events - first))
            ]
            stream = f"Account/a{first // BATCH % 100}"
            await store.append_batch(stream, made)


def _in_child(directory: Path, events: int) -> float:
    with ray_files():
        command = [sys.executable, "-m", "benchmarks.start", str(directory), str(events)]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def _measure(directory: Path, events: int) -> float:
    with own_ray():
        begun = time.perf_counter()
        with run(directory, "packed") as runtime:
            seconds = time.perf_counter() - begun
            assert sum(runtime.heads().result().values()) == events
    return seconds


if __name__ == "__main__":
    print(_measure(Path(sys.argv[1]), int(sys.argv[2])))
