"""Waiting for a condition, with a generous limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

LIMIT_S = 60.0


def wait_until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Ask again and again until `condition()` is true; fail after the limit."""
    deadline = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not true within {limit_s} s: {condition}"
        pause.wait(0.05)


async def until(condition: Callable[[], Awaitable[object]], limit_s: float = LIMIT_S) -> None:
    """The same in an event loop, for a condition that is a coroutine."""
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.001)
