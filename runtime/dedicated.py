"""DedicatedHost: stands behind the inbox of an activation that has a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from eventray.runtime.activation import Activation
from eventray.runtime.app import App
from eventray.runtime.config import Config
from eventray.runtime.decide import Decider
from eventray.runtime.outcomes import Outcomes, with_refused
from eventray.runtime.wire import Answerer, CommandItem, Kind
from eventray.store.port import ShardPort

FIRST_COMMAND_S = 5.0  # who had a dedicated activation made has sent its command by then


class DedicatedHost:
    """One activation with a process of its own."""

    def __init__(self, app: App, aggregate: str, stream: str, shard: ShardPort, config: Config) -> None:
        decider = Decider(app.aggregates[aggregate], config)
        self.activation = Activation(decider, stream, shard, take_over=True, schedule=self._run)
        self._outcomes = decider.outcomes
        self._taken: Outcomes = Counter()
        self.leaving = False
        self._expecting_until = time.monotonic() + FIRST_COMMAND_S
        self._task: asyncio.Task[None] | None = None

    def _run(self, activation: Activation) -> None:
        self._task = asyncio.get_running_loop().create_task(activation.run())

    def handle(self, item: CommandItem, answer: Answerer) -> None:
        """Give a command to the activation; one that comes while it leaves runs in the next activation."""
        if self.leaving or self.activation.superseded:
            answer(Kind.AGAIN, f"{self.activation.stream} is being passivated")
            return
        self._expecting_until = 0.0
        self.activation.submit(item, answer)

    @property
    def idle_s(self) -> float:
        """Seconds without a command; 0 while there is one, also while the one that it was made for is on its way."""
        return 0.0 if time.monotonic() < self._expecting_until else self.activation.idle_s

    def take_outcomes(self, overloaded: int) -> Outcomes:
        """How commands ended since this was asked before; `overloaded` were not even taken, since the beginning."""
        before, self._taken = self._taken, with_refused(self._outcomes, overloaded)
        return self._taken - before

    async def passivate(self) -> None:
        """Take nothing more, and wait until everything taken is answered."""
        self.leaving = True
        await self.activation.drain()
