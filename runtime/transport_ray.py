"""RayTransport: reaches an app's actors from a driver; starts the app, or joins one that runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import list_named_actors

from eventray.domain.errors import AppEnded, EventRayError, StoreLocked, UnknownName
from eventray.runtime.app import App
from eventray.runtime.channel import Channel, TargetLost, ViewMoved
from eventray.runtime.config import Config
from eventray.runtime.directory import Directory, Started, actor_options
from eventray.runtime.front import actor_class
from eventray.runtime.nodes import pinned_to, this_node
from eventray.runtime.placement import Packed
from eventray.runtime.ray_setup import ensure_ray
from eventray.runtime.rebuild_fold import Folded
from eventray.runtime.rebuild_ray import fold_on_ray
from eventray.runtime.rebuild_sources import StorePlace
from eventray.runtime.remote import (
    DIRECTORY,
    PATIENCE_S,
    ActorChannel,
    RemoteShard,
    call,
    call_patiently,
    call_to_the_end,
    find_actor,
    is_gone,
    kill,
    manage_unit,
    patiently,
    pickled,
)
from eventray.runtime.remote_checkpoints import RemoteCheckpoints
from eventray.runtime.shell import Plan
from eventray.runtime.status import Status
from eventray.runtime.transport import activation_target, shard_target
from eventray.runtime.units import Unit
from eventray.store.port import CheckpointPort, ShardPort

ENDING_POLL_S = 0.1
RENEW_LEASE_S = 5.0  # a Directory that has crashed waits for 30 s
TAKE_OVER_WAIT_S = 5.0  # an app whose driver was killed a moment ago has noticed and ended by then


class RayTransport:
    """A driver's way to an app on Ray. Use `starting` or `joining`."""

    def __init__(self, name: str, config: Config) -> None:
        self._name = name
        self._config = config
        self._app: App | None = None
        self._mine: dict[str, Any] | None = None  # how to start it; None: it is someone else's
        self._connected_ray = False
        self._directory: Any = None
        self._started: Started | None = None
        self._serving: dict[str, int] = {}
        self._shards: dict[int, RemoteShard] = {}
        self._lease: asyncio.Task[None] | None = None
        self._ended = False

    @classmethod
    def starting(cls, app: App, directory: Path, shards: int | None, config: Config, detached: bool) -> RayTransport:
        """For an app that is to be started."""
        transport = cls(app.name, config)
        transport._app = app
        transport._mine = {"directory": directory, "shards": shards, "detached": detached}
        return transport

    @classmethod
    def joining(cls, name: str, config: Config) -> RayTransport:
        """For an app that runs."""
        return cls(name, config)

    @property
    def app(self) -> App:
        """The app that runs there; its classes are loaded when they are first needed: to look at it needs none.

        Raises:
            EventRayError: a class of it cannot be imported in this process.
        """
        if self._app is None:
            try:
                self._app = self.started.plan.load_app()
            except (ImportError, AttributeError) as error:
                raise EventRayError(f"the classes of app {self._name!r} cannot be imported here: {error}") from error
        return self._app

    @property
    def started(self) -> Started:
        """What the Directory tells of the running app."""
        assert self._started is not None, "not started"
        return self._started

    @property
    def shards(self) -> Mapping[int, ShardPort]:
        """Its shards."""
        return self._shards

    # starting

    async def start(self) -> None:
        """Connect to Ray, start the app or find it, and wait until it serves."""
        self._connected_ray = await asyncio.to_thread(ensure_ray)
        if self._mine is not None:
            self._directory = await self._create(self._mine)
        else:
            self._directory = find_actor(DIRECTORY, self._name)
            if self._directory is None:
                raise UnknownName("app", self._name, await asyncio.to_thread(running_apps))
        try:
            self._started = await call_patiently(self._directory.start)
            self._serving = dict(self._started.serving)
        except TargetLost as error:
            if self._mine is None:
                raise UnknownName("app", self._name, ()) from error
            raise EventRayError(f"app {self._name!r} did not start, its Directory was lost: {error}") from error
        except EventRayError:
            if self._mine is not None:
                kill(self._directory)
            raise
        self._shards = {
            index: RemoteShard(index, self._locate, self._config.command_timeout_s)
            for index in range(self.started.manifest.shards)
        }
        if self._mine is not None and not self._mine["detached"]:
            self._lease = asyncio.get_running_loop().create_task(self._hold_lease())

    async def _create(self, mine: dict[str, Any]) -> Any:
        """Make the Directory; one of the same name that is on its way out is waited for."""
        plan = Plan(pickled(self._app), self._name, uuid.uuid4().hex, str(mine["directory"]), self._config)
        patience = time.monotonic() + TAKE_OVER_WAIT_S
        while True:
            other = find_actor(DIRECTORY, self._name)
            if other is not None and time.monotonic() > patience and not await _is_ending(other):
                holder = f"app {self._name!r}, which runs already: eventray.connect({self._name!r}) joins it"
                raise StoreLocked(str(mine["directory"]), holder)
            if other is None:
                with contextlib.suppress(ValueError):
                    return (
                        actor_class(Directory)
                        .options(**actor_options(DIRECTORY, self._name), **pinned_to(this_node()))
                        .remote(plan, mine["shards"], mine["detached"])
                    )
            await asyncio.sleep(ENDING_POLL_S)

    async def _hold_lease(self) -> None:
        """Own a call that never ends: it fails when this process dies, and then the app ends.

        After a crash of the Directory it is made again.
        """
        while not self._ended:
            held = self._directory.hold.remote()
            waiting = asyncio.ensure_future(_end_of(held))
            try:
                while not waiting.done():  # it is renewed meanwhile: the call that is to fail may be lost
                    await asyncio.wait_for(call(self._directory.lease, [held]), RENEW_LEASE_S)
                    await asyncio.wait([waiting], timeout=RENEW_LEASE_S)
            except (TargetLost, EventRayError, TimeoutError):
                pass  # it has crashed, or ends
            finally:
                waiting.cancel()
            await asyncio.sleep(ENDING_POLL_S)

    # routing

    def target_of(self, aggregate: str, stream: str) -> Hashable:
        """A packed instance lives with its shard, a dedicated one for itself."""
        app = self.app
        if aggregate not in app.aggregates:
            raise UnknownName("aggregate", aggregate, tuple(app.aggregates))
        if isinstance(app.placement_of(aggregate), Packed):
            return shard_target(self.shard_of(stream))
        return activation_target(stream)

    def shard_of(self, stream: str) -> int:
        """The shard of a stream."""
        return int(self.started.manifest.shard_of(stream))

    async def connect(self, target: Any, client: str) -> Channel:
        """Greet the target's live incarnation.

        Raises:
            TargetLost: there is none at this moment. ShardUnavailable: nor will be before a lost shard is back.
            UnknownName, AppEnded: nor will ever be.
        """
        return await ActorChannel.open(await self._actor(*target), client)

    async def _actor(self, kind: str, which: Any) -> Any:
        if kind == "shard":
            return await self._locate(which)
        if kind == "activation":
            return await self._ask(self._directory.activate, *which.split("/", 1))
        try:
            return await self._ask(self._directory.view, *which)
        except ViewMoved as moved:
            self._serving[moved.view] = moved.version
            raise

    async def _locate(self, shard: int) -> Any:
        return await self._ask(self._directory.locate, shard)

    async def _ask(self, method: Any, *args: Any) -> Any:
        """Ask the Directory, which is for ever gone only when the app has ended."""
        try:
            return await call(method, *args)
        except TargetLost:
            if is_gone(DIRECTORY, self._name):
                raise AppEnded(self._name) from None
            raise

    @property
    def generation(self) -> int:
        """The store's generation."""
        return int(self.started.manifest.generation)

    async def heads(self) -> dict[int, int]:
        """The last position of every shard."""
        heads = await asyncio.gather(*(shard.fetch_head() for shard in self._shards.values()))
        return dict(zip(self._shards, heads, strict=True))

    async def status(self) -> Status:
        """How the app stands, as the Directory sees it."""

        status = await call_patiently(self._directory.status)
        assert isinstance(status, Status)
        return status

    @property
    def checkpoints(self) -> CheckpointPort:
        """The checkpoints that the Directory keeps."""
        return RemoteCheckpoints(self._directory)

    @property
    def units(self) -> tuple[Unit, ...]:
        """What its views are made of."""
        return self.started.units

    @property
    def serving(self) -> Mapping[str, int]:
        """The version of each view that serves, as was heard last."""
        return self._serving

    async def manage(self, unit: Unit, method: str, *args: Any) -> Any:
        """Call a method of a unit that is no query; when its process is lost meanwhile the outcome is not known."""
        return await manage_unit(await self._actor("view", (unit, True)), unit, method, *args)

    async def switch(self, view: str, version: int) -> None:
        """Let another version of a view serve."""
        heads, directory = await self.heads(), self._directory
        try:  # it may safely be done twice
            await patiently(lambda: call_to_the_end(directory.switch, view, version, heads), PATIENCE_S)
        except TargetLost as error:
            raise EventRayError(f"the Directory cannot be reached; look, and do it again: {error}") from None
        self._serving[view] = version

    async def fold(self, unit: Unit, upto: Mapping[int, int], say: Callable[[int], None]) -> Any:
        """Make a unit anew in Ray tasks; a reference to it."""
        started, manifest = self.started, self.started.manifest
        place = StorePlace.of(manifest, started.plan.config.store_limits)
        nodes = {index: manifest.node_of(index) for index in upto}
        model = self.app.projection(unit.view, unit.version)
        return await fold_on_ray(started.plan, model, unit.partition, place, nodes, upto, say)

    async def fetch(self, folded: Any) -> Folded:
        """Bring it here."""
        found = await folded
        assert isinstance(found, Folded)
        return found

    # ending

    async def leave(self) -> None:
        """End the app if it lives by this driver's lease."""
        if self._mine is not None and not self._mine["detached"]:
            await self.shutdown()

    async def shutdown(self) -> None:
        """Drain and end the app for everyone."""
        if self._ended or self._directory is None:
            return
        self._ended = True
        if find_actor(DIRECTORY, self._name) is not None:  # else someone else has ended it
            with contextlib.suppress(TargetLost):
                await call_patiently(self._directory.shutdown)
            kill(self._directory)
        if self._lease is not None:
            self._lease.cancel()

    def close(self) -> None:
        """Leave the Ray that this transport connected to."""
        if self._connected_ray:
            ray.shutdown()


async def _end_of(held: Any) -> None:
    with contextlib.suppress(RayError):
        await held


async def _is_ending(directory: Any) -> bool:

    try:
        return bool(await call(directory.is_ending))
    except TargetLost:
        return True


def running_apps() -> tuple[str, ...]:
    """The names of the apps that run on this Ray."""
    return tuple(sorted(a["namespace"] for a in list_named_actors(all_namespaces=True) if a["name"] == DIRECTORY))
