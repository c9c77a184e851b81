"""Thrash: notices that activations of a class are evicted and started again many times a minute."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable

log = logging.getLogger("eventray.runtime")

WINDOW_S = 60.0
RETURNS_PER_MINUTE = 30  # each costs up to 0.7 s of a core
EVICTED_KEPT = 10_000


class Thrash:
    """Counts the activations of one class that come back soon after they had to make room; warns once.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.warning = ""
        self._name = name
        self._clock = clock
        self._evicted: OrderedDict[str, float] = OrderedDict()
        self._returns: deque[float] = deque()

    def evicted(self, stream: str) -> None:
        """An activation made room for another one."""
        self._evicted[stream] = self._clock()
        if len(self._evicted) > EVICTED_KEPT:
            self._evicted.popitem(last=False)

    def started(self, stream: str, active: int) -> None:
        """An activation starts, perhaps again; `active` are there."""
        now = self._clock()
        if now - self._evicted.pop(stream, now - 2 * WINDOW_S) > WINDOW_S:
            return
        self._returns.append(now)
        while now - self._returns[0] > WINDOW_S:
            self._returns.popleft()
        if len(self._returns) >= RETURNS_PER_MINUTE and not self.warning:
            self.warning = (
                f"{len(self._returns)} instances of {self._name} a minute had to leave memory for others and were "
                f"started again, each a process: {active} at once are not enough. "
                f"Place {self._name} with Packed(), or raise max_active of its Dedicated()."
            )
            log.warning("%s", self.warning)
