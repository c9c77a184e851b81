from __future__ import annotations

import asyncio
import uuid

import pytest

from eventray.domain.errors import CommandIdReused, ConcurrencyConflict, InvalidId
from eventray.store import DuplicateCommands, EventStore, NewCommand, NewRecord
from tests.store.conftest import Reopen, deposits
from tests.store.contract.conftest import Kind

pytestmark = pytest.mark.asyncio(loop_scope="session")

UUID7 = "0190f3c0-1234-7abc-8def-0123456789ab"


async def test_the_same_command_again_gets_the_first_outcome(reopen: Reopen, kind: Kind, alice: str) -> None:
    store = await reopen()
    ids = ["tx-17", UUID7, UUID7.upper(), str(uuid.uuid4()), "é" * 500, "\0", UUID7 + " "]
    streams = [f"{alice}-{n}" for n in range(len(ids))]
    firsts = [
        await store.append(stream, deposits(1, 2), command_id=id, expected_version=0)
        for stream, id in zip(streams, ids, strict=True)
    ]
    for _ in range(2):
        for stream, id, first in zip(streams, ids, firsts, strict=True):
            again = await store.append(stream, deposits(1, 2), command_id=id, expected_version=0)
            assert again == first._replace(duplicate=True)
            assert [r.command_id async for r in store.read(stream)] == [id, id]
        if kind.kept:
            store = await reopen()


async def test_ids_are_judged_before_versions(store: EventStore, alice: str) -> None:
    await store.append(alice, deposits(1), command_id="a")
    await store.append(alice, deposits(2))
    done = await store.append(alice, deposits(1), command_id="a", expected_version=0)
    assert (done.version, done.duplicate) == (1, True)


@pytest.mark.parametrize("expected", [None, 0])
async def test_one_command_sent_20_times_at_once_is_stored_once(
    store: EventStore, alice: str, expected: int | None
) -> None:
    calls = [store.append(alice, deposits(1), command_id="a", expected_version=expected) for _ in range(20)]
    outcomes = await asyncio.gather(*calls)
    assert sorted(o.duplicate for o in outcomes) == [False] + [True] * 19
    assert len({o.position for o in outcomes}) == 1
    assert [r.version async for r in store.read(alice)] == [1]


async def test_the_same_id_with_other_events_is_refused(store: EventStore, alice: str) -> None:
    await store.append(alice, deposits(1), command_id="a")
    for other in (deposits(2), [NewRecord("Withdrawn", b"1")], deposits(1, 1), []):
        with pytest.raises(CommandIdReused) as caught:
            await store.append(alice, other, command_id="a")
        assert caught.value.command_id == "a"
    assert [r.version async for r in store.read(alice)] == [1]


async def test_one_id_may_name_a_command_on_each_stream(store: EventStore, alice: str) -> None:
    for stream in (alice, f"{alice}-2", alice.replace("Account", "Card")):
        assert not (await store.append(stream, deposits(1), command_id=UUID7)).duplicate


async def test_a_batch_whose_ids_are_all_committed_gets_their_outcomes(store: EventStore, alice: str) -> None:
    batch = [("a", deposits(1)), ("b", deposits(2, 3))]
    await store.append_batch(alice, batch)
    again = await store.append_batch(alice, batch, expected_version=0)
    assert [(d.version, d.events, d.duplicate) for d in again] == [(1, 1, True), (3, 2, True)]


async def test_a_batch_of_which_some_ids_are_committed_stores_nothing(store: EventStore, alice: str) -> None:
    await store.append(alice, deposits(1), command_id="a")
    with pytest.raises(DuplicateCommands) as caught:
        await store.append_batch(alice, [("b", deposits(2)), ("a", deposits(1))])
    assert list(caught.value.found) == ["a"]
    assert caught.value.found["a"].appended.version == 1
    assert [r.version async for r in store.read(alice)] == [1]


