"""The actor of a shard."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventray.domain.errors import ShardFenced
from eventray.runtime.hosting import PackedHost
from eventray.runtime.inbox import Inbox
from eventray.runtime.metrics import Sample, of_shard
from eventray.runtime.metrics_ray import publish_regularly
from eventray.runtime.nodes import this_node
from eventray.runtime.remote import answered, call_patiently
from eventray.runtime.shell import Plan, Shell
from eventray.runtime.status import ShardStatus
from eventray.runtime.watching import Watch
from eventray.runtime.wire import pack_page
from eventray.runtime.wire_shard import pack_loaded, pack_result, unpack_append
from eventray.store.failures import translated
from eventray.store.files import make_directory
from eventray.store.port import ShardPort
from eventray.store.records import Loaded, ShardPage
from eventray.store.shard import Shard as ShardStore

FENCED = 75  # exit code of a shard that was taken over: a temporary failure, as sysexits.h has it
CALLABLE = frozenset(name for name in vars(ShardPort) if not name.startswith("_")) - {"close"}  # that is not theirs

PACKED: dict[type[Any], Callable[[Any], bytes]] = {ShardPage: pack_page, Loaded: pack_loaded}


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

    async def _publish(self) -> None:
        await publish_regularly(self._plan.app_name, self._samples)

    async def _samples(self) -> list[Sample]:
        assert self._store is not None
        assert self._host is not None
        of_store = of_shard(self._index, self._store.head, self._store.written)
        return [*of_store, *self._host.samples(self._overloaded)]

    @answered
    async def append(self, data: bytes) -> bytes:
        """Append what a `RemoteShard` has packed."""
        await self._ready()
        assert self._store is not None
        stream, commands, expected_version, token, lookups = unpack_append(data)
        return pack_result(
            await self._store.append_batch(
                stream, commands, expected_version=expected_version, token=token, lookups=lookups
            )
        )

    @answered
    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Run one of the methods of a `ShardPort` on the file."""
        await self._ready()
        assert self._store is not None
        if method not in CALLABLE:
            raise ValueError(f"a shard has no method {method!r}")
        result = await getattr(self._store, method)(*args, **kwargs)
        pack = PACKED.get(type(result))
        return result if pack is None else pack(result)

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


def _make_directory(path: Path) -> None:
    try:
        make_directory(path)
    except OSError as error:
        raise translated(error, path) from error
