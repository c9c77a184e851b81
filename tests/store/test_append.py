from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from eventray.domain.errors import ConcurrencyConflict, EventTooLarge, InvalidId, Overloaded, ShardUnavailable
from eventray.store import EventStore, NewCommand, NewRecord, StoreLimits, check_id, stream_name
from tests.store.conftest import Clock, Reopen, deposits, one_shard

ALICE = "Account/alice"


async def versions(store: EventStore, stream: str) -> list[int]:
    return [record.version async for record in store.read(stream)]


async def test_appended_says_where_the_last_event_is(store: EventStore) -> None:
    done = await store.append(ALICE, deposits(1, 2), expected_version=0)
    assert (done.stream, done.version, done.position, done.events, done.duplicate) == (ALICE, 2, 2, 2, False)
    assert done.shard == store.manifest.shard_of(ALICE)
    assert (await store.append(ALICE, deposits(3))).version == 3


async def test_conflicting_append_leaves_the_store_unchanged(store: EventStore) -> None:
    await store.append(ALICE, deposits(1))
    with pytest.raises(ConcurrencyConflict) as caught:
        await store.append(ALICE, deposits(2), expected_version=0)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == (ALICE, 0, 1)
    assert await versions(store, ALICE) == [1]


async def test_of_two_concurrent_writers_with_one_expected_version_one_wins(store: EventStore) -> None:
    outcomes = await asyncio.gather(
        *(store.append(ALICE, deposits(n), expected_version=0) for n in range(2)), return_exceptions=True
    )
    lost = [outcome for outcome in outcomes if isinstance(outcome, ConcurrencyConflict)]
    assert [(conflict.expected, conflict.actual) for conflict in lost] == [(0, 1)]
    assert await versions(store, ALICE) == [1]


async def test_a_conflict_does_not_harm_the_others_of_its_commit(store: EventStore) -> None:
    calls = [store.append(f"Account/{n}", deposits(n), expected_version=n % 2) for n in range(10)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(outcome, ConcurrencyConflict) for outcome in outcomes] == [bool(n % 2) for n in range(10)]
    assert sum((await store.heads()).values()) == 5


async def test_concurrent_appends_share_transactions(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await asyncio.gather(*(shard.append_batch(f"A/{n}", [NewCommand(None, deposits(n))]) for n in range(100)))
        assert shard.head == 100
    connection = sqlite3.connect(tmp_path / "shard-0000.db")
    assert connection.execute("SELECT count(*) FROM commits").fetchone()[0] <= 2
    connection.close()


async def test_a_batch_of_commands_is_stored_in_order_under_one_expected_version(store: EventStore) -> None:
    done = await store.append_batch(ALICE, [("a", deposits(1, 2)), (None, []), ("b", deposits(3))], expected_version=0)
    assert [(d.version, d.position, d.events, d.command_id) for d in done] == [
        (2, 2, 2, "a"),
        (2, 2, 0, None),
        (3, 3, 1, "b"),
    ]
    found = [(r.version, r.command_id) async for r in store.read(ALICE)]
    assert found == [(1, "a"), (2, "a"), (3, "b")]


async def test_an_empty_batch_changes_nothing_and_still_checks_the_version(store: EventStore) -> None:
    assert (await store.append(ALICE, [])).version == 0
    await store.append(ALICE, deposits(1))
    done = await store.append(ALICE, [], expected_version=1)
    assert (done.version, done.position, done.events) == (1, 1, 0)
    with pytest.raises(ConcurrencyConflict):
        await store.append(ALICE, [], expected_version=0)
    assert await store.append_batch(ALICE, []) == []


@pytest.mark.parametrize("version", [-1, True, False, 1.0, 2**63, "1"])
async def test_an_impossible_expected_version_is_a_value_error(store: EventStore, version: Any) -> None:
    with pytest.raises(ValueError):
        await store.append(ALICE, deposits(1), expected_version=version)
    assert await versions(store, ALICE) == []


@pytest.mark.parametrize(
    "id", ["../../etc/passwd", "a\0b", 'it\'s "quoted"', "🦊\n", "x" * 1024, "a/b", "%", "é" * 512]
)
async def test_strange_ids_are_stored_verbatim(reopen: Reopen, id: str) -> None:
    store = await reopen()
    stream = stream_name("Account", id)
    done = await store.append(stream, deposits(1))
    store = await reopen()
    assert [r.stream async for r in store.read(stream)] == [stream]
    assert await store.shards[done.shard].streams(prefix="Account/") == [stream]


@pytest.mark.parametrize("id", ["", "x" * 1025, "x" * 1_000_000, "é" * 513, "\ud800"])
async def test_impossible_ids_are_refused(store: EventStore, id: str) -> None:
    with pytest.raises(InvalidId):
        check_id(id)
    with pytest.raises(InvalidId):
        await store.append(f"Account/{id}", deposits(1))
    if id:
        with pytest.raises(InvalidId):
            await store.append(ALICE, deposits(1), command_id=id)


@pytest.mark.parametrize("stream", ["alice", "/alice", "", "Account/"])
async def test_a_name_that_is_no_stream_is_refused(store: EventStore, stream: str) -> None:
    with pytest.raises(InvalidId):
        await store.append(stream, deposits(1))


async def test_an_event_above_the_limit_stores_nothing_of_its_command(store: EventStore) -> None:
    large = NewRecord("Noted", b"x" * (1 << 20), b"m")
    with pytest.raises(EventTooLarge) as caught:
        await store.append(ALICE, [*deposits(1), large])
    assert (caught.value.size_bytes, caught.value.limit_bytes) == ((1 << 20) + 1, 1 << 20)
    assert await versions(store, ALICE) == []
    await store.append(ALICE, [NewRecord("Noted", b"x" * (1 << 20))])


async def test_a_batch_above_its_limits_is_refused(reopen: Reopen) -> None:
    store = await reopen(limits=StoreLimits(batch_bytes_max=10, batch_events_max=3))
    with pytest.raises(EventTooLarge):
        await store.append(ALICE, [NewRecord("Noted", b"123456"), NewRecord("Noted", b"12345")])
    with pytest.raises(EventTooLarge):
        await store.append(ALICE, deposits(1, 2, 3, 4))
    await store.append(ALICE, deposits(1, 2, 3))


@pytest.mark.parametrize(
    "record",
    [
        NewRecord("Deposited", "text"),  # type: ignore[arg-type]
        NewRecord("Deposited", b"", None),  # type: ignore[arg-type]
        NewRecord("", b""),
        NewRecord("\ud800", b""),
        NewRecord("Deposited", b"", b"", -1),
        NewRecord("Deposited", b"", b"", 2**40),
        NewRecord(7, b""),  # type: ignore[arg-type]
    ],
)
async def test_a_record_that_cannot_be_stored_fails_alone(store: EventStore, record: NewRecord) -> None:
    outcomes = await asyncio.gather(
        store.append(ALICE, [record]), store.append(ALICE, deposits(1)), return_exceptions=True
    )
    assert isinstance(outcomes[0], (TypeError, ValueError, InvalidId))
    assert await versions(store, ALICE) == [1]


async def test_a_full_queue_says_overloaded_and_works_again(tmp_path: Path) -> None:
    async with one_shard(tmp_path, limits=StoreLimits(pending_calls_max=5)) as shard:
        calls = [shard.append_batch("A/1", [NewCommand(None, deposits(n))]) for n in range(8)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False] * 5 + [True] * 3
        await shard.append_batch("A/1", [NewCommand(None, deposits(9))])
        assert shard.head == 6


async def test_waiting_bytes_are_bounded(tmp_path: Path) -> None:
    async with one_shard(tmp_path, limits=StoreLimits(pending_bytes_max=10)) as shard:
        large = [NewCommand(None, [NewRecord("Noted", b"x" * 8)])]
        outcomes = await asyncio.gather(*(shard.append_batch("A/1", large) for _ in range(2)), return_exceptions=True)
        assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False, True]


