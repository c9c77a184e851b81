"""The Ray actors that do the work: thin shells around the engine. Each starts itself again after a crash.

Ray runs an actor's constructor again after a crash and tells nobody; so every shell starts lazily, at its first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from eventray.domain.errors import EventRayError, ShardFenced
from eventray.runtime.app import App
from eventray.runtime.channel import TargetLost
from eventray.runtime.collector import spare_the_collector
from eventray.runtime.config import Config
from eventray.runtime.hosting import DedicatedHost, PackedHost
from eventray.runtime.inbox import Inbox
from eventray.runtime.metrics import Sample, of_shard
from eventray.runtime.metrics_ray import PUBLISH_S, publish_regularly
from eventray.runtime.nodes import this_node
from eventray.runtime.projector import ProjectionRunner
from eventray.runtime.remote import (
    PATIENCE_S,
    RemoteShard,
    answered,
    call,
    call_patiently,
    dump_error,
)
from eventray.runtime.remote_checkpoints import RemoteCheckpoints
from eventray.runtime.status import ActivationStatus, ShardStatus, ViewStatus
from eventray.runtime.tail import followed
from eventray.runtime.tailing import NodeTail
from eventray.runtime.units import Unit
from eventray.runtime.watching import Pulsing, Watch
from eventray.runtime.wire import Batch, pack_page, pack_reply, unpack_commands, unpack_queries
from eventray.store.failures import translated
from eventray.store.files import make_directory
from eventray.store.port import ShardPort
from eventray.store.records import ShardPage
from eventray.store.shard import Shard as ShardStore

FENCED = 75  # exit code of a shard that was taken over: a temporary failure, as sysexits.h has it


@dataclass(frozen=True, slots=True)
class Plan:
    """What every actor of an app is told."""

    app: bytes  # the App by cloudpickle: passed on as it is, so that all processes get the same classes
    app_name: str
    run: str  # this run of the app: its actors may take over files from each other, no one else's may
    directory: str
    config: Config

    def load_app(self) -> App:
        """The App with its classes."""
        app = cloudpickle.loads(self.app)
        assert isinstance(app, App)
        return app


def new_epoch() -> int:
    """A number that no other incarnation of an actor has."""
    return int.from_bytes(os.urandom(6))


class Shell(Pulsing):
    """What all targets share: a start that happens once, and an inbox for batches."""

    _plan: Plan

    def __init__(self) -> None:
        self._inbox: Inbox | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self._publishing: asyncio.Task[None] | None = None

    async def _start(self) -> Inbox:
        raise NotImplementedError

    async def _publish(self) -> None:
        await publish_regularly(self._plan.app_name, self._samples)

    async def _samples(self) -> list[Sample]:
        raise NotImplementedError

    async def _ready(self) -> Inbox:
        if self._inbox is None:
            async with self._starting:
                if self._closed:
                    raise TargetLost("it is closed: it was passivated, or its app is ending")
                if self._inbox is None:
                    self._inbox = await self._start()
                    spare_the_collector()
                if self._publishing is None:
                    self._publishing = asyncio.get_running_loop().create_task(self._publish())
        return self._inbox

    @property
    def _overloaded(self) -> Counter[str]:
        return Counter() if self._inbox is None else self._inbox.overloaded

    @staticmethod
    def _unpack(data: bytes) -> Batch:
        return unpack_commands(data)

    @answered
    async def hello(self, client: str) -> int:
        """Greet a client; the epoch that its batches must name."""
        return (await self._ready()).hello(client)

    @answered
    async def submit(self, data: bytes) -> bytes:
        """Take a batch; the answers that are ready."""
        inbox = await self._ready()
        return pack_reply(await inbox.submit(self._unpack(data)), dump_error)

    @answered
    async def collect(self, client: str, number: int) -> bytes:
        """The next answers of a batch."""
        inbox = await self._ready()
        return pack_reply(await inbox.collect(client, number), dump_error)

    @answered
    async def wake(self) -> None:
        """Start, if it has not yet."""
        await self._ready()


class Shard(Shell):
    """Owns one shard's file: appends, reads, and hosts the packed activations."""

    def __init__(self, plan: Plan, directory: Any, index: int) -> None:
        super().__init__()
        self._plan = plan
        self._directory = directory
        self._index = index
        self._store: ShardStore | None = None
        self._host: PackedHost | None = None
        self._watch: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Shard[{self._index}]"

    async def _start(self) -> Inbox:
        if self._watch is None:  # first of all: what follows may wait for a Directory that is frozen
            watch = Watch(lambda: {"the directory": self._directory}, self._plan.config)
            self._watch = asyncio.get_running_loop().create_task(watch.run())
        self._store = await self._open()
        self._host = PackedHost(self._plan.load_app(), self._store, self._plan.config)
        return Inbox(self._store.epoch, self._host.handle, self._plan.config)

    async def _open(self) -> ShardStore:
        plan, node, directory = self._plan, this_node(), Path(self._plan.directory)
        identity = await call_patiently(self._directory.shard_identity, self._index, node)
        if not identity["created"]:
            await asyncio.to_thread(_make_directory, directory)  # this node may have nothing of the store yet
        store = await ShardStore.open(
            directory,
            self._index,
            store_id=identity["store_id"],
            generation=identity["generation"],
            run=plan.run,
            durability=plan.config.durability,
            limits=plan.config.store_limits,
            create=not identity["created"],
        )
        try:  # nobody is served before the Directory has seen how far it goes
            await call_patiently(self._directory.shard_opened, self._index, node, store.head, store.lost_with_power)
        except BaseException:
            await store.close()
            raise
        return store

    async def _samples(self) -> list[Sample]:
        assert self._store is not None
        assert self._host is not None
        of_store = of_shard(self._index, self._store.head, self._store.written)
        return [*of_store, *self._host.samples(self._overloaded)]

    @answered
    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Run one of the methods of a `ShardPort` on the file."""
        await self._ready()
        assert self._store is not None
        if method not in CALLABLE:
            raise ValueError(f"a shard has no method {method!r}")
        result = await getattr(self._store, method)(*args, **kwargs)
        return pack_page(result) if isinstance(result, ShardPage) else result

    @answered
    async def status(self) -> ShardStatus:
        """How it stands."""
        await self._ready()
        self._end_if_fenced()
        assert self._store is not None
        assert self._host is not None
        store, host = self._store, self._host
        return ShardStatus(
            self._index,
            "serving",
            store.head,
            store.epoch,
            host.active,
            host.pending,
            os.getpid(),
            this_node(),
            lost_with_power=store.lost_with_power,
            packed=host.statuses(),
        )

    @answered
    async def wake(self) -> None:
        """Start, if it has not yet. After another writer took its file, this process ends: Ray knows who is next."""
        await self._ready()
        self._end_if_fenced()

    def _end_if_fenced(self) -> None:
        assert self._store is not None
        try:
            self._store.require_unfenced()
        except ShardFenced:
            os._exit(FENCED)

    @answered
    async def close(self) -> None:
        """Answer what was taken, and close the file."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._host is not None:
            await self._host.drain()
        if self._store is not None:
            await self._store.close()


