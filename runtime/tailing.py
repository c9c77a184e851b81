"""The tail of a node on Ray: its actor, the way of a view to it, and the Directory's part."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from eventray.domain.errors import EventRayError
from eventray.runtime.channel import TargetLost
from eventray.runtime.collector import spare_the_collector
from eventray.runtime.config import Config
from eventray.runtime.front import actor_class
from eventray.runtime.metrics import Sample
from eventray.runtime.metrics_ray import publish_regularly
from eventray.runtime.nodes import NODE_SHOWN_CHARS, pinned_to, this_node
from eventray.runtime.remote import RemoteShard, answered, call, find_actor, names_of
from eventray.runtime.tail import Tail as TailEngine
from eventray.runtime.wire import pack_page, unpack_page
from eventray.store.records import ShardPage

log = logging.getLogger("eventray.runtime")

Options = Callable[[str, str], dict[str, Any]]  # of an actor, by its name and namespace

PREFIX = "tail/"
FOLLOWERS_LEAST = 2  # a lone view reads the shards itself: one hop less
ASK_AGAIN_S = 1.0  # a view that has no tail, or has lost it, asks the Directory again


class Tail:
    """Reads the shards once for all views of its node. It keeps nothing that is not in the shards."""

    def __init__(self, app_name: str, config: Config, directory: Any, shards: int) -> None:
        locate = partial(call, directory.locate)
        # without patience: each loss of a shard must be seen, since its successor may have fewer events
        self._tail = TailEngine({index: RemoteShard(index, locate, 0.0) for index in range(shards)}, config)
        spare_the_collector()
        self._publishing = asyncio.get_running_loop().create_task(publish_regularly(app_name, self._samples))

    def __repr__(self) -> str:
        return "Tail"

    @answered
    async def read(self, shard: int, after: int, limit: int, wait: float, types: frozenset[str] | None) -> bytes | None:
        """A page, packed; None: ask the shard."""
        page = await self._tail.read(shard, after=after, limit=limit, wait=wait, types=types)
        return None if page is None else pack_page(page)

    async def _samples(self) -> list[Sample]:
        return [*self._tail.samples()]

    @answered
    async def waiting(self) -> int:
        """How many reads wait for news now: of views that have caught up, one for each of them and shard."""
        return self._tail.waiting


class NodeTail:
    """The tail of this node, as a view reaches it. Nobody waits for one that is not there."""

    def __init__(self, directory: Any, view: str) -> None:
        self._directory = directory
        self._view = view
        self._actor: Any = None
        self._asking: asyncio.Task[None] | None = None
        self._ask_at = 0.0

    async def read(
        self, shard: int, *, after: int, limit: int, wait: float, types: frozenset[str] | None
    ) -> ShardPage | None:
        """As `TailPort.read`; None also while the tail cannot be reached."""
        actor = self._actor
        if actor is None:
            self._ask()
            return None
        try:
            data = await call(actor.read, shard, after, limit, wait, types)
        except TargetLost as error:
            log.info("view %s reads the shards itself: its tail is lost: %s", self._view, error)
            self._actor = None
            return None
        return None if data is None else unpack_page(data)

    def _ask(self) -> None:
        if self._asking is None and time.monotonic() >= self._ask_at:
            self._asking = asyncio.get_running_loop().create_task(self._find())

    async def _find(self) -> None:
        try:
            actor = await call(self._directory.follow, self._view, this_node())
            if actor is not None:
                await call(actor.waiting)  # it may have to start first: nobody is to wait for that
            self._actor = actor
        except (TargetLost, EventRayError) as error:
            log.info("view %s has no tail yet: %s", self._view, error)
        finally:
            self._ask_at = time.monotonic() + ASK_AGAIN_S
            self._asking = None


class Tails:
    """The tails of an app, one for each node that has views; made when a second view of a node asks for it."""

    def __init__(self, app_name: str, config: Config, directory: Any, shards: int, options: Options) -> None:
        self.actors: dict[str, Any] = {}
        self._app_name = app_name
        self._make = (app_name, config, directory, shards)
        self._options = options
        self._node_of: dict[str, str] = {}  # by view

    async def find(self) -> None:
        """Take up those that are there (after a crash of the Directory)."""
        for name in await names_of(self._app_name):
            if name.startswith(PREFIX) and (actor := find_actor(name, self._app_name)) is not None:
                self.actors[name] = actor

    def follow(self, view: str, node: str) -> Any:
        """The tail of a node for a view that is there; None while it is the only one."""
        self._node_of[view] = node
        name = PREFIX + node[:NODE_SHOWN_CHARS]
        followers = sum(where == node for where in self._node_of.values())
        if followers < FOLLOWERS_LEAST and name not in self.actors:
            return None
        options = {**self._options(name, self._app_name), **pinned_to(node), "get_if_exists": True}
        self.actors[name] = actor_class(Tail).options(**options).remote(*self._make)
        return self.actors[name]
