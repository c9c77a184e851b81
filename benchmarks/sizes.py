"""`sizes` and `shards`: what a cost depends on. Rates must be flat, times of a whole log grow with it, starts stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial

import eventray
from benchmarks import load, memory
from benchmarks.bank import Balance, running
from benchmarks.harness import Bench, Case
from benchmarks.ingest import OUTSTANDING, pay_in
from benchmarks.own_ray import own_ray
from benchmarks.rebuild import BANK, fill, follow, rate
from benchmarks.result import Point

NAMES = [f"a{number}" for number in range(1_000)]
SHARDS = (1, 2, 4, 8)
LARGE = 1_000_000  # is measured once


def sizes(bench: Bench) -> Iterator[Case]:
    """Everything that has to do with how much there is, at sizes that grow tenfold."""
    largest = bench.pick(full=LARGE, quick=10_000, tiny=1_000)
    counts = [largest // 100, largest // 10, largest][-bench.pick(full=3, quick=2, tiny=1) :]
    for count in counts:
        yield from _load(bench, count)
        yield from _whole_log(bench, count)
    yield from _memory(bench, counts)


def shards(bench: Bench) -> Iterator[Case]:
    """The same deposits into more and more shards, each a process, on the cores of this machine."""
    deposits = bench.pick(full=50_000, quick=2_000, tiny=100)
    for count in SHARDS[: bench.pick(full=4, quick=3, tiny=1)]:
        yield from _shards(bench, count, deposits)


def _rounds(bench: Bench, count: int) -> int:
    return 3 if bench.scale == "full" and count < LARGE else 1


def _load(bench: Bench, count: int) -> Iterator[Case]:
    directory = bench.directory()
    asyncio.run(load.fill(directory, count))
    yield Case(
        f"first command to an aggregate of {count:,} events",
        "events/s",
        lambda: count / load.first_command(directory),
        rounds=_rounds(bench, count),
        point=Point("load", "events", count),
    )


def _whole_log(bench: Bench, count: int) -> Iterator[Case]:
    directory = bench.directory()
    asyncio.run(fill(directory, count))
    own_ray()
    begun = time.perf_counter()
    with eventray.run(BANK, data=directory, send_all_commands_max=OUTSTANDING) as runtime:
        seconds = time.perf_counter() - begun
        yield Case(
            f"run() on a store of {count:,} events, with a view, on a Ray that is there",
            "s",
            lambda: seconds,
            rounds=1,
            point=Point("start", "events", count),
        )
        follow(runtime)
        yield Case(
            f"rebuild of a view of {count:,} events on Ray",
            "events/s",
            partial(rate, runtime, count),
            rounds=_rounds(bench, count),
            point=Point("rebuild", "events", count),
        )
        deposits = bench.pick(full=20_000, quick=2_000, tiny=100)
        with Balance(runtime, [f"new-{name}" for name in NAMES]) as balance:
            yield Case(
                f"ingest of {deposits:,} deposits into a store of {count:,} events, with a view, on Ray",
                "commands/s",
                partial(pay_in, balance, deposits),
                point=Point("ingest", "events", count),
            )


def _memory(bench: Bench, counts: Sequence[int]) -> Iterator[Case]:
    for count, bytes_each in zip(counts, memory.in_child(bench.directory(), counts), strict=True):
        yield Case(
            f"{count:,} packed activations: each, above its state",
            "bytes",
            partial(float, bytes_each),
            rounds=1,
            point=Point("memory", "events", count),
        )


def _shards(bench: Bench, count: int, deposits: int) -> Iterator[Case]:
    with (
        running(bench, "packed", shards=count, send_all_commands_max=OUTSTANDING) as runtime,
        Balance(runtime, NAMES) as balance,
    ):
        yield Case(
            f"ingest of {deposits:,} deposits into {count} shard{'s' * (count > 1)} on Ray",
            "commands/s",
            partial(pay_in, balance, deposits),
            point=Point("ingest", "shards", count),
        )
