"""Coalescing without a timer: while one batch runs, what arrives queues, and leaves as the next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

J = TypeVar("J")


class Batcher(Generic[J]):
    """Runs `run(batch)` one batch at a time; `weigh` and `weight_max` bound a batch (one job always fits).

    `run` settles its jobs itself and returns those that have to go first into the next batch. It never raises.
    """

    def __init__(
        self, run: Callable[[list[J]], Awaitable[list[J]]], weigh: Callable[[J], int], weight_max: int
    ) -> None:
        self._run = run
        self._weigh = weigh
        self._weight_max = weight_max
        self._queue: deque[J] = deque()
        self._task: asyncio.Task[None] | None = None
        self._running: asyncio.Future[None] | None = None

    def put(self, job: J) -> None:
        """Queue a job; it runs with all others that are put before the loop's next turn, or while a batch runs."""
        self._queue.append(job)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def between_batches(self) -> None:
        """Wait until the batch that runs now, if one does, has ended."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def settled(self) -> None:
        """Wait until nothing is queued or running."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._queue:
                self._running = asyncio.get_running_loop().create_future()
                again = await self._run(self._take())
                self._running.set_result(None)
                self._queue.extendleft(reversed(again))
        finally:
            if self._running is not None and not self._running.done():
                self._running.cancel()
            self._running = self._task = None

    def _take(self) -> list[J]:
        batch = [self._queue.popleft()]
        weight = self._weigh(batch[0])
        while self._queue:
            weight += self._weigh(self._queue[0])
            if weight > self._weight_max:
                break
            batch.append(self._queue.popleft())
        return batch