async def test_a_cancelled_append_is_all_or_nothing_and_the_store_goes_on(store: EventStore) -> None:
    task = asyncio.create_task(store.append(ALICE, deposits(1, 2, 3)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    done = await store.append(ALICE, deposits(4))
    assert done.version in (1, 4)
    assert len(await versions(store, ALICE)) == done.version


async def test_recorded_at_rises_strictly_also_when_the_clock_goes_back(reopen: Reopen, clock: Clock) -> None:
    store = await reopen(clock=clock)
    await store.append(ALICE, deposits(1, 2))
    clock.now -= 3_600_000_000
    await store.append(ALICE, deposits(3))
    store = await reopen(clock=clock)
    await store.append(ALICE, deposits(4))
    clock.now += 7_200_000_000
    await store.append(ALICE, deposits(5))
    times = [r.recorded_at async for r in store.read(ALICE)]
    start = times[0]
    assert times == [start, start + 1, start + 2, start + 3, clock.now]


async def test_a_stream_of_another_run_of_the_process_continues(reopen: Reopen) -> None:
    store = await reopen()
    await store.append(ALICE, deposits(1))
    store = await reopen()
    assert (await store.append(ALICE, deposits(2), expected_version=1)).version == 2


async def test_streams_that_fell_out_of_the_cache_continue(reopen: Reopen) -> None:
    store = await reopen(limits=StoreLimits(cached_streams_max=2))
    for turn in range(3):
        for n in range(6):
            assert (await store.append(f"Account/{n}", deposits(n))).version == turn + 1


async def test_a_closed_store_refuses_and_closes_twice(reopen: Reopen) -> None:
    store = await reopen()
    await store.close()
    await store.close()
    with pytest.raises(ShardUnavailable):
        await store.append(ALICE, deposits(1))


async def test_closing_finishes_what_waits(reopen: Reopen) -> None:
    store = await reopen()
    task = asyncio.create_task(store.append(ALICE, deposits(1)))
    await asyncio.sleep(0)
    await store.close()
    assert (await task).version == 1


async def test_many_events_in_one_command_keep_order_and_id(store: EventStore) -> None:
    await store.append(ALICE, deposits(*range(1003)), command_id="many")
    found = [r async for r in store.read(ALICE)]
    assert [int(r.data) for r in found] == list(range(1003))
    assert {r.command_id for r in found} == {"many"}
