from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest

from eventray.store import EventStore, NewCommand, NewRecord, Record, StoreLimits
from tests.store.conftest import Reopen, deposits
from tests.store.contract.conftest import Kind, together

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAR = 2**63 - 1


async def collected(store: EventStore, stream: str, **bounds: Any) -> list[Record]:
    return [record async for record in store.read(stream, **bounds)]


def expected(records: list[Record], after: int, until: int | None, reverse: bool, limit: int | None) -> list[Record]:
    """What `read` means."""
    found = records[after : max(after, FAR if until is None else until)]
    return (found[::-1] if reverse else found)[: FAR if limit is None else limit]


async def test_a_range_is_read_in_every_combination_of_its_bounds(reopen: Reopen, alice: str) -> None:
    store = await reopen(limits=StoreLimits(page_records_max=4))
    await store.append(alice, deposits(*range(5)))
    await store.append(alice, deposits(*range(5)))
    records = await collected(store, alice)
    assert [record.version for record in records] == list(range(1, 11))
    afters, untils = [0, 1, 3, 4, 5, 8, 9, 10, 11, FAR], [None, 0, 1, 3, 4, 5, 9, 10, 11, FAR]
    limits = [None, 0, 1, 3, 4, 5, 9, 10, 11]
    bounds = list(product(afters, untils, [False, True], limits))
    for start in range(0, len(bounds), 200):
        part = bounds[start : start + 200]
        reads = [collected(store, alice, after=a, until=u, reverse=r, limit=n) for a, u, r, n in part]
        for given, found in zip(part, await asyncio.gather(*reads), strict=True):
            assert found == expected(records, *given), given


@pytest.mark.parametrize("reverse", [False, True], ids=["up", "down"])
async def test_a_stream_longer_than_a_page_is_read_whole_and_in_part(
    store: EventStore, alice: str, reverse: bool
) -> None:
    await store.append(alice, deposits(*range(2050)))
    records = await collected(store, alice)
    assert [int(record.data) for record in records] == list(range(2050))
    for after, until, limit in product([0, 50], [None, 1050], [None, 999, 1000, 1001]):
        found = await collected(store, alice, after=after, until=until, reverse=reverse, limit=limit)
        assert found == expected(records, after, until, reverse, limit)


@pytest.mark.parametrize("wrong", [-1, True, False, 1.0, "1", 2**63], ids=repr)
async def test_an_impossible_bound_is_a_value_error_at_once(store: EventStore, alice: str, wrong: Any) -> None:
    shard = store.shard_of(alice)
    for bounds in ({"after": wrong}, {"until": wrong}, {"limit": wrong}):
        if bounds != {"limit": 2**63}:
            with pytest.raises(ValueError):
                store.read(alice, **bounds)
            with pytest.raises(ValueError):
                await shard.read_stream(alice, **{"limit": 1, **bounds})
    for bounds in ({"after": wrong}, {"limit": wrong}):
        if bounds != {"limit": 2**63}:
            with pytest.raises(ValueError):
                await shard.read(**{"after": 0, "limit": 1, **bounds})
    if wrong not in (-1, 1.0) or isinstance(wrong, bool):
        with pytest.raises(ValueError):
            await shard.version_at(alice, wrong)
        with pytest.raises(ValueError):
            await shard.position_at(wrong)


