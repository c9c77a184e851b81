"""Threads for commands that block: each in one of its own, made on demand, up to a limit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any


class Threads:
    """Runs calls beside the event loop, at most `most` at once; later ones wait for the end of one.

    Not the loop's own pool of a few threads per core, which anything may fill; and daemons, so that a call which does
    not end keeps no process from ending.
    """

    def __init__(self, most: int) -> None:
        self._room = asyncio.Semaphore(most)

    async def run(self, call: Callable[..., None], *args: Any) -> None:
        """Call it in a thread, and wait for the end of it; what it raises comes out here."""
        async with self._room:
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()

            def settle(error: BaseException | None) -> None:
                if ended.done():  # nobody waits any more
                    return
                if error is None:
                    ended.set_result(None)
                else:
                    ended.set_exception(error)

            def work() -> None:
                failed: BaseException | None = None
                try:
                    call(*args)
                except BaseException as error:
                    failed = error
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(settle, failed)

            threading.Thread(target=work, name="eventray-blocking", daemon=True).start()
            await ended
