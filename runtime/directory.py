"""The Directory: starts an app's actors, keeps them up, places dedicated activations, and ends the app.

It owns `store.json` and the views' saves. All it knows is on disk or in Ray's list of names, so that it can die too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from eventray.domain.errors import EventRayError, UnknownName
from eventray.runtime.channel import TargetLost
from eventray.runtime.front import actor_class
from eventray.runtime.lease import Lease
from eventray.runtime.metrics_ray import publish_regularly
from eventray.runtime.nodes import SPREAD
from eventray.runtime.outcomes import Outcomes
from eventray.runtime.placing import Placer
from eventray.runtime.remote import (
    DIRECTORY,
    answered,
    ask_status,
    call,
    call_patiently,
    end_all,
    find_actor,
    kill,
    manage_unit,
)
from eventray.runtime.reporting import Reporting
from eventray.runtime.serving import Serving
from eventray.runtime.sharding import Shards
from eventray.runtime.shell import Plan
from eventray.runtime.shell_view import ViewShell
from eventray.runtime.staging import KeepsSaves
from eventray.runtime.status import Status, ViewStatus
from eventray.runtime.tailing import Tails
from eventray.runtime.units import Unit
from eventray.runtime.watching import Watch
from eventray.store.checkpoints import CheckpointStore
from eventray.store.manifest import Manifest
from eventray.store.migrate import open_manifest

log = logging.getLogger("eventray.runtime")

SUPERVISE_S = 1.0
CALLS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Started:
    """What a client needs to know of a running app."""

    plan: Plan
    manifest: Manifest
    units: tuple[Unit, ...]
    serving: dict[str, int]


class Directory(KeepsSaves):
    """One per app, named `directory` in the app's namespace."""

    def __init__(self, plan: Plan, shards: int | None, detached: bool) -> None:
        super().__init__()
        self._plan = plan
        self._count = shards
        self._detached = detached
        self._app = plan.load_app()
        self._starting = asyncio.Lock()
        self._started: Started | None = None
        self._ending = False
        self._ended = asyncio.Event()
        self._views: dict[Unit, Any] = {}
        self._supervision: list[asyncio.Task[None]] = []
        self._lease = Lease(plan.app_name, self._end_and_exit)
        self._me = ray.get_runtime_context().current_actor
        self._resumed = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        self._resuming = asyncio.get_running_loop().create_task(self._resume()) if self._resumed else None
        self._watching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Directory({self._plan.app_name})"

    # starting

    @answered
    async def start(self) -> Started:
        """Start what is not there yet, once; what clients need to know."""
        return await self._start()

    async def _start(self) -> Started:
        if self._started is not None:
            return replace(self._started, serving=dict(self._serving.versions))
        async with self._starting:
            if self._started is None:
                await self._open()
                if self._watching is None:  # now: those that are there may be frozen
                    watch = Watch(self._watched, self._plan.config)
                    self._watching = asyncio.get_running_loop().create_task(watch.run())
                try:
                    await self._wait_until_serving()
                except BaseException:
                    self._opened.clear()
                    if not self._resumed:
                        self._kill_all()
                    await self._checkpoints.close()
                    raise
                self._started = Started(self._plan, self._manifest, tuple(self._views), dict(self._serving.versions))
                loop = asyncio.get_running_loop()
                steps = (self._shards.reconcile, self._wake_all, self._placer.passivate_idle)
                self._supervision = [loop.create_task(self._every_second(step)) for step in steps]
                self._supervision.append(
                    loop.create_task(publish_regularly(self._plan.app_name, self._reporting.samples))
                )
                if not self._detached:
                    self._lease.require()
        return self._started

    async def _resume(self) -> None:
        """After a crash: nobody may call for long, but shards and views need what is asked below."""
        while self._started is None and not self._ending:
            try:
                await self._start()
            except (EventRayError, RayError) as error:
                log.warning("the Directory of %s cannot go on yet: %s", self._plan.app_name, error)
                await asyncio.sleep(SUPERVISE_S)

    async def _open(self) -> None:
        """Read or make the manifest, and lock the directory by its views' file."""
        plan = self._plan
        directory = Path(plan.directory)
        self._manifest = await asyncio.to_thread(
            open_manifest, directory, app=plan.app_name, shards=self._count, run=plan.run
        )
        self._checkpoints = await CheckpointStore.open(
            directory, run=plan.run, durability=plan.config.durability, store_id=self._manifest.store_id
        )
        self._serving = Serving(self._app, self._checkpoints)
        await self._serving.load()
        self._shards = Shards(plan, self._manifest, self._me, actor_options)
        self._placer = Placer(plan, self._app, self._me, self._manifest, self._shards.actors, actor_options)
        where = plan.app_name, plan.directory
        self._reporting = Reporting(where, self._shards, self._placer, self._serving, lambda: self._views)
        self._tails = Tails(plan.app_name, plan.config, self._me, self._manifest.shards, actor_options)

    async def _wait_until_serving(self) -> None:
        """Find or make the actors; those of views begin to start while the shards do."""
        if self._resumed:
            await asyncio.gather(self._placer.find(), self._tails.find())
        else:  # what a run left behind that lost its Directory's node
            await end_all(self._plan.app_name, lambda name: name != DIRECTORY)
        await self._shards.place(resumed=self._resumed)
        self._opened.set()
        self._views = {unit: self._find_view(unit) for unit in self._app.units}
        await self._shards.start(resumed=self._resumed)
        await asyncio.gather(
            *(call_patiently(view.wake, patience_s=float("inf")) for view in self._views.values()),
            return_exceptions=self._resumed,
        )

    def _find_view(self, unit: Unit) -> Any:
        actor_name = f"view/{unit}"
        return find_actor(actor_name, self._plan.app_name) or actor_class(ViewShell, unit.view).options(
            **actor_options(actor_name, self._plan.app_name), **SPREAD
        ).remote(self._plan, self._me, unit, self._manifest.shards, self._manifest.generation)

    # what shards and views ask

    @answered
    async def shard_identity(self, index: int, node: str) -> dict[str, Any]:
        """What a shard must know to open its file; `created`: the file must exist."""
        await self._opened.wait()
        self._shards.require_place(index, node)
        manifest = self._manifest
        return {
            "store_id": manifest.store_id,
            "generation": manifest.generation,
            "created": manifest.state_of(index) == "created",
        }

    @answered
    async def shard_opened(self, index: int, node: str, head: int, lost_with_power: bool) -> None:
        """Before a shard serves: its file is there from now on, and never made again.

        Raises:
            StoreCorrupted: it ends before what a view has seen of it. ShardUnavailable: it belongs to another node.
        """
        await self._opened.wait()
        self._shards.require_place(index, node)
        if lost_with_power and self._started is not None:
            for actor in (*self._tails.actors.values(), *self._views.values()):
                ray.kill(actor, no_restart=False)  # it may have seen more; a view begins again at its save
        await self._checkpoints.compare({index: (head, lost_with_power)}, generation=self._manifest.generation)
        if self._manifest.state_of(index) != "created":
            self._manifest.mark(index, "created", self._manifest.node_of(index))

    @answered
    async def follow(self, view: str, node: str) -> Any:
        """The tail of a view's node; None while no other view is there."""
        await self._opened.wait()
        return self._tails.follow(view, node)

    # who is where

    @answered
    async def locate(self, index: int) -> Any:
        """The actor of a shard; ShardUnavailable when it is lost."""
        await self._opened.wait()
        return await self._shards.locate(index)

    @answered
    async def view(self, unit: Unit, own: bool) -> Any:
        """The actor of a unit, for queries of its view; with `own` also if its version does not serve.

        Raises:
            UnknownName: there is none. ViewMoved: another version serves.
        """
        await self._start()
        if unit not in self._views:
            raise UnknownName("view", str(unit), tuple(map(str, self._views)))
        if not own:
            self._serving.require(unit)
        return self._views[unit]

    @answered
    async def serves(self, unit: Unit) -> bool:
        """Whether a unit is to answer for its view."""
        await self._opened.wait()
        return self._serving.serves(unit)

    @answered
    async def switch(self, view: str, version: int, heads: dict[int, int]) -> None:
        """Let another version of a view serve."""
        await self._start()
        await self._serving.switch(view, version, heads, self._manage)

    async def _manage(self, unit: Unit, method: str, *args: Any) -> Any:
        return await manage_unit(self._views[unit], unit, method, *args)

    @answered
    async def activate(self, aggregate: str, id: str) -> Any:
        """The actor of a dedicated instance; made when there is none, as soon as there is room.

        Raises:
            ShardUnavailable: its shard is lost.
        """
        await self._start()
        self._shards.require(self._manifest.shard_of(f"{aggregate}/{id}"))
        return await self._placer.activate(aggregate, id)

    @answered
    async def restarted(self, aggregate: str) -> None:
        """A dedicated activation is back after a crash of its process."""
        await self._start()
        self._placer.restarted(aggregate)

    @answered
    async def count_commands(self, aggregate: str, outcomes: Outcomes) -> None:
        """How commands of a dedicated activation ended since it told that last."""
        await self._opened.wait()
        self._reporting.count(aggregate, outcomes)

    # supervision

    async def _every_second(self, step: Callable[[], Awaitable[None]]) -> None:
        while not self._ending:
            await asyncio.sleep(SUPERVISE_S)
            try:
                await step()
            except Exception:  # Ray's head may be away: that must not end the supervision
                log.exception("supervision of %s", self._plan.app_name)

    async def _wake_all(self) -> None:
        """Ray restarts what crashed and tells nobody: a call makes it take up its work again."""
        await asyncio.gather(self._shards.wake(), *(self._wake_view(unit) for unit in self._views))

    async def _wake_view(self, unit: Unit) -> None:
        status = await ask_status(self._views[unit])
        if isinstance(status, TargetLost):
            self._views[unit] = self._find_view(unit)  # made again when someone has ended it for good
        elif isinstance(status, ViewStatus):
            await self._serving.reconcile(unit, status, self._manage)

    def _watched(self) -> dict[str, Any]:
        shards = {f"shard {index}": actor for index, actor in self._shards.actors.items()}
        views = {f"view {unit}": actor for unit, actor in self._views.items()}
        return {} if self._ending else {**shards, **views, **self._tails.actors, **self._placer.actors}

    @answered
    async def status(self) -> Status:
        """How every part stands."""
        await self._start()
        return await self._reporting.status()

    # the driver's lease

    async def hold(self) -> None:
        """Never answers. The reference to the answer belongs to the driver: it fails when the driver dies."""
        await self._ended.wait()

    @answered
    async def lease(self, held: list[Any]) -> None:
        """Take the driver's reference to its `hold`: the app lives as long as that has an owner."""
        self._lease.renew(held[0])

    # ending

    @answered
    async def is_ending(self) -> bool:
        """Whether the app is on its way out: its names are free soon."""
        return self._ending

    @answered
    async def shutdown(self) -> None:
        """Drain and end every part; who called this then kills the Directory."""
        await self._end()

    async def _end_and_exit(self) -> None:
        await self._end()
        exit_here()

    async def _end(self) -> None:
        if self._ending:
            await self._ended.wait()
            return
        self._ending = True
        for task in self._supervision:
            task.cancel()
        if self._started is not None:
            deadline = time.monotonic() + self._plan.config.drain_s
            self._placer.close()
            for actors in (self._placer.actors, self._views, self._shards.actors):
                await _close_all([*actors.values()], (deadline - time.monotonic()) / 2)  # the later ones need some, too
            self._kill_all()
            await self._checkpoints.close()
        self._ended.set()

    def _kill_all(self) -> None:
        placed, tails = self._placer.actors, self._tails.actors
        for actors in (placed, self._views, tails, self._shards.actors):
            for actor in actors.values():
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


async def _close_all(actors: list[Any], timeout_s: float) -> None:
    """Close actors side by side; one that cannot be reached, or in time, has nothing more to say."""

    async def close(actor: Any) -> None:
        with contextlib.suppress(TargetLost, EventRayError, TimeoutError):
            await asyncio.wait_for(call(actor.close), timeout_s)

    await asyncio.gather(*(close(actor) for actor in actors))
