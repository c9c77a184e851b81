"""How the outcome of an append reaches who asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from eventray.store.records import BatchResult

T = TypeVar("T")

Settle = Callable[[BatchResult | Exception], None]  # called once, in the loop


def settle_future(future: asyncio.Future[T], outcome: T | Exception) -> None:
    """Complete a future, unless its caller was cancelled."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