async def test_a_page_of_no_records_is_a_value_error(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    for reading in (shard.read(after=0, limit=0), shard.read_stream(alice, limit=0), shard.streams(prefix="", limit=0)):
        with pytest.raises(ValueError):
            await reading


async def test_a_record_has_all_that_was_stored(store: EventStore, alice: str) -> None:
    done = await store.append(alice, [NewRecord("Deposited", b"body", b"meta", type_version=3)], command_id="tx-1")
    [record] = await collected(store, alice)
    assert record[:7] == (alice, 1, "Deposited", b"body", b"meta", done.shard, done.position)
    assert (record.command_id, record.type_version, record.event_id) == ("tx-1", 3, f"{alice}@1")
    page = await store.read_shard(shard=done.shard, after=done.position - 1)
    assert page.records == [record]


async def test_an_unknown_stream_has_no_records(store: EventStore, alice: str) -> None:
    assert await collected(store, alice) == await collected(store, alice, reverse=True) == []


async def test_a_page_that_begins_within_a_command_knows_its_id(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    head = await shard.fetch_head()
    commands = [
        NewCommand("a", deposits(1, 2, 3)),
        NewCommand(None, deposits(4, 5)),
        NewCommand("b", deposits(6, 7)),
    ]
    await shard.append_batch(alice, commands)
    ids = ["a", "a", "a", None, None, "b", "b"]
    for start in range(7):
        page = await shard.read(after=head + start, limit=2)
        assert [r.command_id for r in page] == ids[start : start + 2]
        until = start + 1
        back = await shard.read_stream(alice, until=until, reverse=True, limit=2)
        assert [r.command_id for r in back] == ids[max(0, until - 2) : until][::-1]


async def test_positions_of_a_shard_are_contiguous_over_streams(store: EventStore, alice: str) -> None:
    before = await store.heads()
    for n in range(20):
        await store.append(f"{alice}-{n % 7}", deposits(n))
    after = await store.heads()
    assert sum(after.values()) == sum(before.values()) + 20
    for shard, head in after.items():
        page = await store.read_shard(shard=shard, after=before[shard])
        assert [r.position for r in page] == list(range(before[shard] + 1, head + 1))
        assert page.position == head


async def test_a_filter_moves_on_past_what_it_leaves_out(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    head = await shard.fetch_head()
    records = [NewRecord("Opened", b""), *deposits(1, 2), NewRecord("Closed", b""), *deposits(3)]
    await shard.append_batch(alice, [NewCommand("x", records)])
    page = await shard.read(after=head, types=frozenset({"Opened", "Closed"}))
    assert [(r.type, r.command_id) for r in page] == [("Opened", "x"), ("Closed", "x")]
    assert page.position == head + 5
    page = await shard.read(after=head, limit=1, types=frozenset({"Opened", "Closed"}))
    assert ([r.type for r in page], page.position) == (["Opened"], head + 1)
    page = await shard.read(after=head, types=frozenset({"Unheard"}))
    assert (page.records, page.position) == ([], head + 5)


async def test_pages_are_bounded_in_bytes_and_lose_nothing(reopen: Reopen, kind: Kind, alice: str) -> None:
    store = await reopen(limits=StoreLimits(page_bytes_max=100))
    shard = store.shard_of(alice)
    start = await shard.fetch_head()
    await store.append(alice, [NewRecord("Noted", b"x" * (60 * (n % 2)), b"m" * (60 * (1 - n % 2))) for n in range(5)])
    page = await shard.read(after=start, limit=100)
    loaded = await shard.load(alice)
    assert loaded.version == 5
    if kind.owned:
        assert (len(page), len(loaded.records), loaded.more) == (1, 1, True)
    seen, after = 0, start
    while page := await shard.read(after=after, limit=100):
        seen, after = seen + len(page), page.position
    assert seen == len(await collected(store, alice)) == len(await collected(store, alice, reverse=True)) == 5


async def test_version_at_finds_the_last_version_of_a_time(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    for n in range(5):
        await store.append(alice, deposits(n))
    times = [record.recorded_at for record in await collected(store, alice)]
    found = [await shard.version_at(alice, moment) for at in times for moment in (at - 1, at)]
    assert found == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert await shard.version_at(alice, FAR) == 5
    assert await shard.version_at(alice, -FAR) == 0
    assert await shard.version_at(f"{alice}-none", FAR) == 0


async def test_position_at_finds_the_last_position_of_a_time(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    head = await shard.fetch_head()
    for n in range(5):
        await store.append(alice, deposits(n))
    times = [record.recorded_at for record in await collected(store, alice)]
    found = [await shard.position_at(moment) for at in times for moment in (at - 1, at)]
    assert [position - head for position in found] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert await shard.position_at(FAR) == head + 5
    assert await shard.position_at(-FAR) == 0


async def test_streams_are_listed_by_prefix_in_pages(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    own = together(store, alice, 4)
    await shard.save_snapshot(own.pop(), version=0, data=b"")  # without events it is not there
    for name in reversed(own):
        await store.append(name, deposits(1))
    assert await shard.streams(prefix=f"{alice}/") == own
    assert await shard.streams(prefix=f"{alice}/", after=own[0], limit=1) == [own[1]]
    assert await shard.streams(prefix=f"{alice}/é", after=own[-1]) == []
    assert set(own) <= set(await shard.streams(prefix="", after=alice))
    assert await shard.streams(prefix=f"{alice}z") == []
