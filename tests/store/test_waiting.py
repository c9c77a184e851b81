from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventray.domain.errors import ShardUnavailable
from eventray.store import EventStore, NewCommand
from tests.store.conftest import deposits, one_shard

SOON_S = 5.0


async def test_a_reader_that_waits_gets_the_news_at_once(store: EventStore) -> None:
    shard = store.manifest.shard_of("Account/alice")
    reading = asyncio.create_task(store.read_shard(shard=shard, after=0, wait=60.0))
    await asyncio.sleep(0)
    await store.append("Account/alice", deposits(1))
    page = await asyncio.wait_for(reading, SOON_S)
    assert [record.version for record in page] == [1]


async def test_a_reader_without_news_gets_an_empty_page_in_time(store: EventStore) -> None:
    page = await asyncio.wait_for(store.read_shard(shard=0, after=0, wait=0.01), SOON_S)
    assert (page.records, page.position) == ([], 0)


async def test_a_reader_beyond_the_end_stays_where_it_is(store: EventStore) -> None:
    assert (await store.read_shard(shard=0, after=7)).position == 7


async def test_closing_ends_the_waiting(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        reading = asyncio.create_task(shard.read(after=0, wait=60.0))
        await asyncio.sleep(0)
    with pytest.raises(ShardUnavailable):
        await asyncio.wait_for(reading, SOON_S)


async def test_a_cancelled_reader_leaves_the_others_waiting(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        one, other = (asyncio.create_task(shard.read(after=0, wait=60.0)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await shard.append_batch("A/1", [NewCommand(None, deposits(1))])
        assert len(await asyncio.wait_for(other, SOON_S)) == 1
        with pytest.raises(asyncio.CancelledError):
            await one


async def test_no_reader_passes_a_position_that_is_still_to_be_committed(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        seen: list[int] = []

        async def follow() -> None:
            after = 0
            while after < 300:
                page = await shard.read(after=after, limit=50, wait=SOON_S)
                seen.extend(record.position for record in page)
                after = page.position

        following = asyncio.create_task(follow())
        for turn in range(10):
            sizes = [1, 20, 2, 5, 2]
            calls = [
                shard.append_batch(f"A/{n}", [NewCommand(None, deposits(*range(size)))]) for n, size in enumerate(sizes)
            ]
            await asyncio.gather(*calls)
            assert shard.head == 30 * (turn + 1)
        await asyncio.wait_for(following, SOON_S)
        assert seen == list(range(1, 301))
