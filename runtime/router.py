"""Router: the client's side of batching, ordering and retrying.

The unit of cost is the call, not the command: while a call to a target is on its way, everything else for that target
waits and leaves as the next batch (no timer; an idle target gets a command at once). Commands for one instance keep
the order in which they were sent: only one batch on the way holds any of them, and a retry goes to the front.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Hashable

from eventray.runtime.channel import Connect
from eventray.runtime.config import Config
from eventray.runtime.flights import Traffic
from eventray.runtime.lanes import Job
from eventray.runtime.link import Link
from eventray.runtime.quota import Quota

LINKS_IDLE_MAX = 1_024


class Router:
    """Sends jobs to targets; runs in one event loop, but for `admit`.

    Args:
        connect: coroutine function that finds a target's live incarnation.
    """

    def __init__(self, client: str, connect: Connect, config: Config) -> None:
        self.client = client
        self.config = config
        self.connect = connect
        self.quota = Quota("this client", config.client_commands_max, config.client_bytes_max)
        self.traffic = Traffic()
        self._number = 0
        self._empty = asyncio.Event()
        self._links: dict[Hashable, Link] = {}
        self._touched: dict[Link, None] = {}  # in the order in which they got something
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at = float("inf")

    def admit(self, job: Job) -> bool:
        """Count a job in, from any thread, before it is sent; False when too much is open: it ended in `Overloaded`."""
        refusal = self.quota.admit(job.size)
        if refusal is not None:
            job.fail(refusal)
        return refusal is None

    def send(self, target: Hashable, job: Job) -> None:
        """Put an admitted job on its way, in the loop's next turn or at `flush`, with all others that came until then.

        `Overloaded` ends it when too much is open for its instance.
        """
        if not self._touched:
            asyncio.get_running_loop().call_soon(self.flush)
        self.put(target, job)

    def put(self, target: Hashable, job: Job) -> None:
        """As `send`, for who calls `flush` in this turn."""
        link = self._links.get(target)
        if link is None:
            if len(self._links) >= LINKS_IDLE_MAX:
                self._forget_idle()
            link = self._links[target] = Link(self, target)
        refusal = link.add(job)
        if refusal is not None:
            self.landed([job])
            job.fail(refusal)
            return
        self._touched[link] = None
        if job.deadline < self._sweep_at:
            self._watch(job.deadline)

    def flush(self) -> None:
        """Let every link that has got something send what it can."""
        touched, self._touched = self._touched, {}
        for link in touched:
            link.pump()

    def landed(self, jobs: Collection[Job]) -> None:
        """These have ended, or are about to: whoever is told so finds room for the next."""
        self.quota.leave(len(jobs), sum([job.size for job in jobs]))
        if not self.quota.items:
            self._empty.set()

    async def drained(self, timeout_s: float) -> None:
        """Wait until nothing is on its way, or for `timeout_s`; nothing may be admitted meanwhile."""
        self._empty.clear()
        if self.quota.items:
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
