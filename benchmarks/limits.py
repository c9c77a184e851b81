"""`limits`: what no engine of this shape gets below: threads that wake each other, a commit, a Ray call."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from benchmarks import bare, events
from benchmarks.callers import bare_call
from benchmarks.closed_loop import closed_loop
from benchmarks.harness import Bench, Case
from benchmarks.own_ray import bare_actor, cpu_s, own_ray

BODY_BYTES = 10


def limits(bench: Bench) -> Iterator[Case]:
    """Microseconds by the clock of what a command waits for, and of processor time for what each call costs."""
    turns = bench.pick(full=4_000, quick=300, tiny=20)
    with _two_threads() as ask:
        yield Case("a caller wakes a loop, that a thread, and back: 4 wake-ups", "us", lambda: _us(ask, turns))
    yield Case("a commit of one event, bare sqlite3", "us", lambda: _commit_us(bench, turns))
    own_ray()
    with bare_actor() as actor:
        for callers in (1, 64):
            yield Case(
                f"a bare Ray call, {callers} at a time: processor time of caller and actor",
                "us",
                partial(_call_us, actor, callers, max(turns, 64)),
            )


@contextmanager
def _two_threads() -> Iterator[Callable[[], None]]:
    """Give what goes the way of a local command with nothing to do: to a loop's thread, to a worker's, and back."""
    loop, work = asyncio.new_event_loop(), queue.SimpleQueue[threading.Event | None]()
    engine = threading.Thread(target=loop.run_forever)
    worker = threading.Thread(target=_work, args=(loop, work))
    engine.start()
    worker.start()

    def ask() -> None:
        known = threading.Event()
        loop.call_soon_threadsafe(work.put, known)
        assert known.wait(60)

    yield ask
    work.put(None)
    worker.join()
    loop.call_soon_threadsafe(loop.stop)
    engine.join()
    loop.close()


def _work(loop: asyncio.AbstractEventLoop, work: queue.SimpleQueue[threading.Event | None]) -> None:
    while (known := work.get()) is not None:
        loop.call_soon_threadsafe(known.set)


def _us(do: Callable[[], None], turns: int) -> float:
    begun = time.perf_counter()
    for _ in range(turns):
        do()
    return 1e6 * (time.perf_counter() - begun) / turns


def _commit_us(bench: Bench, turns: int) -> float:
    streams = events.names(1)
    batches = [(streams[0], events.commands(number, 1, BODY_BYTES, ids=True)) for number in range(turns)]
    rows = iter(bare.rows_of(batches, streams))
    with closing(bare.make(bench.directory() / "bare.db", streams)) as connection:
        return _us(lambda: bare.append(connection, next(rows)), turns)


def _call_us(actor: Any, callers: int, calls: int) -> float:
    import ray

    pid = ray.get(actor.pid.remote())
    before = cpu_s(pid) + time.process_time()
    closed_loop(callers, calls, bare_call(actor))
    return 1e6 * (cpu_s(pid) + time.process_time() - before) / calls
