"""`start`: from `run()` to an app that serves, on Ray, beyond what Ray itself takes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.bank import app, run
from benchmarks.harness import Bench, Case, Told
from benchmarks.own_ray import own_ray, ray_files
from benchmarks.rebuild import fill
from benchmarks.result import Goal


def start(bench: Bench) -> Iterator[Case]:
    """Each in a process of its own that starts its Ray; `ours` is the time after `ray.init()`."""
    events = bench.pick(full=1_000_000, quick=20_000, tiny=2_000)
    rounds = None if bench.scale == "full" else 1
    store = bench.directory()
    asyncio.run(fill(store, events, app("packed").name))
    stores = (("an empty store", 0, 2), (f"a store of {events:,} events", events, 3))
    for what, stored, seconds in stores[-bench.pick(full=2, quick=2, tiny=1) :]:
        runs = Told(partial(_in_child, bench, store if stored else None, stored))
        yield Case(
            what,
            "s beyond ray.init()",
            runs.made(lambda took: took[1]),
            goals=(Goal("<=", seconds, "figure"),),
            rounds=rounds,
        )
        yield Case(f"ray.init() itself, before {what}", "s", runs.told(lambda took: took[0]), rounds=rounds)


def _in_child(bench: Bench, directory: Path | None, events: int) -> tuple[float, float]:
    with ray_files():
        command = [sys.executable, "-m", "benchmarks.start", str(directory or bench.directory()), str(events)]
        init_s, run_s = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-2:]
    return float(init_s), float(run_s)


def _measure(directory: Path, events: int) -> float:
    begun = time.perf_counter()
    with run(directory, "packed") as runtime:
        seconds = time.perf_counter() - begun
        assert sum(runtime.heads().result().values()) == events
    return seconds


if __name__ == "__main__":
    begun = time.perf_counter()
    own_ray()
    print(time.perf_counter() - begun, _measure(Path(sys.argv[1]), int(sys.argv[2])))
