"""Reading files: what is missing is noticed, nobody waits for anybody, and memory stays bounded."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventray.domain.errors import StoreCorrupted
from eventray.store import BatchResult, EventStore, NewCommand, NewRecord, Shard
from eventray.store.connection import call
from eventray.store.reading import ReadConnection
from eventray.store.writing import WriteConnection
from tests.store.conftest import deposits, one_shard
from tests.store.test_integrity import change

ALICE, BOB = "Account/alice", "Account/bob"
SOON_S = 30.0
Reading = Callable[[Shard], Awaitable[Any]]


async def six_and_one(directory: Path) -> None:
    """Alice has the positions 1 to 6, Bob the 7th."""
    async with one_shard(directory) as shard:
        for n in range(1, 7):
            await shard.append_batch(ALICE, [NewCommand(None, deposits(n))])
        await shard.append_batch(BOB, [NewCommand(None, deposits(7))])


@pytest.mark.parametrize(
    ("reading", "place"),
    [
        pytest.param(lambda s: s.load(ALICE), "version", id="load"),
        pytest.param(lambda s: s.load(ALICE, limit=4), "version", id="load-in-part"),
        pytest.param(lambda s: s.read_stream(ALICE, limit=9), "version", id="up"),
        pytest.param(lambda s: s.read_stream(ALICE, limit=9, reverse=True), "version", id="down"),
        pytest.param(lambda s: s.read_stream(ALICE, limit=3), "version", id="up-to-it"),
        pytest.param(lambda s: s.read_stream(ALICE, limit=1, after=2), "version", id="up-from-it"),
        pytest.param(lambda s: s.read_stream(ALICE, limit=4, reverse=True), "version", id="down-to-it"),
        pytest.param(lambda s: s.read_stream(ALICE, limit=1, until=3, reverse=True), "version", id="down-from-it"),
        pytest.param(lambda s: s.read_stream(ALICE, limit=9, after=2, until=3), "version", id="nothing-else"),
        pytest.param(lambda s: s.read(after=0), "position", id="log"),
        pytest.param(lambda s: s.read(after=2, limit=1), "position", id="log-from-it"),
        pytest.param(lambda s: s.read(after=0, types=frozenset({"Deposited"})), "position", id="log-of-types"),
        pytest.param(lambda s: s.read(after=0, types=frozenset({"Unheard"})), "position", id="log-of-no-types"),
    ],
)
async def test_an_event_that_is_gone_is_noticed_on_every_way_over_it(
    tmp_path: Path, reading: Reading, place: str
) -> None:
    await six_and_one(tmp_path)
    change(tmp_path, "DELETE FROM events WHERE position = 3")
    async with one_shard(tmp_path, create=False) as shard:
        with pytest.raises(StoreCorrupted) as caught:
            await reading(shard)
        if place == "version":
            assert (caught.value.stream, caught.value.version) == (ALICE, 3)
        else:
            assert "position 3" in caught.value.reason


async def test_what_lies_beside_a_missing_event_is_read(tmp_path: Path) -> None:
    await six_and_one(tmp_path)
    change(tmp_path, "DELETE FROM events WHERE position = 3")
    async with one_shard(tmp_path, create=False) as shard:
        assert [r.version for r in await shard.read_stream(ALICE, limit=2)] == [1, 2]
        assert [r.version for r in await shard.read_stream(ALICE, after=3, limit=9)] == [4, 5, 6]
        assert [r.version for r in await shard.read_stream(ALICE, limit=3, reverse=True)] == [6, 5, 4]
        assert [r.position for r in await shard.read(after=3)] == [4, 5, 6, 7]
        assert [r.position for r in await shard.read(after=0, limit=2)] == [1, 2]
        assert (await shard.load(BOB)).version == 1
        await shard.save_snapshot(ALICE, version=4, data=b"", fingerprint="f")
        assert [r.version for r in (await shard.load(ALICE, fingerprint="f")).records] == [5, 6]


async def test_the_last_event_of_a_stream_is_missed_by_the_log(tmp_path: Path) -> None:
    await six_and_one(tmp_path)
    change(tmp_path, "DELETE FROM events WHERE position = 6")
    async with one_shard(tmp_path, create=False) as shard:
        assert (await shard.load(ALICE)).version == 5  # a stream alone cannot tell
        with pytest.raises(StoreCorrupted, match="position 6"):
            await shard.read(after=0)


async def test_a_stream_that_lost_all_its_events_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    await six_and_one(tmp_path)
    change(tmp_path, "DELETE FROM events WHERE position < 7")
    async with one_shard(tmp_path, create=False) as shard:
        for reading in (shard.load(ALICE), shard.read_stream(ALICE, limit=1), shard.version_at(ALICE, 1)):
            with pytest.raises(StoreCorrupted) as caught:
                await reading
            assert (caught.value.stream, caught.value.version) == (ALICE, 1)
        again = shard.append_batch(ALICE, [NewCommand(None, deposits(1))])
        other = shard.append_batch(BOB, [NewCommand(None, deposits(1))])
        refused, done = await asyncio.gather(again, other, return_exceptions=True)
        assert isinstance(refused, StoreCorrupted)
        assert isinstance(done, BatchResult)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end, so that no thread of a failed test waits for ever."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_transaction_that_takes_long_is_passed_by_no_reader_and_stops_none(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserted = threading.Event()
    insert = WriteConnection._insert

    def slow(self: WriteConnection, draft: Any) -> bytes:
        digest = insert(self, draft)
        inserted.set()
        assert gate.wait(SOON_S)
        return digest

    async with one_shard(tmp_path) as shard, asyncio.timeout(SOON_S):
        await shard.append_batch(ALICE, [NewCommand("first", deposits(1))])
        monkeypatch.setattr(WriteConnection, "_insert", slow)
        appending = asyncio.create_task(shard.append_batch(ALICE, [NewCommand("second", deposits(2, 3))]))
        waiting = asyncio.create_task(shard.read(after=1, wait=SOON_S))
        assert await asyncio.to_thread(inserted.wait, SOON_S)
        assert [r.position for r in await shard.read(after=0)] == [1]
        assert (await shard.read(after=1, wait=0.01)).records == []
        assert [r.version for r in await shard.read_stream(ALICE, limit=9)] == [1]
        assert (await shard.load(ALICE)).version == 1
        assert list(await shard.lookup(ALICE, ["first", "second"])) == ["first"]
        assert await shard.fetch_head() == 1
        assert not waiting.done()
        gate.set()
        assert [r.position for r in await waiting] == [2, 3]
        assert (await appending).version == 3


async def test_a_reader_that_takes_long_stops_no_writer(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = threading.Event()
    load = ReadConnection._load

    def slow(self: ReadConnection, job: Any) -> Any:
        loaded = load(self, job)  # in its transaction, which stays open
        reached.set()
        assert gate.wait(SOON_S)
        return loaded

    async with one_shard(tmp_path) as shard, asyncio.timeout(SOON_S):
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1))])
        monkeypatch.setattr(ReadConnection, "_load", slow)
        loading = asyncio.create_task(shard.load(ALICE))
        assert await asyncio.to_thread(reached.wait, SOON_S)
        for version in range(2, 12):
            assert (await shard.append_batch(ALICE, [NewCommand(None, deposits(1))])).version == version
        gate.set()
        assert (await loading).version == 1


async def test_a_read_that_is_not_finished_holds_nothing_open(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path, app="a", shards=1) as store:
        await store.append(ALICE, deposits(*range(2500)))
        reading = store.read(ALICE)
        assert (await anext(reading)).version == 1
        await store.append(ALICE, deposits(1))
        shard = store.shard_of(ALICE)
        assert isinstance(shard, Shard)
        writer = shard._file._writer
        assert writer is not None
        busy = await call(writer, lambda w: w.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        assert busy == 0
        assert [record.version async for record in reading] == list(range(2, 2502))


EVENTS, EVENT_BYTES = 600, 100_000
PEAK_BYTES = 20_000_000  # of the 60,000,000 that are there: the page that is read, and the one before it
PEAK_OF_LOADS_BYTES = 30_000_000  # and one more, which its callers have not taken yet; all at once are 300,000,000


async def all_up(store: EventStore) -> int:
    return sum([1 for stream in (ALICE, BOB) async for _ in store.read(stream)])


async def all_down(store: EventStore) -> int:
    return sum([1 for stream in (ALICE, BOB) async for _ in store.read(stream, reverse=True)])


async def the_log(store: EventStore) -> int:
    seen = after = 0
    while page := await store.read_shard(shard=0, after=after):
        seen, after = seen + len(page), page.position
    return seen


async def loads_at_once(store: EventStore) -> int:
    """Each load has a page; they do not all wait in memory for the last of them."""

    async def load(stream: str) -> int:
        loaded = await store.shard_of(stream).load(stream)
        return len(loaded.records)

    assert all(await asyncio.gather(*(load(stream) for _ in range(20) for stream in (ALICE, BOB))))
    return EVENTS


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 60 MB in one shard."""
    directory = tmp_path_factory.mktemp("large")

    async def fill() -> None:
        async with await EventStore.open(directory, app="a", shards=1, durability="os") as store:
            for n in range(EVENTS // 50):
                records = [NewRecord("Noted", b"%02d" % n * (EVENT_BYTES // 2))] * 50
                await store.append((ALICE, BOB)[n % 2], records)

    asyncio.run(fill())
    return directory


@pytest.mark.parametrize(
    ("reading", "most"),
    [(all_up, PEAK_BYTES), (all_down, PEAK_BYTES), (the_log, PEAK_BYTES), (loads_at_once, PEAK_OF_LOADS_BYTES)],
)
async def test_a_large_log_is_read_in_bounded_memory(
    large: Path, reading: Callable[[EventStore], Awaitable[int]], most: int
) -> None:
    async with await EventStore.open(large, app="a") as store:
        tracemalloc.start()
        try:
            assert await reading(store) == EVENTS
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < most
