"""Placer: the dedicated activations of an app. One actor per active instance, the least recently used out first."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from eventray.domain.errors import EventRayError
from eventray.runtime.app import App
from eventray.runtime.channel import TargetLost
from eventray.runtime.front import actor_class
from eventray.runtime.nodes import alive_nodes, pinned_to
from eventray.runtime.placement import Dedicated
from eventray.runtime.remote import ask_status, call_patiently, find_actor, is_gone, kill, names_of
from eventray.runtime.room import ACTIVATIONS_LEAST, Nodes, best_node, chosen_by_ray, lacking, rooms
from eventray.runtime.shell import Plan
from eventray.runtime.shell_activation import ActivationShell
from eventray.runtime.status import ActivationStatus, AggregateStatus
from eventray.runtime.thrash import Thrash
from eventray.store.manifest import Manifest

log = logging.getLogger("eventray.runtime")

LOOK_S = 0.25  # who has not told by then how it stands has work, or is starting; and how often is looked for room
FRESH_S = 1.0  # what was told earlier tells nothing now
WAIT_S = 2.0  # who waits longer for room is told what for
NAME_FREE_S = 10.0  # the name of an actor that was killed is free by then
NAME_POLL_S = 0.05
SWEEPS_PER_IDLE_TIMEOUT = 4


class NoRoom(TargetLost):
    """There is no place for an activation now; ask again."""


@dataclass(eq=False, slots=True)
class _Placed:
    """An activation that has its place."""

    stream: str
    node: str | None  # where it is, as far as is known
    actor: Any = None  # None: it is being made
    told: ActivationStatus | None = None  # the last it told
    told_at: float = 0.0
    asking: asyncio.Task[None] | None = None
    leaving: asyncio.Task[bool] | None = None


@dataclass(eq=False, slots=True)
class _Class:
    """The activations of one aggregate class, and those that wait for room."""

    name: str
    placement: Dedicated
    thrash: Thrash
    shell: Any  # its actor class, one for all: Ray keeps each one that it is given for ever
    placed: dict[str, _Placed] = field(default_factory=dict)
    waiting: deque[tuple[str, asyncio.Future[None]]] = field(default_factory=deque)
    starting: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    server: asyncio.Task[None] | None = None
    started: int = 0
    passivated: int = 0
    restarts: int = 0
    sweep_at: float = 0.0
    lacks: str = ""  # why no node can take one


class Placer:
    """Makes, finds and passivates dedicated activations.

    Args:
        directory: the actor that this runs in: activations ask it where their shard is, and tell it of restarts.
        shards: the actors of the shards that are there now.
        options: Ray options of an actor by name and namespace.
    """

    def __init__(
        self,
        plan: Plan,
        app: App,
        directory: Any,
        manifest: Manifest,
        shards: Mapping[int, Any],
        options: Callable[[str, str], dict[str, Any]],
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._manifest = manifest
        self._shards = shards
        self._options = options
        self._closed = False
        self._since = datetime.now(UTC)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._classes = {
            name: _Class(name, placement, Thrash(name), actor_class(ActivationShell, name))
            for name in app.aggregates
            if isinstance(placement := app.placement_of(name), Dedicated)
        }

    @property
    def actors(self) -> dict[str, Any]:
        """The actors by stream."""
        return {one.stream: one.actor for one in self._all() if one.actor is not None}

    def _all(self) -> list[_Placed]:
        return [one for cls in self._classes.values() for one in cls.placed.values()]

    async def find(self) -> None:
        """Take up the activations that are there (after a crash of the Directory)."""
        for name in await names_of(self._plan.app_name):
            cls = self._classes.get(name.split("/", 1)[0])
            if cls is not None and (actor := find_actor(name, self._plan.app_name)) is not None:
                cls.placed[name] = _Placed(name, None, actor)
        await self._look(self._all())  # where they are

    # starting

    async def activate(self, aggregate: str, id: str) -> Any:
        """The actor of an instance. What has room starts at once, side by side; the rest waits for room in its turn.

        Raises:
            NoRoom: it has waited for a while, or no node can take it; the instance keeps its turn. Ask again.
        """
        cls, stream = self._classes[aggregate], f"{aggregate}/{id}"
        while not self._closed:
            one = cls.placed.get(stream)
            if one is None:
                await self._start(cls, stream)
            elif one.leaving is not None:
                await asyncio.wait([one.leaving])
            elif one.actor is None:
                await asyncio.wait([cls.starting[stream]])
            elif await self._is_dead(one):  # its node is gone, or someone has killed it
                self._forget(one)
            else:
                await self._check_offer(cls)
                return one.actor
        raise NoRoom("the app is ending")

    async def _is_dead(self, one: _Placed) -> bool:
        return await asyncio.to_thread(is_gone, one.stream, self._plan.app_name)

    async def _start(self, cls: _Class, stream: str) -> None:
        ready = cls.starting.get(stream)
        if ready is None:
            ready = cls.starting[stream] = asyncio.get_running_loop().create_future()
            ready.add_done_callback(lambda _: cls.starting.pop(stream, None))
            cls.waiting.append((stream, ready))
        if cls.server is None:
            cls.server = self._spawn(self._serve(cls))
        await asyncio.wait([ready], timeout=WAIT_S)
        if stream not in cls.placed and not ready.done():
            count, most = len(cls.placed), cls.placement.max_active
            limit = "what the cluster takes" if most is None else f"max_active={most} on each node"
            raise NoRoom(
                cls.lacks or f"all {count} active instances of {cls.name} have work ({limit}): it waits for room"
            )
        await asyncio.shield(ready)

    async def _serve(self, cls: _Class) -> None:
        """Give those that wait their places, in their turn."""
        try:
            while cls.waiting:
                nodes = await asyncio.to_thread(alive_nodes)
                while cls.waiting and (place := self._place(cls, nodes)) is not None:
                    stream, ready = cls.waiting.popleft()
                    one = cls.placed[stream] = _Placed(stream, *place)
                    self._spawn(self._create(cls, one, ready))
                if cls.waiting:
                    await self._make_room(cls, len(cls.waiting))
        except Exception as error:  # not foreseen: nobody may be left waiting
            while cls.waiting:
                cls.waiting.popleft()[1].set_exception(EventRayError(f"no place for {cls.name}: {error!r}"))
        finally:
            cls.server = None

    def _place(self, cls: _Class, nodes: Nodes) -> tuple[str | None] | None:
        """The node of the next one; (None,) leaves it to Ray, None is no room."""
        room = rooms(cls.placement, nodes)
        if chosen_by_ray(cls.placement):
            # Where none can be had now, some are made all the same: Ray's autoscaler has to see what is wanted.
            most = sum(room.values()) or cls.placement.max_active or ACTIVATIONS_LEAST
            return (None,) if len(cls.placed) < most else None
        of_class = Counter(one.node for one in cls.placed.values() if one.node)
        node = best_node(room, of_class, Counter(one.node for one in self._all() if one.node))
        return None if node is None else (node,)

    async def _create(self, cls: _Class, one: _Placed, ready: asyncio.Future[None]) -> None:
        try:
            one.actor = await self._actor(cls, one)
        except Exception as error:
            self._forget(one)
            failed = error if isinstance(error, EventRayError) else NoRoom(f"Ray does not take {one.stream}: {error}")
            ready.set_exception(failed)
            return
        cls.started += 1
        cls.thrash.started(one.stream, len(cls.placed))
        ready.set_result(None)

    async def _actor(self, cls: _Class, one: _Placed) -> Any:
        """Make the actor, as soon as the one before has given up its name."""
        placement = cls.placement
        index = self._manifest.shard_of(one.stream)
        options = self._options(one.stream, self._plan.app_name) | {
            "num_cpus": placement.num_cpus,
            "num_gpus": placement.num_gpus,
        }
        if placement.resources:
            options["resources"] = dict(placement.resources)
        if placement.label_selector:
            options["label_selector"] = dict(placement.label_selector)
        if one.node is not None:
            options |= pinned_to(one.node)
        shell = cls.shell.options(**options)
        id = one.stream.split("/", 1)[1]
        deadline = time.monotonic() + NAME_FREE_S
        while True:
            try:
                return shell.remote(self._plan, self._directory, cls.name, id, index, self._shards.get(index))
            except ValueError as error:
                if "already taken" not in str(error) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(NAME_POLL_S)

    async def _check_offer(self, cls: _Class) -> None:
        """Raise when no node can ever start it, rather than wait for an actor that does not come."""
        if not chosen_by_ray(cls.placement):
            return
        before, cls.lacks = cls.lacks, lacking(cls.name, cls.placement, await asyncio.to_thread(alive_nodes))
        if cls.lacks:
            if not before:
                log.warning("%s. It starts when a node with that joins.", cls.lacks)
            raise NoRoom(cls.lacks)

    # making room

    async def _make_room(self, cls: _Class, wanted: int) -> None:
        """Passivate those that were used least recently and have no work; with all at work come back soon."""
        look_again_at = time.monotonic() + LOOK_S
        told = await self._look(cls.placed.values())
        idle = [(status.idle_s, one) for one, status in told if status.idle_s > 0]
        # When each was used last, by this clock: what was told a moment ago compares with what is told now.
        oldest = sorted(idle, key=lambda entry: entry[1].told_at - entry[0])[:wanted]
        leaving = [self._passivate(cls, one, idle_s) for idle_s, one in oldest]  # unless it was used since it told
        if leaving:
            await asyncio.wait(leaving, timeout=LOOK_S)
        for (_, one), left in zip(oldest, leaving, strict=True):
            if left.done() and left.result():
                cls.thrash.evicted(one.stream)
        if not any(left.done() and left.result() for left in leaving):
            await asyncio.sleep(look_again_at - time.monotonic())

    async def passivate_idle(self) -> None:
        """Passivate what has been idle for its aggregate's timeout; looks a few times per timeout."""
        now = time.monotonic()
        for cls in self._classes.values():
            if now < cls.sweep_at:
                continue
            cls.sweep_at = now + cls.placement.idle_timeout / SWEEPS_PER_IDLE_TIMEOUT
            for one, status in await self._look(cls.placed.values()):
                if status.idle_s > cls.placement.idle_timeout:
                    self._passivate(cls, one, cls.placement.idle_timeout)

    def _passivate(self, cls: _Class, one: _Placed, idle_s: float) -> asyncio.Task[bool]:
        """End it unless it has got work; gives whether. A command that comes meanwhile runs in the next activation."""
        if one.leaving is None:
            one.leaving = self._spawn(self._leave(cls, one, idle_s))
        return one.leaving

    async def _leave(self, cls: _Class, one: _Placed, idle_s: float) -> bool:
        try:
            left = bool(await call_patiently(one.actor.leave, idle_s))
        except (TargetLost, EventRayError):
            left = False
        if left:
            kill(one.actor)
            self._forget(one)
            cls.passivated += 1
        one.leaving = None
        return left

    def _forget(self, one: _Placed) -> None:
        placed = self._classes[one.stream.split("/", 1)[0]].placed
        if placed.get(one.stream) is one:
            del placed[one.stream]

    # looking

    async def _look(self, some: Iterable[_Placed]) -> list[tuple[_Placed, ActivationStatus]]:
        """How they stand: what they tell soon, or have told a moment ago, perhaps too late for the look before."""
        asked = [one for one in some if one.actor is not None and one.leaving is None]
        if not asked:
            return []
        for one in asked:
            if one.asking is None or one.asking.done():
                one.asking = self._spawn(self._ask(one))
        await asyncio.wait([one.asking for one in asked if one.asking is not None], timeout=LOOK_S)
        fresh_from = time.monotonic() - FRESH_S
        return [(one, one.told) for one in asked if one.told is not None and one.told_at >= fresh_from]

    async def _ask(self, one: _Placed) -> None:
        status = await ask_status(one.actor)
        if isinstance(status, ActivationStatus):
            one.told, one.told_at, one.node = status, time.monotonic(), status.node
            self._classes[one.stream.split("/", 1)[0]].lacks = ""  # there is a node that takes them
        elif isinstance(status, TargetLost) and await self._is_dead(one):
            self._forget(one)

    async def statuses(self) -> list[ActivationStatus]:
        """How the activations stand."""
        told = dict(await self._look(self._all()))
        return [told.get(one) or _silent(one) for one in self._all()]

    def counts(self) -> tuple[AggregateStatus, ...]:
        """The activations by class."""
        return tuple(
            AggregateStatus(
                cls.name,
                "Dedicated",
                len(cls.placed),
                cls.started,
                cls.passivated,
                cls.restarts,
                self._since,
                cls.lacks or cls.thrash.warning,
            )
            for cls in self._classes.values()
        )

    def restarted(self, aggregate: str) -> None:
        """An activation has come back after a crash of its process."""
        self._classes[aggregate].restarts += 1

    def close(self) -> None:
        """Start nothing more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for cls in self._classes.values():
            while cls.waiting:
                cls.waiting.popleft()[1].set_exception(NoRoom("the app is ending"))

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _silent(one: _Placed) -> ActivationStatus:
    last = one.told
    return ActivationStatus(one.stream, "silent", pid=last.pid if last else 0, node=one.node or "")
