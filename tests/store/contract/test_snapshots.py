"""Snapshots, loading, and the tokens that loading gives."""

from __future__ import annotations

import logging

import pytest

from eventray.domain.errors import ActivationSuperseded, EventTooLarge
from eventray.store import EventStore, NewCommand, StoreLimits
from tests.store.conftest import Reopen, deposits
from tests.store.contract.conftest import Kind

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_snapshot_comes_back_as_it_was_saved(reopen: Reopen, kind: Kind, alice: str) -> None:
    store = await reopen()
    done = await store.append(alice, deposits(1, 2, 3))
    await store.save_snapshot(alice, version=2, data=b"old")
    await store.save_snapshot(alice, version=3, data=b"state", fingerprint="f")
    if kind.kept:
        store = await reopen()
    found = await store.load_snapshot(alice)
    assert found is not None
    assert (found.version, found.position, found.fingerprint, found.data) == (3, done.position, "f", b"state")
    assert await store.load_snapshot(f"{alice}-2") is None


async def test_a_load_without_anything_is_empty(store: EventStore, alice: str) -> None:
    loaded = await store.shard_of(alice).load(alice)
    assert (loaded.version, loaded.position, loaded.snapshot, loaded.records) == (0, 0, None, [])
    assert (loaded.more, loaded.token) == (False, 0)


async def test_a_load_has_the_fitting_snapshot_and_what_follows(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    done = await store.append(alice, deposits(1, 2, 3, 4))
    await store.save_snapshot(alice, version=3, data=b"state", fingerprint="f")
    loaded = await shard.load(alice, fingerprint="f")
    assert loaded.snapshot is not None
    assert (loaded.snapshot.data, [r.version for r in loaded.records], loaded.version) == (b"state", [4], 4)
    plain = await shard.load(alice)
    assert (plain.snapshot, [r.version for r in plain.records]) == (None, [1, 2, 3, 4])
    part = await shard.load(alice, limit=2)
    assert ([r.version for r in part.records], part.more) == ([1, 2], True)
    assert (part.version, part.position) == (4, done.position)
    exact = await shard.load(alice, limit=4)
    assert not exact.more
    for limit in (0, -1, True, 1.0):
        with pytest.raises(ValueError):
            await shard.load(alice, limit=limit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "fingerprint", "said"),
    [(1, "old", "another state version"), (9, "new", "ignored")],
    ids=["of-another-state-version", "newer-than-the-events"],
)
async def test_a_snapshot_that_does_not_fit_is_ignored_with_a_warning(
    store: EventStore,
    kind: Kind,
    alice: str,
    caplog: pytest.LogCaptureFixture,
    version: int,
    fingerprint: str,
    said: str,
) -> None:
    await store.append(alice, deposits(1, 2))
    await store.save_snapshot(alice, version=version, data=b"state", fingerprint=fingerprint)
    with caplog.at_level(logging.WARNING):
        loaded = await store.shard_of(alice).load(alice, fingerprint="new")
    assert (loaded.snapshot, len(loaded.records), loaded.version) == (None, 2, 2)
    assert not kind.owned or said in caplog.text


async def test_a_snapshot_that_is_none_is_refused(reopen: Reopen, kind: Kind, alice: str) -> None:
    store = await reopen(limits=StoreLimits(snapshot_bytes_max=10))
    if kind.owned:
        with pytest.raises(EventTooLarge):
            await store.save_snapshot(alice, version=1, data=b"x" * 11)
    for version in (-1, True, 2**63, 1.0):
        with pytest.raises(ValueError):
            await store.save_snapshot(alice, version=version, data=b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await store.save_snapshot(alice, version=1, data="text")  # type: ignore[arg-type]
    assert await store.load_snapshot(alice) is None


async def test_a_snapshot_of_a_stream_without_events_does_not_break_its_first_append(
    store: EventStore, alice: str
) -> None:
    await store.save_snapshot(alice, version=0, data=b"")
    assert (await store.shard_of(alice).load(alice, fingerprint="")).version == 0
    assert [r async for r in store.read(alice)] == []
    assert (await store.append(alice, deposits(1), expected_version=0)).version == 1


async def test_taking_over_supersedes_the_earlier_token(reopen: Reopen, kind: Kind, alice: str) -> None:
    store = await reopen()
    shard = store.shard_of(alice)
    head = await shard.fetch_head()
    first = await shard.load(alice, take_over=True)
    await shard.append_batch(alice, [NewCommand("a", deposits(1))], token=first.token)
    second = await shard.load(alice, take_over=True)
    assert second.version == 1
    for commands in ([NewCommand("a", deposits(1))], []):  # also what is committed: it has no right to know
        with pytest.raises(ActivationSuperseded):
            await shard.append_batch(alice, commands, token=first.token, expected_version=9)
    with pytest.raises(ActivationSuperseded):
        await shard.append_batch(alice, [], token=0)
    await shard.append_batch(alice, [NewCommand(None, deposits(2))], token=second.token)
    await shard.append_batch(alice, [NewCommand(None, deposits(2))])  # an append without one is another writer
    assert await shard.fetch_head() == head + 3
    shard = (await reopen()).shard_of(alice)
    if kind.owned:  # a token ends with the opening that gave it
        with pytest.raises(ActivationSuperseded):
            await shard.append_batch(alice, [], token=second.token)
    else:
        assert (await shard.append_batch(alice, [], token=second.token)).version == 3


async def test_a_stream_that_nobody_took_over_has_the_token_0(store: EventStore, alice: str) -> None:
    shard = store.shard_of(alice)
    assert (await shard.load(alice)).token == 0
    assert (await shard.append_batch(alice, [NewCommand(None, deposits(1))], token=0)).version == 1
