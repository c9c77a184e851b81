from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from eventray.domain.errors import CommandIdReused
from eventray.store import DuplicateCommands, EventStore, NewCommand, NewRecord
from eventray.store.rows import command_key
from tests.store.conftest import Reopen, deposits, one_shard

ALICE = "Account/alice"
UUID7 = "0190f3c0-1234-7abc-8def-0123456789ab"


@pytest.mark.parametrize("id", ["tx-17", UUID7, UUID7.upper(), str(uuid.uuid4()), "é" * 500, "\0", UUID7 + " "])
async def test_the_same_command_again_gets_the_first_outcome(reopen: Reopen, id: str) -> None:
    store = await reopen()
    first = await store.append(ALICE, deposits(1, 2), command_id=id, expected_version=0)
    for _ in range(2):
        again = await store.append(ALICE, deposits(1, 2), command_id=id, expected_version=0)
        assert again.duplicate
        assert (again.version, again.position, again.events, again.command_id) == (2, first.position, 2, id)
        store = await reopen()
    assert [r.command_id async for r in store.read(ALICE)] == [id, id]


async def test_ids_are_judged_before_versions(store: EventStore) -> None:
    await store.append(ALICE, deposits(1), command_id="a")
    await store.append(ALICE, deposits(2))
    done = await store.append(ALICE, deposits(1), command_id="a", expected_version=0)
    assert (done.version, done.duplicate) == (1, True)


@pytest.mark.parametrize("expected", [None, 0])
async def test_one_command_sent_20_times_at_once_is_stored_once(store: EventStore, expected: int | None) -> None:
    calls = [store.append(ALICE, deposits(1), command_id="a", expected_version=expected) for _ in range(20)]
    outcomes = await asyncio.gather(*calls)
    assert sorted(o.duplicate for o in outcomes) == [False] + [True] * 19
    assert {o.position for o in outcomes} == {1}
    assert [r.version async for r in store.read(ALICE)] == [1]


async def test_the_same_id_with_other_events_is_refused(store: EventStore) -> None:
    await store.append(ALICE, deposits(1), command_id="a")
    for other in (deposits(2), [NewRecord("Withdrawn", b"1")], deposits(1, 1), []):
        with pytest.raises(CommandIdReused) as caught:
            await store.append(ALICE, other, command_id="a")
        assert caught.value.command_id == "a"
    assert [r.version async for r in store.read(ALICE)] == [1]


async def test_one_id_may_name_a_command_on_each_stream(store: EventStore) -> None:
    for stream in (ALICE, "Account/bob", "Card/alice"):
        assert not (await store.append(stream, deposits(1), command_id=UUID7)).duplicate


async def test_a_batch_whose_ids_are_all_committed_gets_their_outcomes(store: EventStore) -> None:
    batch = [("a", deposits(1)), ("b", deposits(2, 3))]
    await store.append_batch(ALICE, batch)
    again = await store.append_batch(ALICE, batch, expected_version=0)
    assert [(d.version, d.events, d.duplicate) for d in again] == [(1, 1, True), (3, 2, True)]


async def test_a_batch_of_which_some_ids_are_committed_stores_nothing(store: EventStore) -> None:
    await store.append(ALICE, deposits(1), command_id="a")
    with pytest.raises(DuplicateCommands) as caught:
        await store.append_batch(ALICE, [("b", deposits(2)), ("a", deposits(1))])
    assert list(caught.value.found) == ["a"]
    assert caught.value.found["a"].appended.version == 1
    assert [r.version async for r in store.read(ALICE)] == [1]


async def test_an_id_twice_in_one_batch_is_a_value_error(store: EventStore) -> None:
    with pytest.raises(ValueError):
        await store.append_batch(ALICE, [("a", deposits(1)), ("a", deposits(1))])


async def test_a_duplicate_does_not_harm_the_others_of_its_commit(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        old = [NewCommand("old", deposits(1), "deposit", b"f")]
        await shard.append_batch("A/0", old)
        calls = [shard.append_batch(f"A/{n}", old if n == 0 else [NewCommand(f"c{n}", deposits(n))]) for n in range(10)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        first = outcomes[0]
        assert isinstance(first, DuplicateCommands)
        assert (first.found["old"].name, first.found["old"].fingerprint) == ("deposit", b"f")
        assert not any(isinstance(outcome, Exception) for outcome in outcomes[1:])
        assert shard.head == 10


async def test_lookups_tell_what_ids_did_and_never_fail_a_batch(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch("A/1", [NewCommand("a", deposits(1, 2), "deposit", b"f")])
        result = await shard.append_batch("A/1", [NewCommand("b", deposits(3))], lookups=["a", "unheard"])
        assert list(result.found) == ["a"]
        assert (result.version, result.position) == (3, 3)
        found = result.found["a"]
        assert (found.appended.version, found.appended.events, found.appended.duplicate) == (2, 2, True)
        assert await shard.lookup("A/1", ["a", "unheard"]) == {"a": found}
        assert await shard.lookup("A/2", ["a"]) == {}
        assert (await shard.append_batch("A/1", [], lookups=["b"])).found["b"].appended.version == 3


async def test_a_lookup_sees_what_the_same_commit_stores_before_it(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        _, looked = await asyncio.gather(
            shard.append_batch("A/1", [NewCommand("a", deposits(1))]), shard.append_batch("A/1", [], lookups=["a"])
        )
        assert list(looked.found) == ["a"]


def test_keys_of_time_ordered_ids_are_ordered_in_time() -> None:
    assert command_key(b"A/1", UUID7)[:6] == bytes.fromhex("0190f3c01234")
    assert command_key(b"A/1", UUID7) != command_key(b"A/2", UUID7)
    assert len(command_key(b"A/1", "x")) == 16
