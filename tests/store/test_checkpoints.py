from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from eventray.domain.errors import StoreCorrupted, StoreLocked, StoreMismatch, StoreUnavailable
from eventray.store import CheckpointStore
from tests.store.conftest import Reopen, deposits

VIEWS = "views.db"


@pytest.mark.parametrize("change", ["data = x'00'", "positions = x'81'", "generation = 7", "fingerprint = 'g'"])
async def test_a_corrupt_checkpoint_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    views = await CheckpointStore.open(tmp_path, run="r")
    await views.save("Balances", {0: 1}, b"state", generation=1)
    await views.close()
    connection = sqlite3.connect(tmp_path / VIEWS)
    connection.execute(f"UPDATE checkpoints SET {change}")
    connection.commit()
    connection.close()
    views = await CheckpointStore.open(tmp_path, run="r")
    try:
        with caplog.at_level(logging.WARNING):
            assert await views.load("Balances") is None
        assert "Balances" in caplog.text
    finally:
        await views.close()


async def test_a_shard_behind_a_checkpoint_is_not_served(reopen: Reopen, tmp_path: Path) -> None:
    store = await reopen()
    shard = (await store.append("Account/alice", deposits(1, 2))).shard
    await store.checkpoints.save("Balances", {shard: 3}, b"", generation=store.manifest.generation)
    with pytest.raises(StoreCorrupted) as caught:
        await reopen()
    assert "Balances" in caught.value.reason
    (tmp_path / "data" / VIEWS).unlink()
    assert (await (await reopen()).heads())[shard] == 2


async def test_views_of_another_store_are_refused(tmp_path: Path) -> None:
    await (await CheckpointStore.open(tmp_path, run="r", store_id="one")).close()
    with pytest.raises(StoreMismatch):
        await (await CheckpointStore.open(tmp_path, run="r", store_id="two")).close()


async def test_views_have_one_holder(tmp_path: Path) -> None:
    views = await CheckpointStore.open(tmp_path, run="r")
    with pytest.raises(StoreLocked):
        await (await CheckpointStore.open(tmp_path, run="other")).close()
    await views.close()
    with pytest.raises(StoreUnavailable):
        await views.load("Balances")


async def test_views_that_are_no_database_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / VIEWS).write_bytes(b"not a database" * 100)
    with pytest.raises(StoreCorrupted):
        await (await CheckpointStore.open(tmp_path, run="r")).close()
    assert (tmp_path / VIEWS).read_bytes().startswith(b"not a database")
