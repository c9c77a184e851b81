from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from eventray.domain.errors import ConcurrencyConflict, EventTooLarge, InvalidId, ShardUnavailable
from eventray.store import EventStore, NewRecord, check_id, stream_name
from tests.store.conftest import Clock, Reopen, deposits
from tests.store.contract.conftest import Kind

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def versions(store: EventStore, stream: str) -> list[int]:
    return [record.version async for record in store.read(stream)]


async def test_appended_says_where_the_last_event_is(store: EventStore, alice: str) -> None:
    head = await store.shard_of(alice).fetch_head()
    done = await store.append(alice, deposits(1, 2), expected_version=0)
    assert (done.stream, done.version, done.position, done.events, done.duplicate) == (alice, 2, head + 2, 2, False)
    assert done.shard == store.manifest.shard_of(alice)
    assert (await store.append(alice, deposits(3))).version == 3
    assert (await store.heads())[done.shard] == head + 3


async def test_conflicting_append_leaves_the_store_unchanged(store: EventStore, alice: str) -> None:
    await store.append(alice, deposits(1))
    heads = await store.heads()
    with pytest.raises(ConcurrencyConflict) as caught:
        await store.append(alice, deposits(2), expected_version=0)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == (alice, 0, 1)
    assert await versions(store, alice) == [1]
    assert await store.heads() == heads


