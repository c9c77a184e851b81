"""Placer: the dedicated activations of an app. One actor per active instance, the least recently used out first."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from ray.util import list_named_actors

from eventray.domain.errors import EventRayError
from eventray.runtime.actors import ActivationShell, Plan, named
from eventray.runtime.app import App
from eventray.runtime.link import TargetLost
from eventray.runtime.placement import Dedicated
from eventray.runtime.remote import ask_status, call, find_actor, kill
from eventray.runtime.status import ActivationStatus
from eventray.runtime.watching import watched
from eventray.store.manifest import Manifest

ROOM_POLL_S = 0.1
ACTIVATIONS_PER_CORE = 16  # an idle one takes 0.8 % of a core ...
BYTES_PER_ACTIVATION = 64 << 20  # ... and about 48 MB; half of the memory is for them


class Placer:
    """Makes, finds and passivates dedicated activations.

    Args:
        directory: the actor that activations ask where their shard is.
        options: Ray options of an actor by name and namespace.
    """

    def __init__(
        self,
        plan: Plan,
        app: App,
        directory: Any,
        manifest: Manifest,
        options: Callable[[str, str], dict[str, Any]],
    ) -> None:
        self.actors: dict[str, Any] = {}
        self._plan = plan
        self._app = app
        self._directory = directory
        self._manifest = manifest
        self._options = options
        self._locks: dict[str, asyncio.Lock] = {}
        self._room = asyncio.Lock()
        self._starting = 0

    async def find(self) -> None:
        """Take up the activations that are there (after a crash of the Directory)."""
        dedicated = [n for n in self._app.aggregates if isinstance(self._app.placement_of(n), Dedicated)]
        for entry in await asyncio.to_thread(list_named_actors, True):
            name = entry["name"]
            if entry["namespace"] != self._plan.app_name or name.split("/", 1)[0] not in dedicated:
                continue
            actor = find_actor(name, self._plan.app_name)
            if actor is not None:
                self.actors[name] = actor

    async def activate(self, aggregate: str, id: str) -> Any:
        """The actor of an instance; several are started side by side, one that is full waits for room."""
        stream = f"{aggregate}/{id}"
        actor = self.actors.get(stream)
        if actor is not None:
            return actor
        async with self._locks.setdefault(stream, asyncio.Lock()):
            if stream not in self.actors:
                async with self._room:
                    await self._make_room(aggregate)
                    self.actors[stream] = self._create(aggregate, id)
        self._locks.pop(stream, None)
        return self.actors[stream]

    def _create(self, aggregate: str, id: str) -> Any:
        placement = self._app.placement_of(aggregate)
        assert isinstance(placement, Dedicated)
        stream = f"{aggregate}/{id}"
        index = self._manifest.shard_of(stream)
        options = self._options(stream, self._plan.app_name) | {
            "num_cpus": placement.num_cpus,
            "num_gpus": placement.num_gpus,
        }
        if placement.resources:
            options["resources"] = dict(placement.resources)
        if placement.label_selector:
            options["label_selector"] = dict(placement.label_selector)
        shell = watched(named(ActivationShell, aggregate))
        return shell.options(**options).remote(self._plan, aggregate, id, self._directory, index)

    async def _make_room(self, aggregate: str) -> None:
        placement = self._app.placement_of(aggregate)
        assert isinstance(placement, Dedicated)
        most = placement.max_active or default_max_active()
        while len([stream for stream in self.actors if stream.startswith(f"{aggregate}/")]) >= most:
            idle = [
                status
                for status in await self.statuses()
                if status.stream.startswith(f"{aggregate}/") and status.idle_s > 0 and not status.pending
            ]
            if idle:
                await self._passivate(max(idle, key=lambda status: status.idle_s).stream)
            else:
                await asyncio.sleep(ROOM_POLL_S)  # all have work: wait for one to finish

    async def passivate_idle(self) -> None:
        """Passivate what has been idle for its aggregate's timeout."""
        for status in await self.statuses():
            placement = self._app.placement_of(status.stream.split("/", 1)[0])
            if status.idle_s > placement.idle_timeout:
                await self._passivate(status.stream)

    async def _passivate(self, stream: str) -> None:
        """Drain it and end its process. A command that comes meanwhile runs in the next activation."""
        actor = self.actors.get(stream)
        if actor is None:
            return
        with contextlib.suppress(TargetLost, EventRayError):
            await call(actor.close)
        self.actors.pop(stream, None)
        kill(actor)

    async def statuses(self) -> list[ActivationStatus]:
        """How the activations stand, as far as they answer."""

        found = await asyncio.gather(*(ask_status(actor) for actor in list(self.actors.values())))
        return [status for status in found if isinstance(status, ActivationStatus)]


def default_max_active() -> int:
    """How many dedicated activations of an aggregate a node carries: by its cores and its memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    by_cores = (os.cpu_count() or 1) * ACTIVATIONS_PER_CORE
    return max(4, min(by_cores, memory // 2 // BYTES_PER_ACTIVATION))
