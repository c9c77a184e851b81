"""Tail: the newest events of each shard, read once and kept for a while, for all who follow.

It reads on as long as somebody asks, one page ahead. Whoever is behind what is kept reads the shard itself until it has
caught up: so a slow follower holds up nobody, and nothing grows with the number of followers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from eventray.domain.errors import EventRayError
from eventray.runtime.config import Config
from eventray.runtime.metrics import Sample
from eventray.store.news import News
from eventray.store.port import ShardPort
from eventray.store.records import Record, ShardPage

log = logging.getLogger("eventray.runtime")

WITHOUT_TAIL_S = 2.0  # the longest that a follower waits at the shard before it tries the tail again


class TailPort(Protocol):
    """A tail, here or in another process."""

    async def read(
        self, shard: int, *, after: int, limit: int, wait: float, types: frozenset[str] | None
    ) -> ShardPage | None:
        """As `ShardPort.read` of a shard; None: this tail cannot tell, the shard itself must be asked."""
        ...


class Tail:
    """The tail of some shards, by number; `close` ends its reading."""

    def __init__(self, shards: Mapping[int, ShardPort], config: Config) -> None:
        self._shards = {index: _Newest(shard, config) for index, shard in shards.items()}

    async def read(
        self, shard: int, *, after: int, limit: int, wait: float, types: frozenset[str] | None
    ) -> ShardPage | None:
        """As `ShardPort.read`; None: `after` is before what is kept, or the shard cannot be read now."""
        return await self._shards[shard].read(after, limit, wait, types)

    @property
    def waiting(self) -> int:
        """How many reads wait for news now."""
        return sum(len(newest.news) for newest in self._shards.values())

    def samples(self) -> Iterator[Sample]:
        """What it keeps, and who waits, by shard."""
        for index, newest in self._shards.items():
            yield Sample("eventray_tail_kept_bytes", newest.kept_bytes, (str(index),))
            yield Sample("eventray_tail_waiting_reads", len(newest.news), (str(index),))

    async def close(self) -> None:
        """Read no more; who waits is told to ask the shard."""
        await asyncio.gather(*(newest.close() for newest in self._shards.values()))


class _Newest:
    """The newest events of one shard: all of those after position `_start`, up to `_end`, one after the other."""

    def __init__(self, shard: ShardPort, config: Config) -> None:
        self._shard = shard
        self._config = config
        self._records: list[Record] = []
        self.kept_bytes = 0
        self._start = self._end = 0
        self._reading: asyncio.Task[None] | None = None
        self._asked = False  # somebody has, since the last page was
        self._losses = 0  # a follower that has waited through one must not go on with what was kept
        self.news = News()
        self._closed = False

    async def read(self, after: int, limit: int, wait_s: float, types: frozenset[str] | None) -> ShardPage | None:
        losses, until = self._losses, asyncio.get_running_loop().time() + wait_s
        while self._losses == losses and not self._closed:
            if self._reading is None and after > self._end:
                self._begin_after(after)  # nobody has read on for a while
            if after < self._start:
                return None
            if after < self._end:
                self._read_on()
                return self._page(after, limit, types)
            left_s = until - asyncio.get_running_loop().time()
            if left_s <= 0:
                return ShardPage([], after)
            self._read_on()
            await self.news.wait(left_s)
        return None

    async def close(self) -> None:
        self._closed = True
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self.news.tell()

    def _page(self, after: int, limit: int, types: frozenset[str] | None) -> ShardPage:
        first = after - self._start
        if types is None:
            page = self._records[first : first + limit]
            return ShardPage(page, page[-1].position)
        page = []
        for at in range(first, len(self._records)):
            record = self._records[at]
            if record.type in types:
                page.append(record)
                if len(page) == limit:
                    return ShardPage(page, record.position)
        return ShardPage(page, self._end)

    # reading on

    def _read_on(self) -> None:
        self._asked = True
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_while_asked())

    async def _read_while_asked(self) -> None:
        config = self._config
        try:
            while self._asked or self.news:
                self._asked = False
                page = await self._shard.read(after=self._end, limit=config.read_page_events, wait=config.poll_s)
                self._asked |= bool(self.news)  # who has waited for this page will soon ask for the next one
                self._keep(page)
                self.news.tell()
        except EventRayError as error:
            # Whoever serves the shard next may have fewer events (a power cut): nothing of this may be shown then.
            log.info("the tail of shard %d begins anew: %s", self._shard.index, error)
            self._losses += 1
            self._begin_after(0)
        finally:
            self._reading = None
            self.news.tell()

    def _keep(self, page: ShardPage) -> None:
        if not page.records:
            return
        assert (page[0].position, page.position) == (self._end + 1, self._end + len(page)), "a shard's log has no gaps"
        self._records += page.records
        self.kept_bytes += sum(map(_size, page.records))
        self._end = page.position
        events_most, bytes_most = self._config.tail_events_max, self._config.tail_bytes_max
        drop, left = max(0, len(self._records) - events_most), self.kept_bytes
        left -= sum(map(_size, self._records[:drop]))
        while left > bytes_most:
            left -= _size(self._records[drop])
            drop += 1
        if drop:
            del self._records[:drop]
            self._start, self.kept_bytes = self._start + drop, left

    def _begin_after(self, position: int) -> None:
        self._records, self.kept_bytes = [], 0
        self._start = self._end = position


def _size(record: Record) -> int:
    return len(record.data) + len(record.meta)


def followed(shard: ShardPort, tail: TailPort) -> ShardPort:
    """The shard for one follower: what waits for news is read from the tail, all else as ever."""
    return cast(ShardPort, _Followed(shard, tail))


class _Followed:
    def __init__(self, shard: ShardPort, tail: TailPort) -> None:
        self._shard = shard
        self._tail = tail
        self._near_end = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shard, name)

    async def read(
        self, *, after: int, limit: int = 1000, wait: float = 0.0, types: frozenset[str] | None = None
    ) -> ShardPage:
        """Read the tail; the shard itself where that cannot tell, and until the end of the log has come near."""
        if not wait:
            return await self._shard.read(after=after, limit=limit, types=types)
        if self._near_end:
            page = await self._tail.read(self._shard.index, after=after, limit=limit, wait=wait, types=types)
            if page is not None:
                return page
            wait = min(wait, WITHOUT_TAIL_S)
        else:
            wait = 0.0
        page = await self._shard.read(after=after, limit=limit, wait=wait, types=types)
        self._near_end = page.position - after < limit
        return page
