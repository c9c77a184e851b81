"""The actor of a dedicated activation."""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial
from typing import Any

import ray

from eventray.domain.errors import EventRayError
from eventray.runtime.app import App
from eventray.runtime.channel import TargetLost
from eventray.runtime.dedicated import DedicatedHost
from eventray.runtime.inbox import Inbox
from eventray.runtime.nodes import this_node
from eventray.runtime.remote import PATIENCE_S, RemoteShard, answered, call
from eventray.runtime.shell import Plan, Shell, new_epoch
from eventray.runtime.status import ActivationStatus

TELL_S = 5.0  # how often the Directory hears how commands ended: as often as it publishes that


class ActivationShell(Shell):
    """One dedicated activation; `shard` is the actor of its shard when it is made, None if there is none then."""

    def __init__(self, plan: Plan, directory: Any, aggregate: str, id: str, shard_index: int, shard: Any) -> None:
        super().__init__()
        self._plan = plan
        self._directory = directory
        self._aggregate = aggregate
        self._id = id
        self._shard = RemoteShard(shard_index, partial(call, directory.locate), PATIENCE_S, shard)
        self._app: App | None = None
        self._host: DedicatedHost | None = None

    def __repr__(self) -> str:
        return f"{self._aggregate}({self._id})"

    async def _start(self) -> Inbox:
        config = self._plan.config
        self._app = self._app or self._plan.load_app()
        self._host = DedicatedHost(self._app, self._aggregate, f"{self._aggregate}/{self._id}", self._shard, config)
        return Inbox(new_epoch(), self._host.handle, config)

    async def _publish(self) -> None:
        if ray.get_runtime_context().was_current_actor_reconstructed:
            with contextlib.suppress(TargetLost, EventRayError):  # a Directory that is away does not count it
                await call(self._directory.restarted, self._aggregate)
        while True:
            await asyncio.sleep(TELL_S)
            await self._tell_outcomes()

    async def _tell_outcomes(self) -> None:
        """The Directory publishes them: Ray keeps what a process has counted for ever, and of these there are many."""
        if self._host is not None and (more := self._host.take_outcomes(self._overloaded[self._aggregate])):
            with contextlib.suppress(TargetLost, EventRayError):  # a Directory that is away does not count them
                await call(self._directory.count_commands, self._aggregate, more)

    @answered
    async def hello(self, client: str) -> int:
        """Greet a client. After another activation, or a new shard, took its place this one begins anew."""
        if self._host is not None and self._host.activation.superseded:
            self._inbox = None
        return (await self._ready()).hello(client)

    @answered
    async def status(self) -> ActivationStatus:
        """How it stands."""
        await self._ready()
        assert self._host is not None
        activation = self._host.activation
        return ActivationStatus(
            activation.stream, "active", activation.pending, self._host.idle_s, os.getpid(), this_node()
        )

    @answered
    async def leave(self, idle_s: float) -> bool:
        """Take nothing more, if there is no work and was none for `idle_s`; gives whether."""
        if self._host is not None and not self._closed:
            if not 0.0 < self._host.idle_s >= idle_s:
                return False
            self._host.leaving = True
        self._closed = True
        await self._tell_outcomes()
        return True

    @answered
    async def close(self) -> None:
        """Take nothing more; answer what was taken."""
        self._closed = True
        if self._host is not None:
            await self._host.passivate()
            await self._tell_outcomes()
