"""Gate: lets batches run side by side, or one alone. First come, first served."""

from __future__ import annotations

import asyncio


class Gate:
    """Counts what runs; who wants to be alone waits for the end of it, and everyone later waits for him."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._running = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def enter(self) -> None:
        """Go in beside others; without a pause when nobody is, or wants to be, alone."""
        async with self._lock:
            self._running += 1
            self._quiet.clear()

    def leave(self) -> None:
        """The end of one that entered."""
        self._running -= 1
        if not self._running:
            self._quiet.set()

    async def enter_alone(self) -> None:
        """Go in when nothing runs, and keep everyone else out."""
        await self._lock.acquire()
        try:
            await self._quiet.wait()
        except BaseException:
            self._lock.release()
            raise

    def leave_alone(self) -> None:
        """The end of one that entered alone."""
        self._lock.release()
