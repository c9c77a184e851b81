from __future__ import annotations

import asyncio

import pytest

from eventray.domain.errors import ShardUnavailable
from eventray.store import EventStore
from tests.store.conftest import Reopen, deposits
from tests.store.contract.conftest import Kind, together

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOON_S = 30.0
LONG_S = 60.0


async def test_a_reader_that_waits_gets_the_news_at_once(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    reading = asyncio.create_task(shard.read(after=await shard.fetch_head(), wait=LONG_S))
    await asyncio.sleep(0)
    await store.append(alice, deposits(1))
    page = await asyncio.wait_for(reading, SOON_S)
    assert [record.event_id for record in page] == [f"{alice}@1"]


async def test_an_append_without_events_is_no_news(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    reading = asyncio.create_task(shard.read(after=await shard.fetch_head(), wait=LONG_S))
    await asyncio.sleep(0)
    await store.append(alice, [])
    for _ in range(5):  # turns of the loop in which it could wake
        await shard.fetch_head()
        await asyncio.sleep(0)
    assert not reading.done()
    await store.append(alice, deposits(1))
    assert len(await asyncio.wait_for(reading, SOON_S)) == 1


async def test_a_reader_without_news_gets_an_empty_page_in_time(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    head = await shard.fetch_head()
    page = await asyncio.wait_for(shard.read(after=head, wait=0.01), SOON_S)
    assert (page.records, page.position) == ([], head)


async def test_a_reader_beyond_the_end_stays_where_it_is(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    beyond = await shard.fetch_head() + 7
    assert (await shard.read(after=beyond)).position == beyond
    await store.append(alice, deposits(1))
    page = await shard.read(after=beyond, wait=0.0)
    assert (page.records, page.position) == ([], beyond)


async def test_an_impossible_wait_is_a_value_error(store: EventStore) -> None:
    for wait in (-1.0, float("nan"), float("inf"), "1"):
        with pytest.raises(ValueError):
            await store.read_shard(shard=0, wait=wait)  # type: ignore[arg-type]


async def test_closing_ends_the_waiting(reopen: Reopen, kind: Kind, alice: str) -> None:
    store = await reopen()
    shard = store.shard_of(alice)
    head = await shard.fetch_head()
    reading = asyncio.create_task(shard.read(after=head, wait=LONG_S if kind.owned else 0.1))
    await asyncio.sleep(0)
    await store.close()
    if kind.owned:
        with pytest.raises(ShardUnavailable):
            await asyncio.wait_for(reading, SOON_S)
    else:  # the shard goes on, and so does what it was asked before
        assert (await asyncio.wait_for(reading, SOON_S)).position == head


async def test_a_cancelled_reader_leaves_the_others_waiting(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    head = await shard.fetch_head()
    one, other = (asyncio.create_task(shard.read(after=head, wait=LONG_S)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await store.append(alice, deposits(1))
    assert len(await asyncio.wait_for(other, SOON_S)) == 1
    with pytest.raises(asyncio.CancelledError):
        await one


async def test_no_reader_passes_a_position_that_is_still_to_be_committed(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    start = await shard.fetch_head()
    seen: list[int] = []

    async def follow() -> None:
        after = start
        while after < start + 300:
            page = await shard.read(after=after, limit=50, wait=SOON_S)
            seen.extend(record.position for record in page)
            after = page.position

    following = asyncio.create_task(follow())
    streams = together(store, alice, 5)
    for turn in range(10):
        sizes = [1, 20, 2, 5, 2]
        calls = [store.append(stream, deposits(*range(size))) for stream, size in zip(streams, sizes, strict=True)]
        await asyncio.gather(*calls)
        assert await shard.fetch_head() == start + 30 * (turn + 1)
    await asyncio.wait_for(following, SOON_S)
    assert seen == list(range(start + 1, start + 301))
