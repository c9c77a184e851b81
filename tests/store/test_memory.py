"""The store in memory beside the contract: what it is for."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from eventray.domain.errors import ConcurrencyConflict
from eventray.store import EventStore
from tests.store.conftest import Clock, deposits


async def test_it_needs_no_file_and_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = threading.active_count()
    async with EventStore.memory(shards=2) as store:
        await store.append("Account/alice", deposits(1), expected_version=0)
        await store.save_checkpoint("Balances", await store.heads())
        assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


async def test_two_of_them_share_nothing() -> None:
    async with EventStore.memory() as one, EventStore.memory() as other:
        await one.append("Account/alice", deposits(1))
        assert list((await one.heads()).values()).count(1) == 1
        assert await other.heads() == {0: 0, 1: 0, 2: 0, 3: 0}
        await other.append("Account/alice", deposits(1), expected_version=0)
        with pytest.raises(ConcurrencyConflict):
            await one.append("Account/alice", deposits(1), expected_version=0)
        assert one.manifest.store_id != other.manifest.store_id


async def test_its_clock_is_given_to_it(clock: Clock) -> None:
    async with EventStore.memory(shards=1, clock=clock) as store:
        await store.append("Account/alice", deposits(1))
        [record] = (await store.read_shard(shard=0)).records
        assert record.recorded_at == clock.now


@pytest.mark.parametrize("shards", [0, -1, 4097, True, 1.0, "4"])
def test_a_number_of_shards_that_cannot_be_is_a_value_error(shards: int) -> None:
    with pytest.raises(ValueError):
        EventStore.memory(shards=shards)