CALLABLE = frozenset(name for name in vars(ShardPort) if not name.startswith("_")) - {"close"}  # that is not theirs


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


class ActivationShell(Shell):
    """One dedicated activation."""

    def __init__(self, plan: Plan, directory: Any, aggregate: str, id: str, shard_index: int) -> None:
        super().__init__()
        self._plan = plan
        self._directory = directory
        self._aggregate = aggregate
        self._id = id
        self._shard = RemoteShard(shard_index, partial(call, directory.locate), PATIENCE_S)
        self._app: App | None = None
        self._host: DedicatedHost | None = None

    def __repr__(self) -> str:
        return f"{self._aggregate}({self._id})"

    async def _start(self) -> Inbox:
        config = self._plan.config
        if self._app is None:
            self._app = self._plan.load_app()
            if ray.get_runtime_context().was_current_actor_reconstructed:
                with contextlib.suppress(TargetLost):  # a Directory that is away does not count it
                    await call(self._directory.restarted, self._aggregate)
        self._host = DedicatedHost(self._app, self._aggregate, f"{self._aggregate}/{self._id}", self._shard, config)
        return Inbox(new_epoch(), self._host.handle, config)

    async def _publish(self) -> None:
        while True:
            await asyncio.sleep(PUBLISH_S)
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


def _make_directory(path: Path) -> None:
    try:
        make_directory(path)
    except OSError as error:
        raise translated(error, path) from error


def named(shell: type[Shell], name: str) -> type[Shell]:
    """The shell under a name of the user's domain, as `ray list actors` and the dashboard show it."""
    return type(name, (shell,), {"__doc__": shell.__doc__, "__module__": "eventray"})
