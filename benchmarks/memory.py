"""`memory`: what an activation costs, packed and dedicated."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import eventray
from benchmarks.bank import Account, running
from benchmarks.harness import Bench, Case
from benchmarks.own_ray import bare_actor, memory_bytes
from benchmarks.result import Goal
from eventray import App, Packed, Receipt, Runtime
from eventray.runtime.collector import spare_the_collector
from eventray.runtime.model import aggregate_model

MODEL = aggregate_model(Account)
ROUNDS_OF_A_LEVEL = 3
OUTSTANDING = 1_000  # of the client, which is in this process, too: its commands are not what is measured


def memory(bench: Bench) -> Iterator[Case]:
    """Packed ones in a process of their own (`local=True`, all shards in it); a dedicated one on Ray."""
    instances = bench.pick(full=100_000, quick=10_000, tiny=500)
    yield Case(
        f"{instances:,} packed activations: each, above its state",
        "bytes",
        lambda: in_child(bench.directory(), [instances])[0],
        goals=(Goal("<=", 1_500, "figure"),),
        rounds=bench.pick(full=ROUNDS_OF_A_LEVEL, quick=1, tiny=1),
        note="with what the store keeps of its stream",
    )
    with running(bench, "dedicated") as runtime, bare_actor() as bare:
        import ray

        pid = _activated(runtime)
        yield Case(
            "a dedicated activation's process",
            "bytes",
            lambda: memory_bytes(pid),
            {"a bare Ray actor's": lambda: ray.get(bare.memory_bytes.remote())},
            (Goal("<=", 1.1),),
            rounds=ROUNDS_OF_A_LEVEL,
        )


def _activated(runtime: Runtime) -> int:
    stream = runtime.get(Account, "one").deposit.remote(1).result().stream
    [pid] = [one.pid for one in runtime.status().result().activations if one.stream == stream]
    return pid


def in_child(directory: Path, sizes: Sequence[int]) -> list[float]:
    """Activate so many instances, then more up to the next size, and so on; bytes of each at every size."""
    command = [sys.executable, "-m", "benchmarks.memory", str(directory), *map(str, sizes)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [float(size) for size in printed.split()]


def _measure(directory: Path, sizes: Sequence[int]) -> Iterator[float]:
    """Bytes that an activation adds to this process, less those of a bare object with its state."""
    names = [f"a{number:06d}" for number in range(sizes[-1])]
    others = [f"warm-up {number}" for number in range(min(25_000, sizes[-1] // 4))]
    app = App("bench", aggregates=[Account], placement={Account: Packed(max_active=len(names) + len(others))})
    spare_the_collector()  # as in the process of a shard
    with eventray.run(app, data=directory, local=True, send_all_commands_max=OUTSTANDING) as runtime:
        _deposit(runtime, others)  # what the engine itself takes under load is there then
        before, done = _kept(), 0
        for size in sizes:
            _deposit(runtime, names[done:size])
            done = size
            after = _kept()
            assert sum(shard.active for shard in runtime.status().result().shards) == size + len(others)
            states = [MODEL.new(name) for name in names[:size]]
            yield (after - before - (_kept() - after)) / len(states)
            del states


def _kept() -> int:
    """What this process has in memory, when what is free has been given back."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)
    return memory_bytes(os.getpid())


def _deposit(runtime: Runtime, names: list[str]) -> None:
    commands = (Account.deposit.to(name, 1) for name in names)
    assert [outcome for outcome in runtime.send_all(commands) if not isinstance(outcome, Receipt)] == []


if __name__ == "__main__":
    print(*_measure(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]]))
