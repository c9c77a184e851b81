"""Router: the client's side of batching, ordering and retrying.

The unit of cost is the call, not the command: while a call to a target is on its way, everything else for that target
waits and leaves as the next batch (no timer; an idle target gets a command at once). Commands for one instance keep
the order in which they were sent: only one batch on the way holds any of them, and a retry goes to the front.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Hashable

from eventray.domain.errors import Overloaded
from eventray.runtime.channel import Connect
from eventray.runtime.config import Config
from eventray.runtime.lanes import Job
from eventray.runtime.link import Link

LINKS_IDLE_MAX = 1_024


class Router:
    """Sends jobs to targets; runs in one event loop.

    Args:
        connect: coroutine function that finds a target's live incarnation.
    """

    def __init__(self, client: str, connect: Connect, config: Config) -> None:
        self.client = client
        self.config = config
        self.connect = connect
        self.outstanding = 0
        self._number = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._links: dict[Hashable, Link] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at = float("inf")

    def send(self, target: Hashable, job: Job) -> None:
        """Put a job on its way (in the Router's loop). Ends it with `Overloaded` when too many are open."""
        if self.outstanding >= self.config.client_commands_max:
            job.fail(Overloaded("client", self.config.client_commands_max, "commands", 0.1))
            return
        link = self._links.get(target)
        if link is None:
            if len(self._links) >= LINKS_IDLE_MAX:
                self._forget_idle()
            link = self._links[target] = Link(self, target)
        if link.add(job):
            self.outstanding += 1
            self._empty.clear()
            self._watch(job.deadline)

    def landed(self) -> None:
        """A job has ended."""
        self.outstanding -= 1
        if not self.outstanding:
            self._empty.set()

    async def drained(self, timeout_s: float) -> None:
        """Wait until nothing is on its way, or for `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)

    def next_number(self) -> int:
        """The number of the next batch."""
        self._number += 1
        return self._number

    def close(self, error: BaseException) -> None:
        """End everything that is on its way with `error`."""
        if self._sweep is not None:
            self._sweep.cancel()
        for link in list(self._links.values()):
            link.close(error)
        self._links.clear()

    def _forget_idle(self) -> None:
        for target in [target for target, link in self._links.items() if link.idle]:
            del self._links[target]

    def _watch(self, deadline: float) -> None:
        if deadline < self._sweep_at:
            if self._sweep is not None:
                self._sweep.cancel()
            self._sweep_at = deadline
            delay = max(0.0, deadline - time.monotonic())
            self._sweep = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        """Runs at the earliest deadline of what is open: ends what is over, and finds the next one."""
        now = time.monotonic()
        self._sweep, self._sweep_at = None, float("inf")
        nearest = min((link.expire(now) for link in list(self._links.values())), default=float("inf"))
        if nearest < float("inf"):
            self._watch(nearest)
