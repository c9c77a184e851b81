"""LocalTransport: the whole engine in this process, in the runtime's own loop. Same files and guarantees, no Ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from eventray.domain.errors import UnknownName
from eventray.runtime.app import App
from eventray.runtime.config import Config
from eventray.runtime.hosting import PackedHost
from eventray.runtime.inbox import Inbox
from eventray.runtime.projector import ProjectionRunner
from eventray.runtime.rebuild_fold import Folded
from eventray.runtime.rebuild_local import fold_here
from eventray.runtime.rebuild_sources import StorePlace
from eventray.runtime.serving import Serving
from eventray.runtime.status import ShardStatus, Status, added_up
from eventray.runtime.tail import Tail, followed
from eventray.runtime.transport import shard_target, view_target
from eventray.runtime.units import Unit
from eventray.store.port import CheckpointPort, ShardPort
from eventray.store.shard import Shard
from eventray.store.store import EventStore


class LocalTransport:
    """Runs an app on a data directory in this process; every instance is packed."""

    def __init__(self, app: App, data: Path, shards: int | None, config: Config) -> None:
        self.app = app
        self._data = data
        self._count = shards
        self._config = config
        self._store: EventStore | None = None
        self._files: dict[int, Shard] = {}
        self._hosts: dict[int, PackedHost] = {}
        self._runners: dict[Unit, ProjectionRunner] = {}
        self._serving: Serving | None = None
        self._inboxes: dict[Hashable, Inbox] = {}
        self._tail: Tail | None = None
        self._leaving = False

    @property
    def store(self) -> EventStore:
        """The open store."""
        assert self._store is not None, "not started"
        return self._store

    @property
    def shards(self) -> Mapping[int, ShardPort]:
        """The store's shards."""
        return self.store.shards

    async def start(self) -> None:
        """Open the store, and start every view from its last save."""
        config = self._config
        self._store = await EventStore.open(
            self._data,
            app=self.app.name,
            shards=self._count,
            durability=config.durability,
            limits=config.store_limits,
        )
        try:
            for index, shard in self._store.shards.items():
                assert isinstance(shard, Shard)
                self._files[index] = shard
                host = self._hosts[index] = PackedHost(self.app, shard, config)
                self._inboxes[shard_target(index)] = Inbox(shard.epoch, host.handle, config)
            self._tail = Tail(self._store.shards, config)
            self._serving = Serving(self.app, self._store.checkpoints)
            await self._serving.load()
            for unit in self.app.units:
                runner = ProjectionRunner(
                    self.app.projection(unit.view, unit.version),
                    unit,
                    self._for_a_view(self._store.shards, self._tail),
                    self._store.checkpoints,
                    config,
                    generation=self._store.manifest.generation,
                    serves=self._serving.serves(unit),
                )
                self._runners[unit] = runner
                self._inboxes[view_target(unit)] = self._inboxes[view_target(unit, own=True)] = Inbox(
                    1, runner.handle, config.for_views
                )
                await runner.start()
        except BaseException:
            await self.shutdown()
            raise

    def _for_a_view(self, shards: Mapping[int, ShardPort], tail: Tail) -> Mapping[int, ShardPort]:
        if len(self.app.units) == 1:  # nobody to share what is read with
            return shards
        return {index: followed(shard, tail) for index, shard in shards.items()}

    async def connect(self, target: Any, client: str) -> Inbox:
        """The inbox of a target: here, it is its own channel."""
        inbox = self._inboxes.get(target)
        if inbox is None:
            raise UnknownName("projection", str(target), tuple(self.app.projections))
        kind, which = target
        if kind == "shard":
            self._files[which].require_unfenced()  # no successor will be found here
        else:
            unit, own = which
            if not own:
                self._versions.require(unit)
        inbox.hello(client)
        return inbox

    def target_of(self, aggregate: str, stream: str) -> Hashable:
        """An instance lives with its shard."""
        return shard_target(self.store.manifest.shard_of(stream))

    def shard_of(self, stream: str) -> int:
        """The shard of a stream."""
        return self.store.manifest.shard_of(stream)

    @property
    def generation(self) -> int:
        """The store's generation."""
        return self.store.manifest.generation

    async def heads(self) -> dict[int, int]:
        """The last position of every shard."""
        return await self.store.heads()

    async def status(self) -> Status:
        """How the app stands."""
        pid, node = os.getpid(), socket.gethostname()
        shards = tuple(
            ShardStatus(
                index,
                "serving",
                shard.head,
                shard.epoch,
                host.active,
                host.pending,
                pid,
                node,
                lost_with_power=shard.lost_with_power,
                packed=host.statuses(),
            )
            for (index, shard), host in zip(self._files.items(), self._hosts.values(), strict=True)
        )
        views = tuple(runner.status(pid, node) for runner in self._runners.values())
        return Status(self.app.name, str(self._data), True, shards, views, aggregates=added_up(shards))

    @property
    def checkpoints(self) -> CheckpointPort:
        """The store's checkpoints."""
        return self.store.checkpoints

    @property
    def units(self) -> tuple[Unit, ...]:
        """What its views are made of."""
        return self.app.units

    @property
    def _versions(self) -> Serving:
        assert self._serving is not None, "not started"
        return self._serving

    @property
    def serving(self) -> Mapping[str, int]:
        """The version of each view that serves."""
        return self._versions.versions

    async def manage(self, unit: Unit, method: str, *args: Any) -> Any:
        """Call a method of a unit that is no query."""
        return await self._runners[unit].manage(method, *args)

    async def switch(self, view: str, version: int) -> None:
        """Let another version of a view serve."""
        await self._versions.switch(view, version, await self.heads(), self.manage)

    async def fold(self, unit: Unit, upto: Mapping[int, int], say: Callable[[int], None]) -> Folded:
        """Make a unit anew in a thread of this process."""
        place = StorePlace.of(self.store.manifest, self._config.store_limits)
        model = self.app.projection(unit.view, unit.version)
        return await fold_here(model, unit.partition, place, self.shards, upto, say)

    async def fetch(self, folded: Folded) -> Folded:
        """It is here."""
        return folded

    async def leave(self) -> None:
        """The app lives in this process: leaving ends it."""
        await self.shutdown()

    async def shutdown(self) -> None:
        """Answer what was taken, save the views, close the store."""
        if self._leaving or self._store is None:
            return
        self._leaving = True
        with contextlib.suppress(TimeoutError):  # a command that does not end is not waited for
            async with asyncio.timeout(self._config.drain_s):
                for host in self._hosts.values():
                    await host.drain()
        for runner in self._runners.values():
            await runner.close()
        if self._tail is not None:
            await self._tail.close()
        await self._store.close()