async def test_of_twenty_writers_with_one_expected_version_one_wins(store: EventStore, alice: str) -> None:
    for version in range(3):
        calls = [store.append(alice, deposits(n), expected_version=version) for n in range(20)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        lost = [outcome for outcome in outcomes if isinstance(outcome, ConcurrencyConflict)]
        assert [(conflict.expected, conflict.actual) for conflict in lost] == [(version, version + 1)] * 19
    assert await versions(store, alice) == [1, 2, 3]


async def test_a_conflict_does_not_harm_the_others_of_its_commit(store: EventStore, alice: str) -> None:
    calls = [store.append(f"{alice}-{n}", deposits(n), expected_version=n % 2) for n in range(10)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(outcome, ConcurrencyConflict) for outcome in outcomes] == [bool(n % 2) for n in range(10)]
    assert [await versions(store, f"{alice}-{n}") for n in range(10)] == [[] if n % 2 else [1] for n in range(10)]


async def test_a_batch_of_commands_is_stored_in_order_under_one_expected_version(store: EventStore, alice: str) -> None:
    head = await store.shard_of(alice).fetch_head()
    done = await store.append_batch(alice, [("a", deposits(1, 2)), (None, []), ("b", deposits(3))], expected_version=0)
    assert [(d.version, d.position - head, d.events, d.command_id) for d in done] == [
        (2, 2, 2, "a"),
        (2, 2, 0, None),
        (3, 3, 1, "b"),
    ]
    found = [(r.version, r.command_id) async for r in store.read(alice)]
    assert found == [(1, "a"), (2, "a"), (3, "b")]


async def test_an_empty_batch_changes_nothing_and_still_checks_the_version(store: EventStore, alice: str) -> None:
    assert (await store.append(alice, [])).version == 0
    first = await store.append(alice, deposits(1))
    done = await store.append(alice, [], expected_version=1)
    assert (done.version, done.position, done.events) == (1, first.position, 0)
    with pytest.raises(ConcurrencyConflict):
        await store.append(alice, [], expected_version=0)
    assert await store.append_batch(alice, []) == []
    assert await versions(store, alice) == [1]


async def test_an_impossible_expected_version_is_a_value_error(store: EventStore, alice: str) -> None:
    impossible: list[Any] = [-1, True, False, 1.0, 2**63, "1"]
    for version in impossible:
        with pytest.raises(ValueError):
            await store.append(alice, deposits(1), expected_version=version)
    assert await versions(store, alice) == []


async def test_strange_ids_are_stored_verbatim(reopen: Reopen, kind: Kind, alice: str) -> None:
    store = await reopen()
    own = alice.partition("/")[2]
    strange = ("../../etc/passwd", "a\0b", 'it\'s "quoted"', "🦊\n", "x" * 980, "a/b", "%", "é" * 490)
    streams = [stream_name("Account", own + id) for id in strange]
    for stream in streams:
        await store.append(stream, deposits(1))
    if kind.kept:
        store = await reopen()
    for stream in streams:
        assert [r.stream async for r in store.read(stream)] == [stream]
        assert await store.shard_of(stream).streams(prefix=stream) == [stream]


async def test_impossible_ids_are_refused(store: EventStore) -> None:
    for id in ("", "x" * 1025, "x" * 1_000_000, "é" * 513, "\ud800"):
        with pytest.raises(InvalidId):
            check_id(id)
        with pytest.raises(InvalidId):
            await store.append(f"Account/{id}", deposits(1))


async def test_a_name_that_is_no_stream_is_refused_by_every_method(store: EventStore) -> None:
    for stream in ("alice", "/alice", "", "Account/"):
        calls = [
            store.append(stream, []),
            store.load_snapshot(stream),
            store.save_snapshot(stream, version=0, data=b""),
        ]
        for call in calls:
            with pytest.raises(InvalidId):
                await call
        with pytest.raises(InvalidId):
            store.read(stream)


async def test_an_event_above_the_limit_stores_nothing_of_its_command(store: EventStore, alice: str) -> None:
    large = NewRecord("Noted", b"x" * (1 << 20), b"m")
    with pytest.raises(EventTooLarge) as caught:
        await store.append(alice, [*deposits(1), large])
    assert (caught.value.size_bytes, caught.value.limit_bytes) == ((1 << 20) + 1, 1 << 20)
    assert await versions(store, alice) == []
    await store.append(alice, [NewRecord("Noted", b"x" * (1 << 20))])


async def test_a_batch_above_its_limits_is_refused(store: EventStore, alice: str) -> None:
    with pytest.raises(EventTooLarge):
        await store.append(alice, [NewRecord("Noted", b"x" * (1 << 20)), *deposits(1)] * 16)
    with pytest.raises(EventTooLarge):
        await store.append(alice, deposits(*range(10_001)))
    assert await versions(store, alice) == []


async def test_a_record_that_cannot_be_stored_fails_alone(store: EventStore, alice: str) -> None:
    impossible: list[Any] = [
        NewRecord("Deposited", "text"),  # type: ignore[arg-type]
        NewRecord("Deposited", b"", None),  # type: ignore[arg-type]
        NewRecord("", b""),
        NewRecord("\ud800", b""),
        NewRecord("Deposited", b"", b"", -1),
        NewRecord("Deposited", b"", b"", 2**40),
        NewRecord(7, b""),  # type: ignore[arg-type]
    ]
    calls = [store.append(alice, [record]) for record in impossible]
    *failed, done = await asyncio.gather(*calls, store.append(alice, deposits(1)), return_exceptions=True)
    assert {type(outcome) for outcome in failed} == {TypeError, ValueError, InvalidId}  # the very ones, also from afar
    assert not isinstance(done, BaseException)
    assert await versions(store, alice) == [1]


async def test_a_cancelled_append_is_all_or_nothing_and_the_store_goes_on(store: EventStore, alice: str) -> None:
    for turns in range(4):
        stream = f"{alice}-{turns}"
        task = asyncio.create_task(store.append(stream, deposits(1, 2, 3)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        done = await store.append(stream, deposits(4))
        assert len(await versions(store, stream)) in ((1, 4) if task.cancelled() else (4,))
        assert done.version in (1, 4)


async def test_a_timed_out_append_is_all_or_nothing_and_is_settled_by_its_id(store: EventStore, alice: str) -> None:
    with contextlib.suppress(TimeoutError):  # where an append takes no time there is none
        async with asyncio.timeout(0):
            await store.append(alice, deposits(1, 2, 3), command_id="a")
    assert (await store.append(alice, deposits(1, 2, 3), command_id="a")).version == 3
    assert await versions(store, alice) == [1, 2, 3]


async def test_recorded_at_rises_strictly_also_when_the_clock_goes_back(
    reopen: Reopen, kind: Kind, alice: str, clock: Clock
) -> None:
    store = await reopen(clock=clock)
    await store.append(alice, deposits(1, 2))
    clock.now -= 3_600_000_000
    await store.append(alice, deposits(3))
    if kind.kept:
        store = await reopen(clock=clock)
    await store.append(alice, deposits(4))
    clock.now += 7_200_000_000
    await store.append(alice, deposits(5))
    times = [r.recorded_at async for r in store.read(alice)]
    assert times == sorted(set(times))
    if kind.owned:
        start = times[0]
        assert times == [start, start + 1, start + 2, start + 3, clock.now]


async def test_a_stream_goes_on_when_the_store_is_opened_again(reopen: Reopen, kind: Kind, alice: str) -> None:
    store = await reopen()
    await store.append(alice, deposits(1))
    store = await reopen()
    stored = int(kind.kept)
    assert (await store.append(alice, deposits(2), expected_version=stored)).version == stored + 1


async def test_a_closed_store_refuses_and_closes_twice(reopen: Reopen, alice: str) -> None:
    store = await reopen()
    await store.close()
    await store.close()
    for call in (store.append(alice, deposits(1)), store.read_shard(shard=0), store.heads()):
        with pytest.raises(ShardUnavailable):
            await call


async def test_closing_finishes_what_waits(reopen: Reopen, alice: str) -> None:
    store = await reopen()
    task = asyncio.create_task(store.append(alice, deposits(1)))
    await asyncio.sleep(0)
    await store.close()
    assert (await task).version == 1


async def test_many_events_in_one_command_keep_order_and_id(store: EventStore, alice: str) -> None:
    await store.append(alice, deposits(*range(1003)), command_id="many")
    found = [r async for r in store.read(alice)]
    assert [int(r.data) for r in found] == list(range(1003))
    assert {r.command_id for r in found} == {"many"}


async def test_a_shard_that_the_store_has_not_is_unavailable(store: EventStore, kind: Kind) -> None:
    for call in (store.read_shard(shard=kind.shards), store.read_shard(shard=-1)):
        with pytest.raises(ShardUnavailable):
            await call
