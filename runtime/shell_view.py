"""The actor of a unit of a view."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from eventray.runtime.inbox import Inbox
from eventray.runtime.metrics import Sample
from eventray.runtime.metrics_ray import publish_regularly
from eventray.runtime.nodes import this_node
from eventray.runtime.projector import ProjectionRunner
from eventray.runtime.remote import PATIENCE_S, RemoteShard, answered, call, call_patiently
from eventray.runtime.remote_checkpoints import RemoteCheckpoints
from eventray.runtime.shell import Plan, Shell, new_epoch
from eventray.runtime.status import ViewStatus
from eventray.runtime.tail import followed
from eventray.runtime.tailing import NodeTail
from eventray.runtime.units import Unit
from eventray.runtime.wire import Batch, unpack_queries


class ViewShell(Shell):
    """One unit of a view: follows the shards, answers queries."""

    def __init__(self, plan: Plan, directory: Any, unit: Unit, shards: int, generation: int) -> None:
        super().__init__()
        self._plan = plan
        self._directory = directory
        self._unit = unit
        self._shards = shards
        self._generation = generation
        self._runner: ProjectionRunner | None = None

    def __repr__(self) -> str:
        return str(self._unit)

    @staticmethod
    def _unpack(data: bytes) -> Batch:
        return unpack_queries(data)

    async def _start(self) -> Inbox:
        config = self._plan.config
        locate = partial(call, self._directory.locate)
        tail = NodeTail(self._directory, str(self._unit))
        shards = {index: followed(RemoteShard(index, locate, PATIENCE_S), tail) for index in range(self._shards)}
        self._runner = ProjectionRunner(
            self._plan.load_app().projection(self._unit.view, self._unit.version),
            self._unit,
            shards,
            RemoteCheckpoints(self._directory),
            config,
            generation=self._generation,
            serves=await call_patiently(self._directory.serves, self._unit),
        )
        await self._runner.start()
        return Inbox(new_epoch(), self._runner.handle, config.for_views)

    async def _publish(self) -> None:
        await publish_regularly(self._plan.app_name, self._samples)

    async def _samples(self) -> list[Sample]:
        assert self._runner is not None
        return [*self._runner.samples(self._overloaded.total())]

    @answered
    async def status(self) -> ViewStatus:
        """How it stands."""
        await self._ready()
        assert self._runner is not None
        return self._runner.status(os.getpid(), this_node())

    @answered
    async def manage(self, method: str, *args: Any) -> Any:
        """Run a method of the view that is no query."""
        await self._ready()
        assert self._runner is not None
        return await self._runner.manage(method, *args)

    @answered
    async def close(self) -> None:
        """Save, and follow no more."""
        self._closed = True
        if self._runner is not None:
            await self._runner.close()
