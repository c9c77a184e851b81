from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventray.store import EventStore, NewCommand, NewRecord, StoreLimits
from tests.store.conftest import Clock, deposits, one_shard

ALICE = "Account/alice"


@pytest.mark.parametrize(
    ("after", "until", "reverse", "limit", "expected"),
    [
        (0, None, False, None, [1, 2, 3, 4, 5]),
        (2, None, False, None, [3, 4, 5]),
        (0, 3, False, None, [1, 2, 3]),
        (1, 4, True, None, [4, 3, 2]),
        (0, None, True, 2, [5, 4]),
        (0, None, False, 0, []),
        (9, None, False, None, []),
    ],
)
async def test_a_range_of_a_stream_is_read(
    store: EventStore, after: int, until: int | None, reverse: bool, limit: int | None, expected: list[int]
) -> None:
    await store.append(ALICE, deposits(1, 2, 3, 4, 5))
    found = store.read(ALICE, after=after, until=until, reverse=reverse, limit=limit)
    assert [record.version async for record in found] == expected


async def test_a_record_has_all_that_was_stored(store: EventStore) -> None:
    done = await store.append(ALICE, [NewRecord("Deposited", b"body", b"meta", type_version=3)], command_id="tx-1")
    [record] = [r async for r in store.read(ALICE)]
    assert record[:7] == (ALICE, 1, "Deposited", b"body", b"meta", done.shard, done.position)
    assert (record.command_id, record.type_version, record.event_id) == ("tx-1", 3, "Account/alice@1")
    page = await store.read_shard(shard=done.shard)
    assert page.records == [record]


async def test_an_unknown_stream_has_no_records(store: EventStore) -> None:
    assert [r async for r in store.read("Account/nobody")] == []


@pytest.mark.parametrize(
    "arguments", [{"after": -1, "limit": 1}, {"after": 0, "limit": 0}, {"after": True, "limit": 1}]
)
async def test_an_impossible_page_is_a_value_error(store: EventStore, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        await store.read_shard(shard=0, **arguments)


async def test_a_page_that_begins_within_a_command_knows_its_id(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        commands = [
            NewCommand("a", deposits(1, 2, 3)),
            NewCommand(None, deposits(4, 5)),
            NewCommand("b", deposits(6, 7)),
        ]
        await shard.append_batch("A/1", commands)
        ids = ["a", "a", "a", None, None, "b", "b"]
        for start in range(7):
            page = await shard.read(after=start, limit=2)
            assert [r.command_id for r in page] == ids[start : start + 2]
            until = start + 1
            back = await shard.read_stream("A/1", until=until, reverse=True, limit=2)
            assert [r.command_id for r in back] == ids[max(0, until - 2) : until][::-1]


async def test_positions_of_a_shard_are_contiguous_over_streams(store: EventStore) -> None:
    for n in range(20):
        await store.append(f"Account/{n % 7}", deposits(n))
    for shard, head in (await store.heads()).items():
        page = await store.read_shard(shard=shard)
        assert [r.position for r in page] == list(range(1, head + 1))
        assert page.position == head


async def test_a_filter_moves_on_past_what_it_leaves_out(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        records = [NewRecord("Opened", b""), *deposits(1, 2), NewRecord("Closed", b""), *deposits(3)]
        await shard.append_batch("A/1", [NewCommand("x", records)])
        page = await shard.read(after=0, types=frozenset({"Opened", "Closed"}))
        assert [(r.type, r.command_id) for r in page] == [("Opened", "x"), ("Closed", "x")]
        assert page.position == 5
        page = await shard.read(after=0, limit=1, types=frozenset({"Opened", "Closed"}))
        assert ([r.type for r in page], page.position) == (["Opened"], 1)
        page = await shard.read(after=0, types=frozenset({"Unheard"}))
        assert (page.records, page.position) == ([], 5)


async def test_pages_are_bounded_in_bytes_and_lose_nothing(tmp_path: Path) -> None:
    async with one_shard(tmp_path, limits=StoreLimits(page_bytes_max=100)) as shard:
        await shard.append_batch("A/1", [NewCommand(None, [NewRecord("Noted", b"x" * 60) for _ in range(5)])])
        page = await shard.read(after=0, limit=100)
        assert 0 < len(page) < 5
        loaded = await shard.load("A/1")
        assert loaded.more
        assert loaded.version == 5
        seen, after = 0, 0
        while page := await shard.read(after=after, limit=100):
            seen, after = seen + len(page), page.position
        assert seen == 5


async def test_version_at_finds_the_last_version_of_a_time(tmp_path: Path, clock: Clock) -> None:
    async with one_shard(tmp_path, clock=clock) as shard:
        start = clock.now
        for n in range(5):
            clock.now = start + 10 * n
            await shard.append_batch("A/1", [NewCommand(None, deposits(n))])
        found = [await shard.version_at("A/1", start + moment) for moment in (-1, 0, 9, 10, 25, 40, 99)]
        assert found == [0, 1, 1, 2, 3, 5, 5]
        assert await shard.version_at("A/none", start) == 0


async def test_streams_are_listed_by_prefix_in_pages(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        names = ["A/1", "A/2", "A/3", "AB/1", "B/1"]
        for name in names:
            await shard.append_batch(name, [NewCommand(None, deposits(1))])
        await shard.save_snapshot("A/empty", version=0, data=b"")
        assert await shard.streams(prefix="A/") == names[:3]
        assert await shard.streams(prefix="A/", after="A/1", limit=1) == ["A/2"]
        assert await shard.streams(prefix="") == names
        assert await shard.streams(prefix="Z") == []


async def test_a_stream_longer_than_a_page_is_read_whole_in_both_directions(store: EventStore) -> None:
    await store.append(ALICE, deposits(*range(2500)))
    up = [r.version async for r in store.read(ALICE)]
    assert up == list(range(1, 2501))
    assert [r.version async for r in store.read(ALICE, reverse=True)] == up[::-1]


Batches = st.lists(
    st.tuples(st.integers(0, 4), st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=5)), max_size=4)),
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=Batches)
async def test_what_is_read_is_what_was_appended(tmp_path_factory: pytest.TempPathFactory, batches: list) -> None:  # type: ignore[type-arg]
    expected: dict[str, list[tuple[bytes, bytes, str | None]]] = {}
    async with await EventStore.open(tmp_path_factory.mktemp("store"), app="a", shards=2, durability="os") as store:
        for number, (who, bodies) in enumerate(batches):
            id = f"c{number}" if number % 2 else None
            records = [NewRecord("Noted", data, meta) for data, meta in bodies]
            stream = f"Account/{who}"
            before = expected.setdefault(stream, [])
            await store.append(stream, records, command_id=id, expected_version=len(before))
            before += [(data, meta, id) for data, meta in bodies]
        for stream, wanted in expected.items():
            assert [(r.data, r.meta, r.command_id) async for r in store.read(stream)] == wanted
