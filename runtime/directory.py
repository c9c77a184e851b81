"""The Directory: starts an app's actors, keeps them up, places dedicated activations, and ends the app.

It owns `store.json` and the views' saves. All it knows is on disk or in Ray's list of names, so that it can die too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OwnerDiedError, RayError

from eventray.domain.errors import EventRayError
from eventray.runtime.actors import Plan, Shard, ViewShell, named
from eventray.runtime.link import TargetLost
from eventray.runtime.nodes import pinned_to, this_node
from eventray.runtime.placing import Placer
from eventray.runtime.remote import ANSWER_S, answered, ask_status, call, call_patiently, find_actor, kill
from eventray.runtime.status import ActivationStatus, ShardStatus, Status, ViewStatus
from eventray.runtime.watching import Pulsing, Watch, watched
from eventray.store.checkpoints import CheckpointStore
from eventray.store.manifest import Manifest
from eventray.store.migrate import open_manifest
from eventray.store.records import Checkpoint

log = logging.getLogger("eventray.runtime")

DIRECTORY = "directory"
SUPERVISE_S = 1.0
LEASE_GRACE_S = 30.0  # after a crash of the Directory itself: how long the driver has to renew its lease
CALLS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Started:
    """What a client needs to know of a running app."""

    plan: Plan
    manifest: Manifest
    shards: dict[int, Any]
    views: dict[str, Any]


class Directory(Pulsing):
    """One per app, named `directory` in the app's namespace."""

    def __init__(self, plan: Plan, shards: int | None, detached: bool) -> None:
        self._plan = plan
        self._count = shards
        self._detached = detached
        self._app = plan.load_app()
        self._starting = asyncio.Lock()
        self._started: Started | None = None
        self._ending = False
        self._ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._leased = asyncio.Event()
        self._leases: dict[Any, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"Directory({self._plan.app_name})"

    # starting

    @answered
    async def start(self) -> Started:
        """Start what is not there yet, once; what clients need to know."""
        return await self._start()

    async def _start(self) -> Started:
        if self._started is not None:
            return self._started
        async with self._starting:
            if self._started is None:
                await self._open()
                self._placer = Placer(self._plan, self._app, self._shards, self._manifest, actor_options)
                await self._placer.find()
                loop = asyncio.get_running_loop()
                self._tasks = [loop.create_task(Watch(self._watched, self._plan.config).run())]
                await self._wait_until_serving()
                self._started = Started(self._plan, self._manifest, self._shards, self._views)
                self._tasks.append(loop.create_task(self._supervise()))
                if not self._detached:
                    self._tasks.append(loop.create_task(self._end_without_lease()))
        return self._started

    async def _open(self) -> None:
        """Read or make the manifest, lock the directory by its views' file, and find or make the actors."""
        plan = self._plan
        directory = Path(plan.directory)
        self._manifest = await asyncio.to_thread(
            open_manifest, directory, app=plan.app_name, shards=self._count, run=plan.run
        )
        self._checkpoints = await CheckpointStore.open(
            directory, run=plan.run, durability=plan.config.durability, store_id=self._manifest.store_id
        )
        me = ray.get_runtime_context().current_actor
        self._shards = {index: self._shard(index, me) for index in range(self._manifest.shards)}
        self._views = {name: self._view(name, me) for name in self._app.projections}

    def _shard(self, index: int, me: Any) -> Any:
        name = f"shard-{index:04d}"
        return find_actor(name, self._plan.app_name) or watched(Shard).options(
            **actor_options(name, self._plan.app_name), **pinned_to(this_node())
        ).remote(self._plan, me, index)

    def _view(self, name: str, me: Any) -> Any:
        actor_name = f"view/{name}"
        return find_actor(actor_name, self._plan.app_name) or watched(named(ViewShell, name)).options(
            **actor_options(actor_name, self._plan.app_name)
        ).remote(self._plan, me, name, self._shards, self._manifest.generation)

    async def _wait_until_serving(self) -> None:
        try:
            await _wake_all(self._shards.values())
            await self._compare_with_views()
            await _wake_all(self._views.values())
        except EventRayError:
            self._kill_all()
            await self._checkpoints.close()
            raise

    async def _compare_with_views(self) -> None:
        """Raise `StoreCorrupted` when a shard ends before what a view has seen of it."""
        found = await asyncio.gather(*(ask_status(actor) for actor in self._shards.values()))
        ends = {s.index: (s.head, s.lost_with_power) for s in found if isinstance(s, ShardStatus)}
        await self._checkpoints.compare(ends, generation=self._manifest.generation)

    # what shards and views ask

    @answered
    async def shard_identity(self, index: int) -> dict[str, Any]:
        """What a shard must know to open its file; `created`: the file must exist."""
        manifest = self._manifest
        return {
            "store_id": manifest.store_id,
            "generation": manifest.generation,
            "created": manifest.state_of(index) == "created",
        }

    @answered
    async def shard_created(self, index: int, node: str) -> None:
        """A shard's file is there from now on: it is never made again."""
        self._manifest.mark(index, "created", node)

    @answered
    async def load_checkpoint(self, name: str) -> Checkpoint | None:
        """A view's last save."""
        return await self._checkpoints.load(name)

    @answered
    async def save_checkpoint(self, name: str, positions: dict[int, int], data: bytes, **facts: Any) -> None:
        """Save a view."""
        await self._checkpoints.save(name, positions, data, **facts)

    @answered
    async def checkpoint_names(self) -> list[str]:
        """The views that have a save."""
        return await self._checkpoints.names()

    # activations

    @answered
    async def activate(self, aggregate: str, id: str) -> Any:
        """The actor of a dedicated instance; made when there is none, as soon as there is room."""
        await self._start()
        return await self._placer.activate(aggregate, id)

    # supervision

    async def _supervise(self) -> None:
        """Ray restarts what crashed and tells nobody: a call makes it take up its work again."""
        while not self._ending:
            await asyncio.sleep(SUPERVISE_S)
            actors = (*self._shards.values(), *self._views.values())
            wakes = [asyncio.wait_for(call(actor.wake), ANSWER_S) for actor in actors]  # a frozen one holds up no other
            await asyncio.gather(*wakes, return_exceptions=True)
            await self._placer.passivate_idle()

    def _watched(self) -> dict[str, Any]:
        shards = {f"shard {index}": actor for index, actor in self._shards.items()}
        views = {f"view {name}": actor for name, actor in self._views.items()}
        return {} if self._ending else {**shards, **views, **self._placer.actors}

    @answered
    async def status(self) -> Status:
        """How every part stands."""
        await self._start()
        shards, views, activations = await asyncio.gather(
            asyncio.gather(*(ask_status(actor) for actor in self._shards.values())),
            asyncio.gather(*(ask_status(actor) for actor in self._views.values())),
            self._placer.statuses(),
        )
        return Status(
            self._plan.app_name,
            self._plan.directory,
            False,
            tuple(
                status if isinstance(status, ShardStatus) else ShardStatus(index, "unavailable", reason=str(status))
                for index, status in zip(self._shards, shards, strict=True)
            ),
            tuple(
                status if isinstance(status, ViewStatus) else ViewStatus(name, "unavailable", {}, reason=str(status))
                for name, status in zip(self._views, views, strict=True)
            ),
            tuple(status for status in activations if isinstance(status, ActivationStatus)),
        )

    # the driver's lease

    async def hold(self) -> None:
        """Never answers. The reference to the answer belongs to the driver: it fails when the driver dies."""
        await self._ended.wait()

    @answered
    async def lease(self, held: list[Any]) -> None:
        """Take the driver's reference to its `hold`: the app lives as long as that has an owner."""
        self._leased.set()
        if held[0] not in self._leases:
            self._leases[held[0]] = asyncio.get_running_loop().create_task(self._watch(held[0]))

    async def _watch(self, held: Any) -> None:
        try:
            await held
        except OwnerDiedError:
            log.warning("the driver of %s is gone: the app ends", self._plan.app_name)
            await self._end()
            exit_here()
        except RayError:
            pass  # this actor was restarted: the driver, if it lives, renews its lease

    async def _end_without_lease(self) -> None:
        try:
            await asyncio.wait_for(self._leased.wait(), LEASE_GRACE_S)
        except TimeoutError:
            log.warning("no driver has renewed the lease of %s: the app ends", self._plan.app_name)
            await self._end()
            exit_here()

    # ending

    @answered
    async def is_ending(self) -> bool:
        """Whether the app is on its way out: its names are free soon."""
        return self._ending

    @answered
    async def shutdown(self) -> None:
        """Drain and end every part; who called this then kills the Directory."""
        await self._end()

    async def _end(self) -> None:
        if self._ending:
            await self._ended.wait()
            return
        self._ending = True
        if self._started is not None:
            deadline = time.monotonic() + self._plan.config.drain_s
            for actors in (self._placer.actors, self._views, self._shards):
                await _close_all([*actors.values()], (deadline - time.monotonic()) / 2)  # the later ones need some, too
            self._kill_all()
            await self._checkpoints.close()
        self._ended.set()

    def _kill_all(self) -> None:
        for actor in (*self._placer.actors.values(), *self._views.values(), *self._shards.values()):
            kill(actor)


def actor_options(name: str, namespace: str) -> dict[str, Any]:
    """Detached (children die for ever with their owner) and restarted; Ray never runs a call twice."""
    return {
        "name": name,
        "namespace": namespace,
        "lifetime": "detached",
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": CALLS_AT_ONCE,
        "num_cpus": 0,
    }


def exit_here() -> None:
    """End this actor for good."""
    kill(ray.get_runtime_context().current_actor)


async def _wake_all(actors: Iterable[Any]) -> None:
    """Start actors side by side, and wait until all have started."""
    await asyncio.gather(*(call_patiently(actor.wake, patience_s=float("inf")) for actor in actors))


async def _close_all(actors: list[Any], timeout_s: float) -> None:
    """Close actors side by side; one that cannot be reached, or in time, has nothing more to say."""

    async def close(actor: Any) -> None:
        with contextlib.suppress(TargetLost, EventRayError, TimeoutError):
            await asyncio.wait_for(call(actor.close), timeout_s)

    await asyncio.gather(*(close(actor) for actor in actors))