async def test_a_batch_with_a_taken_id_on_a_command_without_events_stores_nothing(
    store: EventStore, alice: str
) -> None:
    await store.append(alice, deposits(1), command_id="a")
    with pytest.raises(CommandIdReused):
        await store.append_batch(alice, [("a", []), ("b", deposits(2))])
    assert [r.version async for r in store.read(alice)] == [1]


async def test_a_retry_may_come_with_other_metadata(store: EventStore, alice: str) -> None:
    await store.append(alice, [NewRecord("Deposited", b"1", b"first")], command_id="a")
    assert (await store.append(alice, [NewRecord("Deposited", b"1", b"again")], command_id="a")).duplicate
    assert [r.meta async for r in store.read(alice)] == [b"first"]


async def test_an_id_twice_in_one_batch_is_a_value_error(store: EventStore, alice: str) -> None:
    with pytest.raises(ValueError):
        await store.append_batch(alice, [("a", deposits(1)), ("a", deposits(1))])


async def test_an_impossible_command_id_is_refused(store: EventStore, alice: str) -> None:
    for id in ("", "x" * 1025, "\ud800"):
        calls = [store.append(alice, deposits(1), command_id=id), store.shard_of(alice).lookup(alice, [id])]
        for call in calls:
            with pytest.raises(InvalidId):
                await call


async def test_a_command_without_events_leaves_its_id_free(store: EventStore, alice: str) -> None:
    assert not (await store.append(alice, [], command_id="a")).duplicate
    assert not (await store.append(alice, deposits(1), command_id="a")).duplicate
    again = await store.append_batch(alice, [("a", deposits(1))], expected_version=7)
    assert again[0].duplicate


async def test_the_id_of_a_command_that_was_refused_is_free(store: EventStore, alice: str) -> None:
    with pytest.raises(ConcurrencyConflict):
        await store.append(alice, deposits(1), command_id="a", expected_version=7)
    done = await store.append(alice, deposits(2), command_id="a", expected_version=0)
    assert (done.version, done.duplicate) == (1, False)


async def test_a_duplicate_does_not_harm_the_others_of_its_commit(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    old = [NewCommand("old", deposits(1), "deposit", b"f")]
    await shard.append_batch(alice, old)
    head = await shard.fetch_head()
    calls = [shard.append_batch(alice, old)]
    calls += [shard.append_batch(f"{alice}-{n}", [NewCommand(f"c{n}", deposits(n))]) for n in range(1, 10)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    first = outcomes[0]
    assert isinstance(first, DuplicateCommands)
    assert (first.found["old"].name, first.found["old"].fingerprint) == ("deposit", b"f")
    assert not any(isinstance(outcome, Exception) for outcome in outcomes[1:])
    assert await shard.fetch_head() == head + 9


async def test_lookups_tell_what_ids_did_and_never_fail_a_batch(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    await shard.append_batch(alice, [NewCommand("a", deposits(1, 2), "deposit", b"f")])
    result = await shard.append_batch(alice, [NewCommand("b", deposits(3))], lookups=["a", "unheard"])
    assert list(result.found) == ["a"]
    assert (result.version, result.position) == (3, await shard.fetch_head())
    found = result.found["a"]
    assert (found.appended.version, found.appended.events, found.appended.duplicate) == (2, 2, True)
    assert await shard.lookup(alice, ["a", "unheard"]) == {"a": found}
    assert await shard.lookup(f"{alice}-2", ["a"]) == {}
    assert (await shard.append_batch(alice, [], lookups=["b"])).found["b"].appended.version == 3


async def test_a_lookup_sees_what_the_same_commit_stores_before_it(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    appending = asyncio.ensure_future(shard.append_batch(alice, [NewCommand("a", deposits(1))]))
    await asyncio.sleep(0)
    looked, _ = await asyncio.gather(shard.append_batch(alice, [], lookups=["a"]), appending)
    assert list(looked.found) == ["a"]
