from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from eventray.domain.errors import ActivationSuperseded, EventTooLarge
from eventray.store import EventStore, NewCommand, StoreLimits
from tests.store.conftest import Reopen, deposits, one_shard

ALICE = "Account/alice"


async def test_a_snapshot_comes_back_also_after_a_restart(reopen: Reopen) -> None:
    store = await reopen()
    await store.append(ALICE, deposits(1, 2, 3))
    await store.save_snapshot(ALICE, version=2, data=b"old")
    await store.save_snapshot(ALICE, version=3, data=b"state", fingerprint="f")
    store = await reopen()
    found = await store.load_snapshot(ALICE)
    assert found is not None
    assert (found.version, found.position, found.fingerprint, found.data) == (3, 3, "f", b"state")
    assert await store.load_snapshot("Account/bob") is None


async def test_a_load_without_anything_is_empty(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        loaded = await shard.load("A/1")
        assert (loaded.version, loaded.position, loaded.snapshot, loaded.records, loaded.more) == (
            0,
            0,
            None,
            [],
            False,
        )


async def test_a_load_has_the_fitting_snapshot_and_what_follows(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1, 2, 3, 4))])
        await shard.save_snapshot(ALICE, version=3, data=b"state", fingerprint="f")
        loaded = await shard.load(ALICE, fingerprint="f")
        assert loaded.snapshot is not None
        assert (loaded.snapshot.data, [r.version for r in loaded.records], loaded.version) == (b"state", [4], 4)
        plain = await shard.load(ALICE)
        assert (plain.snapshot, [r.version for r in plain.records]) == (None, [1, 2, 3, 4])
        part = await shard.load(ALICE, limit=2)
        assert ([r.version for r in part.records], part.more, part.version, part.position) == ([1, 2], True, 4, 4)
        exact = await shard.load(ALICE, limit=4)
        assert not exact.more


async def test_a_snapshot_of_another_state_version_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1))])
        await shard.save_snapshot(ALICE, version=1, data=b"state", fingerprint="old")
        with caplog.at_level(logging.WARNING):
            loaded = await shard.load(ALICE, fingerprint="new")
        assert (loaded.snapshot, len(loaded.records)) == (None, 1)
        assert "another state version" in caplog.text


async def test_a_snapshot_newer_than_the_events_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1, 2))])
        await shard.save_snapshot(ALICE, version=9, data=b"future")
        with caplog.at_level(logging.WARNING):
            loaded = await shard.load(ALICE, fingerprint="")
        assert (loaded.snapshot, len(loaded.records), loaded.version) == (None, 2, 2)
        assert "ignored" in caplog.text


@pytest.mark.parametrize("change", ["data = x'00'", "version = 2", "crc = crc + 1", "fingerprint = 'g'"])
async def test_a_corrupt_snapshot_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1, 2, 3))])
        await shard.save_snapshot(ALICE, version=3, data=b"state", fingerprint="f")
    connection = sqlite3.connect(tmp_path / "shard-0000.db")
    connection.execute(f"UPDATE snapshots SET {change}")
    connection.commit()
    connection.close()
    async with one_shard(tmp_path, create=False) as shard:
        with caplog.at_level(logging.WARNING):
            assert await shard.load_snapshot(ALICE) is None
            loaded = await shard.load(ALICE, fingerprint="f")
        assert (loaded.snapshot, len(loaded.records)) == (None, 3)
        assert "checksum" in caplog.text


async def test_a_snapshot_above_its_limit_is_refused(reopen: Reopen) -> None:
    store = await reopen(limits=StoreLimits(snapshot_bytes_max=10))
    with pytest.raises(EventTooLarge):
        await store.save_snapshot(ALICE, version=1, data=b"x" * 11)


async def test_a_snapshot_of_a_stream_without_events_does_not_break_its_first_append(store: EventStore) -> None:
    await store.save_snapshot(ALICE, version=0, data=b"")
    assert (await store.append(ALICE, deposits(1), expected_version=0)).version == 1


async def test_taking_over_supersedes_the_earlier_token(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        first = await shard.load(ALICE, take_over=True)
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1))], token=first.token)
        second = await shard.load(ALICE, take_over=True)
        assert second.version == 1
        for commands in ([NewCommand(None, deposits(2))], []):
            with pytest.raises(ActivationSuperseded):
                await shard.append_batch(ALICE, commands, token=first.token)
        with pytest.raises(ActivationSuperseded):
            await shard.append_batch(ALICE, [], token=0)
        await shard.append_batch(ALICE, [NewCommand(None, deposits(2))], token=second.token)
        await shard.append_batch("Account/bob", [NewCommand(None, deposits(2))], token=0)
        assert shard.head == 3
    async with one_shard(tmp_path, create=False) as shard:
        with pytest.raises(ActivationSuperseded):
            await shard.append_batch(ALICE, [], token=second.token)


async def test_a_forgotten_token_counts_as_superseded(tmp_path: Path) -> None:
    async with one_shard(tmp_path, limits=StoreLimits(tokens_max=1)) as shard:
        first = await shard.load(ALICE, take_over=True)
        await shard.load("Account/bob", take_over=True)
        with pytest.raises(ActivationSuperseded):
            await shard.append_batch(ALICE, [], token=first.token)
