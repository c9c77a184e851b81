"""Waiting for a condition, with a generous limit."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable

LIMIT_S = 60.0


def wait_until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Ask again and again until `condition()` is true; fail after the limit."""
    deadline = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not true within {limit_s} s: {condition}"
        pause.wait(0.05)


async def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """The same in an event loop; the condition may be a coroutine function."""
    async with asyncio.timeout(limit_s):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.001)
