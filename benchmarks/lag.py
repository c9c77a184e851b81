"""`lag`: from a receipt to a view that shows its events, while 10,000 events/s come in."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import eventray
from benchmarks.bank import require_syncing
from benchmarks.harness import Bench, Case, Told
from benchmarks.own_ray import cpu_s, own_ray
from benchmarks.result import Goal
from eventray import Aggregate, App, Event, Packed, Projection, Receipt, Response, Runtime, command, query

SHARDS, ACCOUNTS = 4, 100
EVENTS_PER_S = 10_000
EVENTS_A_COMMAND = 10
OUTSTANDING_MAX = 500  # commands; on a machine that is too slow for the rate they come as fast as it takes them
PROBE_EVERY = 20  # commands
PERCENTILES = 100


class Paid(Event):
    """Money came in."""

    amount: int


class Account(Aggregate):
    """Takes money."""

    @command
    def pay(self, times: int) -> list[Paid]:
        """Take 1 so many times."""
        return [Paid(1)] * times

    def apply(self, event: Paid) -> None:
        """Nothing to remember."""


class Total(Projection):
    """All of it."""

    amount: int = 0

    def apply(self, event: Paid) -> None:
        """Add it."""
        self.amount += event.amount

    @query
    def sum(self) -> int:
        """What has come in."""
        return self.amount


@dataclass(frozen=True, slots=True)
class Lag:
    """What one run has shown; `cpu_us`: of all shards' processes, for one event."""

    p50_ms: float
    p99_ms: float
    rate: float
    cpu_us: float


def lag(bench: Bench) -> Iterator[Case]:
    """The time of a query for a receipt's events, asked the moment the receipt is there: one view, and ten."""
    events = bench.pick(full=100_000, quick=5_000, tiny=2_000)
    many = bench.pick(full=10, quick=2, tiny=2)
    runs: dict[int, Told[Lag]] = {}
    for views in (1, many):
        with _running(bench, views) as (runtime, projections):
            runs[views] = Told(partial(_run, runtime, projections, events))
            yield from _cases(views, runs[views])
    yield Case(
        f"CPU of the shards, {many} views",
        "us/event",
        runs[many].told(lambda lag: lag.cpu_us),
        {"1 view": runs[1].told(lambda lag: lag.cpu_us)},
        (Goal("<=", 1.5),),
    )


def _cases(views: int, runs: Told[Lag]) -> Iterator[Case]:
    what = "1 view" if views == 1 else f"{views} views"
    goals = [Goal("<=", 10, "figure"), Goal("<=", 50, "figure"), Goal(">=", 0.95 * EVENTS_PER_S, "figure")]
    p50, p99, rate = [(goal,) if views == 1 else () for goal in goals]  # of more views only the CPU has one
    yield Case(f"{what}: receipt to visible, p50", "ms", runs.made(lambda lag: lag.p50_ms), goals=p50)
    yield Case(f"{what}: receipt to visible, p99", "ms", runs.told(lambda lag: lag.p99_ms), goals=p99)
    yield Case(f"{what}: the load meanwhile", "events/s", runs.told(lambda lag: lag.rate), goals=rate)


@contextmanager
def _running(bench: Bench, views: int) -> Iterator[tuple[Runtime, list[type[Total]]]]:
    projections = [type(f"Total{number}", (Total,), {"__module__": __name__}) for number in range(views)]
    app = App(f"bench-lag-{views}", aggregates=[Account], projections=projections, placement={Account: Packed()})
    own_ray()
    with eventray.run(app, data=bench.directory(), shards=SHARDS) as runtime:
        require_syncing(runtime, [Account.pay.to(f"a{number}", EVENTS_A_COMMAND) for number in range(ACCOUNTS)])
        yield runtime, projections


def _run(runtime: Runtime, projections: list[type[Total]], events: int) -> Lag:
    views = [runtime.view(projection) for projection in projections]
    before, cpu_before_s = runtime.heads().result(), _shards_cpu_s(runtime)
    lags, seconds = asyncio.run(_load(runtime, views, events // EVENTS_A_COMMAND))
    heads = runtime.heads().result()
    assert sum(heads.values()) - sum(before.values()) == events
    for view in views:
        assert view.sum.options(after=heads).remote().result() == sum(heads.values())
    percentiles = statistics.quantiles(lags, n=PERCENTILES)
    cpu_us = 1e6 * (_shards_cpu_s(runtime) - cpu_before_s) / events
    return Lag(1000 * statistics.median(lags), 1000 * percentiles[-1], events / seconds, cpu_us)


async def _load(runtime: Runtime, views: list[Any], commands: int) -> tuple[list[float], float]:
    """Send commands at the rate; the lags that were seen, and the seconds that it took."""
    accounts = [runtime.get(Account, f"a{number}") for number in range(ACCOUNTS)]
    waiting: deque[Response[Receipt]] = deque()
    probes: list[asyncio.Task[float]] = []
    begun = time.perf_counter()
    for number in range(commands):
        early_s = begun + number * EVENTS_A_COMMAND / EVENTS_PER_S - time.perf_counter()
        if early_s > 0:
            await asyncio.sleep(early_s)
        if len(waiting) == OUTSTANDING_MAX:
            await waiting.popleft()
        waiting.append(accounts[number % ACCOUNTS].pay.remote(EVENTS_A_COMMAND))
        if number % PROBE_EVERY == 0:
            view = views[number // PROBE_EVERY % len(views)]
            probes.append(asyncio.create_task(_lag_s(waiting[-1], view)))
    for response in waiting:
        await response
    seconds = time.perf_counter() - begun
    return await asyncio.gather(*probes), seconds


async def _lag_s(response: Response[Receipt], view: Any) -> float:
    receipt = await response
    begun = time.perf_counter()
    assert await view.sum.options(after=receipt).remote() > 0
    return time.perf_counter() - begun


def _shards_cpu_s(runtime: Runtime) -> float:
    """What the processes of the shards have computed so far."""
    return sum(cpu_s(shard.pid) for shard in runtime.status().result().shards)
