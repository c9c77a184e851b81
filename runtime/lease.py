"""Lease: an app that is not detached lives as long as the driver that started it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import OwnerDiedError, RayError

log = logging.getLogger("eventray.runtime")

GRACE_S = 30.0  # after a crash of the Directory itself: how long the driver has to renew its lease


class Lease:
    """Held by a reference to a call that is never answered: it belongs to the driver, and fails when that dies.

    Args:
        end: ends the app.
    """

    def __init__(self, app_name: str, end: Callable[[], Awaitable[None]]) -> None:
        self._app_name = app_name
        self._end = end
        self._renewed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._held: set[Any] = set()

    def renew(self, held: Any) -> None:
        """Watch the driver's reference."""
        self._renewed.set()
        if held not in self._held:
            self._held.add(held)
            self._tasks.append(asyncio.get_running_loop().create_task(self._watch(held)))

    def require(self) -> None:
        """End the app unless a driver renews the lease in time."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._expire()))

    async def _watch(self, held: Any) -> None:
        try:
            await held
        except OwnerDiedError:
            log.warning("the driver of %s is gone: the app ends", self._app_name)
            await self._end()
        except RayError:
            pass  # the Directory was restarted: the driver, if it lives, renews its lease

    async def _expire(self) -> None:
        try:
            await asyncio.wait_for(self._renewed.wait(), GRACE_S)
        except TimeoutError:
            log.warning("no driver has renewed the lease of %s: the app ends", self._app_name)
            await self._end()
