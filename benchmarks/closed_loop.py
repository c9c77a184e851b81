"""Callers in a closed loop: each waits for its answer before it calls again."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[int], Awaitable[Any]]  # makes call number n


@dataclass(frozen=True, slots=True)
class Loop:
    """What callers saw: calls a second, and the time of one call in the middle."""

    rate: float
    p50_ms: float


def closed_loop(callers: int, calls: int, call: Call) -> Loop:
    """Make `calls` calls, `callers` of them at a time."""
    return asyncio.run(_closed_loop(callers, calls, call))


async def _closed_loop(callers: int, calls: int, call: Call) -> Loop:
    numbers = iter(range(calls))
    times: list[float] = []

    async def caller() -> None:
        for number in numbers:
            begun = time.perf_counter()
            await call(number)
            times.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    rate = calls / (time.perf_counter() - begun)
    assert len(times) == calls
    return Loop(rate, 1000 * statistics.median(times))
