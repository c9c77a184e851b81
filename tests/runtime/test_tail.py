"""The tail: what followers read through it is what they would read from the shard, which is read once for all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eventray.domain.errors import ShardUnavailable
from eventray.runtime.config import Config
from eventray.runtime.tail import Tail, followed
from eventray.store import NewCommand, NewRecord, Record
from eventray.store.limits import StoreLimits
from eventray.store.memory import MemoryShard
from eventray.store.port import ShardPort
from eventray.store.records import ShardPage
from tests.waiting import until

WAIT_S = 30.0
TYPES = ("Opened", "Deposited", "Closed")


class CountedShard(MemoryShard):
    """It counts how it is read, fails when it is told to, and can come back as another with fewer events."""

    def __init__(self) -> None:
        super().__init__(0, StoreLimits(page_records_max=50), lambda: time.time_ns() // 1000)
        self.reads = self.records_read = 0
        self.failing = False

    async def read(
        self, *, after: int, limit: int = 1000, wait: float = 0.0, types: frozenset[str] | None = None
    ) -> ShardPage:
        self.reads += 1
        epoch = self.epoch
        await asyncio.sleep(0)  # as a real one does: others run meanwhile
        if self.failing:
            raise ShardUnavailable(0, "told to fail")
        page = await super().read(after=after, limit=limit, wait=wait, types=types)
        if epoch != self.epoch:
            raise ShardUnavailable(0, "its process ended")
        self.records_read += len(page)
        return page

    def come_back(self, position: int) -> None:
        """As after a power cut: what came after a position is gone, and calls on their way fail."""
        self.epoch += 1
        del self._log[position:]
        for records in self._streams.values():
            records[:] = [record for record in records if record.position <= position]
        self._wake()


async def append(shard: MemoryShard, count: int, word: str = "") -> None:
    for _ in range(count):
        number = shard.head + 1
        new = NewRecord(TYPES[number % len(TYPES)], f"{word}{number}".encode())
        await shard.append_batch(f"Account/{number % 7}", [NewCommand(None, [new])])


class Follower:
    """Reads a shard through the tail, page after page, until it is told to stop."""

    def __init__(self, shard: ShardPort, types: frozenset[str] | None = None, *, after: int = 0, limit: int = 20):
        self.seen: list[Record] = []
        self.position = after
        self._shard = shard
        self._types = types
        self._limit = limit

    async def follow(self) -> None:
        while True:
            await self.step()

    async def step(self, wait_s: float = WAIT_S) -> None:
        page = await self._shard.read(after=self.position, limit=self._limit, wait=wait_s, types=self._types)
        assert page.position >= self.position
        assert len(page) <= self._limit
        self.seen += page.records
        self.position = page.position


def wanted(shard: MemoryShard, types: frozenset[str] | None) -> list[Record]:
    return [record for record in shard._log if types is None or record.type in types]


async def reached(followers: list[Follower], head: int) -> None:
    async def done() -> bool:
        return all(follower.position == head for follower in followers)

    await until(done)


def config(**settings: int) -> Config:
    return Config(**{"read_page_events": 20, "tail_events_max": 100, "poll_s": WAIT_S, **settings})  # type: ignore[arg-type]


@asynccontextmanager
async def tail_of(shard: ShardPort, **settings: int) -> AsyncIterator[Tail]:
    tail = Tail({0: shard}, config(**settings))
    try:
        yield tail
    finally:
        await tail.close()


@asynccontextmanager
async def following(*followers: Follower) -> AsyncIterator[None]:
    """All of them follow, until the block ends."""
    tasks = [asyncio.create_task(follower.follow()) for follower in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []


def followers_of(shard: ShardPort, tail: Tail, filters: list[frozenset[str] | None]) -> list[Follower]:
    return [Follower(followed(shard, tail), types) for types in filters]


FILTERS = [None, frozenset({"Opened"}), frozenset({"Deposited", "Closed"}), frozenset({"Nothing"})]


async def test_ten_followers_with_filters_of_their_own_cost_the_shard_one_reading() -> None:
    shard = CountedShard()
    async with tail_of(shard) as tail:
        followers = followers_of(shard, tail, [FILTERS[number % 4] for number in range(10)])
        async with following(*followers):
            await until(lambda: _waits(tail, 10))
            for upto in range(10, 1_001, 10):
                await append(shard, 10)
                await reached(followers, upto)
        for follower in followers:
            assert follower.seen == wanted(shard, follower._types)
    assert shard.records_read == 1_000
    assert shard.reads <= 10 + 100 + 1  # each looks once where the end is; then one for each burst


async def test_nobody_follows_nobody_reads() -> None:
    shard = CountedShard()
    async with tail_of(shard, poll_s=1) as tail:
        await append(shard, 5)
        follower = Follower(followed(shard, tail))
        for _ in range(3):
            await follower.step(0.001)
        await until(lambda: _is_idle(tail))
        reads = shard.reads
        await append(shard, 5)
        assert (shard.reads, len(follower.seen)) == (reads, 5)
        await follower.step()
        assert follower.seen == wanted(shard, None)


async def _is_idle(tail: Tail) -> bool:
    return tail._shards[0]._reading is None


async def test_a_follower_that_is_behind_reads_the_shard_and_holds_up_nobody() -> None:
    shard = CountedShard()
    async with tail_of(shard) as tail:
        fast, slow = followers_of(shard, tail, [None, None])
        await slow.step()
        await slow.step(0.001)  # it has been at the end
        async with following(fast):
            await until(lambda: _waits(tail))
            for upto in range(10, 1_001, 10):
                await append(shard, 10)
                await reached([fast], upto)
        newest = tail._shards[0]
        assert (len(newest._records), newest._start, newest._end) == (100, 900, 1_000)
        while slow.position < 1_000:
            await slow.step()
        assert slow.seen == fast.seen == wanted(shard, None)


async def test_what_is_kept_is_bounded_in_bytes() -> None:
    shard = CountedShard()
    async with tail_of(shard, tail_bytes_max=100) as tail:
        [follower] = followers_of(shard, tail, [None])
        async with following(follower):
            for _ in range(20):
                await append(shard, 10, "x" * 7)
                await reached([follower], shard.head)
        newest = tail._shards[0]
        assert newest.kept_bytes == sum(len(record.data) for record in newest._records) <= 100
        assert newest._start + len(newest._records) == newest._end == 200
        assert follower.seen == wanted(shard, None)


async def test_a_shard_that_fails_fails_its_followers_and_they_go_on_when_it_is_back() -> None:
    shard = CountedShard()
    async with tail_of(shard) as tail:
        followers = followers_of(shard, tail, [None, None])
        async with following(*followers):
            await append(shard, 30)
            await reached(followers, 30)
        shard.failing = True
        shard.come_back(30)
        for follower in followers:
            await until(lambda: _fails(follower))  # noqa: B023 - it is called here and now
        shard.failing = False
        async with following(*followers):
            await append(shard, 30)
            await reached(followers, 60)
        assert all(follower.seen == wanted(shard, None) for follower in followers)


async def _fails(follower: Follower) -> bool:
    try:
        await follower.step()
    except ShardUnavailable:
        return True
    return False


async def test_events_that_a_power_cut_took_are_shown_to_nobody_after_it() -> None:
    shard = CountedShard()
    async with tail_of(shard) as tail:
        before = followers_of(shard, tail, [None, None])
        async with following(*before):
            await until(lambda: _waits(tail, 2))
            await append(shard, 60, "lost")
            await reached(before, 60)
            await until(lambda: _waits(tail, 2))
        assert tail._shards[0]._start < 20
        shard.come_back(20)
        await until(lambda: _is_idle(tail))
        await append(shard, 60, "new")
        after = [Follower(followed(shard, tail), after=at) for at in (0, 20, 30)]  # restarted at their saves
        for follower in after:
            vars(follower._shard)["_near_end"] = True  # the worst case: the tail is asked first
        async with following(*after):
            await reached(after, 80)
        for follower, first in zip(after, (0, 20, 30), strict=True):
            assert follower.seen == shard._log[first:]


async def _waits(tail: Tail, followers: int = 1) -> bool:
    return tail.waiting == followers


class Lost:
    """A tail that cannot be reached."""

    async def read(self, shard: int, **_: object) -> None:
        return None


async def test_without_its_tail_a_follower_reads_the_shard() -> None:
    shard = CountedShard()
    follower = Follower(followed(shard, Lost()))
    async with following(follower):
        await append(shard, 100)
        await reached([follower], 100)
        await append(shard, 1)
        await reached([follower], 101)
    assert follower.seen == wanted(shard, None)


@pytest.mark.parametrize("seed", range(20))
async def test_followers_see_what_the_shard_holds_whatever_happens_in_between(seed: int) -> None:
    chance = random.Random(seed)
    shard = CountedShard()
    settings = {"read_page_events": chance.choice([1, 7, 50]), "tail_events_max": chance.choice([1, 10, 100])}
    async with tail_of(shard, **settings) as tail:
        followers = [
            Follower(followed(shard, tail), chance.choice(FILTERS), limit=chance.choice([1, 5, 50])) for _ in range(5)
        ]

        async def erratic(follower: Follower) -> None:
            while True:
                for _ in range(chance.choice([0, 0, 3, 200])):
                    await asyncio.sleep(0)
                with contextlib.suppress(ShardUnavailable):
                    await follower.step(chance.choice([0.0, 0.001, WAIT_S]))

        tasks = [asyncio.create_task(erratic(follower)) for follower in followers]
        for _ in range(200):
            await append(shard, chance.choice([0, 1, 3, 30]))
            if chance.random() < 0.05:
                shard.failing = not shard.failing
            if chance.random() < 0.05:
                shard.come_back(shard.head)
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
        shard.failing = False
        shard.come_back(shard.head)
        await reached(followers, shard.head)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for follower in followers:
            assert follower.seen == wanted(shard, follower._types)
