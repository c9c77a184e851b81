"""Subscriptions: the events of all shards as they come, in the caller's own code, from where it was when it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from typing import NamedTuple

from eventray.domain.errors import (
    EventRayError,
    StoreMismatch,
)
from eventray.domain.messages import Event
from eventray.runtime.chosen import chosen_events
from eventray.runtime.config import Config
from eventray.runtime.eventset import EventSet
from eventray.runtime.handles import After, positions_after
from eventray.runtime.loop import EngineLoop
from eventray.runtime.patience import until_back
from eventray.runtime.recorded import Recorded, recorded
from eventray.runtime.transport import Transport
from eventray.store.records import ShardPage

log = logging.getLogger("eventray.runtime")


class Subscription:
    """What `runtime.subscribe(...)` returns: events as (event, meta), for `for` and `async for`, without an end.

    An event counts as handled when the next one is asked for. With a name that is kept in the store, from time to
    time and when the loop ends: a subscription of that name goes on behind it. So each event comes at least once,
    and again only after a crash, or when the loop was left in the middle of it. One loop at a time for a name.

    The order is that of each shard's log, which is that of each stream; between shards there is none. At most one page
    (`read_page_events`) of each shard is in memory; a slow loop holds up nobody.
    """

    def __init__(
        self,
        engine: EngineLoop,
        started: Awaitable[None],
        transport: Transport,
        config: Config,
        events: Sequence[type[Event]],
        name: str | None,
        after: After,
    ) -> None:
        self._engine = engine
        self._started = started
        self._transport = transport
        self._config = config
        self._events = tuple(events)
        self._name = name
        self._after = after

    def __iter__(self) -> Iterator[Recorded]:
        feed = self._engine.spawn(self._open()).result()
        try:
            while True:
                page = self._engine.spawn(feed.page()).result()
                for entry in page.entries:
                    yield entry
                    feed.handled[page.shard] = entry.meta.position
        finally:
            self._engine.spawn(feed.close()).result()

    async def __aiter__(self) -> AsyncIterator[Recorded]:
        feed = await self._engine.spawn(self._open())
        try:
            while True:
                page = await self._engine.spawn(feed.page())
                for entry in page.entries:
                    yield entry
                    feed.handled[page.shard] = entry.meta.position
        finally:
            await self._engine.spawn(feed.close())

    async def _open(self) -> _Feed:
        await self._started
        events = chosen_events(self._transport.app, self._events)
        return _Feed(self._transport, self._config, events, self._name, await self._positions())

    async def _positions(self) -> dict[int, int]:
        """Where to begin: where the last one of this name ended, else where the caller says, else at the beginning."""
        positions, now = dict.fromkeys(self._transport.shards, 0), self._transport.generation
        after, generation = positions_after(self._after)
        if generation not in (0, now):
            raise self._of_another(generation)
        saved = await self._transport.checkpoints.load(_key(self._name)) if self._name else None
        if saved is not None and saved.generation != now and self._after is None:
            raise self._of_another(saved.generation)
        positions.update(saved.positions if saved is not None and saved.generation == now else after)
        return positions

    def _of_another(self, generation: int) -> StoreMismatch:
        advice = "The store was restored or resharded since: say after= where to go on, like runtime.heads()"
        what = f"the subscription {self._name!r}"
        return StoreMismatch(what, "generation", generation, self._transport.generation, advice)


class _Page(NamedTuple):
    shard: int
    entries: list[Recorded]


class _Feed:
    """The reading side of one loop over a subscription; runs in the engine's event loop."""

    def __init__(
        self, transport: Transport, config: Config, events: EventSet, name: str | None, positions: dict[int, int]
    ) -> None:
        self.handled = dict(positions)
        self._transport = transport
        self._config = config
        self._events = events
        self._name = name
        self._read_to = positions
        self._saved = dict(positions)
        self._saved_at = time.monotonic()
        self._reads: dict[int, asyncio.Task[ShardPage]] = {}

    async def page(self) -> _Page:
        """The next events of any shard. Everything before has been handled when this is called."""
        while True:
            for shard in self._read_to:
                if shard not in self._reads:
                    self._reads[shard] = asyncio.create_task(self._read(shard))
            await asyncio.wait(
                self._reads.values(), timeout=self._config.checkpoint_s, return_when=asyncio.FIRST_COMPLETED
            )
            await self._save_in_time()
            done = next((shard for shard, read in self._reads.items() if read.done()), None)
            if done is None:
                continue
            page = self._reads.pop(done).result()  # and to the end of the line: no shard keeps the others waiting
            self._read_to[done] = page.position
            if page.records:
                return _Page(done, recorded(self._events, page.records))
            self.handled[done] = page.position

    async def close(self) -> None:
        """Read no more; keep what was handled."""
        for read in self._reads.values():
            read.cancel()
        await asyncio.gather(*self._reads.values(), return_exceptions=True)
        await self._save()

    async def _read(self, shard: int) -> ShardPage:
        config, names = self._config, self._events.names
        return await until_back(
            f"subscription {self._name}",
            lambda: self._transport.shards[shard].read(
                after=self._read_to[shard], limit=config.read_page_events, wait=config.poll_s, types=names
            ),
        )

    async def _save_in_time(self) -> None:
        if time.monotonic() - self._saved_at >= self._config.checkpoint_s:
            await self._save()

    async def _save(self) -> None:
        handled = dict(self.handled)
        if self._name is None or handled == self._saved:
            return
        try:
            await self._transport.checkpoints.save(
                _key(self._name), handled, b"", generation=self._transport.generation
            )
            self._saved = handled
        except EventRayError as error:
            log.warning("how far subscription %s is was not kept: %s", self._name, error)
        self._saved_at = time.monotonic()


def _key(name: str) -> str:
    return f"subscription/{name}"  # no view has a name with a slash
