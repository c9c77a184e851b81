"""The hot paths, each as work that can be done again and again: `python -m benchmarks.paths NAME [DIRECTORY]`.

It prints, as JSON, the processor time of client and shards; with a directory, of every layer too (see layers.py).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import eventray
from benchmarks import load, rebuild
from benchmarks.bank import Balance, Where, running
from benchmarks.callers import ACCOUNTS, deposits
from benchmarks.embedded import one_by_one
from benchmarks.harness import Bench
from benchmarks.ingest import OUTSTANDING, SHARDS, pay_in
from benchmarks.layers import WRITE_EVERY_S, Stopwatch, added, in_worker
from benchmarks.own_ray import cpu_s, own_ray
from eventray import Runtime

WARM_UP, TURNS = 1, 3
EVENTS = 30_000


@dataclass(frozen=True, slots=True)
class Work:
    """`once` does it, for so many `items`; `pids`: the processes of the shards, none if they are in this one."""

    once: Callable[[], object]
    items: int
    pids: list[int] = field(default_factory=list)


Workload = Callable[[Bench], AbstractContextManager[Work]]


@contextmanager
def one_caller(bench: Bench) -> Iterator[Work]:
    """One who waits for each answer, in one process."""
    with running(bench, "local", 1) as runtime, Balance(runtime, ACCOUNTS) as balance:
        yield Work(lambda: balance.timed(1_000, lambda: one_by_one(runtime, 1_000)), 1_000)


@contextmanager
def many_callers(bench: Bench) -> Iterator[Work]:
    """64 of them."""
    with _deposits(bench, "local", ACCOUNTS, 64) as work:
        yield work


@contextmanager
def hot(bench: Bench) -> Iterator[Work]:
    """64 to one instance, on Ray."""
    with _deposits(bench, "packed", ["hot"], 64) as work:
        yield work


@contextmanager
def ingest(bench: Bench) -> Iterator[Work]:
    """As much as goes through, on Ray."""
    with (
        running(bench, "packed", SHARDS, send_all_commands_max=OUTSTANDING) as runtime,
        Balance(runtime, ACCOUNTS) as balance,
    ):
        yield Work(lambda: pay_in(balance, 10_000), 10_000, _pids(runtime))


@contextmanager
def loading(bench: Bench) -> Iterator[Work]:
    """The first command to an aggregate of many events; an item is an event."""
    directory = bench.directory()
    asyncio.run(load.fill(directory, EVENTS))
    yield Work(lambda: load.first_command(directory), 2 * EVENTS)  # the check of the state reads them once more


@contextmanager
def rebuilding(bench: Bench) -> Iterator[Work]:
    """A view made anew in one process; an item is an event."""
    directory = bench.directory()
    asyncio.run(rebuild.fill(directory, EVENTS))
    with eventray.run(rebuild.BANK, data=directory, local=True) as runtime:
        rebuild.follow(runtime)
        yield Work(lambda: rebuild.rate(runtime, EVENTS), EVENTS)


PATHS: Mapping[str, Workload] = {
    "one_caller": one_caller,
    "many_callers": many_callers,
    "ingest": ingest,
    "hot": hot,
    "loading": loading,
    "rebuilding": rebuilding,
}
ON_RAY = {"ingest", "hot"}


@contextmanager
def _deposits(bench: Bench, where: Where, names: list[str], callers: int) -> Iterator[Work]:
    with running(bench, where, 1) as runtime, Balance(runtime, names) as balance:
        yield Work(lambda: deposits(balance, callers, 5_000), 5_000, _pids(runtime) if where != "local" else [])


def _pids(runtime: Runtime) -> list[int]:
    return [shard.pid for shard in runtime.status().result().shards]


def measure(path: Workload, stopwatch: Stopwatch | None, directory: Path | None) -> dict[str, object]:
    """Do the work a few times; what each process spent for an item."""
    bench = Bench("quick")
    try:
        with path(bench) as work:
            for _ in range(WARM_UP):
                work.once()
            before = _reading(work.pids, stopwatch, directory)
            begun = time.perf_counter()
            for _ in range(TURNS):
                work.once()
            seconds = time.perf_counter() - begun
            after = _reading(work.pids, stopwatch, directory)
    finally:
        bench.forget()
    return {"before": before, "after": after, "items": TURNS * work.items, "seconds": seconds}


def _reading(pids: list[int], stopwatch: Stopwatch | None, directory: Path | None) -> dict[str, dict[str, object]]:
    """What client and shards have spent so far: by their layers, and in all."""
    if directory is not None:
        time.sleep(2 * WRITE_EVERY_S)  # what the shards have written is of now
    found: dict[str, dict[str, object]] = {
        "client": {"cpu_s": time.process_time(), "layers": stopwatch.spent() if stopwatch else {}}
    }
    if pids:
        layers = [json.loads((directory / f"{pid}.json").read_text()) for pid in pids] if directory else []
        found["shards"] = {"cpu_s": sum(cpu_s(pid) for pid in pids), "layers": added(layers)}
    return found


def _hooked(name: str, directory: Path) -> Stopwatch:
    """Start the stopwatch here, and in every worker if the path is on Ray."""

    if name in ON_RAY:
        own_ray(runtime_env={"worker_process_setup_hook": in_worker(directory)})
    stopwatch = Stopwatch()
    stopwatch.start()
    return stopwatch


if __name__ == "__main__":
    where = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    print(json.dumps(measure(PATHS[sys.argv[1]], None if where is None else _hooked(sys.argv[1], where), where)))
